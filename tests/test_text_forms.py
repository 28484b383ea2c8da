"""The normal form of texts, in time that grows with them only."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.text_forms import nfc, nfkc


@given(st.text(max_size=200))
def test_it_is_unicodes_own_where_no_character_has_many_marks(text):
    assert nfkc(text) == unicodedata.normalize("NFKC", text)
    assert nfc(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("marks", ["\u0315\u0300", "\u0f73", "\uff9e\u0315"])
def test_marks_without_end_take_no_square_of_the_time(marks):
    start = time.process_time()
    nfkc("a" + marks * 50_000)
    assert time.process_time() - start < 3
