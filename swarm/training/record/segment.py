"""Records of one segment of one seat, in order, and the seat's whole state as values and hashes.

Core: pure data. The verify package turns these into leaves and roots; training only records them.

The records are the raw material of the segment's transcript. A replay starts from the state, whose parts are
those of docs/spec/protocol.md section 5 (primitives/state_parts.py).

Legend: P parameters of the shard, A those that AdamW rules, F values of one fragment, R values of the residual
(training/averaging/payload.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.primitives.commitments import hash_of
from swarm.primitives.edges import SentEntry
from swarm.primitives.state_parts import offered_component
from swarm.types import NO_DIGEST, Digest, PeerId, RoundIndex, StageIndex

MicrobatchId = tuple[int, int, int]
"""A micro-batch by its origin's numbers: (origin, step, micro-batch)."""


@dataclass(frozen=True, slots=True)
class MicrobatchRecord:
    """One micro-batch as this seat saw it; a missing stage above or below has ``NO_DIGEST``.

    ``step`` and ``microbatch`` are the origin's numbers; the hashes cover the wire bytes.
    """

    origin: int
    step: int
    microbatch: int
    in_activation: Digest
    in_gradient: Digest
    out_activation: Digest
    out_gradient: Digest
    source: int
    destination: int
    sample_ids_root: Digest

    @property
    def microbatch_id(self) -> MicrobatchId:
        """Id of the micro-batch, by which records are sorted."""
        return (self.origin, self.step, self.microbatch)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer step; ``components`` are the state's hashes before it, or None."""

    step: int
    components: tuple[Digest, ...] | None
    microbatches: tuple[MicrobatchRecord, ...]
    dropped: tuple[MicrobatchId, ...]
    """Micro-batches that were sent and never answered."""
    tokens: int
    """Tokens of its micro-batches."""
    gradient: Digest = NO_DIGEST
    """Hash of a piece of the mean gradient (``Shard.step``)."""


NO_PARTNER = -1
"""Partner seat of a solo step."""


@dataclass(frozen=True, slots=True)
class MergeRecord:
    """One merge of a fragment, with a partner or solo."""

    exchange: int
    """Number of the exchange in its round."""
    partner: PeerId | None
    partner_seat: int
    my_payload: Digest
    partner_payload: Digest
    weight_nano: int
    components: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Origin of a state that is no committed end: slow weights, maybe second moments and step."""

    root: Digest | bytes
    """Root of a checkpoint, or of the end of a segment; empty for the initial weights."""
    parts: tuple[Digest, ...] = ()
    """The ten parts of the end of that segment; empty for weights alone."""


@dataclass(slots=True)
class SegmentLog:
    """Everything one seat did in one round."""

    stage: StageIndex
    seat: int
    round: RoundIndex
    start: tuple[Digest, ...]
    records: list[StepRecord | MergeRecord] = field(default_factory=list)
    snapshots: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """(number of records before it, exchange) of each copy that was offered to a partner."""
    end: tuple[Digest, ...] = ()
    tokens: int = 0
    loss_sum_micro: int = 0
    loss_count: int = 0
    source: Source | None = None
    """Origin of the start; None if it is the end of the seat's segment before."""
    sent: tuple[SentEntry, ...] = ()
    """Everything that the seat signed and sent in this segment, by place; complete once it is closed."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps taken."""
        return sum(isinstance(record, StepRecord) for record in self.records)

    def has_merged(self, exchange: int) -> bool:
        """Return True if an exchange was merged in this segment, which happens at most once."""
        merges = (record for record in self.records if isinstance(record, MergeRecord))
        return any(record.exchange == exchange for record in merges)

    @property
    def loss_micro(self) -> int:
        """Mean training loss in millionths of a nat; -1 if none was measured."""
        return self.loss_sum_micro // self.loss_count if self.loss_count else -1


PendingFragment = tuple[int, int, Tensor]
"""A fragment that was offered and not merged yet: (exchange, tokens it was offered with, theta_F)."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard between two steps; its tensors must not be written to."""

    params_P: Tensor
    m_P: Tensor
    v_A: Tensor
    phi_P: Tensor
    momentum_P: Tensor
    step: int
    """Optimizer steps that the moments have seen."""
    anchor_root: Digest
    """The checkpoint that int8 fragments are relative to; its tensor is not part of the state."""
    tokens_total: int
    tokens_at_sync: tuple[int, ...]
    """For each fragment, ``tokens_total`` at its last merge."""
    snapshots: tuple[PendingFragment, ...]
    """By exchange, each fragment at most once."""
    residual_R: Tensor
    """Quantization error of int4 not sent yet; empty in a run that never trades in int4."""
    trades_over: tuple[int, ...] = ()
    """For each fragment, the trades of the segment that its last merge ended; empty where a round has one."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors of P values, and of A, in the order in which they are written."""
        return (self.params_P, self.m_P, self.v_A, self.phi_P, self.momentum_P)


def no_trades_over(spec: RunSpec) -> list[int]:
    """Return the trades that are over where a segment begins; empty if a round has one trade of each fragment.

    With one, a merge needs no number: the state of such a run does not carry any.
    """
    outer = spec.outer
    return [0] * outer.fragments if outer.trades_per_round > 1 else []


def snapshots_component(
    snapshots: Sequence[PendingFragment], trades_over: Sequence[int] = ()
) -> Digest:
    """Return the hash of the offered fragments, in order of exchange, and of the trades that are over.

    Between two segments no trade is over: the hash is that of a run with one trade a round.
    """
    offered = [(exchange, tokens, hash_of(theta)) for exchange, tokens, theta in snapshots]
    return offered_component(offered, trades_over)
