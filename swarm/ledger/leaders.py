"""Draw the leaders of views: every cycle of views is a fresh permutation of the validators, weighted by stake.

Core: a function of an epoch's seed, which its validators cannot choose: the beacon at the end of the epoch
before.
"""

from collections.abc import Sequence

from swarm.ledger.blocks import Validator
from swarm.primitives.randomness import stream
from swarm.types import View


class LeaderSchedule:
    """Leaders of the views of one epoch."""

    def __init__(self, seed: bytes, validators: Sequence[Validator]) -> None:
        self._seed, self._validators = seed, tuple(validators)
        self._able = [i for i, validator in enumerate(validators) if validator.power > 0]
        self._cycle: tuple[int, list[int]] = (-1, [])

    def leader(self, view: View) -> int:
        """Return the index of the leader of ``view``: in a cycle each validator with power leads once."""
        cycle, index = divmod(view, len(self._able))
        if self._cycle[0] != cycle:
            able = list(self._able)
            rng, order = stream(self._seed, "ledger.leaders", cycle), list[int]()
            while able:
                order.append(rng.choice(able, [self._validators[i].power for i in able]))
                able.remove(order[-1])
            self._cycle = (cycle, order)
        return self._cycle[1][index]
