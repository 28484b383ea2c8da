r"""Do texts that a model was trained on hold questions of a benchmark? Shared runs of words, found in one pass.

A text is its words: letters and digits in one case (NFKC, casefold), without punctuation, mathematics' dollar signs and
LaTeX's spaces; a Chinese or Japanese character is a word. A question counts as contaminated where a training text has n
of its words in a row. n is 13 as in Brown et al. 2020 (GPT-3, appendix C); for benchmarks of short questions theirs is
the rule too: the 5th percentile of the questions' lengths in words, but 8 at least. A question of fewer than n words is
contaminated where all of it stands in a row; below five words nothing is said of it. What three or more questions of
the benchmark have in common is a stock phrase ("where m and n are relatively prime positive integers, find m + n") and
counts only as part of a run that goes beyond it.

The training texts are read once and nothing of them is kept: memory follows the benchmark. Overlap is evidence of
having seen a question's words, not of having seen its answer, and a reworded copy is not found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from innerloop.text_forms import nfkc

LONGEST, SHORTEST = 13, 8  # of the n that is chosen by itself (Brown et al. 2020)
FEWEST = 5  # words that a question must have
_STOCK = 3  # questions that share an n-gram: then it tells none of them from the others
_POSTINGS = 16  # places in questions kept for one n-gram: what repeats itself more often says nothing new

_LATEX_SPACE = re.compile(r"\\(?:[,;:! ]|q?quad\b|[()\[\]])|~")
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def words(text: str) -> list[str]:
    """The words of a text that are compared."""
    return _WORD.findall(_LATEX_SPACE.sub(" ", nfkc(text).casefold()))


def ngram_for(lengths: Sequence[int]) -> int:
    """n for a benchmark whose questions have these numbers of words: their 5th percentile, between 8 and 13."""
    ordered = sorted(lengths)
    fifth = ordered[int(0.05 * (len(ordered) - 1))] if ordered else LONGEST
    return min(max(fifth, SHORTEST), LONGEST)


@dataclass(kw_only=True)
class Overlap:
    """What training texts share with one question.

    ``words`` are the question's own, ``ngram`` how many in a row make it contaminated (0: too short to tell).
    ``longest`` is the longest run met, in words; it begins at the question's word ``start`` (from 0) and stands in the
    text ``where``. ``whole``: all of the question stands in a row in one text. ``texts`` counts the texts that share a
    run.
    """

    question_id: str
    words: list[str]
    ngram: int
    longest: int = 0
    start: int | None = None
    where: str | None = None
    whole: bool = False
    texts: int = 0
    _covered: set[int] = field(default_factory=set)

    @property
    def contaminated(self) -> bool | None:
        """None where the question is too short to tell."""
        return None if self.ngram == 0 else self.texts > 0

    @property
    def share(self) -> float:
        """The part of the question's words that stand in a shared run of at least n."""
        return len(self._covered) / len(self.words) if self.words else 0.0

    @property
    def text(self) -> str:
        """The words of the longest run."""
        return "" if self.start is None else " ".join(self.words[self.start : self.start + self.longest])

    def meet(self, start: int, length: int, where: str, *, new: int) -> None:
        """Take in a run that a text shares; the last ``new`` words of it were not taken in before."""
        self._covered.update(range(start + length - new, start + length))
        self.whole = self.whole or length == len(self.words)
        if length > self.longest:
            self.longest, self.start, self.where = length, start, where


class Index:
    """The n-grams of questions, to be looked for in texts."""

    def __init__(self, questions: Mapping[str, str], *, ngram: int | None = None) -> None:
        """``questions``: texts by id; ``ngram``: None chooses it from their lengths."""
        split = {name: words(text) for name, text in questions.items()}
        self.ngram = ngram or ngram_for([len(own) for own in split.values()])
        self.overlaps = {
            name: Overlap(question_id=name, words=own, ngram=0 if len(own) < FEWEST else min(self.ngram, len(own)))
            for name, own in split.items()
        }
        self._places: dict[int, dict[str, list[tuple[str, int]]]] = {}
        for name, overlap in self.overlaps.items():
            n = overlap.ngram
            table = self._places.setdefault(n, {}) if n else {}
            kept = Counter[str]()
            for start in range(len(overlap.words) - n + 1 if n else 0):
                key = " ".join(overlap.words[start : start + n])
                kept[key] += 1
                if kept[key] <= _POSTINGS:
                    table.setdefault(key, []).append((name, start))
        self._stock = {
            key for table in self._places.values() for key, held in table.items() if len({n for n, _ in held}) >= _STOCK
        }

    def meet(self, text: str, where: str) -> None:
        """Look for the questions in one text."""
        own = words(text)
        runs: dict[tuple[str, int, int], int] = {}  # question, its word minus the text's, n: the run's end in the text
        begun: dict[tuple[str, int, int], int] = {}
        telling: dict[tuple[str, int, int], bool] = {}  # whether the run is more than stock phrases
        met: set[str] = set()
        for n, table in self._places.items():
            for at in range(len(own) - n + 1):
                ngram = " ".join(own[at : at + n])
                for name, start in table.get(ngram, ()):
                    key = name, start - at, n
                    if runs.get(key) != at + n - 1:
                        begun[key], telling[key] = at, False
                    runs[key] = at + n
                    known = telling[key]
                    telling[key] = known or ngram not in self._stock
                    if telling[key]:
                        length = at + n - begun[key]
                        self.overlaps[name].meet(start + n - length, length, where, new=1 if known else length)
                        met.add(name)
        for name in met:
            self.overlaps[name].texts += 1


def look(texts: Iterable[tuple[str, str]], index: Index) -> int:
    """Look for the questions in all texts, given with their places; how many texts there were."""
    count = 0
    for where, text in texts:
        index.meet(text, where)
        count += 1
    return count
