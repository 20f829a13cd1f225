"""Check that a segment begins from what its commit says: a checkpoint, initial weights, or another's end.

Core: pure functions. The ledger has accepted the kind of a start and the root it was made from; whether the
state is made from that, only its values tell, which the log of the first window has.

    checkpoint, initial    weights of this root, fast and slow; all else zero
    inherited              slow weights, second moments and step of the ten parts under this root; all else zero

A state that is a committed end, the seat's own or another's, is known by its root alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.errors import BrokenPromise
from swarm.ledger.state.records import StartKind
from swarm.ledger.transition.sampling import MADE_STARTS
from swarm.primitives.commitments import hash_of
from swarm.primitives.merkle import merkle_root
from swarm.training.averaging.adoption import PHI_COMPONENT, STEP_COMPONENT, V_COMPONENT
from swarm.training.record.segment import COMPONENTS, ShardState, number_component
from swarm.training.record.window import WindowData
from swarm.types import Digest


@dataclass(frozen=True, slots=True)
class Start:
    """Start of a segment, as the ledger has it."""

    root: Digest
    """Root of the state."""
    kind: StartKind
    source: Digest
    """Root of the weights, or of the end, that it was made from; of no meaning for a committed end."""


def check_source(start: Start, data: WindowData) -> None:
    """Raise ``BrokenPromise`` unless the state of a segment's first window was made from its source."""
    state = data.start
    if start.kind not in MADE_STARTS:
        if data.inherited:
            raise BrokenPromise("parts of another state where none was inherited")
        return
    _check_fresh(state)
    if start.kind is StartKind.INHERITED:
        _check_inherited(start.source, state, data.inherited)
    elif data.inherited or state.step or _is_set(state.v_A):
        raise BrokenPromise("second moments beside weights that have none")
    elif hash_of(state.phi_P) != start.source:
        raise BrokenPromise("other weights than those that the segment says it begins from")


def _check_fresh(state: ShardState) -> None:
    """Raise unless the fast weights are the slow ones, and nothing is left of an earlier life."""
    if not torch.equal(state.params_P, state.phi_P):
        raise BrokenPromise("fast weights that are not the slow ones at the start")
    if any(map(_is_set, (state.m_P, state.momentum_P, state.residual_R))):
        raise BrokenPromise("moments, momentum or residual at the start")
    if state.tokens_total or any(state.tokens_at_sync) or state.snapshots or any(state.trades_over):
        raise BrokenPromise("tokens or trades at the start")


def _check_inherited(source: Digest, state: ShardState, inherited: tuple[Digest, ...]) -> None:
    if len(inherited) != COMPONENTS or merkle_root(inherited) != source:
        raise BrokenPromise("not the parts of the end that the segment says it begins from")
    taken = {
        PHI_COMPONENT: hash_of(state.phi_P),
        V_COMPONENT: hash_of(state.v_A),
        STEP_COMPONENT: number_component(state.step),
    }
    if any(inherited[index] != part for index, part in taken.items()):
        raise BrokenPromise("another state than the end that the segment says it begins from")


def _is_set(tensor: Tensor) -> bool:
    """Return True if a value is not +0: the sign of a zero is a bit that nobody else would have."""
    return bool(tensor.view(torch.int32).any()) if tensor.numel() else False
