from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.outer.rows import Row
from innerloop.outer.sft import by_length, sft_trainer
from innerloop.testing import tiny


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 9))
def test_each_step_keeps_its_rows_and_its_parts_have_like_lengths(lengths: list[int], step: int) -> None:
    rows = [Row(f"q{i}", None, (0,) * length, (1.0,) * length) for i, length in enumerate(lengths)]
    ordered = by_length(rows, step)
    assert len(ordered) == len(rows)
    for start in range(0, len(rows), step):
        before, after = rows[start : start + step], ordered[start : start + step]
        assert {row.question_id for row in before} == {row.question_id for row in after}
        assert [len(row) for row in after] == sorted(map(len, before), reverse=True)


def logged(folder: Path, rows: list[Row], parts: int) -> list[dict[str, float]]:
    """What a trainer logs of steps over two rows, each in so many parts."""
    loaded = tiny("llama", vocab_size=300)
    loaded.model.requires_grad_(True)
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2 // parts,
        "gradient_accumulation_steps": parts,
        "max_steps": len(rows) // 2,
        "learning_rate": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    trainer = sft_trainer(loaded.model, loaded.tokenizer, rows, arguments)
    trainer.train()
    return [step for step in trainer.state.log_history if "entropy" in step]


@pytest.mark.model
def test_entropy_and_accuracy_are_those_of_the_tokens_whatever_the_parts(tmp_path: Path) -> None:
    lengths = [40, 3, 9, 30]
    rows = [Row(f"q{i}", None, tuple(range(5, 5 + n)), (0.0,) + (1.0,) * (n - 1)) for i, n in enumerate(lengths)]
    whole, split = logged(tmp_path, rows, 1), logged(tmp_path, rows, 2)
    assert len(whole) == len(split) == 2
    for one, other in zip(whole, split, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        for name in ("entropy", "mean_token_accuracy", "num_tokens"):
            assert other[name] == pytest.approx(one[name], rel=1e-5), name


@pytest.mark.model
def test_a_step_without_any_weight_has_the_loss_zero(tmp_path: Path) -> None:
    rows = [Row(f"q{i}", None, (5, 6, 7), (0.0,) * 3) for i in range(2)]
    [step] = logged(tmp_path, rows, 1)
    assert step["loss"] == 0
    assert step["grad_norm"] == 0
