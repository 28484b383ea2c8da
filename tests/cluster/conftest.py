"""A cluster of two machines, as far as Ray can tell: two raylets with a core each on this one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'innerloop[ray]'")
    from ray.cluster_utils import Cluster

    store = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    own = Cluster(initialize_head=True, head_node_args=store)
    own.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield own
    own.shutdown()
