"""Check that a segment begins from what its commit says: a checkpoint, initial weights, or another's end.

Core: pure functions. The ledger has accepted the kind of a start and the root it was made from; whether the
state is made from that, only its values tell, which the log of the first window has.

    checkpoint, initial    weights of this root, fast and slow; all else zero
    inherited              slow weights, second moments and step of the ten parts under this root; all else zero

A state that is a committed end, the seat's own or another's, is known by its root alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import BrokenPromise
from swarm.ledger.state.records import StartKind
from swarm.ledger.transition.sampling import MADE_STARTS
from swarm.primitives.commitments import hash_of
from swarm.primitives.merkle import merkle_root
from swarm.training.averaging.adoption import PHI_COMPONENT, STEP_COMPONENT, V_COMPONENT
from swarm.training.averaging.payload import residual_numel
from swarm.training.record.segment import (
    COMPONENTS,
    ShardState,
    no_trades_over,
    number_component,
    offered_component,
    tokens_component,
)
from swarm.training.record.window import WindowData
from swarm.types import Digest

PARAMS_COMPONENT, M_COMPONENT = 0, 1
MOMENTUM_COMPONENT, RESIDUAL_COMPONENT, TOKENS_COMPONENT, SNAPSHOT_COMPONENT = 5, 6, 8, 9


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


def check_source_parts(
    start: Start,
    parts: Sequence[bytes],
    inherited: Sequence[bytes],
    fresh: Mapping[int, Digest],
) -> None:
    """Check the state that a segment begins with as ``check_source`` does, by the digests of its ten parts.

    ``fresh``: those of a state that has nothing from an earlier life (``fresh_parts``).
    """
    if start.kind not in MADE_STARTS:
        if inherited:
            raise BrokenPromise("parts of another state where none was inherited")
        return
    taken = {PHI_COMPONENT} | (
        {V_COMPONENT, STEP_COMPONENT} if start.kind is StartKind.INHERITED else set[int]()
    )
    if any(parts[index] != digest for index, digest in fresh.items() if index not in taken):
        raise BrokenPromise("moments, momentum, residual, tokens or trades at the start")
    if parts[PARAMS_COMPONENT] != parts[PHI_COMPONENT]:
        raise BrokenPromise("fast weights that are not the slow ones at the start")
    if start.kind is StartKind.INHERITED:
        if len(inherited) != COMPONENTS or merkle_root(inherited) != start.source:
            raise BrokenPromise("not the parts of the end that the segment says it begins from")
        if any(inherited[index] != parts[index] for index in taken):
            raise BrokenPromise("another state than the end that the segment says it begins from")
    elif inherited or parts[PHI_COMPONENT] != start.source:
        raise BrokenPromise("other weights than those that the segment says it begins from")


@lru_cache(maxsize=8)
def fresh_parts(spec: RunSpec, numel: int, second: int) -> Mapping[int, Digest]:
    """Return the digests of the parts of a state but for weights and anchor, where a life begins: zeros.

    ``numel``: parameters of the shard; ``second``: its second moments.
    """
    zeros, none = hash_of(torch.zeros(numel)), no_trades_over(spec)
    return {
        M_COMPONENT: zeros,
        V_COMPONENT: hash_of(torch.zeros(second)),
        STEP_COMPONENT: number_component(0),
        MOMENTUM_COMPONENT: zeros,
        RESIDUAL_COMPONENT: hash_of(torch.zeros(residual_numel(spec, numel))),
        TOKENS_COMPONENT: tokens_component(0, (0,) * spec.outer.fragments),
        SNAPSHOT_COMPONENT: offered_component((), none),
    }


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
