"""Supervised fine-tuning (RaML table 1: trajectories from elsewhere, loss on trajectory and answer).

TRL's trainer with two changes: every token has a weight, so that the loss can be that of RaML eq. 8, on the answer
alone, or anything in between; and rows come in the order of the passes over the support sets, those of a step sorted by
length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import SequentialSampler
from trl import SFTConfig, SFTTrainer

from innerloop.outer.guard import Guarded
from innerloop.outer.rows import Row, collate
from innerloop.processes import world


class WeightedSFTTrainer(Guarded, SFTTrainer):  # type: ignore[misc]  # TRL's imports are lazy
    """Minimises Σ wᵢ ℓᵢ / Σ wᵢ over the rows of a step, over all its parts and processes together."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._since_log = torch.zeros(3, dtype=torch.float64)  # tokens with weight, their entropy, how many are top-1

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> SequentialSampler:
        rows: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(rows)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> torch.Tensor | None:
        """What a step's loss is divided by: the weights of its rows, instead of the number of their tokens."""
        if not batch_samples:
            return None
        total = torch.stack([batch["weights"][:, 1:].sum() for batch in batch_samples]).sum().to(device)
        return _divisor(self.accelerator.gather(total).sum() if self.args.world_size > 1 else total)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The weighted loss of one part of a step, −Σ wᵢ log pᵢ over the total weight of the step."""
        assert not return_outputs, "the logits are never built"
        weights = inputs["weights"][:, 1:]
        fed = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
        if self.aux_loss_enabled:
            fed["output_router_logits"] = True
        outputs = model(**fed, use_cache=False, fused_lm_head=True)
        total = _divisor(weights.sum()) if num_items_in_batch is None else num_items_in_batch
        loss = -(outputs.log_probs * weights).sum() / total
        if num_items_in_batch is not None:  # DDP averages over processes what belongs to one sum
            loss = loss * self.accelerator.num_processes
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss / self.current_gradient_accumulation_steps
        self._note(outputs, inputs["attention_mask"])
        return loss

    def _note(self, outputs: Any, mask: torch.Tensor) -> None:
        """Entropy and accuracy per token with weight, and the tokens so far, for the log.

        TRL logs the mean of what it is given for each part of a step; parts hold unlike numbers of tokens, so it is
        given one number, over all tokens since it logged last.
        """
        sums = torch.stack(
            [outputs.label_mask.sum(), outputs.entropy.detach().sum(), outputs.is_top1.sum(), mask.sum()]
        ).double()
        *own, read = self.accelerator.gather(sums[None]).sum(dim=0).cpu()
        logged = self._metrics["train"]
        if not logged["entropy"]:  # TRL empties it once it has logged
            self._since_log.zero_()
        self._since_log += torch.stack(own)
        tokens, entropy, right = self._since_log.tolist()
        logged["entropy"] = [entropy / max(tokens, 1)]
        logged["mean_token_accuracy"] = [right / max(tokens, 1)]
        self._total_train_tokens += int(read)
        logged["num_tokens"] = [self._total_train_tokens]


def _divisor(weight: torch.Tensor) -> torch.Tensor:
    """What the loss is divided by: a step without any weight has the loss 0, not 0/0."""
    return torch.where(weight > 0, weight, torch.ones_like(weight))


def sft_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    arguments: dict[str, Any],
    *,
    lora: Any = None,
    callbacks: Sequence[Any] = (),
) -> WeightedSFTTrainer:
    """A trainer over rows, step by step in their order; ``arguments`` are those of transformers' trainer."""
    processes = world()
    step = arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"] * processes
    if processes > 1:
        rows = filled(rows, step)
    rows = by_length(rows, step)
    dataset = Dataset.from_dict(
        {
            "input_ids": [row.input_ids for row in rows],
            "weights": [row.weights for row in rows],
            "question_id": [row.question_id for row in rows],
        }
    )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return WeightedSFTTrainer(
        model=model,
        args=SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=dataset,
        processing_class=tokenizer,
        data_collator=_Collator(pad),
        peft_config=lora,
        callbacks=list(callbacks),
    )


def filled(rows: Sequence[Row], step: int) -> list[Row]:
    """Rows without any weight behind the others, to a multiple of ``step``.

    The last step then has as many rows for each process; what accelerate would fill it with are first rows again.
    """
    empty = Row(rows[-1].question_id, None, rows[-1].input_ids[:2], (0.0, 0.0))
    return [*rows, *[empty] * (-len(rows) % step)]


def by_length(rows: Sequence[Row], step: int) -> list[Row]:
    """The rows of each step with the longest first, so that its parts have rows of like lengths and little padding.

    A step's loss is one sum over its rows, so their order within it changes nothing else.
    """
    steps = (rows[start : start + step] for start in range(0, len(rows), step))
    return [row for together in steps for row in sorted(together, key=len, reverse=True)]


class _Collator:
    """Rows of the dataset to a batch, with their questions' names."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        rows = [Row(e["question_id"], None, tuple(e["input_ids"]), tuple(e["weights"])) for e in examples]
        return {**collate(rows, self._pad_id), "question_ids": [row.question_id for row in rows]}
