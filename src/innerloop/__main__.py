"""``python -m innerloop`` is the command ``innerloop``."""

import sys

from innerloop.cli import main

sys.exit(main())
