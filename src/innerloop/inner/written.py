"""Where the reference answer stands in a trajectory's own text.

From there on a model can copy: a low loss no longer shows that it worked anything out. The gain up to that place is
the part that copying does not explain. An answer that also occurs as an intermediate number is found too early; the
gain before it then says less than it could, never more.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from itertools import accumulate

from innerloop.schema import Curve

_BEFORE, _AFTER = re.compile(r"\w$|\d[.,]$"), re.compile(r"\w|[.,]\d")  # then it is part of something longer


def written(answer: str, curve: Curve) -> tuple[int, int] | None:
    """The last measured position before the answer begins and the first one that has all of it, as indices.

    None where the text never has the answer as written. It does not count inside a longer number or word: the answer
    8 is not written in 18, nor in 8.5.
    """
    if not answer.strip():
        return None
    pieces = [token or "" for token in curve.token]
    place = _place(answer.strip(), "".join(pieces))
    if place is None:
        return None
    ends = list(accumulate(map(len, pieces)))
    before = bisect_right(ends, place) - 1
    return max(before, 0), next(k for k, end in enumerate(ends) if end >= place + len(answer.strip()))


def _place(answer: str, text: str) -> int | None:
    """Where the answer first stands by itself. One pass (Knuth, Morris & Pratt 1977): a long answer that repeats
    itself would make a search that starts over at every place quadratic."""
    if answer not in text:
        return None
    shorter = [0]  # for each beginning of the answer, the longest one that it also ends with
    for letter in answer[1:]:
        length = shorter[-1]
        while length and letter != answer[length]:
            length = shorter[length - 1]
        shorter.append(length + (letter == answer[length]))
    length = 0
    for end, letter in enumerate(text, start=1):
        while length and letter != answer[length]:
            length = shorter[length - 1]
        length += letter == answer[length]
        if length == len(answer):
            start = end - length
            if not _BEFORE.search(text[max(start - 2, 0) : start]) and not _AFTER.match(text[end : end + 2]):
                return start
            length = shorter[-1]
    return None


def gain_before(answer: str, curve: Curve) -> float:
    """L̂₀ minus the loss at the last measured position before the answer begins, in nats per answer token.

    The whole gain where the answer is never written; NaN where position 0 was not measured.
    """
    if not curve.position or curve.position[0] != 0:
        return math.nan
    place = written(answer, curve)
    return curve.loss[0] - curve.loss[place[0] if place else -1]
