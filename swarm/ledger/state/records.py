"""Define the entries of a state: accounts, runs, seats, rounds, and segments with their checks.

Core: frozen structs.

A run's roster is frozen into a ``RoundInfo`` at every round boundary and kept for four rounds: a node that is
late by some blocks still pairs, routes and commits with the roster and beacon of the boundary. It stays as an
entry of its own while a segment of that round can be checked, because a replay needs its roster and beacon. A
segment's record carries its reward and all statements about it (draws, checks, windows, accusations and votes)
until its challenge window has passed.
"""

from enum import StrEnum

from swarm.config.spec import RunSpec
from swarm.ledger.blocks import Validator
from swarm.ledger.state.accusations import Accusation, Demand, Dispute
from swarm.ledger.state.draws import Contest, Draw, Panel
from swarm.ledger.state.payouts import SettlementEntry
from swarm.ledger.state.shares import ShareEntry
from swarm.ledger.state.storage import Storage
from swarm.primitives.codec import Message
from swarm.types import Amount, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex, View


class SegmentPhase(StrEnum):
    """Phase of the check of a segment (docs/spec/protocol.md section 6)."""

    POSTED = "posted"
    """The verifiers' draw is ahead or done: a drawn verifier may ask for a window."""
    SAMPLED = "sampled"
    """Verifiers have asked for windows, are dealt them, and answer blind."""
    SEALED = "sealed"
    """The blind answers are in, or nobody was drawn: the solver must reveal its leaves to be paid."""
    REVEALED = "revealed"
    """The solver has revealed its leaves: verifiers and reporters must reveal theirs."""
    DISPUTED = "disputed"
    """An accuser's leaves differ from the solver's: both are heard, and arithmetic decides."""
    VERIFIED = "verified"
    """At least one answer agreed with the solver's and none differed."""
    UNSAMPLED = "unsampled"
    """Its leaves are revealed, but no verifier completed a check: paid on trust, and open to reports."""
    SILENT = "silent"
    """The solver did not serve its data or did not reveal its leaves: unpaid, and counted against it."""
    GUILTY = "guilty"
    DOUBTED = "doubted"
    """In a run without exact numerics, a verifier has rejected a window: a panel of three decides."""
    WITHIN = "within"
    """In such a run, at least one verifier found it within tolerance, and no panel rejected it."""
    REJECTED = "rejected"
    """In such a run, all three of a panel rejected a window: unpaid, and its peer is sent away."""


class CheckPhase(StrEnum):
    """Phase of one verifier's check."""

    REQUESTED = "requested"
    SEALED = "sealed"
    """Its blind answer is on the ledger."""
    AGREED = "agreed"
    DIFFERED = "differed"
    MISSED = "missed"
    """It did not answer or reveal in time, or proved nothing of what it called false."""
    SPARED = "spared"
    """It offered to sit on a panel, and was not needed, or the panel did not come about."""
    FOUND = "found"
    """It calls the statement of its solver false; the proof that convicts is to come."""
    PASSED = "passed"
    """It calls a statement right that was to be false on purpose; its solver may show that it was."""
    JACKPOT = "jackpot"
    """It found an error that its solver had made on purpose."""
    FOOLED = "fooled"
    """It approved such an error: it had not looked."""


UNDEALT = -1
"""Window of a check whose verifier has asked, while others still may."""


class Check(Message, frozen=True):
    """One drawn verifier of a segment, or one reporter, and its check."""

    peer: PeerId
    window: int
    """Window that it was dealt, or chose for a report; ``UNDEALT`` until then."""
    phase: CheckPhase
    height: Height
    """Height of its request, or of its report."""
    commitment: Digest
    """Commitment to its blind answer; ``NO_DIGEST`` before it."""
    commit_height: Height
    is_report: bool
    """True if it was not drawn, but chose the window itself."""
    bond: Amount
    """Amount at risk until its answer is revealed; then it is back, lost, or in its accusation."""
    attempt: int = 0
    """Index of the draw that selected it; of no meaning for a report."""
    said: bytes = b""
    """Digest of the statement that it looked at, once it has answered; empty where windows are replayed."""
    dice: bytes = b""
    """Seed of the elements by which its solver shows a forced error that it passed; else empty."""
    proved: int = 0
    """Bit n is set if the n-th of these was shown."""


NOBODY = PeerId(b"")
"""Stands for no peer."""

ROUNDS_KEPT = 4
"""Rounds whose roster and beacon stay: two to commit in, one to draw from, one to spare."""

CONVICTIONS_KEPT = 32
"""Convictions listed per run: every stage of a small run twice over, so that frauds grow no list."""


class Params(Message, frozen=True):
    """Parameters of the ledger, fixed by the genesis."""

    block_interval_ms: int
    epoch_blocks: int
    beacon_delay: int
    unbonding_epochs: int
    stake_segments: int
    validator_stake: Amount
    """Least stake of a validator."""
    fee_min: Amount
    fee_per_byte_nano: int


class ChainState(Message, frozen=True):
    """Chain-wide state: height, view, beacon, supply. One per ledger."""

    chain: Digest
    height: Height
    view: View
    """View of the last block in its epoch; 0 after the last block of an epoch."""
    num_skipped: int
    """Number of views without a block since genesis."""
    beacon: Digest
    params: Params
    staked: Amount
    """Sum of all stakes, unbonding parts excluded: verifiers are drawn in proportion to theirs."""
    last_due: Height
    """Greatest height at which a segment is due."""
    num_runs: int
    active_runs: tuple[RunIndex, ...]
    """Runs that still have boundaries to cross, by number."""
    supply: Amount
    minted: Amount
    """Money created since genesis."""
    burned: Amount
    """Money destroyed since genesis."""


class Council(Message, frozen=True):
    """Validators of three epochs, and the peers among which the next are chosen. One per ledger."""

    previous: tuple[Validator, ...]
    """Validators of the epoch before: they made the last block of that epoch final."""
    current: tuple[Validator, ...]
    """Validators that vote on the next block, sorted by peer."""
    next: tuple[Validator, ...]
    """Validators of the epoch after."""
    seed: Digest
    """Seed of the current leaders: the beacon at the end of the epoch before; the genesis seed in epoch 0."""
    skipped: tuple[int, ...]
    """Views of each current validator that were skipped in a row, since the last block it led."""
    candidates: tuple[PeerId, ...]
    """Peers that offer to validate, sorted, with or without the stake it takes."""


class Equivocator(Message, frozen=True):
    """A validator convicted of two conflicting votes: it never validates again under this key."""

    epoch: int
    view: View
    height: Height
    """Height of the block with the evidence."""
    taken: Amount
    """Stake that it lost."""


class Unbonding(Message, frozen=True):
    """A part of a stake that becomes balance at a height."""

    amount: Amount
    release_height: Height


class Account(Message, frozen=True):
    """A peer's money, and the nonces it has used."""

    balance: Amount
    stake: Amount
    nonce: int
    """Highest nonce used; 0 before the first."""
    recent: int
    """Bitmap of the last 16 nonces: bit i is set if nonce ``nonce - i`` was used."""
    unbonding: tuple[Unbonding, ...]
    locked: Amount
    """Part of the stake that it earned as a volunteer: bound until it has the stake of a solver."""
    staked_height: Height
    """Height at which its stake last grew; 0 for the genesis, or if it never had one."""


class Seat(Message, frozen=True):
    """One replica of a stage in a run. Indices count up within a stage and are never used again."""

    stage: StageIndex
    index: int
    peer: PeerId
    joined_round: RoundIndex
    last_commit_round: int
    """Round of the last commit; -1 before the first."""
    last_end_root: Digest
    last_tokens: int
    last_verified_round: int
    """Newest round whose segment was verified; -1 before the first."""
    is_volunteer: bool
    """True while its peer has less than the stake of a solver; such seats are bounded in number."""
    is_on_trial: bool
    """True for a volunteer's seat until enough of its segments have stood: partners give it no weight."""
    ask: int
    """Least pay for 1,000 tokens that its peer works for; of no effect for owners and volunteers."""
    seated_ask: int
    """Ask with which it was seated: one that rose above it protects the seat no more."""
    anew_round: int = -1
    """Round from which on nothing goes on from its earlier ends: they go back to a segment that was not
    shown; -1 if it has shown all."""


class RoundInfo(Message, frozen=True):
    """A round as frozen at its boundary; never changed after."""

    round: RoundIndex
    height: Height
    """Height of the boundary: of the block whose beacon this is."""
    beacon: Digest
    seats: tuple[tuple[Seat, ...], ...]
    """Seats per stage, by index."""
    drawn: tuple[int, ...]
    """Seat per stage that posts the checkpoint from the end of the round before; -1 if none."""
    consensus: int
    """Index of this round in the final averaging, from 0; -1 for a round of training.

    All rounds of the final averaging have the roster and the beacon of the first.
    """
    price: int
    """Pay for 1,000 verified tokens of this round, the same for every seat."""


class Checkpoint(Message, frozen=True):
    """Canonical slow weights of a stage: the next anchor, and the start of peers that join."""

    round: RoundIndex
    """Round at whose boundary its seat was drawn."""
    phi_root: Digest
    phi_bytes: int
    peer: PeerId
    seat: int
    height: Height
    """Height at which it was posted."""
    is_void: bool
    """True if its poster was convicted or silent since, or its stage set back: no start and no anchor any more,
    listed for replays only.
    """


class Waiter(Message, frozen=True):
    """A peer in the queue for a seat."""

    peer: PeerId
    height: Height
    """Height at which it came, or last changed its ask."""
    is_volunteer: bool
    ask: int
    """Least pay for 1,000 tokens that it works for."""


class Rollback(Message, frozen=True):
    """Return of a stage to a checkpoint before a proven fraud (``on_fraud = "rollback"``)."""

    to_round: int
    """Round of the checkpoint from which its seats restart; 0: the initial weights; -1: never rolled back."""
    boundary: int
    """Round in which they restart."""


NO_ROLLBACK = Rollback(-1, -1)


class RunPhase(StrEnum):
    """Phase in the life of a run."""

    OPEN = "open"
    """Its next boundary is fixed and lies ahead: before the first round, and after a pause."""
    TRAINING = "training"
    PAUSED = "paused"
    """Between two rounds, until its owner resumes it."""
    COOLING = "cooling"
    """Final averaging: no more steps; the replicas of each stage become one."""
    FINISHED = "finished"
    """No more rounds; the last segments and checkpoints may still come in."""
    SETTLED = "settled"
    """The rest of the escrow is back with the owner; nothing changes any more."""


class RunHead(Message, frozen=True):
    """A run without its queue, seats, rounds and checkpoints, which are entries of their own."""

    index: RunIndex
    owner: PeerId
    spec: RunSpec
    spec_digest: Digest
    escrow: Amount
    opened_height: Height
    start_height: Height
    start_round: RoundIndex
    end_round: RoundIndex
    consensus_rounds: int
    phase: RunPhase
    is_pausing: bool
    paused_height: Height
    next_seats: tuple[int, ...]
    """Index of the next new seat, per stage."""
    kept_rounds: tuple[RoundIndex, ...]
    """Rounds that the run lists, oldest first."""
    rollbacks: tuple[Rollback, ...]
    num_segments: int
    tokens: int


class RunQueue(Message, frozen=True):
    """Peers that wait for a seat of a run, and those that leave it at the next boundary."""

    waiting: tuple[Waiter, ...]
    leaving: tuple[PeerId, ...]


class StageSeats(Message, frozen=True):
    """Seats of one stage, and the rounds of the checkpoints that it lists, newest first."""

    seats: tuple[Seat, ...]
    checkpoint_rounds: tuple[RoundIndex, ...]


class Run(Message, frozen=True):
    """A training run, as the rules work with it; ``state.runs`` keeps it in several entries."""

    index: RunIndex
    owner: PeerId
    spec: RunSpec
    spec_digest: Digest
    escrow: Amount
    opened_height: Height
    start_height: Height
    """Height of the boundary of ``start_round``."""
    start_round: RoundIndex
    """Round 0, or the first round after the last pause."""
    end_round: RoundIndex
    """First round that will not be trained."""
    consensus_rounds: int
    """Rounds of final averaging from ``end_round`` on; 0 until its boundary."""
    phase: RunPhase
    is_pausing: bool
    """True if it pauses at the next boundary."""
    paused_height: Height
    """Height of the boundary at which the last pause began."""
    waiting: tuple[Waiter, ...]
    """Peers that wait for a seat, in order of arrival."""
    leaving: tuple[PeerId, ...]
    """Peers that leave at the next boundary."""
    seats: tuple[tuple[Seat, ...], ...]
    """Seats per stage, by index."""
    next_seats: tuple[int, ...]
    """Index of the next new seat, per stage."""
    rounds: tuple[RoundInfo, ...]
    """Rounds kept, oldest first, at most ``ROUNDS_KEPT``."""
    checkpoints: tuple[tuple[Checkpoint, ...], ...]
    """Checkpoints per stage, newest first, at most ``runs.checkpoints_kept``: every anchor in use."""
    rollbacks: tuple[Rollback, ...]
    """Newest rollback per stage."""
    num_segments: int
    tokens: int
    """Tokens committed so far, over all seats of the last stage."""

    @property
    def final_round(self) -> RoundIndex:
        """The boundary at which the run is over, final averaging included."""
        return RoundIndex(self.end_round + self.consensus_rounds)

    @property
    def consensus_round(self) -> int:
        """The round of final averaging under way, from 1.

        0 before the first, ``consensus_rounds`` after the last.
        """
        if self.phase is RunPhase.COOLING and self.rounds:
            return self.rounds[-1].consensus + 1
        return self.consensus_rounds

    @property
    def next_round(self) -> RoundIndex:
        """The round that begins at the next boundary."""
        return RoundIndex(self.rounds[-1].round + 1 if self.rounds else self.start_round)

    def standing(self, stage: int) -> tuple[Checkpoint, ...]:
        """Return the canonical checkpoints of a stage that nothing undid, newest first."""
        return tuple(c for c in self.checkpoints[stage] if not c.is_void)


class StartKind(StrEnum):
    """Kind of a segment's start state (docs/spec/protocol.md section 5)."""

    CONTINUED = "continued"
    """The end of the seat's own last committed segment."""
    ADOPTED = "adopted"
    """The end of another seat's committed segment."""
    INHERITED = "inherited"
    """Slow weights, second moments and step of the end of a committed segment of the stage; all else zero."""
    CHECKPOINT = "checkpoint"
    """A canonical checkpoint of the stage; all else zero."""
    INITIAL = "initial"
    """The initial weights of the run; all else zero."""


class SegmentRecord(Message, frozen=True):
    """A committed segment, and the state of its check."""

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
    sent_root: Digest
    num_steps: int
    tokens: int
    height: Height
    """Height of its commit; the beacon that draws its verifiers comes ``beacon_delay`` blocks later."""
    reward: Amount
    """Amount it earns."""
    held: Amount
    """Part of the reward that is still held in this record."""
    check_pay: Amount
    """Amount that each verifier earns whose answer stands."""
    reserved: Amount
    """Amount held in this record for its verifiers."""
    is_volunteer: bool
    """True if its solver had less than the stake of a solver."""
    probability_nano: int
    """Half of the verifiers that a draw selects on average, in billionths (``sampling.draw_probability``)."""
    is_paid: bool
    phase: SegmentPhase
    due: Height
    """Height at which silence changes its phase, or the record is forgotten."""
    partners: tuple[PeerId, ...]
    """Peers that may not check it: those the beacon paired with it for a trade; none for a volunteer's."""
    draws: tuple[Draw, ...]
    checks: tuple[Check, ...]
    contests: tuple[Contest, ...]
    """Complaints of verifiers that were not served, oldest first; only the last may be open."""
    shown_height: Height
    """Height of the solver's reveal; 0 before."""
    reveals_end: Height
    """Height before which verifiers and reporters reveal their answers; 0 if none must."""
    claims: tuple[Digest, ...]
    """Claim of the solver about each window (``commitments.WindowResult``); empty before its reveal."""
    accusations: tuple[Accusation, ...]
    """Accusations without a verdict yet, in order of arrival."""
    dispute: Dispute | None
    judged: tuple[int, ...]
    """Windows that were found false, or on which a panel has sat."""
    proved_by: bytes = b""
    """Peer that proved a lie by what its solver had signed itself, or demanded an entry that nobody showed;
    empty if there is none."""
    panel: Panel | None = None
    """Panel about a rejected window, the last one if there were several; None before."""
    demands: tuple[Demand, ...] = ()
    """Demands to show the list of what was sent, those that are over included."""
    salt: bytes = b""
    """Salt of its trace commit; empty before its solver's reveal."""


class Contribution(Message, frozen=True):
    """Work counts of one peer in one run."""

    segments: int
    tokens: int
    earned: Amount
    checkpoints: int
    verified: int
    """Number of its segments that were checked and stood."""
    failed: int
    """Number of its segments found guilty."""
    silent: int
    """Number of its segments that it did not serve or reveal."""
    checked: int
    """Number of other peers' windows it has replayed."""
    missed: int
    """Number of checks it requested and did not finish."""
    refuted: int
    """Number of its accusations that were found false, or dismissed: the next one costs twice as much."""
    fault_height: Height
    """Height of its last conviction: what it committed up to there is not paid; 0 if it has none."""
    rest_until: Height
    """Height before which it may not join again, for silence; 0 if it may."""
    absent: int
    """Disputes in which it is silent now: meanwhile it may not join or commit, and is not paid."""
    is_barred: bool
    """True if found guilty in this run: it may not join or commit again."""
    shares: int
    """Tokens of its segments that were verified and stand, since its last conviction: its part of the run."""
    backs: PeerId
    """Peer that it wants to own the run next; ``NOBODY`` if it has named none."""
    backs_turn: int
    """Turn of the run's shares for which it said so."""
    proofs: int = 0
    """Number of epochs in which it showed what was drawn of a checkpoint that it holds."""
    proofs_missed: int = 0
    """Number of epochs in which it did not."""


class Conviction(Message, frozen=True):
    """A segment that was proven false."""

    round: RoundIndex
    stage: StageIndex
    seat: int
    peer: PeerId
    height: Height
    """Height of the verdict."""


class Verdicts(Message, frozen=True):
    """Counts of a run's judged segments by verdict, forgotten ones included."""

    verified: int
    unsampled: int
    silent: int
    guilty: int
    confirmed: int
    """Number of those verified in which another peer's replay agreed."""
    convictions: tuple[Conviction, ...]
    """Segments proven false, newest last, at most ``CONVICTIONS_KEPT``."""
    within: int = 0
    rejected: int = 0


class DueQueue(Message, frozen=True):
    """Due queue: the segments and rounds that are due at one height."""

    segments: tuple[tuple[RunIndex, RoundIndex, StageIndex, int], ...]
    """Segments by run, round, stage and seat; some have moved on since."""
    rounds: tuple[tuple[RunIndex, RoundIndex], ...]
    """Rounds to be forgotten, unless a segment of theirs is still in dispute."""
    demands: tuple[tuple[RunIndex, RoundIndex, StageIndex, int], ...] = ()
    """Segments of which a demand ends at this height; some are over since."""
    storages: tuple[tuple[RunIndex, StageIndex, RoundIndex], ...] = ()
    """Checkpoints whose storage is looked at, by run, stage and round."""


Entry = (
    ChainState
    | Council
    | Account
    | RunHead
    | RunQueue
    | StageSeats
    | Checkpoint
    | Storage
    | RoundInfo
    | SegmentRecord
    | Contribution
    | Verdicts
    | DueQueue
    | Equivocator
    | SettlementEntry
    | ShareEntry
)
