"""A student reads its teacher's samples in its own tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.outer.pairs import Pair, pair_row
from innerloop.outer.rows import Weights, make_row
from innerloop.rollout.engine import Sampling
from innerloop.rollout.retokenise import own_tokens, sampled_text
from innerloop.rollout.sample import plan, to_trajectory
from innerloop.schema import Mode, Outcome, Question, Source, Status, Trajectory
from innerloop.speaker import Speaker, speak
from innerloop.testing import ScriptedEngine, byte_tokenizer
from innerloop.tokenizers import PRINTABLE, character_tokenizer

QUESTION = Question(id="q", question="What is 6 times 7?", answer="42")
WEIGHTS = Weights(trajectory=1, answer=2, form=3)


@pytest.fixture(scope="module")
def teacher() -> Speaker:
    return speak(byte_tokenizer(), name="teacher")


@pytest.fixture(scope="module")
def student() -> Speaker:
    """Another vocabulary, other thinking delimiters."""
    tokenizer = character_tokenizer(PRINTABLE + "·", whole=("[THINK]", "[/THINK]"))
    return speak(tokenizer, name="student", think_start="[THINK]", think_end="[/THINK]")


def sampled(teacher: Speaker, text: str, mode: Mode = Mode.PLAIN, *, cut: bool = False) -> Trajectory:
    """What the teacher said, as ``rollout`` keeps it."""
    (planned,) = plan([QUESTION], teacher, Sampling(max_tokens=1000), modes=[mode])
    engine = ScriptedEngine(lambda _: text, name=teacher.name)
    (completion,) = engine.generate([planned.request], Sampling(max_tokens=1000))
    ids = tuple(teacher.encode(text)) if cut else (*teacher.encode(text), teacher.tokenizer.eos_token_id)
    status = Status.TRUNCATED if cut else Status.COMPLETE
    made = replace(completion, token_ids=ids, status=status, reason="cut" if cut else None)
    return to_trajectory(made, planned, teacher, teacher.name)


def said(speaker: Speaker, trajectory: Trajectory) -> str:
    """What a training row teaches the speaker to say."""
    row = make_row(speaker, QUESTION, trajectory, WEIGHTS)
    return speaker.decode([token for token, weight in zip(row.input_ids, row.weights, strict=True) if weight])


SAID = [
    ("6·7=42, so \\boxed{42}.", Mode.PLAIN, "6·7=42, so \\boxed{42}.<eos>"),
    ("I cannot tell.", Mode.PLAIN, "I cannot tell.<eos>"),
    (
        "<think>\n6·7=42\n</think>\n\nIt is \\boxed{42}",
        Mode.PLAIN,
        "[THINK]\n6·7=42\n[/THINK]\n\nIt is \\boxed{42}<eos>",
    ),
    ("6·7=42\n</think>\n\nIt is \\boxed{42}", Mode.THINKING, "6·7=42\n[/THINK]\n\nIt is \\boxed{42}<eos>"),
    ("It is 42.\n</think>\n\n\\boxed{42}", Mode.THINKING, "It is 42.\n[/THINK]\n\n\\boxed{42}<eos>"),
    (" \\boxed{42}", Mode.NO_THINKING, " \\boxed{42}<eos>"),
]


@pytest.mark.parametrize(("text", "mode", "learnt"), SAID)
def test_a_student_learns_the_teachers_words_in_its_own_tokens(
    teacher: Speaker, student: Speaker, text: str, mode: Mode, learnt: str
) -> None:
    trajectory = sampled(teacher, text, mode)
    assert said(student, trajectory) == learnt
    assert "<unk>" not in said(student, trajectory)
    assert said(teacher, trajectory) == text + "<eos>", "the teacher itself keeps every token"


def test_the_answer_in_the_box_keeps_its_weight(teacher: Speaker, student: Speaker) -> None:
    row = make_row(student, QUESTION, sampled(teacher, "<think>\n6·7\n</think>\n\n\\boxed{42}"), WEIGHTS)
    answer = [token for token, weight in zip(row.input_ids, row.weights, strict=True) if weight == 2]
    assert student.decode(answer) == "42"


@pytest.mark.parametrize(
    ("text", "mode", "learnt"),
    [
        ("6·7 is", Mode.PLAIN, "6·7 is"),
        ("<think>\n6·7 is", Mode.PLAIN, "[THINK]\n6·7 is"),
        ("6·7", Mode.THINKING, "6·7"),
    ],
)
def test_what_was_cut_off_has_no_end(teacher: Speaker, student: Speaker, text: str, mode: Mode, learnt: str) -> None:
    assert said(student, sampled(teacher, text, mode, cut=True)) == learnt


def test_thinking_that_the_students_prompt_has_opened_is_not_opened_again(teacher: Speaker) -> None:
    tokenizer = byte_tokenizer(whole=("!",))
    tokenizer.chat_template = tokenizer.chat_template.replace("<assistant>{% endif", "<assistant><think>\n{% endif")
    student = speak(tokenizer, name="opens")
    assert student.opens_thinking(Mode.PLAIN)
    trajectory = sampled(teacher, "<think>\n6·7\n</think>\n\nSo \\boxed{42}")
    assert said(student, trajectory) == "6·7\n</think>\n\nSo \\boxed{42}<eos>"


def test_a_switched_off_student_is_shown_the_answer_alone(teacher: Speaker) -> None:
    student = speak(byte_tokenizer(thinking_switch=True, whole=("!",)), name="switch")
    assert said(student, sampled(teacher, " 42\n</think>\n\n\\boxed{42}", Mode.NO_THINKING)) == "\\boxed{42}<eos>"


def test_a_server_that_tells_no_tokens_is_learnt_from_whole(student: Speaker) -> None:
    trajectory = Trajectory(
        id="q/sample-0", question_id="q", text="6·7", source=Source.SAMPLE, final="It is \\boxed{42}.", model="far away"
    )
    assert said(student, trajectory) == "[THINK]\n6·7\n[/THINK]\n\nIt is \\boxed{42}.<eos>"


def test_the_same_number_of_tokens_is_not_the_same_tokenizer() -> None:
    first, other = (speak(byte_tokenizer(whole=whole), name="same name") for whole in (("ab", "cd"), ("cd", "ab")))
    assert len(first.tokenizer) == len(other.tokenizer)
    trajectory = sampled(first, "ab is \\boxed{42}")
    assert trajectory.tokenizer == first.tokenizer_identity
    assert own_tokens(first, trajectory) == trajectory.token_ids
    assert own_tokens(other, trajectory) is None
    assert other.decode(trajectory.token_ids or ()).startswith("cd"), "which is what it would have learnt"
    assert said(other, trajectory) == "ab is \\boxed{42}<eos>"


def test_a_tokenizer_is_the_same_after_saving_and_with_another_chat_template(tmp_path: Path, teacher: Speaker) -> None:
    from transformers import AutoTokenizer

    byte_tokenizer(thinking_switch=True).save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    read.padding_side = "left"
    assert speak(read, name="another name").tokenizer_identity == teacher.tokenizer_identity


def test_without_a_tokenizers_name_that_of_the_model_decides(teacher: Speaker, student: Speaker) -> None:
    older = replace(sampled(teacher, "6·7=42, \\boxed{42}"), tokenizer=None)
    assert own_tokens(teacher, older) == older.token_ids
    assert own_tokens(student, older) is None
    assert said(student, older) == "6·7=42, \\boxed{42}<eos>"


def test_a_control_is_read_in_its_own_tokens_only_where_it_was_made_with_them(
    teacher: Speaker, student: Speaker
) -> None:
    from innerloop.verbs.trajectories import make_controls
    from innerloop.verbs.work import probe_item

    base = sampled(teacher, "6·7=42, \\boxed{42}")
    (control,) = make_controls(["shuffled"], [base], [QUESTION], teacher, seed=0)
    assert probe_item(teacher, QUESTION, control).trajectory == control.token_ids
    readable = replace(control, text="so")  # shuffled bytes need not be text
    assert probe_item(student, QUESTION, readable).trajectory == tuple(student.encode("so"))


def test_both_sides_of_a_pair_are_in_the_students_tokens(teacher: Speaker, student: Speaker) -> None:
    right = replace(sampled(teacher, "6·7=42, \\boxed{42}"), outcome=Outcome.RIGHT)
    wrong = replace(sampled(teacher, "6·7=43, \\boxed{43}"), id="q/sample-1", outcome=Outcome.WRONG)
    row = pair_row(student, QUESTION, Pair(right, wrong))
    assert student.decode(row.right) == "6·7=42, \\boxed{42}<eos>"
    assert student.decode(row.wrong) == "6·7=43, \\boxed{43}<eos>"


def test_the_export_for_verl_says_the_same(teacher: Speaker, student: Speaker) -> None:
    from innerloop.verbs.train.verl_export import _sft_row

    for text, mode, learnt in SAID[:4]:
        trajectory = sampled(teacher, text, mode)
        opening = "[THINK]\n" if mode is Mode.THINKING else ""  # verl's own prompt does not open it
        content = _sft_row(student, QUESTION, trajectory)["messages"][-1]["content"]
        assert content == opening + learnt.removesuffix("<eos>")
        assert sampled_text(teacher, trajectory) == text
