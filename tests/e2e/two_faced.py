"""Solvers that lie to the peer next to them and to nobody else: the ordinary program, which sends other bytes.

``fragment`` gives its partners the negative of its weights and lists that it gave nothing. ``pipeline`` sends
the negative of its gradients down, or, in the first stage, of the activations of every other step up, which it
does not count; it lists the true ones. All that either computes for itself is right. ``hidden`` lies like
``fragment``, serves its list to nobody, and answers no demand on the ledger.
"""

import sys

import trio

from swarm.cli.demo.cheating_peer import become_two_faced
from swarm.cli.main import main
from swarm.config.spec import RunSpec
from swarm.errors import Unreachable
from swarm.gossip.codecs.activations import from_wire, to_wire
from swarm.primitives.codec import replace as changed
from swarm.training.messages import MicroBatch, MicroBatchGrad, wire_digest
from swarm.training.pipeline import Pipeline
from swarm.training.plan import RoundPlan
from swarm.training.seat import SeatWorker
from swarm.types import Digest, PeerId, RoundIndex
from swarm.verify.sent_lists import EdgeWatch, SentLists


def send_other_values() -> None:
    """Make every seat of this process send the negative of what it computes; it lists what it computed."""
    answer, forward = SeatWorker.answer, Pipeline.forward

    async def answer_negative(
        self: SeatWorker, request: MicroBatch, plan_round: RoundIndex
    ) -> tuple[int, bytes]:
        loss_micro, payload = await answer(self, request, plan_round)
        return loss_micro, negative(payload, request.shape, self.spec)

    async def forward_negative(
        self: Pipeline, plan: RoundPlan, request: MicroBatch, wire: Digest, budget_s: float
    ) -> MicroBatchGrad:
        if request.step % 2:
            payload = negative(request.payload, request.shape, plan.spec)
            request, wire = changed(request, payload=payload), wire_digest(payload)
        return await forward(self, plan, request, wire, budget_s)

    SeatWorker.answer = answer_negative  # type: ignore[method-assign]
    Pipeline.forward = forward_negative  # type: ignore[method-assign]


def hide_the_list() -> None:
    """Make every trade of this process a lie, and show its list to nobody."""
    become_two_faced()

    async def refuse(self: SentLists, _peer: PeerId, raw: bytes) -> bytes:
        del self, raw
        raise Unreachable("this list is not here")

    async def show_nothing(self: EdgeWatch) -> None:
        del self
        await trio.sleep_forever()

    SentLists._serve = refuse  # type: ignore[method-assign]
    EdgeWatch.show = show_nothing  # type: ignore[method-assign]


def negative(payload: bytes, shape: tuple[int, int, int], spec: RunSpec) -> bytes:
    """Return the negative of what crosses a cut of the model."""
    form = spec.wire.activations
    return to_wire(-from_wire(payload, shape, form), form)


if __name__ == "__main__":
    {"fragment": become_two_faced, "pipeline": send_other_values, "hidden": hide_the_list}[
        sys.argv.pop(1)
    ]()
    main()
