"""Direct preference optimisation (RaML table 1; Rafailov et al. 2023): right against wrong trajectories.

With Δ = log π(right) − log π(wrong) − [log π₀(right) − log π₀(wrong)], sums over all tokens behind the prompt and
π₀ the model that the training began with, the loss of a pair is −log σ(β Δ) (``sigmoid``), or one of

- ``sigmoid_norm``: the same with log-probabilities per token, which takes out the preference for short ones;
- ``hinge``: max(0, 1 − β Δ);
- ``ipo``: (Δ per token − 1/(2β))² (Azar et al. 2023);
- ``robust``: unbiased where a share ε of the verdicts is turned around (Chowdhury et al. 2024).

TRL's trainer with four changes: rows come in tokens and in the order of the passes; π₀ reads each pair once, before the
first step, and need not be kept; without a reference log π₀ is 0; and a step's loss is the mean over all of its pairs
(the likelihood term's over all of its right tokens), in however many parts it is worked through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from innerloop.outer.guard import Guarded
from innerloop.outer.pairs import PairRow
from innerloop.outer.reference import digest, keep, kept
from innerloop.progress import progress


@dataclass(frozen=True, kw_only=True)
class Preference:
    """The loss: its ``kind``, β, ε of ``robust``, the weight of −log π(right) per token, whether π₀ counts."""

    kind: str = "sigmoid"
    beta: float = 0.1
    smoothing: float = 0.0
    likelihood: float = 0.0
    reference: bool = True


class PairDPOTrainer(Guarded, DPOTrainer):  # type: ignore[misc]  # TRL's imports are lazy
    """Minimises the preference loss over pairs in the order ``places``, indices into the dataset."""

    def __init__(self, *args: Any, preference: Preference, places: Sequence[int], **kwargs: Any) -> None:
        self._preference = preference
        self._places = places
        self._whole = (1, 1)  # pairs and right tokens of the step at hand, over all parts and processes
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset  # it is in tokens already

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int]:  # noqa: ARG002
        return _InOrder(self._places)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:  # noqa: ARG002
        """Each pair's log π₀ as two more columns: of the model as it is now, before the first step or checkpoint."""
        if not self._preference.reference:
            right = wrong = [0.0] * len(dataset)
        else:
            file, pairs = Path(self.args.output_dir) / "reference.safetensors", digest(dataset)
            read = kept(file, pairs, len(dataset))
            if read is None:
                read = self._read_with_reference(dataset, batch_size)
                if self.is_world_process_zero():
                    keep(file, pairs, *read)
            right, wrong = read
        return dataset.add_column("ref_chosen_logps", right).add_column("ref_rejected_logps", wrong)

    def _read_with_reference(self, dataset: Dataset, batch_size: int) -> tuple[list[float], list[float]]:
        right: list[float] = []
        wrong: list[float] = []
        device = next(self.model.parameters()).device
        with progress("reading with the reference", len(dataset), "pairs") as shown:
            for first in range(0, len(dataset), batch_size):
                rows = [dataset[i] for i in range(first, min(first + batch_size, len(dataset)))]
                batch = {name: values.to(device) for name, values in _tensors(self.data_collator(rows)).items()}
                chosen, rejected = self.compute_ref_log_probs(self.model, batch)
                right += chosen.tolist()
                wrong += rejected.tolist()
                shown.advance(len(rows))
        return right, wrong

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> None:
        """Count what a step's means are over; the trainer calls it before the step's first part."""
        if batch_samples:
            counts = torch.tensor([_counts(batch) for batch in batch_samples], device=device).sum(dim=0)
            if self.args.world_size > 1:
                counts = self.accelerator.gather(counts[None]).sum(dim=0)
            self._whole = (int(counts[0]), int(counts[1]))

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """One part's share of the step's means: TRL takes means over the part, and then over parts and processes."""
        pairs, tokens = _counts(inputs)
        shares = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        weights = [shares * pairs / self._whole[0]]
        if self._preference.likelihood:
            weights.append(self._preference.likelihood * shares * tokens / self._whole[1])
        self.loss_weights = weights
        return super()._compute_loss(model, _tensors(inputs), return_outputs)


def _tensors(batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: values for name, values in batch.items() if name != "question_ids"}


def _counts(batch: Mapping[str, Any]) -> tuple[int, int]:
    """Pairs, and tokens behind the prompt of the right ones, which are a batch's first half."""
    pairs = len(batch["completion_mask"]) // 2
    return pairs, int(batch["completion_mask"][:pairs].sum())


def dpo_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[PairRow],
    arguments: dict[str, Any],
    preference: Preference,
    *,
    lora: Any = None,
    callbacks: Sequence[Any] = (),
) -> PairDPOTrainer:
    """A trainer over pairs in their order, repeated ones too; ``arguments`` are those of transformers' trainer."""
    numbers = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    dataset = Dataset.from_dict(
        {
            "prompt_ids": [row.prompt for row in numbers],
            "chosen_ids": [row.right for row in numbers],
            "rejected_ids": [row.wrong for row in numbers],
            "question_id": [row.question_id for row in numbers],
        }
    )
    own = {
        "loss_type": [preference.kind, "sft"] if preference.likelihood else [preference.kind],
        "beta": preference.beta,
        "label_smoothing": preference.smoothing,
        "precompute_ref_log_probs": True,
        "max_length": None,
    }
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return PairDPOTrainer(
        model=model,
        args=DPOConfig(**arguments, **own),
        train_dataset=dataset,
        processing_class=tokenizer,
        data_collator=_Collator(pad),
        peft_config=lora,
        callbacks=list(callbacks),
        preference=preference,
        places=[numbers[row] for row in rows],
    )


class _InOrder(Sampler[int]):
    """Indices as they are given."""

    def __init__(self, places: Sequence[int]) -> None:
        self._places = places

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class _Collator:
    """TRL's batch, with the questions' names."""

    def __init__(self, pad_id: int) -> None:
        self._pairs = DataCollatorForPreference(pad_token_id=pad_id)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._pairs(examples), "question_ids": [example["question_id"] for example in examples]}
