"""Run a cheating peer of the demo: it takes no optimizer step, or gives its partners other weights than it has.

Shell: replaces some functions of its own process, then runs the ordinary program. Start it as ``python -m
swarm.cli.demo.cheating_peer join ...``, or with ``two-faced`` before ``join``; the product has no switch for
this.

The first kind commits as if it had taken each step: every segment of it with a step is false, so the demo can
count them. When it is accused it answers, by programs in which an update gives what went in: all that it says
fits together, until one element of an update is shown. The second computes all it commits to, and a replay of
its own windows finds nothing: it gives its partners the negative of its weights, and lists that it gave
nothing. Whoever got them holds its signature.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from swarm.cli.demo.processes import TWO_FACED
from swarm.cli.main import main

if TYPE_CHECKING:
    from torch import Tensor

    from swarm.config.spec import OptimizerSpec
    from swarm.gossip.trade.messages import Codec, FragmentKey
    from swarm.gossip.trade.payload import FragmentPayload, Packed, ReceivedFragment
    from swarm.training.averaging.trade_plan import AwaitReceipt, Settle, TradePlan
    from swarm.training.model.optimizer import OptimizerState
    from swarm.training.model.profiles import Ops
    from swarm.training.model.stages import Matrix, Span
    from swarm.verify.program.computed import Step


def count_only(
    _ops: "Ops",
    _params_P: "Tensor",
    _grad_P: "Tensor",
    state: "OptimizerState",
    _rate: float,
    _spec: "OptimizerSpec",
    _decayed: "Sequence[Span]",
    _matrices: "Sequence[Matrix]",
) -> float:
    """Count a step in ``state`` and leave parameters and moments as they are; return 0."""
    state.step += 1
    return 0.0


MOVED = ("params", "m", "v")
"""Outputs of an update that such a peer leaves as they were."""


def unmoved(self: "Step", part: int, number: int, value: "Tensor") -> "Tensor":
    """Return what stands in the place of a computed value: of an update, what went in for what comes out."""
    outputs = self.program(part).outputs
    if part == self.update:
        for name in MOVED:
            if number == outputs[name]:
                return self.given(part)[name]
    return value


def become_byzantine() -> None:
    """Make this process take no step from now on: in training, in replays of others' work, and when heard."""
    from swarm.training import shard
    from swarm.training.model.optimizer import optimizer_step
    from swarm.verify.program.computed import Step

    used = shard.__dict__
    assert used["optimizer_step"] is optimizer_step, (
        "the cheating function replaces the step that is taken"
    )
    used["optimizer_step"] = count_only
    Step.watched = unmoved  # type: ignore[method-assign]


def become_two_faced() -> None:
    """Make every trade of this process give the negative of its weights, and list that it gave nothing."""
    from swarm.gossip.trade import server
    from swarm.gossip.trade.payload import pack
    from swarm.training.averaging.trade_plan import TradePlan
    from swarm.training.seat import SeatWorker

    used, delivered = server.__dict__, TradePlan.delivered
    assert used["pack"] is pack, "the cheating function replaces the one that packs offers"

    def pack_negative(
        key: "FragmentKey", snapshot: "FragmentPayload", codec: "Codec", is_plain: bool
    ) -> "Packed":
        return pack(key, replace(snapshot, theta=-snapshot.theta), codec, is_plain)

    def delivered_for_nothing(
        self: "TradePlan", now: float, received: "ReceivedFragment", shown: bytes | None
    ) -> "AwaitReceipt | Settle":
        del shown  # what it was given itself it merges, as if it had given nothing for it
        return delivered(self, now, received, None)

    used["pack"] = pack_negative
    TradePlan.delivered = delivered_for_nothing  # type: ignore[method-assign]
    SeatWorker.note_offer = lambda *_: True  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[1:2] == [TWO_FACED]:
        del sys.argv[1]
        become_two_faced()
    else:
        become_byzantine()
    main()
