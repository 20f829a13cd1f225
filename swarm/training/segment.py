"""What happened in one segment of one seat, in order: the raw material of its transcript.

Core: pure data. The verify room turns these into leaves and roots; training only writes them down.
"""

from dataclasses import dataclass, field

from swarm.types import Digest, PeerId, RoundIndex, StageIndex

COMPONENTS = 10
"""params, adam_m, adam_v, step, phi, outer_m, residual, anchor_root, tokens (in all, and at each fragment's
last merge), snapshot (what is offered and not merged yet)."""

Place = tuple[int, int, int]
"""A micro-batch by its origin's numbers: (origin, step, micro-batch)."""


@dataclass(frozen=True, slots=True)
class MicrobatchRecord:
    """One micro-batch as this seat saw it; a side that does not exist has ``NO_DIGEST``.

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
    def place(self) -> Place:
        """Which micro-batch it is: what records are sorted by."""
        return (self.origin, self.step, self.microbatch)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer step. ``components`` are the state's tensor hashes where they were taken."""

    step: int
    components: tuple[Digest, ...] | None
    microbatches: tuple[MicrobatchRecord, ...]
    dropped: tuple[Place, ...]
    """Those that were sent and never answered."""


@dataclass(frozen=True, slots=True)
class MergeRecord:
    """One application of a fragment, with a partner or alone."""

    fragment: int
    partner: PeerId | None
    partner_seat: int
    my_payload: Digest
    partner_payload: Digest
    weight_nano: int
    components: tuple[Digest, ...]


@dataclass(slots=True)
class SegmentLog:
    """Everything one seat did in one round."""

    stage: StageIndex
    seat: int
    round: RoundIndex
    start: tuple[Digest, ...]
    records: list[StepRecord | MergeRecord] = field(default_factory=list)
    snapshots: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """(number of records before it, fragment) of each copy that was offered to a partner."""
    end: tuple[Digest, ...] = ()
    tokens: int = 0
    loss_sum_micro: int = 0
    loss_count: int = 0

    @property
    def num_steps(self) -> int:
        """Optimizer steps taken."""
        return sum(isinstance(record, StepRecord) for record in self.records)

    def has_merged(self, fragment: int) -> bool:
        """Whether a fragment was merged in this segment: at most once, for the shard does it no oftener."""
        merges = (record for record in self.records if isinstance(record, MergeRecord))
        return any(record.fragment == fragment for record in merges)

    @property
    def loss_micro(self) -> int:
        """Mean training loss in millionths of a nat, -1 when nothing was measured."""
        return self.loss_sum_micro // self.loss_count if self.loss_count else -1
