"""Gauge ``paper``: the update that RaML's proof of proposition 2.1 writes down, and how far it is from the truth.

The paper (appendix B, eq. 9–20) takes one attention layer without norms, positions or heads, l = (I, q) as rows E_l,
and one trajectory token E_t, and asks for weights that do on l alone what W does on (l, t):

- eq. 13, step 2: a linear map P that takes one state to another by a change of basis; W'_q = P W_q;
- eq. 16: E_t ≈ C E_l by least squares; eq. 17: M = [I, Cᵀ], so that [E_l; E_t] ≈ Mᵀ E_l;
- eq. 18, 19: Softmax(Q W_kᵀ E_lᵀ M) Mᵀ E_l W_v is to become Softmax(Q W'_kᵀ E_lᵀ) E_l W'_v, "thus" W'_k = E_l⁺ Mᵀ E_l
  W_k and W'_v = E_l⁺ Mᵀ E_l W_v.

Two steps cannot be taken as printed, so they are read as follows.

1. Eq. 13 says E_t P = E_l, but Q' = E_l W'_q = Q needs the other direction, E_l P = E_t; that one is used.
2. In eq. 19, E_l⁺ has |l| columns and Mᵀ E_l has |l| + 1 rows: the product does not exist. A matrix N of |l| rows and
   columns must stand for Mᵀ. Reading ``root`` takes N = (M Mᵀ)^½ = (I + CᵀC)^½: the only symmetric positive one for
   which eq. 18 holds exactly when the softmax is left out and E_t lies in the span of E_l; there W' is linear
   attention's known update, Σ k vᵀ over the trajectory (von Oswald et al. 2023, Dai et al. 2023). Reading ``fold``
   takes M [E_l; E_t] for Mᵀ E_l: each row of l gets its share of the trajectory's rows, E_l + Cᵀ E_t. Reading ``none``
   is a control, N = I: the change of basis alone, with the trajectory's keys and values left out.

For a real model: E are the inputs of a layer's projections, norms included. The trajectory's tokens are taken at once
(E_t has i rows) instead of one by one. The branch is fed in both runs, so the change of basis takes its k reduced
states to its k full ones, for queries, keys and values alike; P is the identity on everything orthogonal, so that
where nothing differs nothing changes. Biases, norms of queries and keys, and rotary positions stay: a merged key is
rotated as the question token's that it was merged into. These are the approximations whose error is measured here.

W'_q, W'_k and W'_v of a layer differ from W by ΔW = W (Y − Z)ᵀ (Z⁺)ᵀ with Z the reduced run's rows and Y what they
are to become; k rows for queries, |l| + k for keys and values, which is the patch's rank.

Beside it stands the best that the family holds: with the reduced run's attention pattern left alone, the least-
squares W'_v per group of heads. It is exact wherever the attended inputs are independent, so proposition 2.1 as a
statement of existence is right for a layer; it is the proof's construction that is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.finite import require_finite
from innerloop.inner.patch import Factors, Patch, low_rank
from innerloop.inner.reduced import Placement, Reduced, answer_log_probs, logits, reduced
from innerloop.inner.solve import row_space
from innerloop.inner.task import Task
from innerloop.inner.watch import first
from innerloop.models import LoadedModel

Reading = Literal["root", "fold", "none"]

_ATTENTION = "self_attn"
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, kw_only=True)
class PaperUpdate:
    """θ'ᵢ by the paper's construction at one position.

    ``patch`` has one batch entry: W_q, W_k and W_v of every layer, each solved on the state that the patched layers
    before it produce. ``log_probs`` are the patched reduced run's at the answer's tokens, ``full`` and ``base`` those
    of the full and of the unpatched reduced run.

    Errors are ‖found − full‖ / ‖reduced − full‖ of the attention output at the branch's tokens, per layer: 1 as good as
    no patch, 0 exact, NaN where the two runs do not differ. ``layer_error`` and ``layer_best`` take each layer alone,
    on the true states of the unpatched reduced run; ``best`` is the least-squares W_v. ``walked_error`` is what the
    layers reach when all of them are patched, relative to the unpatched reduced run, too: the same numbers wherever a
    layer's rows are independent, since each layer's targets are the full run's whatever it is fed.
    """

    patch: Patch
    log_probs: Float[Tensor, " answer"]
    full: Float[Tensor, " answer"]
    base: Float[Tensor, " answer"]
    layer_error: tuple[float, ...]
    layer_best: tuple[float, ...]
    walked_error: tuple[float, ...]
    condition: float
    deficient: int

    @property
    def residual(self) -> float:
        """max |Δ log p| over the answer's tokens, in nats."""
        return float((self.log_probs - self.full).abs().max())


def paper(
    loaded: LoadedModel, task: Task, position: int, *, placement: Placement = "kept", reading: Reading = "root"
) -> PaperUpdate:
    """The paper's update of a task's model at one position. Scope ``weights``; three forwards and one of the full run.

    `InputError` for a model whose layers do not all have separate projections of queries, keys and values.
    """
    layers = attention_layers(loaded)
    model = loaded.model
    run = reduced(loaded, task, [position], placement)
    with torch.inference_mode():
        with _recording(model, layers) as full_states:
            full = _full(loaded, task, position)
        require_finite(loaded, full.flatten().tolist(), "log p of the answer with the trajectory")
        targets = {
            name: _Target.of(state, len(task.prompt), run.branch, reading) for name, state in full_states.items()
        }
        with _eager(model), _recording(model, layers) as alone, _trying(model, targets, run) as tried:
            base = answer_log_probs(logits(loaded, run)[0], run.answer)
        with _walking(model, targets, run) as walked:
            found = answer_log_probs(logits(loaded, run)[0], run.answer)
    distance = {name: _norm(alone[name].attended[run.rows] - targets[name].attended) for name in layers}
    solved = [walked.solved[name] for name in layers]
    return PaperUpdate(
        patch={f"{name}.{part}": factors for name in layers for part, factors in walked.solved[name].patch.items()},
        log_probs=found.cpu(),
        full=full.cpu(),
        base=base.cpu(),
        layer_error=tuple(_share(tried[name].error, distance[name]) for name in layers),
        layer_best=tuple(_share(tried[name].best, distance[name]) for name in layers),
        walked_error=tuple(
            _share(_norm(walked.attended[name] - targets[name].attended), distance[name]) for name in layers
        ),
        condition=max(one.condition for one in solved),
        deficient=sum(one.deficient for one in solved),
    )


def attention_layers(loaded: LoadedModel) -> tuple[str, ...]:
    """The attention modules, from the first layer on. `InputError` unless each layer has one of the known form."""
    config = loaded.model.config.get_text_config()
    kind = type(loaded.model).__name__
    names = [name for name, part in loaded.model.named_modules() if name.endswith(f".{_ATTENTION}") and _known(part)]
    if len(names) != config.num_hidden_layers:
        raise InputError(
            f"{kind}: {len(names)} of {config.num_hidden_layers} layers have what gauge paper needs (looked for linear "
            f"{', '.join(_PROJECTIONS)} in {_ATTENTION}, ungated); use gauge attention"
        )
    return tuple(names)


def _known(attention: nn.Module) -> bool:
    parts = [getattr(attention, name, None) for name in _PROJECTIONS]
    if not all(isinstance(part, nn.Linear) for part in parts):
        return False
    query, key, value, out = parts
    groups = query.out_features / key.out_features  # type: ignore[union-attr]
    return (  # a gate would make the queries' projection wider; several queries may share one key
        query.out_features == out.in_features  # type: ignore[union-attr]
        and key.out_features == value.out_features  # type: ignore[union-attr]
        and groups == int(groups)
    )


def merged(
    question: Float[Tensor, "question n"], trajectory: Float[Tensor, "seen n"], reading: Reading
) -> Float[Tensor, "question n"]:
    """What stands for the rows of (question, trajectory) on the question's rows: eq. 16 to 19, in a reading."""
    question, trajectory = question.double(), trajectory.double()
    if reading == "none" or not len(trajectory):
        return question
    shares = trajectory @ _pseudo_inverse(question)  # C
    if reading == "fold":
        return question + shares.T @ trajectory
    values, vectors = torch.linalg.eigh(shares.T @ shares)
    extra = (1 + values.clamp_min(0.0)).sqrt() - 1
    return question + vectors @ (extra[:, None] * (vectors.T @ question))


def change_of_basis(
    module: nn.Linear, rows: Float[Tensor, "row n"], wanted: Float[Tensor, "row n"]
) -> tuple[Factors, float, bool]:
    """The smallest ΔW with which W' maps each row to what W makes of the wanted one, as one batch entry.

    Also the condition number of the rows, and whether they are dependent (then it is a least-squares solution).
    """
    space = row_space(rows[None])
    change = (wanted.double() - rows.double()) @ module.weight.double().T
    factors = Factors(space.smallest(change[None]), space.basis)
    return factors, float(space.condition), bool(space.deficient)


@dataclass(frozen=True)
class _State:
    """One attention module in one run: its input, what reaches W_o, and its output, over all tokens, without batch."""

    input: Float[Tensor, "token n"]
    mixed: Float[Tensor, "token heads_dim"]
    attended: Float[Tensor, "token n"]


@dataclass(frozen=True)
class _Target:
    """What the reduced run's rows of one layer are to become, in float64, and what attention is to make of them."""

    question: Float[Tensor, "question n"]
    branch: Float[Tensor, "branch n"]
    mixed: Float[Tensor, "branch heads_dim"]
    attended: Float[Tensor, "branch n"]

    @classmethod
    def of(cls, full: _State, question: int, branch: int, reading: Reading) -> _Target:
        states = full.input.double()
        start = len(states) - branch
        return cls(
            question=merged(states[:question], states[question:start], reading),
            branch=states[start:],
            mixed=full.mixed[start:].double(),
            attended=full.attended[start:],
        )


@dataclass(frozen=True)
class _Solved:
    """The patch of one layer's three projections."""

    patch: Mapping[str, Factors]
    condition: float
    deficient: int

    @classmethod
    def of(cls, attention: nn.Module, states: Float[Tensor, "token n"], target: _Target, branch: int) -> _Solved:
        """From the layer's input in the reduced run."""
        rows = states.double()
        wanted = torch.cat([target.question, target.branch])
        found = {
            name: change_of_basis(getattr(attention, name), rows[keep], wanted[keep])
            for name, keep in (
                ("q_proj", slice(len(rows) - branch, None)),
                ("k_proj", slice(None)),
                ("v_proj", slice(None)),
            )
        }
        return cls(
            patch={name: factors for name, (factors, _, _) in found.items()},
            condition=max(condition for _, condition, _ in found.values()),
            deficient=int(any(deficient for _, _, deficient in found.values())),
        )


@dataclass
class _Walk:
    """What the walk through the patched layers leaves."""

    solved: dict[str, _Solved] = field(default_factory=dict)
    attended: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class _Tried:
    """‖found − full‖ of one layer alone, with the paper's patch and with the best W_v."""

    error: float
    best: float


@contextmanager
def _recording(model: nn.Module, layers: tuple[str, ...]) -> Iterator[dict[str, _State]]:
    """Each attention module's input and output in the forward inside the block."""
    states: dict[str, _State] = {}
    mixed: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            states[name] = _State(first(args, kwargs)[0], mixed[name], out[0][0])

        return hook

    def mix(name: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...]) -> None:
            mixed[name] = args[0][0]

        return hook

    with ExitStack() as hooks:
        for name in layers:
            module = model.get_submodule(name)
            hooks.callback(module.register_forward_hook(record(name), with_kwargs=True).remove)
            hooks.callback(module.o_proj.register_forward_pre_hook(mix(name)).remove)  # type: ignore[union-attr]
        yield states


@contextmanager
def _trying(model: nn.Module, targets: Mapping[str, _Target], run: Reduced) -> Iterator[dict[str, _Tried]]:
    """Tries each layer's patch by a second call of its attention; the forward itself goes on without any."""
    tried: dict[str, _Tried] = {}

    def attempt(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            states, target = first(args, kwargs), targets[name]
            solved = _Solved.of(module, states[0], target, run.branch)
            with _with(module, solved.patch):
                found = module.forward(*args, **kwargs)[0][0, run.rows]
            best = _best_values(module, states[0], out[1][0, :, run.rows], target.mixed)
            difference = best.to(found.dtype) @ module.o_proj.weight.T  # type: ignore[union-attr, operator]
            tried[name] = _Tried(error=_norm(found - target.attended), best=_norm(difference))

        return hook

    with ExitStack() as hooks:
        for name in targets:
            handle = model.get_submodule(name).register_forward_hook(attempt(name), with_kwargs=True)
            hooks.callback(handle.remove)
        yield tried


@contextmanager
def _walking(model: nn.Module, targets: Mapping[str, _Target], run: Reduced) -> Iterator[_Walk]:
    """Solves and applies every layer's patch in the order in which the forward comes to them."""
    walk = _Walk()

    def before(name: str, stack: ExitStack) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            walk.solved[name] = _Solved.of(module, first(args, kwargs)[0], targets[name], run.branch)
            stack.enter_context(_with(module, walk.solved[name].patch))

        return hook

    def after(name: str) -> Any:
        def hook(_module: nn.Module, _args: tuple[Any, ...], out: Any) -> None:
            walk.attended[name] = out[0][0, run.rows]

        return hook

    with ExitStack() as hooks:
        for name in targets:
            module = model.get_submodule(name)
            hooks.callback(module.register_forward_pre_hook(before(name, hooks), with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after(name)).remove)
        yield walk


@contextmanager
def _with(attention: nn.Module, patch: Mapping[str, Factors]) -> Iterator[None]:
    """The projections of one attention module with a patch of one batch entry."""

    def hook(factors: Factors) -> Any:
        return lambda _module, args, out: out + low_rank(args[0], factors)

    with ExitStack() as hooks:
        for name, factors in patch.items():
            hooks.callback(getattr(attention, name).register_forward_hook(hook(factors)).remove)
        yield


def _best_values(
    attention: nn.Module,
    states: Float[Tensor, "token n"],
    pattern: Float[Tensor, "head branch token"],
    wanted: Float[Tensor, "branch heads_dim"],
) -> Float[Tensor, "branch heads_dim"]:
    """What the least-squares W_v leaves of full − found, before W_o, with the attention pattern as it is.

    The heads that share values share W_v: their branch rows are solved together.
    """
    heads, branch, _ = pattern.shape
    size = wanted.shape[-1] // heads
    value: nn.Linear = attention.v_proj  # type: ignore[assignment]
    groups = value.out_features // size
    attending = pattern.double() @ states.double()  # what each head of each row reads, as inputs: head × branch × n
    own = value.weight.double().view(groups, 1, size, -1)
    constant = 0.0 if value.bias is None else value.bias.double().view(groups, 1, 1, size)
    inputs = attending.view(groups, heads // groups, branch, -1)
    missing = wanted.view(branch, groups, heads // groups, size).permute(1, 2, 0, 3) - (
        inputs @ own.transpose(2, 3) + constant
    )
    space = row_space(inputs.flatten(1, 2))
    smallest = space.smallest(missing.flatten(1, 2))  # group × size × rows
    reached = inputs.flatten(1, 2) @ space.basis @ smallest.transpose(1, 2)
    left = missing - reached.view_as(missing)
    return left.permute(2, 0, 1, 3).reshape(branch, -1)


@contextmanager
def _eager(model: Any) -> Iterator[None]:
    """Attention that gives its pattern away."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _full(loaded: LoadedModel, task: Task, position: int) -> Float[Tensor, " answer"]:
    """log p of the answer's tokens in the full run, by one plain forward."""
    tokens = torch.tensor([task.context[: task.seen(position)] + task.branch(0)], device=loaded.device)
    answer = torch.tensor(task.answers[0], device=loaded.device)
    found = loaded.model(input_ids=tokens, use_cache=False, logits_to_keep=len(answer)).logits
    return answer_log_probs(found[0], answer)


def _pseudo_inverse(rows: Float[Tensor, "row n"]) -> Float[Tensor, "n row"]:
    space = row_space(rows[None])
    return space.basis[0] @ space.inverse[0].T


def _norm(x: Tensor) -> float:
    return float(x.double().norm())


def _share(error: float, distance: float) -> float:
    return error / distance if distance > 0 else float("nan")
