from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.models import LoadedModel
from innerloop.outer.loss import weighted_loss
from innerloop.outer.rows import Row, Weights, collate, make_row, within
from innerloop.schema import Mode, Question, Source, Trajectory
from innerloop.speaker import Speaker, speak
from innerloop.testing import ARCHITECTURES, byte_tokenizer, tiny

QUESTION = Question(id="q", question="What is 6 times 7?", answer="42")
GIVEN = Trajectory(id="q/file-0", question_id="q", text="6 times 7 is 42.", source=Source.FILE)
ANSWER_ONLY = Weights(trajectory=0, answer=1, form=0)


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return speak(byte_tokenizer(), name="bytes")


def text_of(speaker: Speaker, row: Row, weight: float) -> str:
    return speaker.decode([token for token, w in zip(row.input_ids, row.weights, strict=True) if w == weight])


def test_a_row_reads_as_the_model_would_have_written_it(speaker: Speaker) -> None:
    row = make_row(speaker, QUESTION, GIVEN, Weights(trajectory=1, answer=2, form=3))
    assert text_of(speaker, row, 0) == speaker.prompt_text(QUESTION.question)
    assert text_of(speaker, row, 1) == GIVEN.text
    assert text_of(speaker, row, 2) == "42"
    assert text_of(speaker, row, 3) == speaker.suffix + "}<eos>"
    assert row.trajectory_id == "q/file-0"


def test_without_a_trajectory_the_answer_follows_the_question(speaker: Speaker) -> None:
    row = make_row(speaker, QUESTION, None, Weights())
    assert speaker.decode(row.input_ids).endswith(f"<assistant>{speaker.suffix}42}}<eos>")
    assert row.trajectory_id is None


def test_a_thinking_trajectory_is_closed_before_the_answer(speaker: Speaker) -> None:
    thought = Trajectory(id="q/file-0", question_id="q", text="6·7=42", source=Source.FILE, mode=Mode.THINKING)
    row = make_row(speaker, QUESTION, thought, Weights(trajectory=1, answer=2, form=3))
    assert speaker.decode(row.input_ids).endswith(f"<think>\n6·7=42\n</think>{speaker.suffix}42}}<eos>")
    assert text_of(speaker, row, 1) == "6·7=42"


@settings(max_examples=60, deadline=None)
@given(before=st.text(max_size=20), answer=st.text(min_size=1, max_size=6), after=st.text(max_size=8))
def test_the_box_of_a_sample_is_its_answer(before: str, answer: str, after: str) -> None:
    if any(set(part) & set("{}\\�") for part in (before, answer, after)) or not answer.strip():
        return
    speaker = speak(byte_tokenizer(), name="bytes")
    text = f"{before}\\boxed{{{answer}}}{after}"
    tokens = (*speaker.encode(text), speaker.tokenizer.eos_token_id)
    sampled = Trajectory(
        id="q/sample-0", question_id="q", text=before, source=Source.SAMPLE, model="bytes", token_ids=tokens
    )
    row = make_row(speaker, QUESTION, sampled, Weights(trajectory=1, answer=2, form=3))
    assert text_of(speaker, row, 1) == f"{before}\\boxed{{"
    assert text_of(speaker, row, 2) == answer
    assert text_of(speaker, row, 3) == f"}}{after}<eos>"


def test_a_sample_without_a_box_is_all_trajectory(speaker: Speaker) -> None:
    tokens = tuple(speaker.encode("I do not know."))
    sampled = Trajectory(
        id="q/sample-0", question_id="q", text="", source=Source.SAMPLE, model="bytes", token_ids=tokens
    )
    assert (
        text_of(speaker, make_row(speaker, QUESTION, sampled, Weights(trajectory=1, answer=2)), 1) == "I do not know."
    )


def test_weights_must_leave_something_to_learn() -> None:
    with pytest.raises(InputError, match="all 0"):
        Weights(trajectory=0, answer=0, form=0)
    with pytest.raises(InputError, match="--answer-weight -1"):
        Weights(answer=-1)


def test_rows_over_the_limit_are_counted_and_many_of_them_refused() -> None:
    rows = [Row("q", None, (1,) * length, (1.0,) * length) for length in [4] * 19 + [9]]
    kept, dropped = within(rows, 8)
    assert (len(kept), dropped) == (19, 1)
    with pytest.raises(InputError, match=r"--max-length 3: 20 of 20 rows are longer \(up to 9 tokens\)"):
        within(rows, 3)
    assert within(rows, None) == (rows, 0)


def test_padding_changes_nothing() -> None:
    rows = [Row("q", None, (1, 2, 3), (0.0, 1.0, 0.5)), Row("q", None, (4, 5), (0.0, 2.0))]
    batch = collate(rows, pad_id=0)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["weights"].tolist() == [[0, 1, 0.5], [0, 2, 0]]
    assert batch["labels"].tolist() == [[-100, 2, 3], [-100, 5, -100]]


def test_the_loss_is_the_weighted_mean_of_the_token_losses() -> None:
    logits = torch.zeros(1, 3, 4, dtype=torch.float64)
    logits[0, 0, 1] = 1.0
    logits[0, 1, 2] = 2.0
    first, second = (-torch.log_softmax(logits[0, i], dim=-1)[i + 1] for i in range(2))
    found = weighted_loss(logits, torch.tensor([[0, 1, 2]]), torch.tensor([[9.0, 1.0, 3.0]]))
    torch.testing.assert_close(found, (first + 3 * second) / 4)
    halves = sum(
        weighted_loss(logits, torch.tensor([[0, 1, 2]]), torch.tensor([weights]), normaliser=4.0)
        for weights in ([0.0, 1.0, 0.0], [0.0, 0.0, 3.0])
    )
    torch.testing.assert_close(halves, found)
    assert weighted_loss(logits, torch.tensor([[0, 1, 2]]), torch.zeros(1, 3)) == 0


@pytest.mark.model
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weight_on_the_answer_alone_is_the_answer_loss(architecture: str) -> None:
    """RaML eq. 8 is a sum of answer losses: what training minimises is what the probe measures."""
    from innerloop.inner.probe import ProbeItem, probe

    loaded: LoadedModel = tiny(architecture)
    row = make_row(loaded, QUESTION, GIVEN, ANSWER_ONLY)
    batch = collate([row], pad_id=0)
    with torch.no_grad():
        logits = loaded.model(input_ids=batch["input_ids"]).logits
    item = ProbeItem(
        trajectory_id=GIVEN.id,
        question_id="q",
        prompt=tuple(loaded.prompt(QUESTION.question)),
        trajectory=tuple(loaded.encode(GIVEN.text)),
        answer=QUESTION.answer,
    )
    (curve,) = probe(loaded, [item], every=1000, method="plain")
    assert weighted_loss(logits, batch["input_ids"], batch["weights"]).item() == pytest.approx(curve.loss[-1], abs=1e-4)
