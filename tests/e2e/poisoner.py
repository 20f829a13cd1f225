"""A solver that begins from other weights than it says: the ordinary program, with noise in what it takes.

All that it computes after that is right.
"""

import torch

from swarm.cli.main import main


def become_poisoner() -> None:
    """Make every seat of this process begin from other weights than those it says."""
    from swarm.node.seat import seats

    used = vars(seats)
    find_shard = used["find_shard"]

    async def find_and_poison(*args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN202
        shard, came_from = await find_shard(*args, **kwargs)
        if shard.source is not None:
            noise_P = 0.05 * torch.randn_like(shard.params_P)
            shard.params_P.add_(noise_P)
            shard.put_slow(shard.params_P.clone(), shard.momentum_P, shard.residual_R)
        return shard, came_from

    used["find_shard"] = find_and_poison


if __name__ == "__main__":
    become_poisoner()
    main()
