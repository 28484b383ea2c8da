"""From questions to sampled trajectories: which requests to make, with which seeds, and what a completion becomes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from innerloop.boxed import boxes
from innerloop.finite import not_finite
from innerloop.rollout.engine import MAX_SEED, NOT_NUMBERS, Completion, Engine, Request, Sampling
from innerloop.schema import Mode, Question, Source, Status, Trajectory

_WAITING = 16  # completions without numbers before it is the model
_ID_NAMES = {Mode.PLAIN: "sample", Mode.THINKING: "thinking", Mode.NO_THINKING: "no-thinking"}
_OPENING = re.compile(r"\\boxed\s*+\{(?!\s*+\})")  # not the empty box of an instruction that is repeated


class Speaker(Protocol):
    """What sampling needs of a loaded model."""

    @property
    def instruction(self) -> str:
        """What follows a question that has no template."""
        ...

    @property
    def system(self) -> str | None:
        """The system turn of a question that has none."""
        ...

    @property
    def think_start(self) -> str:
        """The opening thinking delimiter."""
        ...

    @property
    def think_end(self) -> str:
        """The closing one."""
        ...

    @property
    def tokenizer_identity(self) -> str | None:
        """What tells its tokenizer from others; None where it has none."""
        ...

    def prompt(self, question: str | Question, *, mode: Mode = ...) -> list[int]:
        """Token ids of everything before the trajectory."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        ...

    def split_thinking(self, text: str, *, opened: bool = ...) -> tuple[str | None, str]:
        """What was thought and what was shown."""
        ...


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One trajectory to sample. ``opened``: its prompt ends inside the thinking part."""

    request: Request
    question_id: str
    mode: Mode
    sample: int
    opened: bool


def row_seed(seed: int, question_id: str, sample: int, mode: Mode) -> int:
    """The seed of one completion, 0…2⁶³−1: a hash of what it is, so that nothing else can change it."""
    name = json.dumps([seed, question_id, sample, mode.value])
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"innerloop-row").digest()
    return int.from_bytes(digest, "big") & MAX_SEED


def trajectory_id(question_id: str, sample: int, mode: Mode) -> str:
    """``QUESTION/sample-K``, ``QUESTION/thinking-K`` or ``QUESTION/no-thinking-K``."""
    return f"{question_id}/{_ID_NAMES[mode]}-{sample}"


def plan(
    questions: Sequence[Question],
    model: Speaker,
    sampling: Sampling,
    *,
    modes: Sequence[Mode] = (Mode.PLAIN,),
    done: Container[str] = (),
) -> list[Planned]:
    """The trajectories still to sample: every question, mode and sample whose id is not in ``done``."""
    planned = []
    for question in questions:
        for mode in dict.fromkeys(modes):
            missing = [k for k in range(sampling.samples) if trajectory_id(question.id, k, mode) not in done]
            if not missing:
                continue
            prompt = tuple(model.prompt(question, mode=mode))
            opened = model.decode(prompt).rstrip().endswith(model.think_start)  # R1's template does so in plain mode
            for k in missing:
                request = Request(
                    id=trajectory_id(question.id, k, mode),
                    prompt=prompt,
                    seed=row_seed(sampling.seed, question.id, k, mode),
                )
                planned.append(Planned(request=request, question_id=question.id, mode=mode, sample=k, opened=opened))
    return planned


def sample(engine: Engine, model: Speaker, planned: Sequence[Planned], sampling: Sampling) -> Iterator[Trajectory]:
    """The planned trajectories, each as soon as the engine has it, in any order."""
    by_id = {row.request.id: row for row in planned}
    assert len(by_id) == len(planned), "a plan holds every id once"
    for completion in _of_numbers(engine.generate([row.request for row in planned], sampling), engine.name):
        yield to_trajectory(completion, by_id[completion.id], model, engine.name)


def _of_numbers(completions: Iterable[Completion], model: str) -> Iterator[Completion]:
    """The completions; those without numbers wait for one with some, and `NotFiniteError` says that there is none.

    A single prompt may make a model overflow. Where the first ones all do, it is the model.
    """
    waiting: list[Completion] = []
    known = False
    for completion in completions:
        known = known or completion.logprob is not None
        if known:
            yield from waiting
            waiting.clear()
        if known or not (completion.reason or "").endswith(NOT_NUMBERS):
            yield completion
            continue
        waiting.append(completion)
        if len(waiting) == _WAITING:
            break
    if waiting:
        raise not_finite(model, f"{len(waiting)} completions came to no log-probability")


def to_trajectory(completion: Completion, planned: Planned, model: Speaker, engine: str) -> Trajectory:
    """What the model said, split into the part that the probe reads (``text``) and the part to judge (``final``).

    With a thinking part, ``text`` is what was thought, without delimiters, and ``final`` what was shown after it
    (``None`` while thinking never ended). Without one, ``final`` is the whole visible answer, and ``text`` the same up
    to its final answer box: the answer loss along a text that already states the boxed answer would measure copying.

    That holds in no-thinking mode too. There position 0 is the prompt of that mode: the context ends with the thinking
    part that the template closes at once, or with the paper's "… I believe the answer is", and ``text`` is what the
    model said on from there, often little or nothing. An empty ``text`` has a curve of position 0 alone.
    """
    thought, shown = model.split_thinking(completion.text, opened=planned.opened)
    text = thought or before_box(shown)
    if planned.mode is Mode.NO_THINKING:
        text = before_box(text)
    return Trajectory(
        id=completion.id,
        question_id=planned.question_id,
        text=text,
        source=Source.SAMPLE,
        mode=planned.mode,
        sample=planned.sample,
        model=engine,
        final=shown or None,
        status=completion.status,
        reason=completion.reason,
        token_ids=completion.token_ids or None,
        tokenizer=model.tokenizer_identity if completion.token_ids else None,
        tokens=_count(completion),
        logprob=completion.logprob,
        seed=planned.request.seed,
    )


def _count(completion: Completion) -> int | None:
    """Tokens that were produced; ``None`` where nobody knows."""
    if completion.token_ids or completion.tokens is None:
        known = completion.token_ids or not (completion.text or completion.status is Status.ERROR)
        return len(completion.token_ids) if known else None
    return completion.tokens


def before_box(text: str) -> str:
    r"""The text up to the last ``\boxed{…}``, without space at its end; all of it where there is none.

    A box that the end of the text cuts off counts too; an empty one (a repeated instruction) does not.
    """
    found = boxes(text)
    opening = max((match.start() for match in _OPENING.finditer(text)), default=-1)
    if opening >= 0 and all(box.start != opening for box in found):
        return text[:opening].rstrip()
    return text[: found[-1].start if found else len(text)].rstrip()
