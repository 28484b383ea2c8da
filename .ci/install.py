"""``pip install``, done by uv where uv can be had: a third of the work, and several downloads at a time.

    python .ci/install.py --constraint constraints.txt --editable '.[dev]'

Takes the options that pip and uv share. uv does not read pip's settings (mirrors, local wheels, certificates): they
are handed over. Where one of them has no counterpart, or uv cannot be had or fails, pip does the work itself.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
PIP = (sys.executable, "-m", "pip")
# pip's name of a setting: uv's variable, and what parts several values there.
COUNTERPARTS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "no-index": ("UV_NO_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "proxy": ("ALL_PROXY", " "),
    "cert": ("SSL_CERT_FILE", " "),
}
WITHOUT_EFFECT = {
    *("cache-dir", "default-timeout", "disable-pip-version-check", "no-cache-dir", "no-color", "no-input"),
    *("progress-bar", "quiet", "require-virtualenv", "retries", "root-user-action", "timeout"),
}


def main(arguments: list[str]) -> int:
    """Installs into the environment of this Python; the exit status."""
    settings = translated()
    if settings is not None and have_uv():
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
        compiled = [] if "--no-compile" in arguments else ["--compile-bytecode"]
        environment = os.environ | {"UV_INDEX_STRATEGY": "unsafe-best-match"} | settings
        if subprocess.run([*command, *compiled, *arguments], env=environment, check=False).returncode == 0:
            return 0
        print("uv did not get there; once more with pip …", file=sys.stderr)
    return subprocess.run([*PIP, "install", "--quiet", *arguments], check=False).returncode


def have_uv() -> bool:
    """Whether uv is in this environment, after trying to put it there."""
    if find_spec("uv") is None:
        wanted = ["--only-binary", ":all:", "--constraint", str(CONSTRAINTS), "uv"]
        subprocess.run([*PIP, "install", "--quiet", *wanted], stderr=subprocess.DEVNULL, check=False)
    return subprocess.run([sys.executable, "-m", "uv", "--version"], capture_output=True, check=False).returncode == 0


def translated() -> dict[str, str] | None:
    """pip's settings as uv's variables; ``None`` if there is one that uv does not have."""
    told = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False)
    if told.returncode:
        return None
    found: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):  # the later ones win
        for line in told.stdout.splitlines():
            if line.startswith(section):
                name, _, value = line.removeprefix(section).partition("=")
                found[name] = ast.literal_eval(value)
    found = {name: value for name, value in found.items() if name not in WITHOUT_EFFECT}
    if not found.keys() <= COUNTERPARTS.keys():
        return None
    pairs = ((COUNTERPARTS[name], value.split()) for name, value in found.items())
    return {variable: between.join(values) for (variable, between), values in pairs}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
