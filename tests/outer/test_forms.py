"""The form of a rollout, and what it earns: RaML eq. 21 with the form that was asked for."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.errors import InputError
from innerloop.evaluate.verify import DELIMITERS, Verifier
from innerloop.outer.forms import FORMS, Form, check_form
from innerloop.outer.rewards import REWARDS
from innerloop.schema import Question
from innerloop.speaker import Speaker, speak
from innerloop.testing import byte_tokenizer
from innerloop.verbs.train.grpo import GrpoSettings
from innerloop.verbs.train.rewarding import Rewarding
from innerloop.verbs.train.verl_reward import VerlReward, question_text

THINK = ("<think>", "</think>")
QUESTION = Question(id="q", question="6 times 7?", answer="42")
TAGGED = "<conclusion>\nThe answer is \\boxed{42}.\n</conclusion>"
WHOLE = f"<think>\n6 · 7\n</think>\n{TAGGED}"


def form(name: str, *, opened: bool = False) -> Form:
    return Form(name=name, thinking=THINK, opened=opened)


@pytest.mark.parametrize(
    ("text", "box", "tagged"),
    [
        (WHOLE, True, True),
        (f"  {WHOLE}\n", True, True),
        ("<think>\n6 · 7\n</think>\nIt is \\boxed{42}", True, False),
        ("It is \\boxed{42}", True, False),
        ("It is 42", False, False),
        (TAGGED, True, False),
        (f"Well. {WHOLE}", True, False),
        (f"{WHOLE} Good.", True, False),
        (WHOLE.replace("\\boxed{42}", "42"), False, False),
        (WHOLE.replace("{42}", "{42"), False, False),
        ("<think>\n\\boxed{42}\n</think>\n<conclusion>42</conclusion>", False, False),
        (f"<think>\n6 · 7\n{TAGGED}", False, False),
        (f"<think>a</think><think>b</think>{TAGGED}", True, False),
        (f"<think>a</think>{TAGGED}{TAGGED}", True, False),
        (f"{WHOLE}<think>", False, False),
        ("<think>\n\\boxed{42}", False, False),
        ("", False, False),
    ],
)
def test_the_forms_by_name(text: str, box: bool, tagged: bool) -> None:
    assert (form("box")(text), form("think-conclusion")(text)) == (box, tagged)


@pytest.mark.parametrize("name", [*FORMS, ".*boxed.*"])
def test_where_the_prompt_opens_the_thinking_it_has_to_end(name: str) -> None:
    inside = form(name, opened=True)
    assert not inside("6 · 7, so \\boxed{42}"), "the whole rollout is thinking"
    assert inside(f"6 · 7\n</think>\n{TAGGED}")
    assert not inside(f"6 · 7\n</think>\n{TAGGED}<think>")


def test_an_expression_is_for_the_whole_rollout_and_sees_the_delimiter_of_the_prompt() -> None:
    mine = "<think>.*</think>\\s*<answer>.*</answer>"
    said = "a\nb</think>\n<answer>42</answer>"
    assert form(mine)(f"<think>{said}")
    assert form(mine, opened=True)(said)
    assert not form(mine)(said)
    assert not form(mine)(f"<think>{said} and so on")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("boxed", "--form 'boxed': did you mean box"),
        ("think_conclusion", "did you mean think-conclusion"),
        ("(<answer>", r"--form '\(<answer>': no regular expression of RE2 \(missing \)"),
        (r"(a)\1", "look-around and back references are not taken"),
        ("(?=a)b", "look-around"),
        ("(a{1000}){1000}", "no regular expression of RE2"),
        ("a" * 20_000 + ".", "longer than 10,000 characters"),
    ],
)
def test_an_expression_is_checked_before_the_run_begins(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        GrpoSettings(questions="q", form=name)


def test_an_expression_takes_time_in_proportion_to_the_rollout() -> None:
    """What a backtracking matcher would not come to the end of."""
    for name in ("(.*)*(.*)*x", "(a+)+(a+)+b", "<think>.*</think>\\s*<conclusion>.*</conclusion>"):
        check_form(name)
        rollout = "<think>" + "a" * 30_000 + "</think>\n<conclusion>" * 3_000
        began = time.process_time()
        assert not form(name)(rollout)
        assert time.process_time() - began < 5


def test_a_made_up_rollout_has_the_form() -> None:
    for name in (*FORMS, ".*<conclusion>.*</conclusion>", "<think>.*</think>\\s*[^<]*"):
        for opened in (False, True):
            own = form(name, opened=opened)
            made = own.example("6 · 7", "42", "\n\\boxed{")
            assert made is not None
            assert own(made)
    assert form("<answer>.*</answer>").example("6 · 7", "42", "\n\\boxed{") is None


@given(st.text())
def test_any_text_has_a_form_or_not(text: str) -> None:
    for name in (*FORMS, "[^x]*"):
        for opened in (False, True):
            assert form(name, opened=opened)(text) in (True, False)


# What it earns, in training and on a verl cluster


def opening() -> Speaker:
    """A model whose chat template opens the thinking, as R1's does."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<assistant>{% endif", "<assistant><think>\n{% endif")
    return speak(tokenizer, name="opens")


def earned(speaker: Speaker, name: str, text: str, reward: str = "raml") -> tuple[float | None, float]:
    """By the training's reward, and by that of the export."""
    settings = GrpoSettings(questions="q", form=name)
    own = settings.form_for(speaker)
    with Verifier(delimiters=(*DELIMITERS, own.thinking)) as verifier:
        rewarding = Rewarding(
            REWARDS[reward], verifier, speaker, {"q": QUESTION}, form=own, stops=frozenset([258]), limit=100
        )
        ids = [*speaker.encode(text), 258]
        (here,) = rewarding(completion_ids=[ids], question_id=["q"])
        assert rewarding.audit([QUESTION])["right"] > 0
    there = VerlReward(reward, own.thinking, form=own.name, opened=own.opened)
    info: dict[str, Any] = {"innerloop": question_text(QUESTION)}
    return here, there(text, "42", info)["score"]


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "score"),
    [
        ("box", "6 · 7, so \\boxed{42}", -1.0),  # it earned 1: nobody had seen that it never stopped thinking
        ("box", "6 · 7\n</think>\n\\boxed{42}", 1.0),
        ("box", "6 · 7\n</think>\n\\boxed{41}", 0.0),
        ("think-conclusion", "6 · 7\n</think>\n\\boxed{42}", -0.5),
        ("think-conclusion", f"6 · 7\n</think>\n{TAGGED}", 1.0),
        ("think-conclusion", f"6 · 7\n</think>\n{TAGGED.replace('42', '41')}", 0.0),
        ("<think>.*</think>[^<]*", f"6 · 7\n</think>\n{TAGGED}", -0.5),
    ],
)
def test_a_model_that_begins_inside_its_thinking(name: str, text: str, score: float) -> None:
    assert earned(opening(), name, text) == (score, score)


@pytest.mark.model
@pytest.mark.slow
def test_a_form_that_no_made_up_rollout_has_is_taken_for_given_by_the_audit(caplog: pytest.LogCaptureFixture) -> None:
    speaker = speak(byte_tokenizer(), name="plain")
    assert earned(speaker, "<answer>.*</answer>", "It is \\boxed{42}", "right") == (0.0, 0.0)
    assert "no made-up rollout has the form" in caplog.text
