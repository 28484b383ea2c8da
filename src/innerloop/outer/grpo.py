"""GRPO with the gradient on n of G rollouts (RaML section 4.1, eq. 21; Shao et al. 2024).

TRL's trainer with four changes: prompts are tokenised as everywhere here; rows are counted from their own first token
(`innerloop.outer.left_padding`); of each question's G rollouts, over which the advantages were taken, only n go through
the model for the gradient; and the loss is normalised so that its gradient, averaged over all choices of n, is that of
all G, whatever the loss type:

- ``grpo``, ``sapo``, ``luspo`` (means over rollouts) and ``dr_grpo`` (a sum over rollouts × length limit) divide by
  the number of rollouts that are there, which are n/G as many: nothing to do;
- ``dapo``, ``cispo`` and ``vespo`` divide by the tokens of all G rollouts of the step: n/G of that;
- ``bnpo`` divides by the tokens of the rollouts that are there, a number that varies with the choice: it is put right.

What was not chosen is dropped, not masked: it costs no forward, no backward, and no KL or entropy term sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from innerloop.outer.guard import Guarded
from innerloop.outer.left_padding import count_from_first_token
from innerloop.outer.subset import CHOICES, chosen_rows

Scorer = Callable[..., list[float | None]]  # TRL's signature: prompts, completions, completion_ids and the columns

_PER_ROW = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages")
_PER_ROW_MAYBE = ("old_per_token_logps", "ref_per_token_logps", "sampling_per_token_logps", "importance_sampling_ratio")
_OVER_TOKENS = ("dapo", "cispo", "vespo")


@dataclass(frozen=True, kw_only=True)
class Subset:
    """n of each group, chosen in this way."""

    n: int
    choice: str = "random"


class SubsetGRPOTrainer(Guarded, GRPOTrainer):  # type: ignore[misc]  # TRL's imports are lazy
    """Gradient on ``subset.n`` of the G rollouts; ``prompts`` maps a prompt's text to its tokens."""

    def __init__(self, *args: Any, subset: Subset, prompts: Mapping[str, list[int]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._subset = subset
        self._prompts = prompts
        self._expected_tokens = 0.0  # of the part at hand, averaged over all choices; for bnpo

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [self._prompts[prompt] for prompt in prompts], None, {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """All G rollouts with their advantages; of these the chosen n."""
        output = super()._generate_and_score_completions(inputs)
        if self._subset.n == self.num_generations or not self.model.training:
            return output
        groups = len(output["advantages"]) // self.num_generations
        kept = chosen_rows(
            output["advantages"].tolist(),  # within a group they rise as the rewards do
            self.num_generations,
            self._subset.n,
            choice=CHOICES[self._subset.choice],
            seed=self.args.seed,
            step=self.state.global_step,
            first_group=self.accelerator.process_index * groups,
        )
        share = self._subset.n / self.num_generations
        self._expected_tokens = output["completion_mask"].sum().item() * share / self.args.steps_per_generation
        return drop(output, kept, share)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        if self.loss_type == "bnpo" and self._subset.n < self.num_generations and self.model.training:
            loss = loss * (inputs["completion_mask"].sum() / self._expected_tokens)
        return loss


def drop(output: Mapping[str, Any], kept: Sequence[int], share: float) -> dict[str, Any]:
    """Only the rows ``kept``; what is counted over all rows (tokens of the step) becomes ``share`` of it."""
    rows = torch.tensor(kept, device=output["advantages"].device)
    found = dict(output)
    for name in (*_PER_ROW, *_PER_ROW_MAYBE):
        if name in found:
            found[name] = found[name][rows]
    found["num_items_in_batch"] = output["num_items_in_batch"] * share
    longest = int(found["completion_mask"].sum(dim=1).max())  # what is padding in all of them
    for name in ("completion_ids", "completion_mask", *_PER_ROW_MAYBE):
        if name in found and found[name].shape[1] > 1:
            found[name] = found[name][:, :longest]
    return found


def grpo_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    prompts: Mapping[str, list[int]],
    reward: Scorer,
    arguments: dict[str, Any],
    *,
    subset: Subset,
    lora: Any = None,
    callbacks: Sequence[Any] = (),
) -> SubsetGRPOTrainer:
    """A trainer over questions: rows have ``prompt`` (a key of ``prompts``) and the columns that the reward needs."""
    count_from_first_token(model)
    trainer = SubsetGRPOTrainer(
        model=model,
        args=GRPOConfig(**arguments),
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=tokenizer,
        reward_funcs=reward,
        peft_config=lora,
        callbacks=list(callbacks),
        subset=subset,
        prompts=prompts,
    )
    if trainer.ref_model is not None:  # what the divergence is measured from, where LoRA is not simply left out
        count_from_first_token(trainer.accelerator.unwrap_model(trainer.ref_model))
    return trainer
