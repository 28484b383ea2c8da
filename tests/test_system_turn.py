"""A system turn: in every prompt, kept with the run, and checked when a run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.conftest import Ran

from innerloop.errors import InputError
from innerloop.prompts import PROMPTS, SLOT, Prompt, register, used
from innerloop.schema import Mode, Question
from innerloop.speaker import speak
from innerloop.store import Run
from innerloop.testing import byte_tokenizer
from innerloop.verbs.rollout import RolloutSettings
from innerloop.verbs.shared import configuration, out_folder

Cli = Callable[..., Ran]
QUESTION = Question(id="q", question="1 + 1?", answer="2", prompt_template=SLOT)
GRPO = PROMPTS["raml-grpo"]


def test_it_comes_before_the_users_turn() -> None:
    speaker = speak(byte_tokenizer(), name="bytes", system="Be brief.")
    assert speaker.prompt_text(QUESTION) == "<bos><user>Be brief.<eos><user>1 + 1?<eos><assistant>"
    own = replace(QUESTION, system_turn="Think.")
    assert speaker.prompt_text(own, mode=Mode.THINKING).startswith("<bos><user>Think.<eos><user>1 + 1?<eos>")
    assert speaker.prompt_text(replace(QUESTION, system_turn="")) == "<bos><user>1 + 1?<eos><assistant>"


def test_without_a_chat_template_it_is_a_paragraph() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    assert speak(tokenizer, name="base", system="Be brief.").prompt_text(QUESTION) == "Be brief.\n\n1 + 1?\n"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}",
            "fails on a system and a",
        ),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "drops the system turn"),
    ],
)
def test_a_chat_template_that_has_no_place_for_it_is_refused(template: str, said: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=said):
        speak(tokenizer, name="m").prompt(replace(QUESTION, system_turn="Be brief."))
    speak(tokenizer, name="m").prompt(QUESTION)


def test_who_decides() -> None:
    filed = replace(QUESTION, system_turn="The file's.")

    def asked(**settings: Any) -> list[str | None]:
        return [q.system_turn for q in RolloutSettings(questions="q", **settings).worded([QUESTION, filed])]

    assert asked() == [None, "The file's."]
    assert asked(system="Mine.") == ["Mine.", "Mine."]
    assert asked(system="") == ["", ""]
    assert asked(prompt="raml-grpo") == [GRPO.system, GRPO.system]
    assert asked(prompt="bare") == [None, None], "a prompt is taken whole"
    assert asked(prompt="raml-grpo", system="Mine.") == ["Mine.", "Mine."]
    assert asked(system="raml-grpo") == [GRPO.system, GRPO.system], "with the user's turn as it is"
    assert RolloutSettings(questions="q", system="raml-grpo").manner()["system"] == GRPO.system
    with pytest.raises(InputError, match="--system paper: that prompt has no system turn"):
        asked(system="paper")


def test_a_file_may_bring_it(tmp_path: Path) -> None:
    from innerloop.questions import load

    rows = [
        {"question": "1?", "answer": "1", "system_turn": "S"},
        {"question": "2?", "answer": "2", "prompt_template": "raml-grpo"},
        {"question": "3?", "answer": "3", "prompt_template": "raml-grpo", "system_turn": "S"},
    ]
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load(str(file))
    assert [question.system_turn for question in found] == ["S", GRPO.system, "S"]
    assert used(found, "I") == {"system: S\n\nuser: {question}\n\nI": 1, "raml-grpo": 1, "system: S\n\nuser: bare": 1}


def test_the_papers_prompts_say_what_the_form_is() -> None:
    tags = ("<think>", "</think>", "<conclusion>", "</conclusion>", "\\boxed{")
    assert all(tag in (GRPO.system or "") for tag in tags)
    evaluation = PROMPTS["raml-evaluation"].system or ""
    assert [tag in evaluation for tag in tags] == [False, False, True, True, True]
    assert GRPO.template == PROMPTS["raml-evaluation"].template == SLOT
    assert PROMPTS["raml-synthesis"].system is None


def test_a_prompt_registers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerloop.prompts.PROMPTS", dict(PROMPTS))
    register("mine", Prompt(template="Q: {question}", about="a test", system="S"))
    asked = RolloutSettings(questions="q", prompt="mine").worded([QUESTION])
    assert [(q.prompt_template, q.system_turn) for q in asked] == [("Q: {question}", "S")]
    with pytest.raises(ValueError, match="there is a prompt 'mine' already"):
        register("mine", Prompt(template="{question}", about="again"))
    with pytest.raises(ValueError, match="one place"):
        register("other", Prompt(template="nothing", about="no place"))


def test_a_chat_server_gets_two_turns() -> None:
    from innerloop.rollout.server_engine import ChatSpeaker

    speaker = ChatSpeaker(system="Be brief.")
    prompt = speaker.prompt(QUESTION)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    assert speaker.turns(prompt) == turns
    assert speaker.decode(prompt) == "Be brief.\n\n1 + 1?"
    assert speaker.turns(ChatSpeaker().prompt(QUESTION)) == turns[1:]


@pytest.mark.model
def test_a_server_is_sent_it() -> None:
    from innerloop.rollout.engine import Request, Sampling
    from innerloop.rollout.server_engine import ChatSpeaker, ServerEngine
    from innerloop.testing import serving

    with serving("ok") as server:
        engine = ServerEngine(server.url, model="scripted", speaker=ChatSpeaker(system="Be brief."), api="chat")
        engine.connect(Sampling())
        request = Request(id="r", prompt=tuple(engine.speaker.prompt(QUESTION)), seed=1)
        list(engine.generate([request], Sampling(max_tokens=4)))
        assert [turn["role"] for turn in server.asked[-1].body["messages"]] == ["system", "user"]
        assert server.asked[-1].body["messages"][0]["content"] == "Be brief."


def test_a_run_from_before_there_was_one_goes_on(tmp_path: Path) -> None:
    """Where it is not used, neither the configuration nor the folder's name knows of it."""
    plain, asked = RolloutSettings(questions="q"), RolloutSettings(questions="q", system="S")
    assert "system" not in configuration(plain)
    assert configuration(asked)["system"] == "S"
    assert out_folder("rollout", plain) != out_folder("rollout", asked)
    with Run.start(tmp_path / "R", "rollout", configuration(plain)) as run:
        run.note("a", 1)
        run.write("questions", Question.to_table([QUESTION]))
    with (
        pytest.raises(InputError, match=r"system: \(absent\) → \"S\""),
        Run.start(tmp_path / "R", "rollout", configuration(asked)),
    ):
        pass


@pytest.mark.model
def test_what_follows_a_rollout_is_asked_with_it(cli: Cli, tmp_path: Path, tiny_model: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"id": "a", "question": "1 + 1?", "answer": "2"}) + "\n")
    words = ("--model", tiny_model, "--threads", "1")
    run = tmp_path / "R"
    sampled = cli(*("rollout", "--questions", file, "--prompt", "raml-grpo", "--out", run, "--max-tokens", "4"), *words)
    assert sampled.status == 0, sampled.err
    assert Run.open(run).manifest["stages"]["rollout"]["notes"]["prompts"] == {"raml-grpo": 1}
    (question,) = Run.open(run).questions()
    assert question.system_turn == GRPO.system
    probed = cli("probe", "--trajectories", run, "--out", tmp_path / "P", *words)
    assert probed.status == 0, probed.err
    assert Run.open(tmp_path / "P").questions() == [question]
    other = cli("update", "--trajectories", run, "--system", "Be brief.", "--out", run, *words)
    assert other.status == 2
    assert "was put in another prompt when this run began" in other.err


@pytest.mark.model
@pytest.mark.slow
def test_training_and_its_exports_have_it(cli: Cli, tmp_path: Path, model: Path, questions_file: Path) -> None:
    words = ("--model", model, "--questions", questions_file, "--system", "Be brief.", "--batch-size", "4")
    trained = cli("train", "sft", *words, "--max-steps", "1", "--threads", "1", "--out", tmp_path / "R")
    assert trained.status == 0, trained.err
    assert Run.open(tmp_path / "R").questions()[0].system_turn == "Be brief."
    from innerloop.speaker import load_speaker

    assert load_speaker(str(tmp_path / "R")).system == "Be brief.", "the model is asked as it was trained to be"
    for recipe, column in (("sft", "messages"), ("grpo", "prompt")):
        more = ("--group", "2") if recipe == "grpo" else ()
        ran = cli("train", recipe, *words, *more, "--export", "verl", tmp_path / recipe)
        assert ran.status == 0, ran.err
        turns = pq.read_table(tmp_path / recipe / "train.parquet").to_pylist()[0][column]
        assert turns[0] == {"role": "system", "content": "Be brief."}
        assert turns[1]["role"] == "user"
