"""Move runs through their life cycle: opened, joined, trained round by round, finished, settled.

Core: handlers on a draft, and the bounds of a spec that the ledger accepts from untrusted peers. Raises
``InvalidStatement``.

    OPEN --start_height--> TRAINING --end_round--> COOLING --consensus_rounds--> FINISHED --2 rounds--> SETTLED
     ^                     |   ^
     |                     +---|--> PAUSED   at a boundary, when the owner asked for it
     +--- the owner resumes ---+----'

Round r is current from its boundary, ``start_height + r * round_blocks``, up to the next. The beacon of the
boundary block is updated before the boundary is crossed, and the boundary is crossed before the block's
transactions are applied: a peer that can see a beacon cannot change the roster it is used for.
"""

from functools import partial

from swarm.config.bounds import check_spec
from swarm.config.spec import RunSpec
from swarm.errors import BadConfig, BadEncoding, InvalidStatement, Reason
from swarm.gossip.pairing import final_rounds
from swarm.ledger.check_statements import LEAVES_MAX, SHORT_MAX, TOKENS_MAX
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import NO_ROLLBACK, ROUNDS_KEPT, RoundInfo, Run, RunPhase, Waiter
from swarm.ledger.state.state import Reader
from swarm.ledger.transactions import (
    RUN_SPEC_BYTES_MAX,
    ChangeAsk,
    CloseRun,
    Join,
    Leave,
    OpenRun,
    PauseRun,
    ResumeRun,
)
from swarm.ledger.transition.market import checked_ask, clearing_price, undercut, with_ask
from swarm.ledger.transition.phases import COMMIT_ROUNDS, DISPUTE_ROUNDS, REPORTS_MAX, REVEAL_ROUNDS
from swarm.ledger.transition.prices import (
    RESERVED_ROUNDS,
    leaves_max,
    round_cost,
    run_deposit,
    segment_tokens_max,
    solver_stake,
)
from swarm.ledger.transition.seats import (
    Standing,
    draw_posters,
    last_roster,
    next_roster,
    seats_of,
    with_seat,
)
from swarm.primitives.codec import decode, replace
from swarm.types import Amount, Height, PeerId, RoundIndex, RunIndex

START_DELAY_BLOCKS = 2
"""Blocks from opening to round 0: one to become final, one for peers to learn of it."""

LIVE_PHASES = (RunPhase.OPEN, RunPhase.TRAINING, RunPhase.PAUSED)
"""Phases in which a run can be joined, left, paused, resumed and closed."""

SETTLE_ROUNDS = 2
"""Rounds from the last boundary to settlement: the last round's commits are accepted for two rounds."""

ACTIVE_RUNS_MAX = 64
"""Runs with boundaries still to cross: each costs every node work."""

PAUSE_EPOCHS_MAX = 1_000
"""Epochs after which a pause ends the run: 16 days with the default epoch, so that no run is held for ever."""

WAITING_MAX = 128
"""Peers in the queue of one run."""

VOLUNTEERS_MAX = 64
"""Seats and queue positions of one run held by peers without means to pay."""


def boundary_height(run: Run, round_: int) -> Height:
    """Return the height at which a round begins, or will if the run is not paused before.

    For a past round that is not kept any more it is an upper bound.
    """
    info = round_info(run, round_)
    if info is not None:
        return info.height
    return Height(run.start_height + (round_ - run.start_round) * run.spec.round_blocks)


def current_round(run: Run, height: int) -> RoundIndex | None:
    """Return the training or final averaging round at ``height``.

    None before the start, during a pause, and after the end.
    """
    if height < run.start_height or run.phase is RunPhase.PAUSED:
        return None
    round_ = RoundIndex(run.start_round + (height - run.start_height) // run.spec.round_blocks)
    return round_ if round_ < run.final_round else None


def first_checkpoint_blocks(spec: RunSpec) -> int:
    """Return the blocks from the opening of a run to the boundary whose checkpoint is the first.

    It is that of ``seats.draw_posters`` where nobody pauses. A run too short for a boundary of that kind has
    one at its end: at once where nobody averages, which is a run of one replica.
    """
    return START_DELAY_BLOCKS + min(spec.checkpoint_rounds, spec.rounds) * spec.round_blocks


def round_info(run: Run, round_: int) -> RoundInfo | None:
    """Return the frozen roster and beacon of a round; None if it has not begun or is not kept any more."""
    return next((info for info in run.rounds if info.round == round_), None)


def open_run(draft: Draft, sender: PeerId, body: OpenRun) -> None:
    """Open a run: the owner is seated in every stage, the escrow leaves its balance."""
    try:
        spec = decode(RunSpec, body.spec, limit=RUN_SPEC_BYTES_MAX)
    except BadEncoding as error:
        raise InvalidStatement(Reason.BAD_FIELD, str(error)) from None
    check_run_spec(spec)
    if not spec.starts:
        raise InvalidStatement(
            Reason.BAD_FIELD, "a run without the states that its stages begin with"
        )
    globals_, height = draft.globals, draft.height
    unbonding = globals_.params.unbonding_epochs * globals_.params.epoch_blocks
    if spec.checks.challenge_window_blocks >= unbonding:
        detail = (
            f"a challenge window of {unbonding} blocks or more: a cheat withdraws its stake first"
        )
        raise InvalidStatement(Reason.BAD_FIELD, detail)
    if globals_.num_runs >= SHORT_MAX:
        raise InvalidStatement(Reason.FULL, f"{SHORT_MAX} runs were opened")
    check_owner(draft, sender, spec, body.escrow)
    draft.debit(sender, body.escrow)
    index = RunIndex(globals_.num_runs + 1)
    run = Run(
        index=index,
        owner=sender,
        spec=spec,
        spec_digest=spec.digest,
        escrow=body.escrow,
        opened_height=height,
        start_height=Height(height + START_DELAY_BLOCKS),
        start_round=RoundIndex(0),
        end_round=RoundIndex(spec.rounds),
        consensus_rounds=0,
        phase=RunPhase.OPEN,
        is_pausing=False,
        paused_height=Height(0),
        waiting=(),
        leaving=(),
        seats=((),) * spec.num_stages,
        next_seats=(0,) * spec.num_stages,
        rounds=(),
        checkpoints=((),) * spec.num_stages,
        rollbacks=(NO_ROLLBACK,) * spec.num_stages,
        num_segments=0,
        tokens=0,
    )
    for stage in range(spec.num_stages):
        run = with_seat(run, stage, sender, RoundIndex(0))
    draft.put_run(run)
    active = (*globals_.active_runs, index)
    draft.put_globals(replace(globals_, num_runs=index, active_runs=active))


def check_owner(draft: Draft, sender: PeerId, spec: RunSpec, escrow: Amount) -> None:
    """Raise unless there is room for one more active run, and a peer has what it takes to own it."""
    globals_ = draft.globals
    if len(globals_.active_runs) >= ACTIVE_RUNS_MAX:
        raise InvalidStatement(Reason.FULL, f"{ACTIVE_RUNS_MAX} runs are open")
    deposit = run_deposit(globals_.params, spec)
    if escrow < deposit:
        raise InvalidStatement(Reason.BALANCE, f"a run opens with at least {deposit} in escrow")
    held, wanted = draft.account(sender).stake, solver_stake(globals_.params, spec)
    if held < wanted:
        detail = f"{held} where its owner, who sits in every stage at first, has {wanted}"
        raise InvalidStatement(Reason.STAKE, detail)


def steer_run(draft: Draft, sender: PeerId, body: CloseRun | PauseRun | ResumeRun) -> None:
    """Close, pause or resume a run on behalf of its owner; any other sender is refused."""
    run = live_run(draft, body.run)
    if run.owner != sender:
        raise InvalidStatement(Reason.WRONG_PEER, "only the owner pauses, resumes or closes a run")
    match body:
        case CloseRun():
            draft.put_run(_closed(run, draft.height))
        case PauseRun():
            draft.put_run(_pausing(run))
        case ResumeRun():
            draft.put_run(_resumed(run, draft.height))


def _closed(run: Run, height: Height) -> Run:
    """Return the run ending at its next boundary; a paused run continues to its final averaging."""
    if run.next_round >= run.end_round and run.phase is not RunPhase.PAUSED:
        raise InvalidStatement(Reason.DUPLICATE, "it ends at the next boundary already")
    run = replace(run, end_round=run.next_round, is_pausing=False)
    return _going_on(run, height) if run.phase is RunPhase.PAUSED else run


def _pausing(run: Run) -> Run:
    """Return the run marked to pause at its next boundary."""
    if run.is_pausing or run.phase is RunPhase.PAUSED:
        raise InvalidStatement(Reason.DUPLICATE, "it is paused, or will be at the next boundary")
    if run.phase is RunPhase.OPEN:
        raise InvalidStatement(Reason.WRONG_PHASE, "no round is being trained yet")
    if run.next_round >= run.end_round:
        raise InvalidStatement(Reason.WRONG_ROUND, "it ends at the next boundary")
    return replace(run, is_pausing=True)


def _resumed(run: Run, height: Height) -> Run:
    """Return the run resumed, or with its requested pause cancelled."""
    if run.is_pausing:
        return replace(run, is_pausing=False)
    if run.phase is not RunPhase.PAUSED:
        raise InvalidStatement(Reason.WRONG_PHASE, f"it is not paused: the run is {run.phase}")
    return _going_on(run, height)


def join(draft: Draft, sender: PeerId, body: Join, *, is_volunteer: bool) -> None:
    """Put a peer in the queue for a seat."""
    run = live_run(draft, body.run)
    work = draft.contribution(run.index, sender)
    if work.is_barred:
        raise InvalidStatement(Reason.BARRED, "found guilty in this run")
    if work.absent and sender != run.owner:
        raise InvalidStatement(Reason.BARRED, "silent when accused: its moves come first")
    rest_until = work.rest_until
    if draft.height < rest_until:
        raise InvalidStatement(Reason.BARRED, f"silent too often: again from block {rest_until} on")
    if any(waiter.peer == sender for waiter in run.waiting) or seats_of(run, sender):
        raise InvalidStatement(Reason.DUPLICATE, "already seated or in the queue")
    if len(run.waiting) >= WAITING_MAX or (is_volunteer and _volunteers(run) >= VOLUNTEERS_MAX):
        raise InvalidStatement(Reason.FULL, "the queue for seats is full")
    ask = checked_ask(run, body.ask)
    waiter = Waiter(sender, draft.height, is_volunteer=is_volunteer, ask=ask)
    draft.credit(sender, 0)
    draft.put_run(replace(run, waiting=(*run.waiting, waiter)))


def change_ask_or_leave(draft: Draft, sender: PeerId, body: ChangeAsk | Leave) -> None:
    """Note another ask of a peer with a seat or in the queue, or that it gives up either."""
    match body:
        case ChangeAsk():
            _change_ask(draft, sender, body)
        case Leave():
            leave(draft, sender, body)


def _change_ask(draft: Draft, sender: PeerId, body: ChangeAsk) -> None:
    """Note another ask of a peer; rounds that have begun keep their price."""
    run = live_run(draft, body.run)
    draft.put_run(with_ask(run, sender, checked_ask(run, body.ask), draft.height))


def leave(draft: Draft, sender: PeerId, body: Leave) -> None:
    """Note that a peer gives up its seat or its position in the queue at the next boundary."""
    run = live_run(draft, body.run)
    if sender == run.owner:
        raise InvalidStatement(Reason.WRONG_PEER, "the owner closes the run instead")
    if not (seats_of(run, sender) or any(waiter.peer == sender for waiter in run.waiting)):
        raise InvalidStatement(Reason.UNKNOWN_SEAT, "neither seated nor in the queue")
    if sender in run.leaving:
        raise InvalidStatement(Reason.DUPLICATE, "leaving already")
    draft.put_run(replace(run, leaving=(*run.leaving, sender)))


def cross_boundaries(draft: Draft) -> None:
    """Cross the round boundary of every active run that has one at this height."""
    height = draft.height
    for index in draft.globals.active_runs:
        run = draft.run(index)
        if run.phase is RunPhase.PAUSED:
            _end_long_pause(draft, run)
            continue
        since = height - run.start_height
        if since >= 0 and since % run.spec.round_blocks == 0:
            _cross(draft, run, RoundIndex(run.start_round + since // run.spec.round_blocks))


def forget_round(draft: Draft, index: RunIndex, round_: RoundIndex) -> None:
    """Forget a round whose challenge windows are closed; keep it while a segment of it is in dispute."""
    info = draft.round_info(index, round_)
    assert info is not None, "nothing else forgets a round"
    seats = (seat for roster in info.seats for seat in roster)
    found = (draft.segment(index, round_, seat.stage, seat.index) for seat in seats)
    due = [record.due for record in found if record is not None]
    run = draft.run(index)
    if any(kept.round == round_ for kept in run.rounds):  # in a long pause
        due.append(Height(draft.height + run.spec.checks.challenge_window_blocks))
    if due:
        draft.put_round(index, info, max(due))
    else:
        draft.drop_round(index, round_)


def _cross(draft: Draft, run: Run, round_: RoundIndex) -> None:
    if round_ < run.end_round and run.rounds and not _can_pay_on(draft, run):
        run = replace(run, end_round=round_)
    if round_ < run.end_round and run.is_pausing:
        rest = replace(run, phase=RunPhase.PAUSED, is_pausing=False, paused_height=draft.height)
        draft.put_run(rest)
    elif round_ < run.end_round:
        patience, standing = draft.globals.params.epoch_blocks, partial(standing_of, draft, run)
        run = next_roster(run, round_, draft.height, patience, standing)
        run = undercut(run, round_, draft.height, standing)
        _freeze(draft, replace(run, phase=RunPhase.TRAINING), round_)
    elif round_ == run.end_round and run.rounds:
        run = last_roster(replace(run, is_pausing=False), round_)
        rounds = max(final_rounds(len(roster)) for roster in run.seats)
        phase = RunPhase.COOLING if rounds else RunPhase.FINISHED
        _freeze(draft, replace(run, phase=phase, consensus_rounds=rounds), round_)
    elif round_ < run.final_round:
        _freeze(draft, run, round_)
    elif round_ == run.final_round:
        _freeze(draft, replace(run, phase=RunPhase.FINISHED, waiting=(), leaving=()), round_)
    elif round_ == run.final_round + SETTLE_ROUNDS:
        _settle(draft, run)


def _can_pay_on(draft: Draft, run: Run) -> bool:
    """Return True if the escrow covers the round that begins, and those whose segments are still to come."""
    num_seats = sum(map(len, run.seats))
    cost = round_cost(draft.globals.params, run.spec, num_seats)
    return run.escrow >= RESERVED_ROUNDS * cost


def standing_of(reader: Reader, run: Run, peer: PeerId) -> Standing:
    """Return what the roster of ``run`` needs to know of a peer."""
    wanted, work = (
        solver_stake(reader.globals.params, run.spec),
        reader.contribution(run.index, peer),
    )
    num_good = work.verified if run.spec.is_exact else work.segments
    return Standing(reader.account(peer).stake >= wanted, num_good)


def _freeze(draft: Draft, run: Run, round_: RoundIndex) -> None:
    """Freeze the roster and the beacon of a round.

    Later rounds of the final averaging keep those of its first.
    """
    drawn = draw_posters(run, round_, draft.globals.beacon)
    seats, beacon, consensus = run.seats, draft.globals.beacon, -1
    if run.end_round <= round_ < run.final_round:
        consensus = round_ - run.end_round
        if consensus:
            seats, beacon = run.rounds[-1].seats, run.rounds[-1].beacon
    info = RoundInfo(
        round=round_,
        height=draft.height,
        beacon=beacon,
        seats=seats,
        drawn=drawn,
        consensus=consensus,
        price=clearing_price(run, round_),
    )
    last_commit = draft.height + (1 + COMMIT_ROUNDS) * run.spec.round_blocks
    window = run.spec.checks.challenge_window_blocks
    draft.put_round(run.index, info, Height(last_commit + window))
    draft.put_run(replace(run, rounds=(*run.rounds[-(ROUNDS_KEPT - 1) :], info)))


def _going_on(run: Run, height: Height) -> Run:
    """Return a paused run with the boundary of its next round set."""
    start = Height(height + START_DELAY_BLOCKS)
    return replace(run, phase=RunPhase.OPEN, start_height=start, start_round=run.next_round)


def _end_long_pause(draft: Draft, run: Run) -> None:
    """Close a run whose pause has lasted too long, so that another run can take its slot."""
    if draft.height >= run.paused_height + PAUSE_EPOCHS_MAX * draft.globals.params.epoch_blocks:
        draft.put_run(_going_on(replace(run, end_round=run.next_round), draft.height))


def _settle(draft: Draft, run: Run) -> None:
    """Return the rest of the escrow to the owner; checkpoints stay, and segments until they are judged."""
    draft.credit(run.owner, run.escrow)
    empty = ((),) * len(run.seats)
    draft.put_run(
        replace(run, phase=RunPhase.SETTLED, escrow=Amount(0), seats=empty, rounds=(), waiting=())
    )
    globals_ = draft.globals
    active = tuple(index for index in globals_.active_runs if index != run.index)
    draft.put_globals(replace(globals_, active_runs=active))


def live_run(draft: Draft, index: RunIndex) -> Run:
    """Return a run that can be joined, left, funded and closed; raise ``InvalidStatement`` for any other."""
    run = draft.run(index)
    if run.phase not in LIVE_PHASES:
        raise InvalidStatement(Reason.WRONG_PHASE, f"the run is {run.phase}")
    return run


def _volunteers(run: Run) -> int:
    seated = sum(seat.is_volunteer for roster in run.seats for seat in roster)
    return seated + sum(waiter.is_volunteer for waiter in run.waiting)


NAME_LENGTH_MAX = 64
"""Letters of a name shown to people, however long an untrusted one is."""
SEATS_MAX = 1024
"""Stages times replicas: a run's entry stays under half a megabyte with four rosters."""

ROUND_SEATS_MAX = 1 << 14
"""Seats of all rounds that are kept at once: 2 MB of rosters for each run."""

CHECKPOINTS_MAX = 1 << 11
"""Checkpoints of all stages: they are a part of the run's entry, a quarter of a megabyte of it."""

JUDGING_ROUNDS = REVEAL_ROUNDS + REPORTS_MAX * DISPUTE_ROUNDS
"""Rounds after the challenge window until the last report that came within it is judged."""

ROUNDS_MAX = SHORT_MAX - 16
"""Most rounds of a run: leaves room for the boundaries after the last round in a 16-bit field."""


def check_run_spec(spec: RunSpec) -> None:
    """Raise ``InvalidStatement`` naming the first field that is out of bounds."""
    try:
        check_spec(spec)
    except BadConfig as error:
        raise InvalidStatement(Reason.BAD_FIELD, str(error)) from None
    faults = (
        (
            spec.num_stages * spec.replicas_max > SEATS_MAX,
            f"{spec.num_stages} stages of {spec.replicas_max} are more than {SEATS_MAX} seats",
        ),
        (spec.rounds > ROUNDS_MAX, f"rounds {spec.rounds} is above {ROUNDS_MAX}"),
        (
            segment_tokens_max(spec, spec.replicas_max) > TOKENS_MAX,
            "a segment could hold more tokens than its commit can count",
        ),
        (
            leaves_max(spec) > LEAVES_MAX,
            f"a segment of {leaves_max(spec)} steps and merges where {LEAVES_MAX} is the most",
        ),
        (
            rounds_kept(spec) * spec.num_stages * spec.replicas_max > ROUND_SEATS_MAX,
            f"a challenge window of {rounds_kept(spec)} rounds: use longer rounds or a shorter window",
        ),
        (
            checkpoints_kept(spec) * spec.num_stages > CHECKPOINTS_MAX,
            f"{checkpoints_kept(spec)} checkpoints a stage in a challenge window: make fewer",
        ),
    )
    for is_wrong, fault in faults:
        if is_wrong:
            raise InvalidStatement(Reason.BAD_FIELD, fault)


def rounds_kept(spec: RunSpec) -> int:
    """Return the number of rounds of which a segment can be committed or checked at one time."""
    window = -(-spec.checks.challenge_window_blocks // spec.round_blocks)
    return 1 + COMMIT_ROUNDS + window


def checkpoints_kept(spec: RunSpec) -> int:
    """Return the number of canonical checkpoints of a stage that stay listed.

    A checkpoint that was canonical at the boundary of a round is listed as long as a segment of that round can
    be in dispute, and so is the one before it: a peer may be late by one. One more is drawn at the end of the
    run.
    """
    boundaries = rounds_kept(spec) + 1 + JUDGING_ROUNDS
    return -(-boundaries // spec.checkpoint_rounds) + 3
