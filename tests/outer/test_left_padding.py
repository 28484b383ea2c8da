"""Rows padded on the left are counted from their own first token."""

from __future__ import annotations

import pytest
import torch

from innerloop.outer.left_padding import count_from_first_token, positions
from innerloop.testing import ARCHITECTURES, tiny

ROWS = [[11, 12, 13, 14, 15, 16, 17, 18], [21, 22, 23]]


def test_positions_by_hand() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]])
    assert positions(mask).tolist() == [[0, 1, 2, 3], [0, 0, 0, 1], [0, 1, 1, 1]]


@pytest.mark.model
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_padded_row_is_read_as_it_is_alone(architecture: str) -> None:
    model = tiny(architecture).model
    width = max(map(len, ROWS))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in ROWS])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ROWS])
    with torch.no_grad():
        alone = [model(torch.tensor([row])).logits[0] for row in ROWS]
        count_from_first_token(model)
        padded = model(input_ids=ids, attention_mask=mask).logits
    for row, want, got in zip(ROWS, alone, padded, strict=True):
        assert torch.allclose(got[-len(row) :], want, atol=1e-4), architecture
