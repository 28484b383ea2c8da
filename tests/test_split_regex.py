"""Expressions of tokenizers: those of models in use are let through, those that may take for ever are not."""

from __future__ import annotations

import pytest

from innerloop.model_folder.split_regex import SlowError, check

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
CAPITALS, SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
IN_USE = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "Llama 3": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}",
    "possessive": r"[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    "GPT-4o": rf"[^\r\n\p{{L}}\p{{N}}]?{CAPITALS}*{SMALL}+{CONTRACTIONS}?|{CAPITALS}+{SMALL}*{CONTRACTIONS}?|{SPACES}",
    "intersections": r"[\p{Lu}\p{Lo}&&[^\p{Han}]]*[\p{Ll}\p{Lo}&&[^\p{Han}]]+|[\p{Han}]+",
    "punctuation": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+| ?[\p{P}\p{S}]+[\r\n]*",
    "Chinese": r"[一-龥぀-ゟ゠-ヿ]+|\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+",
    "thousands": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))|(?=(\d{3})+(?!\d))",
    "BLOOM": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "plain": r"▁+|\s+$| {2,}|",
}


@pytest.mark.parametrize("pattern", IN_USE.values(), ids=IN_USE)
def test_expressions_in_use(pattern):
    check(pattern)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(a+)+b", "several ways"),
        ("(a|a)*b", "several ways"),
        ("(a|aa)+$", "several ways"),
        ("(?>a+)+b", "several ways"),
        (r"(?i:(x+x+)+y)", "several ways"),
        (r"(?:\p{L}+\s?)+!", "several ways"),
        ("(a?){30}a{30}", "several ways"),
        ("a*a*b", "all pass over"),
        (r"\s*\s*\s*x", "all pass over"),
        (r"\p{L}*\w*[^ ]*!", "all pass over"),
        ("(?=a*a*a*b)x", "all pass over"),
        ("a{0,500}a{0,500}a{0,500}b", "all pass over"),
        ("(a+){3}b", "repeats what holds a loop"),
        ("a?" * 30 + "a" * 30, "30 optional parts"),
        ("(a{1,3}){12}b", "optional parts"),
        ("(?:a|b)" * 11, "11 optional parts"),
        (r"(\w+)\1", "escape that is not read"),
        (r"(?<n>a)\g<n>", "escape that is not read"),
        ("(?R)", "kind of group that is not read"),
        ("(?(1)a|b)", "kind of group that is not read"),
        ("(?x) a", "kind of group that is not read"),
        ("(" * 50 + "a" + ")" * 50, "brackets within each other"),
        ("a" * 30_000, "30,000 characters"),
        ("[a", r"unmatched \["),
        ("(a", r"unmatched \("),
        ("a)", r"unmatched \)"),
        ("*a", "nothing to repeat"),
    ],
)
def test_expressions_that_are_refused(pattern, said):
    with pytest.raises(SlowError, match=said):
        check(pattern)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [*IN_USE.values(), "a+b", r"[^x]+x"])
def test_what_is_let_through_takes_no_more_than_quadratic_time(pattern):
    """On lines of one or two characters, which is where going back and trying again shows."""
    import time

    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    check(pattern)
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    for line in ("a", " ", "1", "A", "!", "中", "\n", " \n", "aA", " a", "1a"):
        text = (line * 1500)[:1500]
        begun = time.process_time()
        tokenizer.pre_tokenizer.pre_tokenize_str(text + "~")
        assert time.process_time() - begun < 1
