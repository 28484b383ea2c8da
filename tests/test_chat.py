"""Thinking delimiters: which ones a model has, and what they leave of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.chat import DELIMITERS, find_delimiters, find_switch, split_thinking

START, END = "<think>", "</think>"


@pytest.mark.parametrize("pair", DELIMITERS)
def test_template_that_mentions_the_opening_delimiter(pair):
    assert find_delimiters(f"{{{{ 'x' }}}}{pair[0]}", []) == pair


def test_template_that_only_cuts_the_thinking_out_of_earlier_turns():
    assert find_delimiters("{{ content.split('[/THINK]')[-1] }}", []) == ("[THINK]", "[/THINK]")


def test_end_of_turn_of_other_models_is_no_delimiter():
    assert find_delimiters("<|user|>{{ content }}<|end|>", ["<|end|>"]) is None


def test_template_comes_before_vocabulary():
    assert find_delimiters("... <thought> ...", ["<think>", "</think>"]) == ("<thought>", "</thought>")


def test_vocabulary_needs_both_delimiters():
    assert find_delimiters(None, ["<seed:think>", "</seed:think>"]) == ("<seed:think>", "</seed:think>")
    assert find_delimiters(None, ["<seed:think>"]) is None


@pytest.mark.parametrize(
    ("template", "switch"),
    [
        ("{% if enable_thinking is defined and enable_thinking is false %}x{% endif %}", "enable_thinking"),
        ("{% if not enable_thinking %}x{% endif %}", "enable_thinking"),
        ("{% if not thinking is defined %}{% set thinking = false %}{% endif %}", "thinking"),
        ("{% set thinking = message.content %}{{ thinking }}", None),  # the template's own variable
        ("{% if message.thinking is defined %}{{ message.thinking }}{% endif %}", None),  # a field of a message
        ("plain", None),
        (None, None),
    ],
)
def test_switch(template, switch):
    assert find_switch(template) == switch


@pytest.mark.parametrize(
    ("text", "opened", "parts"),
    [
        ("<think>\na\n</think>\n\nb", False, ("a", "b")),
        ("a\n</think>\n\nb", True, ("a", "b")),
        ("a</think>b", False, ("a", "b")),  # the prompt may have opened it: the closing delimiter alone is enough
        ("b", False, (None, "b")),
        ("<think>maybe 42? let me check 17", False, ("maybe 42? let me check 17", "")),
        ("maybe 42? let me check 17", True, ("maybe 42? let me check 17", "")),
        ("<think>a</think>b<think>c", False, ("a</think>b<think>c", "")),
        ("<think></think>b", False, ("", "b")),
        ("", False, (None, "")),
    ],
)
def test_split(text, opened, parts):
    assert split_thinking(text, START, END, opened=opened) == parts


def test_split_of_channels():
    start, end = "<|channel|>analysis<|message|>", "<|end|>"
    text = f"{start}a{end}<|start|>assistant<|channel|>final<|message|>b"
    assert split_thinking(text, start, end) == ("a", "b")


@given(st.text(), st.text())
def test_final_text_never_holds_thinking(thought, shown):
    thinking, final = split_thinking(f"{START}{thought}{END}{shown}", START, END)
    if START not in thought + shown and END not in thought + shown:
        assert (thinking, final) == (thought.strip(), shown.strip())
    assert START not in final
    assert END not in final
