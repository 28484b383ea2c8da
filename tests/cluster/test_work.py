"""How work and workers are shared out, without a cluster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innerloop.cluster.connection import Connection
from innerloop.cluster.options import ClusterOptions, Machine
from innerloop.cluster.work import Unit, shrinking
from innerloop.errors import InputError


@given(st.integers(0, 300), st.integers(1, 9), st.integers(1, 20))
def test_groups_hold_every_unit_once_in_order_and_shrink(count: int, workers: int, least: int) -> None:
    units = [Unit(id=str(i), work=i) for i in range(count)]
    groups = shrinking(units, workers, least)
    assert [unit for group in groups for unit in group] == units
    sizes = [len(group) for group in groups]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size % least == 0 for size in sizes[:-1]), "whole loads, but for the last"
    assert all(size <= max(least, -(-count // (2 * workers)) + least - 1) for size in sizes)


def test_the_groups_of_an_example() -> None:
    units = [Unit(id=str(i), work=i) for i in range(16)]
    assert [len(group) for group in shrinking(units, 2)] == [4, 3, 3, 2, 1, 1, 1, 1]
    with pytest.raises(InputError, match="must be 1 or more"):
        shrinking(units, 0)


TWO = [Machine(cpus=16, gpus=0), Machine(cpus=8, gpus=0)]
GPUS = [Machine(cpus=32, gpus=4), Machine(cpus=32, gpus=4)]


@pytest.mark.parametrize(
    ("options", "machines", "team"),
    [
        ({}, TWO, (2, 8, 0, 8)),
        ({"workers": 4}, TWO, (4, 4, 0, 4)),
        ({"workers": 100}, TWO, (100, 1, 0, 1)),
        ({"threads": 3}, TWO, (2, 3, 0, 3)),
        ({"cpus": 2.0, "threads": 3}, TWO, (2, 2, 0, 3)),
        ({}, GPUS, (8, 8, 1, 8)),
        ({"gpus": 4.0}, GPUS, (2, 32, 4, 32)),
        ({"gpus": 0.5}, GPUS, (16, 4, 0.5, 4)),
        ({"gpus": 0.0}, GPUS, (2, 32, 0, 32)),
        ({"cpus": 0.5}, TWO, (2, 0.5, 0, 1)),
        ({}, [], (1, 1, 0, 1)),
    ],
)
def test_what_options_come_to(options: dict, machines: list[Machine], team: tuple) -> None:
    found = ClusterOptions(**options).resolved(machines)
    assert (found.workers, found.cpus, found.gpus, found.threads) == team


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="workers is 0: it must be 1 or more"):
        ClusterOptions(workers=0)
    with pytest.raises(InputError, match="gpus is -1: it must be 0 or more"):
        ClusterOptions(gpus=-1)


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerloop.cluster.connection.installed", lambda: False)
    with pytest.raises(InputError, match=r"needs the package ray: pip install 'innerloop\[ray\]'"):
        Connection(ClusterOptions())
