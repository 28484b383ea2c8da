from __future__ import annotations

from collections.abc import Sequence

import pytest

from innerloop.finite import NotFiniteError
from innerloop.prompts import user_turn
from innerloop.rollout.engine import NOT_NUMBERS, Completion, Request, Sampling
from innerloop.rollout.sample import (
    Planned,
    _of_numbers,
    before_box,
    plan,
    row_seed,
    sample,
    to_trajectory,
    trajectory_id,
)
from innerloop.schema import Mode, Question, Source, Status, Trajectory
from innerloop.testing import ScriptedEngine

QUESTIONS = [Question(id="a", question="1 + 1?", answer="2"), Question(id="b", question="2 + 2?", answer="4")]


class Speaker:
    """A model without a model: bytes for tokens, and R1's habit of opening the thinking part in the prompt."""

    instruction = ""
    think_start = "<think>"
    think_end = "</think>"
    tokenizer_identity = system = None

    def prompt(self, question: str | Question, *, mode: Mode = Mode.PLAIN) -> list[int]:
        ends = {Mode.PLAIN: "", Mode.THINKING: "<think>\n", Mode.NO_THINKING: "<think>\n</think>\n"}
        return list((user_turn(question, "") + ends[mode]).encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()

    def split_thinking(self, text: str, *, opened: bool = False) -> tuple[str | None, str]:
        before, closing, after = text.rpartition("</think>")
        if closing:
            return before.strip(), after.strip()
        return (text.strip(), "") if opened else (None, text)


def test_plan_makes_every_sample_of_every_mode_once() -> None:
    planned = plan(QUESTIONS, Speaker(), Sampling(samples=2), modes=[Mode.PLAIN, Mode.THINKING, Mode.PLAIN])
    assert [row.request.id for row in planned] == [
        "a/sample-0",
        "a/sample-1",
        "a/thinking-0",
        "a/thinking-1",
        "b/sample-0",
        "b/sample-1",
        "b/thinking-0",
        "b/thinking-1",
    ]
    assert [row.opened for row in planned[:4]] == [False, False, True, True]
    assert bytes(planned[2].request.prompt).decode() == "1 + 1?<think>\n"
    assert len({row.request.seed for row in planned}) == 8


def test_plan_leaves_out_what_is_done_and_keeps_the_seeds_of_the_rest() -> None:
    whole = plan(QUESTIONS, Speaker(), Sampling(samples=3))
    rest = plan(QUESTIONS[::-1], Speaker(), Sampling(samples=3), done={"a/sample-0", "a/sample-2", "b/sample-1"})
    assert {row.request.id for row in rest} == {"a/sample-1", "b/sample-0", "b/sample-2"}
    assert {row.request for row in rest} <= {row.request for row in whole}


def test_row_seeds_never_change_and_fit_an_int64() -> None:
    # Runs are resumed with these: a change of this number would mix two randomnesses in one run.
    assert row_seed(0, "gsm8k-test-0", 0, Mode.PLAIN) == 3458828323465826155
    seeds = {row_seed(s, q, k, m) for s in range(4) for q in ("a", "b", "a0") for k in range(4) for m in Mode}
    assert len(seeds) == 4 * 3 * 4 * 3
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("mode", "said", "text", "final"),
    [
        (Mode.PLAIN, r"One and one: $\boxed{2}$.", "One and one: $", r"One and one: $\boxed{2}$."),
        (Mode.PLAIN, "No box here", "No box here", "No box here"),
        (Mode.PLAIN, r"<x>thought</think> It is \boxed{2}", "<x>thought", r"It is \boxed{2}"),
        (Mode.PLAIN, r"</think> Shown \boxed{2}", "Shown", r"Shown \boxed{2}"),
        (Mode.THINKING, r"hm \boxed{3}? no</think>\boxed{2}", r"hm \boxed{3}? no", r"\boxed{2}"),
        (Mode.THINKING, "never ends", "never ends", None),
        (Mode.NO_THINKING, r"As 1 + 1 = 2: \boxed{2}", "As 1 + 1 = 2:", r"As 1 + 1 = 2: \boxed{2}"),
        (Mode.NO_THINKING, r" \boxed{2}.</think>It is \boxed{2}", "", r"It is \boxed{2}"),
        (Mode.NO_THINKING, r"\boxed{2}", "", r"\boxed{2}"),
        (Mode.PLAIN, "", "", None),
    ],
)
def test_text_is_what_the_probe_may_read_and_final_what_is_judged(
    mode: Mode, said: str, text: str, final: str | None
) -> None:
    planned = plan(QUESTIONS[:1], Speaker(), Sampling(), modes=[mode])
    engine = ScriptedEngine(lambda _: said)
    (trajectory,) = sample(engine, Speaker(), planned, Sampling())
    assert (trajectory.text, trajectory.final) == (text, final)
    assert trajectory.id == trajectory_id("a", 0, mode)
    assert (trajectory.question_id, trajectory.source, trajectory.mode) == ("a", Source.SAMPLE, mode)
    assert (trajectory.model, trajectory.seed) == ("scripted", planned[0].request.seed)
    assert trajectory.tokens == len(said.encode())
    assert trajectory.outcome is None
    assert Trajectory.from_table(Trajectory.to_table([trajectory])) == [trajectory]


def test_a_failed_completion_is_an_error_with_its_reason_and_no_numbers() -> None:
    planned = plan(QUESTIONS, Speaker(), Sampling())
    failed, fine = sample(ScriptedEngine({"b/sample-0": "ok"}), Speaker(), planned, Sampling())
    assert failed.status is Status.ERROR
    assert "a/sample-0" in (failed.reason or "")
    assert (failed.text, failed.final, failed.tokens, failed.token_ids, failed.logprob) == ("", None, None, None, None)
    assert (fine.status, fine.text) == (Status.COMPLETE, "ok")


def test_numbers_of_the_completion_are_kept() -> None:
    planned = Planned(
        request=Request(id="a/sample-3", prompt=(1,), seed=9), question_id="a", mode=Mode.PLAIN, sample=3, opened=False
    )
    completion = Completion(
        id="a/sample-3", token_ids=(104, 105, 0), text="hi", status=Status.TRUNCATED, reason="limit", logprob=-2.5
    )
    trajectory = to_trajectory(completion, planned, Speaker(), "engine")
    assert (trajectory.token_ids, trajectory.tokens, trajectory.logprob) == ((104, 105, 0), 3, -2.5)
    assert (trajectory.status, trajectory.reason, trajectory.sample) == (Status.TRUNCATED, "limit", 3)


@pytest.mark.parametrize(
    ("text", "before"),
    [
        (r"so \boxed{5}", "so"),
        (r"a \boxed{4}, no, b \boxed{\frac{1}{2}} done", r"a \boxed{4}, no, b"),
        (r"put it within \boxed{}. Well, 5", r"put it within \boxed{}. Well, 5"),
        (r"first \boxed{3} then \boxed{\frac{1}{2", r"first \boxed{3} then"),
        (r"so \boxed{\boxed{5}}", "so"),
        (r"\boxed{5}", ""),
        ("no box  \n", "no box"),
    ],
)
def test_before_box_cuts_at_the_last_box(text: str, before: str) -> None:
    assert before_box(text) == before


def test_a_model_without_numbers_is_told_from_a_prompt_without() -> None:
    """`NotFiniteError` where no completion has a log-probability; an error of its own where others have."""
    reason = f"m {NOT_NUMBERS}"
    odd = [Completion(id=f"o{i}", token_ids=(), text="", status=Status.ERROR, reason=reason, seed=0) for i in range(40)]
    long = Completion(id="l", token_ids=(), text="", status=Status.ERROR, reason="too long", seed=0)
    good = Completion(id="g", token_ids=(1,), text="a", status=Status.COMPLETE, logprob=-1.0, seed=0)
    assert list(_of_numbers([*odd[:5], long, good, *odd[5:]], "m")) == [long, *odd[:5], good, *odd[5:]]
    assert list(_of_numbers([long], "m")) == [long]
    for completions in (odd[:1], [long, *odd[:2]], odd):
        coming = iter(completions)
        with pytest.raises(NotFiniteError, match=r"model 'm' gives no finite numbers: \d+ completions"):
            list(_of_numbers(coming, "m"))
    assert len(list(coming)) == 40 - 16, "the rest is not asked for"
