"""The key does not get out, however it is written; what else a text says stays."""

from __future__ import annotations

import base64
import json
import logging
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.rollout.server_redact import MARK, Redactor, has_half, joined_halves

KEY = "sk-proj/Ab3+9xQz_7Kw.T5"


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        KEY.upper(),
        KEY.lower(),
        KEY.swapcase(),
        f"Bearer {KEY}",
        quote(KEY, safe=""),
        quote(KEY),
        quote(quote(KEY, safe=""), safe=""),
        "".join(f"%{ord(c):02X}" for c in KEY),
        "".join(f"\\u{ord(c):04x}" for c in KEY),
        "".join(f"\\U{ord(c):08X}" for c in KEY),
        "".join(f"\\x{ord(c):02x}" for c in KEY),
        "".join(f"&#{ord(c)};" for c in KEY),
        "".join(f"&#x{ord(c):X};" for c in KEY),
        KEY.replace("/", "\\/").replace("_", "\\_"),
        json.dumps(json.dumps("\\/".join(KEY.split("/")))),
        KEY[:4] + f"\\u{ord(KEY[4]):04x}" + KEY[5:],
        KEY.encode().hex(),
        KEY.encode().hex().upper(),
        *(base64_of(before + KEY) for before in ("", ":", "a:", "user:", "Bearer ")),
        base64.urlsafe_b64encode(f"ü?>{KEY}~~~".encode()).decode(),
        quote(base64_of(f"??>{KEY}"), safe=""),
        KEY.replace("k", "\u212a"),
    ],
)
def test_every_way_to_write_the_key_is_found(written: str) -> None:
    said = Redactor(KEY).text(f"before {written} after")
    assert said.startswith("before ")
    assert said.endswith(" after")
    assert MARK in said
    assert len(said.replace(MARK, "")) <= len("before  after Bearer ") + 20, "no more than what base64 says in front"


@pytest.mark.parametrize("cut", range(8, len(KEY)))
def test_a_key_that_was_cut_off_is_found(cut: int) -> None:
    assert Redactor(KEY).text(f"key {KEY[:cut]}") == f"key {MARK}"
    assert Redactor(KEY).text(f"{KEY[-cut:]} key") == f"{MARK} key"


def test_it_is_taken_out_before_a_line_is_cut() -> None:
    for before in range(150, 220):
        said = Redactor(KEY).line("x" * before + " " + KEY)
        assert len(said) <= 200
        assert KEY[:4] not in said
    assert Redactor(KEY).line(b"\xff\n" + KEY.encode() + b"\x1b[31m\n\n") == f"\ufffd {MARK}\\x1b[31m"
    assert Redactor("two words").line("two\n  words") == MARK


@pytest.mark.parametrize("key", [None, "", "EMPTY", "ollama", "none123"])
def test_no_key_and_placeholders_change_nothing(key: str | None) -> None:
    said = "EMPTY ollama none123 %45 \\x45"
    assert Redactor(key).text(said) == said
    assert not Redactor(key).active


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_rest_of_a_text_stays(before: str, after: str) -> None:
    redactor = Redactor(KEY)
    for text in (before, after):
        assert redactor.text(text) == text
    assert redactor.text(f"{before} {KEY} {after}") == f"{before} {MARK} {after}"


@given(st.text(st.characters(categories=("Cs", "Ll")), max_size=20))
def test_halves_are_joined_or_replaced(text: str) -> None:
    said = Redactor(None).text(text)
    said.encode()
    if not has_half(text):
        assert said == text


def test_two_halves_are_one_character() -> None:
    assert joined_halves("a\ud83d" + "\ude00b") == "a😀b"
    assert has_half(joined_halves("\ude00\ud83d"))


def test_looking_for_the_key_takes_time_in_proportion() -> None:
    """Repeated beginnings of every way to write it: no text makes the search worse than linear."""
    import time

    redactor = Redactor(KEY)
    for piece in ("s", "sk-proj", "\\", "%25", "&#0", "\\u0073", "\\u0000", "c2", KEY[:7] + " ", "AAAA", "% "):
        costs = []
        for size in (20_000, 80_000):
            text = piece * (size // len(piece))
            begun = time.process_time()
            redactor.text(text)
            costs.append(time.process_time() - begun)
        assert costs[1] < 0.5, piece
        assert costs[1] < 16 * max(costs[0], 0.002), piece


def test_the_http_clients_own_logs_are_cleaned_while_it_works(caplog: pytest.LogCaptureFixture) -> None:
    redactor, logger = Redactor(KEY), logging.getLogger("httpcore2.http11")
    with caplog.at_level(logging.DEBUG, "httpcore2.http11"):
        with redactor.over_logs():
            logger.debug("headers %r", [(b"x-echo", KEY.encode())])
        assert KEY not in caplog.text
        assert MARK in caplog.text
        logger.debug("afterwards %s", KEY)
        assert KEY in caplog.text
