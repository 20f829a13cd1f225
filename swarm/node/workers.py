"""The threads in which a node computes, and which of them gives way to which.

Shell: opens and closes them.
"""

from dataclasses import dataclass
from functools import partial

import torch

from swarm.compute import Compute

TRADING_NICENESS = 12
"""Gives way to training a little; a partner waits for it, but not long."""
SERVING_NICENESS = 15
"""Between our own training and the checks: somebody waits for the text."""
CHECKING_NICENESS = 19
"""The least there is, below the 10 of our own training: a check never delays a step."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Where arithmetic runs: our own training, and what gives way to it."""

    compute: Compute
    checking: Compute
    """Replays the work of others."""
    serving: Compute
    """For texts that are written with the model: a replay that takes seconds must not hold up a token."""
    trading: Compute
    """Packs and opens fragments: an inner step must not wait for an exchange."""
    devices: tuple[str, ...]
    """What our own training of native runs computes on."""

    def close(self) -> None:
        """End them; each waits a little for the job that still runs."""
        for worker in (self.compute, self.checking, self.serving, self.trading):
            worker.close()


def open_workers(threads: int, devices: tuple[str, ...]) -> Workers:
    """The workers of one node, none of them started; each computes with ``threads`` threads."""
    prepare = partial(_prepare_torch, threads)
    return Workers(
        compute=Compute(prepare=prepare),
        checking=Compute(niceness=CHECKING_NICENESS, prepare=prepare),
        serving=Compute(niceness=SERVING_NICENESS, prepare=prepare),
        trading=Compute(niceness=TRADING_NICENESS, prepare=prepare),
        devices=devices,
    )


def _prepare_torch(threads: int) -> None:
    """Once per worker: explicit threads give the same bits in every run on this machine."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
