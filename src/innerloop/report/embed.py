"""Making untrusted text safe inside the page.

Two ways lead into it: data for the scripts (``json_block``), and text in the markup (``visible``, then the template
engine's own escaping). The scripts put text into the page as text nodes only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

from markupsafe import Markup

# Inside a <script> block only "<" can end or confuse it; the others are escaped for whoever copies the JSON elsewhere.
_UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029\x7f"}

# What a browser would not show, or would let reorder its surroundings: C0 (except tab and line feed), DEL, C1, the
# bidirectional controls, line separators, what has no width (but for the joiners, which scripts and emoji need), tags.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)


def json_block(value: Any) -> Markup:
    """``value`` as JSON that stays data inside ``<script type="application/json">``, whatever text it holds.

    Control characters leave as ``\\u`` escapes (JSON's own rule), so no byte of the text acts on the HTML parser.
    Raises ``ValueError`` for NaN and infinity, which JSON does not know: use None.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_UNSAFE))  # the escaping above is the point


def visible(text: str) -> str:
    """``text`` with a symbol in the place of each character that cannot be seen (``␀``, ``⟨U+202E⟩``)."""
    return _INVISIBLE.sub(lambda match: _symbol(ord(match[0])), text)


def _symbol(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def script_hash(source: str) -> str:
    """The Content-Security-Policy source that allows exactly this inline script."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
