"""What a state is made of: accounts, runs, seats, rounds, segments.

Core: frozen structs.

A run's roster is frozen into a ``RoundInfo`` at every round boundary and kept for four rounds: a node that is
late by some blocks still pairs, routes and commits with the roster and beacon of the boundary. It stays as an
entry of its own while a segment of that round can be checked: who replays one needs its roster and dice. A
segment's record carries its reward and everything said about it until its challenge window has passed.

What is kept about a segment while it is checked: throws, checks, windows, accusations, ballots.

frozen structs, parts of a ``SegmentRecord``.
"""

from enum import StrEnum

from swarm.config.spec import RunSpec
from swarm.ledger.blocks import Validator
from swarm.primitives.codec import Message
from swarm.types import Amount, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex


class SegmentPhase(StrEnum):
    """Where a segment stands (docs/spec/protocol.md section 6)."""

    POSTED = "posted"
    """Dice will be thrown, or were: whoever is drawn may ask for its window."""
    SAMPLED = "sampled"
    """Verifiers have asked and answer blind."""
    SEALED = "sealed"
    """The blind answers are in, or what nobody checked is reported: the solver must show its leaves."""
    REVEALED = "revealed"
    """The solver has shown its leaves: the verifiers must show theirs."""
    DISPUTED = "disputed"
    """Somebody's leaves differ: the validators decide."""
    VERIFIED = "verified"
    """Every answer agreed."""
    UNSAMPLED = "unsampled"
    """Nobody checked it; paid on trust, and open to reports."""
    SILENT = "silent"
    """The solver did not serve, or did not show its leaves: unpaid, a strike."""
    CLEARED = "cleared"
    """The validators did not find it guilty."""
    GUILTY = "guilty"


class Draw(Message, frozen=True):
    """One throw of the dice that choose verifiers."""

    height: Height
    """The block whose beacon it is."""
    beacon: Digest
    num_eligible: int
    """How many could be drawn."""


class CheckPhase(StrEnum):
    """Where one verifier's check stands."""

    REQUESTED = "requested"
    SEALED = "sealed"
    """Its blind answer is on the ledger."""
    AGREED = "agreed"
    DIFFERED = "differed"
    MISSED = "missed"
    """It fell silent before its answer was there."""


class Check(Message, frozen=True):
    """One drawn verifier of a segment."""

    peer: PeerId
    window: int
    phase: CheckPhase
    height: Height
    """Of its request."""
    commitment: Digest
    """``NO_DIGEST`` before its blind answer."""
    commit_height: Height


class Window(Message, frozen=True):
    """What the solver has shown of one window: the leaves themselves are in the block that reveals them."""

    start_root: Digest
    end_root: Digest
    num_leaves: int
    claim: Digest
    """``leaves.window_claim``."""


class Accusation(Message, frozen=True):
    """Somebody's replay of a window differs from what the solver has shown."""

    peer: PeerId
    window: int
    claim: Digest
    height: Height
    """Of its blind answer, or of its report."""
    is_report: bool
    bond: Amount
    """Of a report; drawn verifiers answer with their stake."""


class Ballot(Message, frozen=True):
    """One validator's verdict in a dispute."""

    peer: PeerId
    is_guilty: bool


class Dispute(Message, frozen=True):
    """One accused window before the validators."""

    window: int
    deadline: Height
    ballots: tuple[Ballot, ...]


ROUNDS_KEPT = 4
"""Rounds whose roster and beacon stay: two to commit in, one to draw from, one to spare."""

CONVICTIONS_KEPT = 32
"""Of one run: every stage of a small one twice over, and no list that grows with the lies."""


class Params(Message, frozen=True):
    """What the genesis fixed for good."""

    block_interval_ms: int
    epoch_blocks: int
    beacon_delay: int
    unbonding_epochs: int
    stake_segments: int
    fee_min: Amount
    fee_per_byte_nano: int


class ChainState(Message, frozen=True):
    """What there is one of."""

    chain: Digest
    height: Height
    beacon: Digest
    params: Params
    validators: tuple[Validator, ...]
    num_staked: int
    """Accounts with a stake: among them verifiers are drawn."""
    last_due: Height
    """No segment has anything due after this height."""
    num_runs: int
    active_runs: tuple[RunIndex, ...]
    """Runs that still have boundaries to cross, by number."""
    supply: Amount
    minted: Amount
    """Created since genesis."""
    burned: Amount
    """Destroyed since genesis."""


class Unbonding(Message, frozen=True):
    """Stake on its way back."""

    amount: Amount
    release_height: Height


class Account(Message, frozen=True):
    """A peer's money, and which of its nonces are used."""

    balance: Amount
    stake: Amount
    nonce: int
    """The highest nonce used; 0 before the first."""
    recent: int
    """Bit i is set when nonce ``nonce - i`` was used, for the last 16."""
    unbonding: tuple[Unbonding, ...]
    staked_height: Height
    """Since when it has had a stake without a break; 0 is the genesis, or never."""


class Seat(Message, frozen=True):
    """One replica's place in a run. Indices count up within a stage and are never used again."""

    stage: StageIndex
    index: int
    peer: PeerId
    joined_round: RoundIndex
    last_commit_round: int
    """-1 before the first commit."""
    last_end_root: Digest
    last_tokens: int
    is_volunteer: bool
    """Taken without means to pay: bounded in number."""


class RoundInfo(Message, frozen=True):
    """A round as everybody sees it: frozen at its boundary, never changed after."""

    round: RoundIndex
    height: Height
    """The boundary: the block whose beacon this is."""
    beacon: Digest
    seats: tuple[tuple[Seat, ...], ...]
    """Per stage, by index."""
    drawn: tuple[int, ...]
    """Per stage, the seat that posts the checkpoint from the end of the round before; -1: none."""
    consensus: int
    """Which round of consensus at the end of the run this is, from 0; -1: a round of training. All of them have
    the roster and the dice of the first."""


class Checkpoint(Message, frozen=True):
    """The canonical slow weights of a stage: the next anchor, and where joiners start."""

    round: RoundIndex
    """The boundary that drew it."""
    phi_root: Digest
    phi_bytes: int
    peer: PeerId
    seat: int
    height: Height
    """Where it was posted."""


class Waiter(Message, frozen=True):
    """A peer in the queue for a seat."""

    peer: PeerId
    height: Height
    is_volunteer: bool


class Rollback(Message, frozen=True):
    """A stage goes back behind a proven fraud (``on_fraud = "rollback"``)."""

    to_round: int
    """The boundary of the checkpoint that its seats begin again from; 0: the initial weights; -1: never yet."""
    boundary: int
    """The round in which they do."""


NO_ROLLBACK = Rollback(-1, -1)


class RunPhase(StrEnum):
    """The life of a run."""

    OPEN = "open"
    """Its next boundary is fixed, and lies ahead: before the first round, and after a pause."""
    TRAINING = "training"
    PAUSED = "paused"
    """Between two rounds, until its owner goes on."""
    COOLING = "cooling"
    """No more steps: the replicas of each stage become one."""
    FINISHED = "finished"
    """No more rounds; the last segments and checkpoints may still come in."""
    SETTLED = "settled"
    """What was left in escrow is back with the owner; nothing changes any more."""


class Run(Message, frozen=True):
    """A training run."""

    index: RunIndex
    owner: PeerId
    spec: RunSpec
    spec_digest: Digest
    escrow: Amount
    opened_height: Height
    start_height: Height
    """The boundary of ``start_round``."""
    start_round: RoundIndex
    """0, or the first round after the last pause."""
    end_round: RoundIndex
    """The first round that will not be trained."""
    consensus_rounds: int
    """Rounds of consensus from ``end_round`` on; 0 until its boundary."""
    phase: RunPhase
    is_pausing: bool
    """It pauses at the next boundary."""
    paused_height: Height
    """The boundary at which the last pause began."""
    waiting: tuple[Waiter, ...]
    """In order of arrival."""
    leaving: tuple[PeerId, ...]
    """Gone at the next boundary."""
    seats: tuple[tuple[Seat, ...], ...]
    """Per stage, by index."""
    next_seats: tuple[int, ...]
    """Per stage, the index of the next seat."""
    rounds: tuple[RoundInfo, ...]
    """Oldest first, at most ``ROUNDS_KEPT``."""
    checkpoints: tuple[tuple[Checkpoint, ...], ...]
    """Per stage, newest first, at most ``spec_check.checkpoints_kept``: every anchor still asked for."""
    rollbacks: tuple[Rollback, ...]
    """Per stage, the newest."""
    num_segments: int
    tokens: int
    """Committed so far, over all seats of the last stage."""

    @property
    def final_round(self) -> RoundIndex:
        """The boundary at which everything is over, consensus included."""
        return RoundIndex(self.end_round + self.consensus_rounds)

    @property
    def consensus_round(self) -> int:
        """The round of consensus under way, from 1; 0 before the first, ``consensus_rounds`` after the last."""
        if self.phase is RunPhase.COOLING and self.rounds:
            return self.rounds[-1].consensus + 1
        return self.consensus_rounds

    @property
    def next_round(self) -> RoundIndex:
        """The round that begins at the next boundary."""
        return RoundIndex(self.rounds[-1].round + 1 if self.rounds else 0)

    def standing(self, stage: int) -> tuple[Checkpoint, ...]:
        """The canonical checkpoints of a stage that no rollback went behind, newest first."""
        back = self.rollbacks[stage]
        kept = self.checkpoints[stage]
        return tuple(c for c in kept if not back.to_round < c.round <= back.boundary)


class StartKind(StrEnum):
    """Where a segment says it started (docs/spec/protocol.md section 5)."""

    CONTINUED = "continued"
    """From the seat's own last committed end."""
    JOINED = "joined"
    """From the initialisation or a canonical checkpoint, moments zero; not checkable here."""
    ADOPTED = "adopted"
    """From another seat's committed end."""


class SegmentRecord(Message, frozen=True):
    """A commit on the ledger, and how it was judged."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    peer: PeerId
    incarnation: int
    start_kind: StartKind
    start_root: Digest
    end_root: Digest
    trace_commit: Digest
    inbox_root: Digest
    outbox_root: Digest
    gossip_root: Digest
    num_steps: int
    tokens: int
    height: Height
    """Where it was committed; the dice that check it fall ``beacon_delay`` blocks later."""
    reward: Amount
    """What it earns."""
    held: Amount
    """What of it waits in this record."""
    is_paid: bool
    phase: SegmentPhase
    due: Height
    """When silence changes its phase, or the record is forgotten."""
    partners: tuple[PeerId, ...]
    """Who traded with it, by the dice: they do not check it."""
    draws: tuple[Draw, ...]
    checks: tuple[Check, ...]
    reveals_end: Height
    """Verifiers show their answers before this; 0 before the solver has."""
    windows: tuple[Window, ...]
    """Empty before the solver has shown its leaves."""
    accusations: tuple[Accusation, ...]
    """Not settled yet, in order of arrival."""
    dispute: Dispute | None
    judged: tuple[int, ...]
    """Windows of which a dispute has been settled."""


class Contribution(Message, frozen=True):
    """What one peer has done for one run."""

    segments: int
    tokens: int
    earned: Amount
    checkpoints: int
    verified: int
    """Segments that were checked and stood."""
    failed: int
    """Segments found guilty."""
    silent: int
    """Segments it did not serve or reveal."""
    checked: int
    """Windows of others it has replayed."""
    missed: int
    """Checks it asked for and did not finish."""
    is_barred: bool
    """Found guilty in this run: it may not join or commit again."""


class Conviction(Message, frozen=True):
    """A segment that was proven false."""

    round: RoundIndex
    stage: StageIndex
    seat: int
    peer: PeerId
    height: Height
    """Of the verdict."""


class Verdicts(Message, frozen=True):
    """How the segments of a run stand that have been judged, those forgotten since included."""

    verified: int
    cleared: int
    unsampled: int
    silent: int
    guilty: int
    confirmed: int
    """Of those verified or cleared: another peer's replay agreed."""
    convictions: tuple[Conviction, ...]
    """Newest last, at most ``CONVICTIONS_KEPT``."""


class DueQueue(Message, frozen=True):
    """What is due at one height."""

    segments: tuple[tuple[RunIndex, RoundIndex, StageIndex, int], ...]
    """By run, round, stage and seat; some have moved on since."""
    rounds: tuple[tuple[RunIndex, RoundIndex], ...]
    """To be forgotten, unless a segment of theirs is still before the judges."""


Entry = ChainState | Account | Run | RoundInfo | SegmentRecord | Contribution | Verdicts | DueQueue
