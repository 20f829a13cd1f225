"""Each worker of a node computes with as many threads as the node file says."""

import pytest
import torch

from swarm.node.context import open_executors


@pytest.mark.rule("T2")
async def test_every_worker_has_the_threads_of_the_node_file() -> None:
    workers = open_executors(2, ("cpu",))
    try:
        for worker in (workers.compute, workers.checking, workers.serving, workers.trading):
            assert await worker.run(torch.get_num_threads) == 2
    finally:
        workers.close()
