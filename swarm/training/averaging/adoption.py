"""Request a replica's committed state, verify it against the ledger, and derive the state to continue with.

Core: pure functions and messages.

    replica that fell too far behind          replica that committed lately
      StateRequest{run, stage, seat}    -->
                                        <--   StateFound{round, hashes of the ten parts, step}, or StateMissing
      the ledger has the root of the ten parts as the end of that seat's segment; two of them are
      fetched as blobs, by their hashes: the slow weights and Adam's second moments

Both replicas hold the same stage. ``adopt`` decides which parts are adopted. The messages are not signed: the
replica has already committed to its state by the root on the ledger.

Source: docs/spec/training.md sections 4 and 6, docs/spec/protocol.md section 5 (c).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from swarm.errors import BadEncoding, BrokenPromise, PeerFault
from swarm.primitives.codec import Message, decode
from swarm.primitives.merkle import merkle_root
from swarm.primitives.randomness import stream
from swarm.primitives.state_parts import COMPONENTS, PHI, SECOND, STEPS, number_component
from swarm.training.model.optimizer import OptimizerState
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.terms import (
    STEPS_MAX,
    Catching,
    catching_up,
)
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex

ADOPTION_PROTOCOL = "/swarm/adopt/1"
REQUEST_BYTES_MAX = 256
REPLY_BYTES_MAX = 1 << 10
"""Ten hashes and two numbers."""
REPLICAS_TRIED = 3
"""Each silent replica costs the requester one fetch timeout; after so many it starts from a checkpoint."""
_HASH_BYTES = 32


class StateRequest(Message, frozen=True):
    """Request for the state that a seat had at the end of its last segment."""

    run: RunIndex
    stage: StageIndex
    seat: int
    """Index of the seat that is asked."""


class StateFound(Message, frozen=True, tag=1):
    """Hashes of that state; its parts are served as blobs for a limited time."""

    round: RoundIndex
    """Round of the segment; its commit may still be on its way to the ledger."""
    components: tuple[Digest, ...]
    step: int
    """Optimizer steps that the moments have seen."""


class StateMissing(Message, frozen=True, tag=2):
    """Refusal: no segment was closed here, or the requester may not have it."""


StateReply = StateFound | StateMissing


def decode_reply(raw: bytes) -> StateReply:
    """Read an answer; raises ``BadEncoding``."""
    return decode(cast("type[StateReply]", StateReply), raw, limit=REPLY_BYTES_MAX)


def replicas_to_ask(plan: RoundPlan, stage: StageIndex, me: PeerId) -> tuple[RosterSeat, ...]:
    """Return the replicas of ``stage`` to ask for their state, in order: at most ``REPLICAS_TRIED``.

    Only replicas that have committed lately are listed. The order follows from the beacon and ``me``, so that
    peers which join together do not all ask the same replica.
    """
    able = [
        seat
        for seat in plan.rosters[stage]
        if seat.peer != me and seat.weight > 0 and catching_up(seat.lag) is Catching.TRADE
    ]
    rng = stream(plan.beacon, "training.siblings-asked", plan.run_digest, plan.round, stage, me)
    return tuple(rng.shuffled(able)[:REPLICAS_TRIED])


def check_found(found: StateFound, end_root: Digest) -> None:
    """Raise ``PeerFault`` unless a state is the one whose root its seat committed."""
    if any(len(part) != _HASH_BYTES for part in found.components):
        raise BadEncoding("a part of a state whose hash has not 32 bytes")
    if len(found.components) != COMPONENTS or merkle_root(found.components) != end_root:
        raise BrokenPromise("a state that is not the one its seat committed")
    if not 0 <= found.step <= STEPS_MAX:
        raise BadEncoding(f"a state after {found.step} steps")
    if number_component(found.step) != found.components[STEPS]:
        raise BrokenPromise("a step count that is not the one its seat committed")


def parts_given(components: Sequence[Digest]) -> tuple[Digest, Digest]:
    """Return the hashes of the tensors that travel: (slow weights, second moments)."""
    return components[PHI], components[SECOND]


@dataclass(frozen=True, slots=True)
class OfferedState:
    """Tensors of another replica's committed state, to be adopted."""

    phi_P: Tensor
    v_A: Tensor
    """AdamW's second moments, of the A parameters that it rules."""
    step: int
    """Steps that those moments have seen."""
    parts: tuple[Digest, ...]
    """The ten parts of that state, under the root that its seat has committed."""


@dataclass(frozen=True, slots=True)
class AdoptedState:
    """State of a shard that starts again; its fast weights equal the slow ones."""

    phi_P: Tensor
    momentum_P: Tensor
    optimizer: OptimizerState
    parts: tuple[Digest, ...]
    """The ten parts of the state that it was made from."""


def adopt(offered: OfferedState, num_parameters: int, num_second_moments: int) -> AdoptedState:
    """Return the state to continue with; it shares no memory with ``offered``.

    Raises ``PeerFault`` for tensors of another shape, non-finite values, negative second moments or a step
    count that no run reaches.
    """
    for tensor, numel in ((offered.phi_P, num_parameters), (offered.v_A, num_second_moments)):
        if tensor.shape != (numel,) or not bool(torch.isfinite(tensor).all()):
            raise PeerFault("a state of another shape, or not finite")
    if bool((offered.v_A < 0).any()) or not 0 <= offered.step <= STEPS_MAX:
        raise PeerFault("second moments that no optimizer has")
    moments = OptimizerState(torch.zeros(num_parameters), offered.v_A.float().clone(), offered.step)
    momentum_P = torch.zeros(num_parameters)
    return AdoptedState(offered.phi_P.float().clone(), momentum_P, moments, offered.parts)
