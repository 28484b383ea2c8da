"""What is said around a question: by name, by kind of answer, by command, and the same in every verb."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.prompts import INSTRUCTION, PROMPTS, SLOT, default, named, resolve, used, user_turn
from innerloop.schema import Question
from innerloop.speaker import MANNER_FILE
from innerloop.store import Run
from innerloop.testing import byte_tokenizer
from innerloop.verbs.rollout import RolloutSettings

Cli = Callable[..., Any]


def question(**fields: Any) -> Question:
    return Question(**{"id": "q", "question": "What?", "answer": "1"} | fields)


def test_the_papers_prompt_is_the_papers() -> None:
    assert resolve("paper", "--prompt").template.replace(SLOT, "Q") == (
        "Q\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    )


@pytest.mark.parametrize("name", PROMPTS)
def test_every_template_has_one_place_for_the_question(name: str) -> None:
    assert PROMPTS[name].template.count(SLOT) == 1
    found = resolve(name, "--prompt")
    assert named(found.template, found.system) == name


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, None),
        ({"verifier": "math"}, None),
        ({"verifier": "gym:chain_sum"}, None),
        ({"verifier": "number"}, None),
        ({"verifier": "choice"}, "choice"),
        ({"verifier": "literal"}, "literal"),
        ({"verifier": "code", "metadata": json.dumps({"tests": "assert f()"})}, "function"),
        ({"verifier": "code", "metadata": json.dumps({"tests": "x", "entry_point": "f"})}, "completion"),
        ({"verifier": "code", "metadata": "{"}, "function"),
    ],
    ids=repr,
)
def test_the_kind_of_answer_decides_where_nobody_else_does(fields: dict[str, str], name: str | None) -> None:
    assert default(question(**fields)) == (None if name is None else PROMPTS[name].template)


@given(st.text(), st.text())
def test_the_question_comes_through_whole(text: str, instruction: str) -> None:
    for name in PROMPTS:
        head, tail = PROMPTS[name].template.split(SLOT)
        turn = user_turn(question(question=text, prompt_template=PROMPTS[name].template), instruction)
        assert turn == head + text + tail
    assert user_turn(question(question=text), instruction) == user_turn(text, instruction)


def test_the_order_of_precedence() -> None:
    choice = question(verifier="choice")
    asked = RolloutSettings(questions="q").worded([question(), choice, question(prompt_template="A {question}")])
    assert [entry.prompt_template for entry in asked] == [None, PROMPTS["choice"].template, "A {question}"]
    assert RolloutSettings(questions="q", prompt="bare").worded([choice])[0].prompt_template == SLOT
    assert RolloutSettings(questions="q", instruction="I").worded([choice])[0].prompt_template == "{question}\n\nI"
    assert RolloutSettings(questions="q", instruction="").worded([choice])[0].prompt_template == SLOT
    assert used(asked, INSTRUCTION) == {"paper": 1, "choice": 1, "A {question}": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "papre"}, "--prompt 'papre': did you mean paper\\? There are paper, conclusion"),
        ({"prompt": "Say it"}, r"--prompt 'Say it': There are .*; or write a text with \{question\} in it"),
        ({"prompt": "paper", "instruction": "x"}, "--prompt and --instruction: give one of them"),
    ],
)
def test_prompts_that_make_no_sense(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RolloutSettings(questions="q", **settings)


def test_a_chat_server_is_asked_the_same() -> None:
    from innerloop.rollout.server_engine import ChatSpeaker

    asked = bytes(ChatSpeaker().prompt(question(verifier="choice"))).decode()
    assert asked == user_turn(question(verifier="choice"), INSTRUCTION)
    assert bytes(ChatSpeaker().prompt("What?")).decode() == f"What?\n\n{INSTRUCTION}"


@pytest.mark.model
def test_what_follows_a_rollout_asks_as_it_did(cli: Cli, tmp_path: Path, tiny_model: Path) -> None:
    """The prompt is in the run: probe and update need no option, and another prompt is refused in the same folder."""
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"id": "a", "question": "1 + 1?", "answer": "2"}) + "\n")
    run = tmp_path / "R"
    common = ("--model", str(tiny_model), "--threads", "1")
    sampled = cli(
        *("rollout", "--questions", str(file), "--prompt", "conclusion", "--out", str(run), "--max-tokens", "4"),
        *common,
    )
    assert sampled.status == 0, sampled.err
    manifest = json.loads((run / "run.json").read_text())["stages"]["rollout"]
    assert manifest["configuration"]["prompt"] == "conclusion"
    assert manifest["notes"]["prompts"] == {"conclusion": 1}
    assert Run.open(run).questions()[0].prompt_template == PROMPTS["conclusion"].template
    for more in ((), ("--questions", str(file))):
        probed = cli("probe", "--trajectories", str(run), "--out", str(run), *more, *common)
        if more:  # the same questions, but another configuration
            assert "holds a probe run with another configuration" in probed.err
            probed = cli("probe", "--trajectories", str(run), "--out", str(tmp_path / "P"), *more, *common)
        assert probed.status == 0, probed.err
    assert Run.open(tmp_path / "P").questions() == Run.open(run).questions()
    assert Run.open(tmp_path / "P").curves()[0].loss == Run.open(run).curves()[0].loss
    other = cli("update", "--trajectories", str(run), "--prompt", "bare", "--out", str(run), *common)
    assert other.status == 2
    assert "was put in another prompt when this run began; give the same --prompt or --instruction" in other.err


def test_the_model_puts_a_question_in_its_template() -> None:
    from innerloop.speaker import speak

    speaker = speak(byte_tokenizer(), name="tiny")
    text = speaker.decode(speaker.prompt(question(verifier="choice")))
    assert "What?\n\nPlease reason step by step, and put the letter" in text
    assert INSTRUCTION in speaker.decode(speaker.prompt("What?"))


def test_training_asks_in_the_chosen_prompt_too() -> None:
    from innerloop.verbs.train.apart import apart
    from innerloop.verbs.train.sft import SftSettings

    asked = apart(SftSettings(questions="q", prompt="bare"), [question(), question(id="r", question="Why?")])
    assert [entry.prompt_template for entry in asked] == [SLOT, SLOT]


@pytest.mark.parametrize(
    ("verifier", "answer", "said"),
    [
        ("choice", "B", "So it is the second one.\nAnswer: B"),
        ("choice", "B", "So it is \\boxed{B}."),
        ("number", "3", "1 and 2 make 3.\n<conclusion>\nThe answer is \\boxed{3}\n</conclusion>"),
        ("literal", "'ab'", "It appends.\n[ANSWER]'ab'[/ANSWER]"),
    ],
)
def test_what_the_prompts_ask_for_is_understood(verifier: str, answer: str, said: str) -> None:
    from innerloop.evaluate.verify import Verifier
    from innerloop.schema import Outcome

    with Verifier() as judge:
        (verdict,) = judge.verify([(question(verifier=verifier, answer=answer), said)])
    assert verdict.outcome is Outcome.RIGHT


@pytest.mark.model
def test_the_manifest_notes_the_instruction_that_the_model_brought(cli: Cli, model: Path, tmp_path: Path) -> None:
    own = tmp_path / "m"
    shutil.copytree(model, own)
    (own / MANNER_FILE).write_text(json.dumps({"instruction": "Think aloud."}))
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "1+1?", "answer": "2", "solution": "1+1=2"}) + "\n")
    words = ("--questions", tmp_path / "q.jsonl", "--trajectories", "solutions", "--out", tmp_path / "R")
    ran = cli("probe", "--model", own, *words, "--threads", "1")
    assert ran.status == 0, ran.err
    assert Run.open(tmp_path / "R").manifest["stages"]["probe"]["notes"]["prompts"] == {"{question}\n\nThink aloud.": 1}
