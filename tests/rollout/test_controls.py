from __future__ import annotations

import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.rollout.controls import filler, other_question, shuffled
from innerloop.schema import Mode, Question, Source, Status, Trajectory


def make(question: str, name: str, text: str, source: Source = Source.FILE, mode: Mode = Mode.PLAIN) -> Trajectory:
    return Trajectory(id=f"{question}/{name}", question_id=question, text=text, source=source, mode=mode)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Question], list[Trajectory]]:
    """Questions with few different answers, each with some trajectories of one or two sources."""
    answers = draw(st.lists(st.sampled_from("123"), min_size=2, max_size=8))
    questions = [Question(id=f"q{i}", question="?", answer=answer) for i, answer in enumerate(answers)]
    trajectories = []
    for question in questions:
        count = draw(st.integers(1, 3))
        trajectories += [make(question.id, f"file-{k}", f"text of {question.id} {k}") for k in range(count)]
        if draw(st.booleans()):
            trajectories.append(make(question.id, "solution", f"solution of {question.id}", Source.SOLUTION))
    return questions, trajectories


@given(world=worlds(), seed=st.integers(0, 5))
def test_other_question_lends_the_text_of_another_question_of_the_same_source(
    world: tuple[list[Question], list[Trajectory]], seed: int
) -> None:
    questions, trajectories = world
    owners = {trajectory.text: trajectory for trajectory in trajectories}
    originals = {trajectory.id: trajectory for trajectory in trajectories}
    lenders: dict[tuple[Source, str], set[str]] = {}
    controls = other_question(trajectories, questions, seed=seed)
    for control in controls:
        original, lent = originals[control.id.removesuffix("/other-question")], owners[control.text]
        assert control.id.endswith("/other-question")
        assert control.source is Source.OTHER_QUESTION
        assert control.question_id == original.question_id != lent.question_id
        assert lent.source is original.source
        assert control.outcome is control.final is control.logprob is control.token_ids is None
        lenders.setdefault((original.source, original.question_id), set()).add(lent.question_id)
    assert all(len(lender) == 1 for lender in lenders.values())  # one lender for each question …
    pairs = [(source, *lender) for (source, _), lender in lenders.items()]
    assert len(set(pairs)) == len(pairs)  # … and each lends to one question only
    assert len({c.id for c in controls if "/file" in c.id}) == sum("/file" in t.id for t in trajectories)


@given(world=worlds(), seed=st.integers(0, 5))
def test_other_question_avoids_equal_answers_as_far_as_possible(
    world: tuple[list[Question], list[Trajectory]], seed: int
) -> None:
    questions, trajectories = world
    answers = {question.id: question.answer for question in questions}
    owner = {trajectory.text: trajectory.question_id for trajectory in trajectories}
    controls = [c for c in other_question(trajectories, questions, seed=seed) if "/file-0/" in c.id]
    equal = sum(answers[c.question_id] == answers[owner[c.text]] for c in controls)
    largest = max(Counter(answers.values()).values())
    # A group of g equal answers among n can borrow from n − g others only.
    assert equal == max(0, 2 * largest - len(questions))


@given(world=worlds(), seed=st.integers(0, 5), data=st.data())
def test_other_question_depends_on_no_order(
    world: tuple[list[Question], list[Trajectory]], seed: int, data: st.DataObject
) -> None:
    questions, trajectories = world
    mixed = data.draw(st.permutations(trajectories))
    expected = {c.id: c.text for c in other_question(trajectories, questions, seed=seed)}
    assert {c.id: c.text for c in other_question(mixed, questions[::-1], seed=seed)} == expected


def test_other_question_differs_with_the_seed() -> None:
    questions = [Question(id=f"q{i}", question="?", answer=str(i)) for i in range(8)]
    trajectories = [make(q.id, "solution", q.id) for q in questions]
    texts = {tuple(c.text for c in other_question(trajectories, questions, seed=seed)) for seed in range(5)}
    assert len(texts) > 1


def test_one_question_has_no_other(caplog: pytest.LogCaptureFixture) -> None:
    questions = [Question(id="q", question="?", answer="1")]
    with caplog.at_level(logging.WARNING, "innerloop"):
        assert other_question([make("q", "a", "x"), make("q", "b", "y")], questions, seed=0) == []
    assert "at least two questions" in caplog.text


def test_controls_are_made_of_real_trajectories_only() -> None:
    questions = [Question(id=f"q{i}", question="?", answer=str(i)) for i in range(3)]
    trajectories = [
        make("q0", "a", "good"),
        make("q1", "a", "also good"),
        make("q2", "a", "  "),
        Trajectory(id="q2/b", question_id="q2", text="half", source=Source.FILE, status=Status.ERROR, reason="x"),
        make("q2", "a/shuffled", "good", Source.SHUFFLED),
        make("q2", "a/filler", " . .", Source.FILLER),
    ]
    assert [c.id for c in other_question(trajectories, questions, seed=0)] == [
        "q0/a/other-question",
        "q1/a/other-question",
    ]
    assert [c.id for c in shuffled(trajectories, list, "".join, seed=0)] == ["q0/a/shuffled", "q1/a/shuffled"]  # type: ignore[arg-type]
    assert [c.id for c in filler(trajectories, list, "".join)] == ["q0/a/filler", "q1/a/filler"]  # type: ignore[arg-type]


def test_modes_are_not_mixed() -> None:
    questions = [Question(id=f"q{i}", question="?", answer=str(i)) for i in range(2)]
    trajectories = [make(f"q{i}", m.value, f"{m.value} {i}", mode=m) for i in range(2) for m in Mode]
    for control in other_question(trajectories, questions, seed=0):
        assert control.text.startswith(control.mode.value)


def encode(text: str) -> list[int]:
    return list(text.encode())


def decode(ids: object) -> str:
    return bytes(ids).decode(errors="replace")  # type: ignore[call-overload]


@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4), seed=st.integers(0, 5))
def test_shuffled_keeps_exactly_the_tokens(texts: list[str], seed: int) -> None:
    trajectories = [make(f"q{i}", "file-0", text) for i, text in enumerate(texts)]
    controls = shuffled(trajectories, encode, decode, seed=seed)
    assert [c.id for c in controls] == [f"{t.id}/shuffled" for t in trajectories]
    for trajectory, control in zip(trajectories, controls, strict=True):
        assert control.token_ids is not None
        assert Counter(control.token_ids) == Counter(encode(trajectory.text))
        assert control.text == decode(control.token_ids)
        assert (control.tokens, control.source, control.outcome) == (len(control.token_ids), Source.SHUFFLED, None)
    again = shuffled(trajectories[::-1], encode, decode, seed=seed)[::-1]
    assert again == controls


def test_shuffling_changes_the_order_with_the_seed() -> None:
    trajectory = make("q", "a", "the quick brown fox jumps over the lazy dog")
    orders = {shuffled([trajectory], encode, decode, seed=seed)[0].token_ids for seed in range(5)}
    assert len(orders) == 5
    assert tuple(encode(trajectory.text)) not in orders


@given(text=st.text(min_size=1).filter(str.strip), repeated=st.sampled_from([" .", "…", "na "]))
def test_filler_is_as_long_in_tokens_and_says_nothing(text: str, repeated: str) -> None:
    trajectory = make("q", "file-0", text, mode=Mode.THINKING)
    [control] = filler([trajectory], encode, decode, text=repeated)
    assert control.token_ids is not None
    assert control.tokens == len(control.token_ids) == len(encode(text))
    endless = encode(repeated) * len(encode(text))
    assert list(control.token_ids) == endless[: len(control.token_ids)]
    assert control.text == decode(control.token_ids)
    assert (control.id, control.source, control.mode) == ("q/file-0/filler", Source.FILLER, Mode.THINKING)
    assert control.outcome is control.seed is control.final is None


def test_a_filler_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="gives no tokens"):
        filler([make("q", "a", "x")], encode, decode, text="")
