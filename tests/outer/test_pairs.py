"""Pairs of right and wrong trajectories, and what they are in tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.outer.pairs import Pair, PairRow, pair_row, pair_sets, paired
from innerloop.outer.rows import Weights, make_row, own_row
from innerloop.schema import Mode, Outcome, Question, Source, Status, Trajectory
from innerloop.speaker import Speaker, speak
from innerloop.testing import byte_tokenizer

QUESTION = Question(id="q", question="What is 6 times 7?", answer="42")


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return speak(byte_tokenizer(), name="bytes")


def trajectory(number: int, outcome: Outcome | None, question: str = "q", mode: Mode = Mode.PLAIN) -> Trajectory:
    return Trajectory(
        id=f"{question}/file-{number}",
        question_id=question,
        text=f"so {number}",
        source=Source.FILE,
        mode=mode,
        answer="41" if outcome is Outcome.WRONG else "42",
        outcome=outcome,
    )


def some(count: int, outcome: Outcome, first: int = 0) -> list[Trajectory]:
    return [trajectory(first + i, outcome) for i in range(count)]


@given(rights=st.integers(1, 7), wrongs=st.integers(1, 7), seed=st.integers(0, 9))
def test_all_pairs_come_once_and_the_first_ones_use_each_trajectory_evenly(rights: int, wrongs: int, seed: int) -> None:
    own, others = some(rights, Outcome.RIGHT), some(wrongs, Outcome.WRONG, 100)
    pairs = list(paired("q", own, others, seed))
    assert len(pairs) == len(set(pairs)) == rights * wrongs
    assert pairs == list(paired("q", own, others, seed))
    for count in range(1, len(pairs) + 1):
        for side, size in (("right", rights), ("wrong", wrongs)):
            times = Counter(getattr(pair, side).id for pair in pairs[:count])
            assert max(times.values()) - (min(times.values()) if len(times) == size else 0) <= 1


def test_another_seed_draws_other_pairs() -> None:
    own, others = some(4, Outcome.RIGHT), some(4, Outcome.WRONG, 100)
    assert len({tuple(islice(paired("q", own, others, seed), 2)) for seed in range(20)}) > 5


def test_only_what_followed_the_same_kind_of_prompt_is_paired() -> None:
    own = [trajectory(0, Outcome.RIGHT), trajectory(1, Outcome.RIGHT, mode=Mode.THINKING)]
    others = [trajectory(2, Outcome.WRONG, mode=Mode.THINKING), trajectory(3, Outcome.WRONG, mode=Mode.NO_THINKING)]
    assert list(paired("q", own, others, 0)) == [Pair(own[1], others[0])]


def test_questions_without_a_pair_are_counted() -> None:
    questions = [replace(QUESTION, id=name) for name in ("both", "right", "wrong", "none")]
    given = [
        trajectory(0, Outcome.RIGHT, "both"),
        trajectory(1, Outcome.WRONG, "both"),
        trajectory(0, Outcome.RIGHT, "right"),
        trajectory(0, Outcome.WRONG, "wrong"),
        trajectory(0, Outcome.UNDECIDED, "none"),
        trajectory(1, None, "none"),
        trajectory(0, Outcome.RIGHT, "held out"),
    ]
    found = pair_sets(questions, given, 3, 0, shown=9)
    assert found.sets == {"both": (Pair(given[0], given[1]),)}
    assert (found.no_right, found.no_wrong, found.short, found.undecided) == (2, 1, 1, 2)
    assert pair_sets(questions, given, None, 0, shown=9).short == 0
    with pytest.raises(InputError, match=r"of the 3 questions has both .* \(2 have no right one, 1 no wrong one, 2"):
        pair_sets(questions[1:], given[2:], None, 0, shown=9)


def test_pairs_that_no_pass_shows_are_not_made() -> None:
    given = [*some(40, Outcome.RIGHT), *some(40, Outcome.WRONG, 100)]
    assert [len(pair_sets([QUESTION], given, size, 0, shown=3).sets["q"]) for size in (None, 2, 5)] == [3, 2, 3]
    assert pair_sets([QUESTION], given, 1601, 0, shown=3).short == 1


def test_a_worked_solution_is_right_without_a_verdict() -> None:
    solution = replace(trajectory(0, None), source=Source.SOLUTION)
    assert (
        pair_sets([QUESTION], [solution, trajectory(1, Outcome.WRONG)], None, 0, shown=1).sets["q"][0].right is solution
    )


def test_a_pair_is_the_row_of_sft_and_the_wrong_one_with_its_own_answer(speaker: Speaker) -> None:
    right, wrong = trajectory(0, Outcome.RIGHT), trajectory(1, Outcome.WRONG)
    row = pair_row(speaker, QUESTION, Pair(right, wrong))
    assert (*row.prompt, *row.right) == make_row(speaker, QUESTION, right, Weights()).input_ids
    assert speaker.decode(row.prompt) == speaker.prompt_text(QUESTION)
    assert speaker.decode(row.wrong) == f"so 1{speaker.suffix}41}}<eos>"
    assert len(row) == len(row.prompt) + max(len(row.right), len(row.wrong))


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({"answer": None}, "so 1<eos>"),
        ({"mode": Mode.THINKING}, "so 1\n</think>{suffix}41}}<eos>"),
        ({"status": Status.TRUNCATED, "answer": None}, "so 1"),
        ({"status": Status.TRUNCATED, "mode": Mode.THINKING}, "so 1"),
    ],
)
def test_a_wrong_one_is_written_as_far_as_it_came(speaker: Speaker, changes: dict[str, object], written: str) -> None:
    wrong = replace(trajectory(1, Outcome.WRONG), **changes)  # type: ignore[arg-type]
    row = own_row(speaker, QUESTION, wrong, Weights())
    said = speaker.decode(row.input_ids[row.weights.count(0.0) :])
    assert said == written.format(suffix=speaker.suffix)


def test_a_wrong_sample_keeps_its_own_tokens(speaker: Speaker) -> None:
    tokens = (*speaker.encode(r"well, \boxed{41}. Done"), speaker.tokenizer.eos_token_id)
    wrong = replace(trajectory(1, Outcome.WRONG), source=Source.SAMPLE, model=speaker.name, token_ids=tokens)
    assert pair_row(speaker, QUESTION, Pair(trajectory(0, Outcome.RIGHT), wrong)).wrong == tokens


def test_one_text_cannot_be_right_and_wrong(speaker: Speaker) -> None:
    right = trajectory(0, Outcome.RIGHT)
    with pytest.raises(InputError, match=r"'q/file-0' and 'q/again' say the same.*mend their field correct"):
        pair_row(speaker, QUESTION, Pair(right, replace(right, id="q/again", outcome=Outcome.WRONG)))


def test_a_pair_is_as_long_as_its_longer_half() -> None:
    assert len(PairRow("q", (1, 2), (3,), (4, 5, 6))) == 5
