"""Where a curve begins and ends, and with which tokens: those that the model sampled, where it did."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.inner.context import context
from innerloop.outer.rows import Weights, make_row
from innerloop.rollout.engine import Completion, Sampling
from innerloop.rollout.sample import plan, to_trajectory
from innerloop.schema import Mode, Question, Source, Status, Trajectory
from innerloop.speaker import Speaker, speak
from innerloop.testing import byte_tokenizer

QUESTION = Question(id="q", question="6 times 7?", answer="42")


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    """A token per byte, but one for ``ab`` and one for a space before a box."""
    return speak(byte_tokenizer(whole=("ab", " \\boxed{")), name="m")


def opening(speaker: Speaker) -> Speaker:
    """The same with a chat template that opens the thinking."""
    tokenizer = byte_tokenizer(whole=("ab",))
    tokenizer.chat_template = tokenizer.chat_template.replace("<assistant>{% endif", "<assistant><think>\n{% endif")
    return speak(tokenizer, name="opens")


def sampled(
    speaker: Speaker, text: str, mode: Mode = Mode.PLAIN, *, ids: list[int] | None = None, cut: bool = False
) -> Trajectory:
    (planned,) = plan([QUESTION], speaker, Sampling(), modes=[mode])
    tokens = ids if ids is not None else speaker.encode(text)
    end = [] if cut else [speaker.tokenizer.eos_token_id]
    status, reason = (Status.TRUNCATED, "cut") if cut else (Status.COMPLETE, None)
    made = Completion(id=planned.request.id, token_ids=(*tokens, *end), text=text, status=status, reason=reason)
    return to_trajectory(made, planned, speaker, speaker.name)


def read(speaker: Speaker, trajectory: Trajectory) -> tuple[str, str]:
    prompt, ids = context(speaker, QUESTION, trajectory)
    return speaker.decode(prompt)[-len("<think>") :], speaker.decode(ids)


def test_the_tokens_are_those_that_were_sampled(speaker: Speaker) -> None:
    """The model wrote a and b one by one; encoding the text again would join them."""
    apart = [*speaker.encode("a"), *speaker.encode("b"), *speaker.encode(" so \\boxed{42}")]
    trajectory = sampled(speaker, "ab so \\boxed{42}", ids=apart)
    _, ids = context(speaker, QUESTION, trajectory)
    assert ids == tuple(apart[:5])
    assert speaker.decode(ids) == trajectory.text == "ab so"
    assert ids != tuple(speaker.encode("ab so"))


def test_another_models_sample_is_encoded(speaker: Speaker) -> None:
    apart = [*speaker.encode("a"), *speaker.encode("b")]
    trajectory = replace(sampled(speaker, "ab", ids=apart), tokenizer="another")
    assert context(speaker, QUESTION, trajectory)[1] == tuple(speaker.encode("ab"))


def test_a_token_that_reaches_into_the_answer_is_not_read(speaker: Speaker) -> None:
    trajectory = sampled(speaker, "It is \\boxed{42}")  # its text ends before the space
    assert read(speaker, trajectory)[1] == trajectory.text == "It is"


@pytest.mark.parametrize("cut", [False, True])
def test_a_curve_begins_right_after_the_opening_delimiter(speaker: Speaker, cut: bool) -> None:
    """Whoever wrote it: the prompt of the mode, the chat template, or the model."""
    closing = "" if cut else "\n</think>"
    rest = "" if cut else "\n\nIt is \\boxed{42}"
    own = f"<think>\n6 · 7{closing}{rest}"
    expected = ("<think>", f"\n6 · 7{closing}")
    assert read(speaker, sampled(speaker, own, cut=cut)) == expected
    assert read(speaker, sampled(speaker, own.removeprefix("<think>\n"), Mode.THINKING, cut=cut)) == expected
    opens = opening(speaker)
    assert read(opens, sampled(opens, own.removeprefix("<think>\n"), cut=cut)) == expected
    told = Trajectory(
        id="q/file-0",
        question_id="q",
        text="6 · 7",
        source=Source.FILE,
        mode=Mode.THINKING,
        status=Status.TRUNCATED if cut else Status.COMPLETE,
    )
    assert read(speaker, told) == expected
    control = replace(told, source=Source.SHUFFLED, status=Status.COMPLETE, token_ids=tuple(speaker.encode("7 · 6")))
    assert read(speaker, control) == ("<think>", "\n7 · 6\n</think>")


def test_without_thinking_nothing_is_added(speaker: Speaker) -> None:
    plain = Trajectory(id="q/file-0", question_id="q", text="6 · 7", source=Source.FILE)
    assert read(speaker, plain)[1] == "6 · 7"
    silent = sampled(speaker, " 42", Mode.NO_THINKING)
    assert read(speaker, silent)[1] == silent.text


@given(st.text("ab <\\{}\n", max_size=30), st.sampled_from(list(Mode)))
def test_what_is_read_is_what_was_said(text: str, mode: Mode) -> None:
    speaker = speak(byte_tokenizer(whole=("ab", " \\boxed{")), name="m")
    trajectory = sampled(speaker, f"{text}\\boxed{{1}}" if "a" in text else text, mode)
    assert trajectory.text in read(speaker, trajectory)[1]


def test_a_training_row_is_what_the_probe_reads(speaker: Speaker) -> None:
    told = Trajectory(id="q/file-0", question_id="q", text="6 · 7.", source=Source.FILE, mode=Mode.THINKING)
    prompt, ids = context(speaker, QUESTION, told)
    row = make_row(speaker, QUESTION, told, Weights())
    assert row.input_ids[: len(prompt) + len(ids) + len(speaker.suffix_ids)] == (*prompt, *ids, *speaker.suffix_ids)


def test_a_model_with_a_switch_may_be_asked_by_the_papers_text() -> None:
    switch = speak(byte_tokenizer(thinking_switch=True), name="switch")
    assert switch.prompt_text(QUESTION, mode=Mode.NO_THINKING).endswith("<think>\n\n</think>\n\n")
    text = speak(byte_tokenizer(thinking_switch=True), name="switch", no_thinking="text")
    asked = text.prompt_text(QUESTION, mode=Mode.NO_THINKING)
    assert asked.endswith("<assistant><think>\nTherefore, after all this, I believe the answer is")
    assert text.prompt_text(QUESTION, mode=Mode.THINKING) == switch.prompt_text(QUESTION, mode=Mode.THINKING)
    assert text.prompt_text(QUESTION) == switch.prompt_text(QUESTION)
    assert text.manner()["no_thinking"] == "text"
    assert "no_thinking" not in switch.manner()
