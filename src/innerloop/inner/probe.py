"""The probe: how far the model is from the answer after each token of a trajectory (RaML alg. 3).

L̂ᵢ = −(1/|a|) Σⱼ log p(aʲ | q, t≤ᵢ, s, a<ʲ) for i = 0…n, in nats per answer token. Three methods give the same numbers:

- ``shared`` runs the trajectory once and all branches against it (`innerloop.inner.shared`); the default. A model that
  cannot be run that way falls back by itself to ``cached``, and says so;
- ``cached`` continues the model's own cache, one small forward per position (`innerloop.inner.cached`);
- ``plain`` is the definition, a full forward per prefix (`innerloop.inner.plain`).
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.errors import InputError
from innerloop.finite import require_finite
from innerloop.inner import agreement
from innerloop.inner.attention import UnsupportedAttentionError
from innerloop.inner.cached import cached_losses
from innerloop.inner.plain import plain_losses
from innerloop.inner.positions import Every, positions, spans, token_texts
from innerloop.inner.shared import budget_for, shared_losses
from innerloop.inner.task import Task
from innerloop.models import LoadedModel
from innerloop.schema import Curve
from innerloop.speaker import Speaker

logger = logging.getLogger(__name__)

Method = Literal["shared", "cached", "plain"]
_Fast = Literal["shared", "cached", "stepwise"]

#: Architectures (``config.model_type``) whose shared-prefix losses are compared with the plain method in the tests.
#: Any other one is compared on its first trajectory before the method is used.
SUPPORTED = frozenset(
    {
        "llama", "qwen2", "qwen3", "mistral", "gemma3_text", "olmo2", "phi3",
        "gpt2", "gpt_neox", "mixtral", "qwen2_moe", "qwen3_moe",
    }
)  # fmt: skip

_KEYS_AND_VALUES = frozenset({"full_attention", "sliding_attention", "attention"})  # names in ``config.layer_types``


@dataclass(frozen=True, kw_only=True)
class ProbeItem:
    """One trajectory to probe: token ids of prompt and trajectory, and the answers as text.

    ``whole`` scores suffix, answer and closing brace together instead of the answer's tokens alone.
    """

    trajectory_id: str
    question_id: str
    prompt: tuple[int, ...]
    trajectory: tuple[int, ...]
    answer: str
    candidates: tuple[str, ...] = ()
    whole: bool = False


def probe(
    loaded: LoadedModel,
    items: Sequence[ProbeItem],
    *,
    every: Every = "all",
    method: Method = "shared",
    memory: int | None = None,
    compare: bool = True,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Curve]:
    """Answer-loss curves of trajectories, in the order given.

    ``every`` names the positions (see `innerloop.inner.positions`). ``memory`` bounds what the ``shared`` method uses
    beside the weights, in bytes; by default four fifths of what is free. With ``compare``, a position now and then is
    measured by the definition, too (see `innerloop.inner.agreement`). ``on_progress`` is called with the number of
    positions just measured. Raises `InputError` for an answer without tokens and for a context that is too long, and
    `NotFiniteError` for a model whose losses are no numbers.
    """
    tasks = [task_of(loaded, item, every) for item in items]
    if not tasks:
        return
    for item, task, losses in zip(items, tasks, _losses(loaded, tasks, method, memory, on_progress), strict=True):
        require_finite(loaded, losses.flatten().tolist(), f"a loss along {item.trajectory_id}")
        fast = compare and method != "plain"
        plain = agreement.compared(loaded, task, item.trajectory_id, losses) if fast else {}
        yield _curve(loaded, item, task, losses.numpy(), plain)


def position_count(speaker: Speaker, item: ProbeItem, every: Every = "all") -> int:
    """How many positions `probe` will measure for an item."""
    return len(positions(every, item.trajectory, speaker.decode))


def shares(loaded: LoadedModel, task: Task) -> bool:
    """Whether the model runs the branches of a task against a shared prefix as exactly as afresh."""
    return _why_not(loaded, "shared", [task]) is None


def task_of(loaded: LoadedModel, item: ProbeItem, every: Every) -> Task:
    """An item's tokens, checked against what the model can hold."""
    if not item.prompt:
        raise InputError(f"{item.trajectory_id}: the prompt has no tokens; a question is needed before the trajectory")
    suffix = tuple(loaded.suffix_ids)
    answers = tuple(tuple(loaded.answer_ids(answer)) for answer in _answers(item))
    if item.whole:
        close = tuple(loaded.encode("}")) if loaded.suffix.endswith("{") else ()
        suffix, answers = (), tuple((*suffix, *answer, *close) for answer in answers)
    task = Task(
        prompt=item.prompt,
        trajectory=item.trajectory,
        positions=positions(every, item.trajectory, loaded.decode),
        suffix=suffix,
        answers=answers,
    )
    limit = loaded.max_context
    if limit is not None and task.longest > limit:
        raise InputError(
            f"{item.trajectory_id}: question, trajectory, suffix and answer take {task.longest} tokens, but "
            f"{loaded.name} holds {limit}: shorten the trajectory or choose a model with a longer context"
        )
    return task


def _answers(item: ProbeItem) -> tuple[str, ...]:
    """Reference answer and candidates, each once: the reference is usually a candidate too."""
    return tuple(dict.fromkeys((item.answer, *item.candidates)))


def _losses(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    method: Method,
    memory: int | None,
    on_progress: Callable[[int], None],
) -> Iterator[Float[Tensor, "position answer"]]:
    """Losses task by task with the chosen method, or the one that the model can take."""
    if method == "shared":
        if (reason := _why_not(loaded, "shared", tasks)) is None:
            return shared_losses(loaded, tasks, budget_for(loaded, tasks, memory), on_progress)
        logger.warning("%s: %s, so each position takes a forward of its own (slower, as exact)", loaded.name, reason)
        method = "cached"
    if method == "cached":
        if (reason := _why_not(loaded, "cached", tasks)) is None:
            return (cached_losses(loaded, task, on_progress) for task in tasks)
        if _why_not(loaded, "stepwise", tasks) is None:
            logger.warning("%s: %s, so its state is moved on token by token (slow, as exact)", loaded.name, reason)
            return (cached_losses(loaded, task, on_progress, stepwise=True) for task in tasks)
        logger.warning("%s: %s, so every prefix is run afresh (much slower, as exact)", loaded.name, reason)
        method = "plain"
    if method == "plain":
        return (plain_losses(loaded, task, on_progress) for task in tasks)
    raise InputError(f"method={method!r}: must be shared, cached or plain")


def _curve(
    loaded: LoadedModel,
    item: ProbeItem,
    task: Task,
    losses: Float[np.ndarray, "position answer"],
    plain: Mapping[int, float],
) -> Curve:
    """The record of one trajectory's losses; ``plain`` are those by the definition at some of the places."""
    pieces = token_texts(task.trajectory[: task.positions[-1]], loaded.decode)
    columns = [_answers(item).index(candidate) for candidate in item.candidates]
    return Curve(
        question_id=item.question_id,
        trajectory_id=item.trajectory_id,
        position=task.positions,
        token_id=tuple(task.trajectory[i - 1] if i else None for i in task.positions),
        token=tuple(spans(pieces, task.positions)),
        loss=tuple(losses[:, 0].tolist()),
        answer_tokens=len(task.answers[0]),
        plain_loss=tuple(plain.get(place) for place in range(len(task.positions))) if plain else (),
        candidates=item.candidates,
        candidate_tokens=tuple(len(task.answers[column]) for column in columns),
        candidate_losses=tuple(map(tuple, losses[:, columns].tolist())) if columns else (),
    )


def _why_not(loaded: LoadedModel, method: _Fast, tasks: Sequence[Task]) -> str | None:
    """Why a fast method would not give the plain method's numbers, or None."""
    if not all(task.suffix for task in tasks):  # the fast ways take logits from the branch alone
        return "without a suffix an answer's first token is predicted by the trajectory's last one"
    if reason := _rope_changes(loaded, tasks):
        return reason
    if method == "shared":
        if loaded.model.config.model_type in SUPPORTED:
            return None
        if _keeps_state(loaded):
            return f"the state of {type(loaded.model).__name__} cannot be shared by several branches"
    return _disagreement(loaded, method, tasks)


def _keeps_state(loaded: LoadedModel) -> bool:
    """Whether some layer carries a recurrent or convolutional state, or reads keys and values in a way of its own."""
    kinds = getattr(loaded.model.config.get_text_config(), "layer_types", None) or ()
    return bool(loaded.model._is_stateful) or not _KEYS_AND_VALUES.issuperset(kinds)


def _rope_changes(loaded: LoadedModel, tasks: Sequence[Task]) -> str | None:
    """Length-dependent rotary frequencies change a prefix's keys when the context grows past the trained length."""
    config = loaded.model.config.get_text_config()
    scaling = getattr(config, "rope_parameters", None) or {}
    if scaling.get("rope_type") not in ("dynamic", "longrope"):
        return None
    trained = scaling.get("original_max_position_embeddings") or config.max_position_embeddings
    longest = max(task.longest for task in tasks)
    if longest <= trained:
        return None
    return f"its {scaling['rope_type']} rotary embedding changes at {trained} tokens and a context has {longest}"


_checked: weakref.WeakKeyDictionary[torch.nn.Module, dict[str, str | None]] = weakref.WeakKeyDictionary()


def _disagreement(loaded: LoadedModel, method: _Fast, tasks: Sequence[Task]) -> str | None:
    """Compares a fast method with the plain one, once per model: on the shortest and the longest trajectory with
    tokens."""
    known = _checked.setdefault(loaded.model, {})
    if method not in known:
        told = sorted((task for task in tasks if task.trajectory), key=lambda task: len(task.trajectory))
        ends = [told[0], told[-1]] if len(told) > 1 else told or [tasks[0]]
        known[method] = next(filter(None, (_compare(loaded, method, task) for task in ends)), None)
    return known[method]


def _compare(loaded: LoadedModel, method: _Fast, task: Task) -> str | None:
    """Why the method will not do on a task, tried at three positions; None where it will."""
    n = len(task.positions)
    chosen = tuple(sorted({task.positions[0], task.positions[n // 2], task.positions[-1]}))
    few = replace(task, positions=chosen, answers=task.answers[:1])
    plain = plain_losses(loaded, few)
    require_finite(loaded, plain.flatten().tolist(), "the loss of an answer")
    try:
        if method == "shared":
            found = next(shared_losses(loaded, [few], budget_for(loaded, [few], None)))
        else:
            found = cached_losses(loaded, few, stepwise=method == "stepwise")
    except (UnsupportedAttentionError, AttributeError, TypeError, ValueError, RuntimeError, LookupError) as error:
        # A foreign architecture may fail in any of these ways; every one means "not this method".
        logger.debug("%s with the %s method", loaded.name, method, exc_info=True)
        return f"{type(loaded.model).__name__} cannot run with the {method} method ({type(error).__name__})"
    difference = float((found - plain).abs().max())
    if not difference <= agreement.ALLOWED[loaded.dtype]:
        return f"the {method} method is {difference:.1g} nats off on {type(loaded.model).__name__}"
    return None
