"""Gradients through a real architecture's attention: against finite differences, with all weights and with LoRA."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from innerloop.errors import InputError
from innerloop.outer.meta.anil import Anil, head_names
from innerloop.outer.meta.fomaml import Fomaml
from innerloop.outer.meta.inner import adapt
from innerloop.outer.meta.language import LanguageLoss, tokens_of
from innerloop.outer.meta.maml import Maml
from innerloop.outer.meta.meta_sgd import MetaSgd
from innerloop.outer.meta.task import Task
from innerloop.outer.rows import Row
from innerloop.testing import tiny

pytestmark = [
    pytest.mark.model,
    # peft asks transformers by the old name
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "head_dim": 8}


def exact(model: nn.Module) -> nn.Module:
    """With norms in float64 all through: transformers rounds them to float32, whose steps finite differences see."""
    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = partial(_norm, module)
    return model


def _norm(module: Any, hidden: Tensor) -> Tensor:
    return module.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + module.variance_epsilon)


def full(dtype: str = "float64", **overrides: Any) -> nn.Module:
    return exact(tiny("llama", dtype=dtype, **SMALL, **overrides).model.requires_grad_(True))


def lora() -> nn.Module:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(exact(tiny("llama", dtype="float64", **SMALL).model), config).double()


def row(seed: int, length: int, *, question: str = "q") -> Row:
    ids = torch.randint(97, 123, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Row(question, f"{question}/{seed}", tuple(ids), tuple(float(i >= 4) for i in range(length)))


def task() -> Task:
    support, query = (row(1, 14), row(2, 10)), (row(3, 12), row(4, 9))
    return Task(
        support=(support,),
        query=query,
        family="f",
        support_tokens=(tokens_of(support),),
        query_tokens=tokens_of(query),
    )


def trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def slope_by_differences(algorithm: Any, loss: LanguageLoss, outer: dict[str, Tensor], way: dict[str, Tensor]) -> float:
    """(f(θ + εv) − f(θ − εv)) / 2ε of the loss after adaptation, with no derivative but the inner one."""
    epsilon, values = 1e-6, []
    for sign in (1, -1):
        moved = {name: (w.detach() + sign * epsilon * way[name]).requires_grad_() for name, w in outer.items()}
        values.append(algorithm.gradient(loss, moved, task()).query_loss)
    return (values[0] - values[1]) / (2 * epsilon)


def slope_of(gradient: dict[str, Tensor], way: dict[str, Tensor]) -> float:
    return sum(float((gradient[name] * way[name]).sum()) for name in way)


def random_way(outer: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    way = {name: torch.randn(w.shape, generator=generator, dtype=w.dtype) for name, w in outer.items()}
    norm = slope_of(way, way) ** 0.5
    return {name: part / norm for name, part in way.items()}


@pytest.mark.parametrize("make", [full, lora], ids=["all weights", "lora"])
@pytest.mark.parametrize("name", ["maml", "anil", "meta-sgd"])
def test_the_outer_gradient_is_the_slope_of_the_loss_after_adaptation(make: Any, name: str) -> None:
    model = make()
    loss = LanguageLoss(model, pad_id=0, second_order=True)
    start = trained(model)
    algorithm: Any = {
        "maml": Maml(steps=2, rate=0.3),
        "anil": Anil(steps=2, rate=0.3, head=head_names(model)),
        "meta-sgd": MetaSgd(steps=2, rate=0.3),
    }[name]
    outer = start | algorithm.own(start)
    found = algorithm.gradient(loss, outer, task()).gradient
    for seed in range(3):
        way = random_way(outer, seed)
        expected = slope_by_differences(algorithm, loss, outer, way)
        assert slope_of(found, way) == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("make", [full, lora], ids=["all weights", "lora"])
def test_the_first_order_gradient_is_not_that_slope_at_a_large_inner_rate(make: Any) -> None:
    model = make()
    loss, outer = LanguageLoss(model, pad_id=0, second_order=True), trained(model)
    cosines = []
    for rate in (1e-3, 1.0):
        first = Fomaml(steps=2, rate=rate).gradient(loss, outer, task()).gradient
        second = Maml(steps=2, rate=rate).gradient(loss, outer, task()).gradient
        norms = slope_of(first, first) ** 0.5 * slope_of(second, second) ** 0.5
        cosines.append(slope_of(first, second) / norms)
    assert cosines[0] > 0.99
    assert cosines[1] < 0.95


def test_eager_attention_and_the_math_backend_agree() -> None:
    gradients = []
    for kernel in ("sdpa", "eager"):
        model = full(attn_implementation=kernel)
        assert model.config._attn_implementation == kernel
        loss = LanguageLoss(model, pad_id=0, second_order=True)
        gradients.append(Maml(steps=2, rate=0.3).gradient(loss, trained(model), task()).gradient)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-4)  # eager: a softmax in float32


def test_without_the_math_backend_there_is_no_second_derivative() -> None:
    """Why `LanguageLoss` asks for it. When this fails, PyTorch has learned it, and the restriction can go."""
    model = full()
    loss = LanguageLoss(model, pad_id=0, second_order=False)
    with pytest.raises(RuntimeError, match=r"derivative for .*flash_attention.* is not implemented"):
        Maml(steps=1, rate=0.1).gradient(loss, trained(model), task())


@pytest.mark.parametrize("make", [full, lora], ids=["all weights", "lora"])
def test_the_loss_at_adapted_weights_is_that_of_a_model_that_has_them(make: Any) -> None:
    model = make()
    loss = LanguageLoss(model, pad_id=0, second_order=False)
    adapted, _ = adapt(loss, trained(model), task().support, steps=3, rates=0.3)
    with torch.no_grad():
        expected = loss(adapted, task().query)
        for name, weight in trained(model).items():
            weight.copy_(adapted[name])
        batch = task().query
        total = weight_sum = 0.0
        for one in batch:  # row by row without padding, and no mask
            ids = torch.tensor([one.input_ids])
            chances = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)
            for i, wanted in enumerate(one.weights[1:]):
                total -= wanted * float(chances[0, i, one.input_ids[i + 1]])
                weight_sum += wanted
    assert float(expected) == pytest.approx(total / weight_sum, rel=1e-9)


def test_only_the_adapter_is_adapted() -> None:
    model = lora()
    outer = trained(model)
    assert all("lora_" in name for name in outer)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    Maml(steps=2, rate=0.3).gradient(LanguageLoss(model, pad_id=0, second_order=True), outer, task())
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert all(weight.grad is None for weight in model.parameters())


def test_models_on_which_the_inner_loop_would_go_wrong_are_refused() -> None:
    checkpointing = full("float32")
    checkpointing.model.gradient_checkpointing = True
    with pytest.raises(InputError, match="gradient checkpointing repeats the forward with the wrong weights"):
        LanguageLoss(checkpointing, pad_id=0, second_order=False)
    with pytest.raises(InputError, match="bfloat16, in which small inner steps vanish"):
        LanguageLoss(full("bfloat16"), pad_id=0, second_order=False)
    other = full("float32")
    other.config._attn_implementation = "flash_attention_2"
    LanguageLoss(other, pad_id=0, second_order=False)
    with pytest.raises(InputError, match=r"flash_attention_2 has no second derivative.*fomaml or reptile"):
        LanguageLoss(other, pad_id=0, second_order=True)
