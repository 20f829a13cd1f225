"""Change the roster of a run at its round boundaries, by fixed rules.

Core: functions from a run to a run.

In order: peers that asked to leave go; seats that fell silent go; volunteers beyond their share go; the owner
fills empty stages; the owner yields where others have proven their work; the queue is seated, thinnest stage
first, peers with a stake before volunteers; a stage that is over-full even then gives its newest seat to the
thinnest.

A volunteer is a peer without the stake of a solver. Keys are free, so volunteers hold at most a quarter of the
seats of a stage, and partners give a volunteer no weight until ``TRIAL_SEGMENTS`` of its segments have stood.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarm.ledger.state.records import Checkpoint, Run, Seat, Waiter
from swarm.primitives.codec import replace
from swarm.primitives.randomness import stream
from swarm.types import NO_DIGEST, Digest, Height, PeerId, RoundIndex, StageIndex

SILENT_ROUNDS_MAX = 6
"""Rounds without a commit before a seat is taken away: enough for a reboot and a slow download."""

LAST_MISSED_MAX = 1
"""Rounds without a commit with which a seat still takes part in the final averaging."""

LAG_MAX = 1
"""Rounds that a seat may be behind and still count as at work: one commit may be late."""

UNEVEN_MIN = 2
"""Difference in seats between the fullest and the thinnest stage from which on one moves.

A smaller difference would only change sides, and the move costs the shard its moments.
"""

VOLUNTEER_SHARE = 4
"""Seats of a stage per seat that a volunteer may hold; one of every stage at least."""

TRIAL_SEGMENTS = 8
"""Segments of a volunteer that must stand before partners average with it."""

PROVEN_ROUNDS = 6
"""Rounds from a segment to its verdict, at most, if a verifier answers the first draw."""

NEVER = -1


@dataclass(frozen=True, slots=True)
class Standing:
    """Stake and record of a peer in a run, as the ledger knows them."""

    has_stake: bool
    """True if it has the stake of a solver."""
    num_good: int
    """Segments of it that were verified; in runs without exact numerics, those it has committed."""

    @property
    def is_on_trial(self) -> bool:
        """True for a volunteer of whose work too little has stood."""
        return not self.has_stake and self.num_good < TRIAL_SEGMENTS


Standings = Callable[[PeerId], Standing]


def next_roster(
    run: Run, round_: RoundIndex, height: Height, patience_blocks: int, standing: Standings
) -> Run:
    """Return the run with the seats of ``round_``; peers that waited longer than the patience are dropped."""
    run = _without(run, frozenset(run.leaving))
    run = replace(run, leaving=())
    run = _without_silent(run, round_)
    run = _within_share(_with_standing(run, standing))
    run = _owner_fills_empty(run, round_)
    run = _owner_yields(run)
    waiting = tuple(w for w in run.waiting if w.height + patience_blocks >= height)
    return _evened(_seated(replace(run, waiting=waiting), round_, standing), round_)


def volunteer_seats(run: Run) -> int:
    """Return the most seats of one stage that volunteers may hold."""
    return max(run.spec.replicas_max // VOLUNTEER_SHARE, 1)


def last_roster(run: Run, round_: RoundIndex) -> Run:
    """Return the run with the seats of its final averaging: those known to have trained to the end.

    A partner that is long gone would only keep others apart. A round without a commit proves nothing: where a
    step has few micro-batches, the deal may leave a seat without any. A stage without such a seat keeps all.
    """
    run = replace(_without(run, frozenset(run.leaving)), leaving=(), waiting=())
    able = (_able(roster, round_, LAST_MISSED_MAX) for roster in run.seats)
    chosen = (few or all_ for few, all_ in zip(able, run.seats, strict=True))
    seats = tuple(tuple(s for s in few if not s.is_on_trial) or few for few in chosen)
    return _owner_fills_empty(replace(run, seats=seats), round_)


def will_be_seated(run: Run, peer: PeerId, standing: Standings) -> bool:
    """Return True if a waiting peer gets a seat at the next boundary, if none is freed until then."""
    seated = _seated(run, run.next_round, standing)
    return bool(seats_of(seated, peer)) and not seats_of(run, peer)


def draw_posters(run: Run, round_: RoundIndex, beacon: Digest) -> tuple[int, ...]:
    """Return per stage the seat that posts the checkpoint from the end of the round before, or -1.

    Drawn by the beacon from the seats that were held through that round and whose last commit is recent. Seats
    on trial are left out if there are others, and then those whose work was not verified lately.
    """
    every = run.spec.checkpoint_rounds
    if round_ == 0 or (round_ % every and round_ != run.final_round):
        return (NEVER,) * len(run.seats)
    drawn: list[int] = []
    for stage, roster in enumerate(run.seats):
        able = _able(roster, round_) if run.rollbacks[stage].boundary != round_ else ()
        able = tuple(seat for seat in able if seat.anew_round < round_)
        able = tuple(s for s in able if not s.is_on_trial) or able
        proven = tuple(s for s in able if s.last_verified_round >= max(round_ - PROVEN_ROUNDS, 0))
        able = proven or able
        rng = stream(beacon, "ledger.checkpoint", run.index, stage, round_)
        drawn.append(rng.choice(able).index if able else NEVER)
    return tuple(drawn)


def seats_of(run: Run, peer: PeerId) -> tuple[Seat, ...]:
    """Return the seats a peer holds now, by stage."""
    return tuple(seat for roster in run.seats for seat in roster if seat.peer == peer)


def with_seat(
    run: Run,
    stage: int,
    peer: PeerId,
    round_: RoundIndex,
    standing: Standing = Standing(has_stake=True, num_good=0),
    ask: int = 0,
) -> Run:
    """Return the run with one more seat, under an index that was never used; an owner asks nothing."""
    index = run.next_seats[stage]
    seat = Seat(
        stage=StageIndex(stage),
        index=index,
        peer=peer,
        joined_round=round_,
        last_commit_round=NEVER,
        last_end_root=NO_DIGEST,
        last_tokens=0,
        last_verified_round=NEVER,
        is_volunteer=not standing.has_stake,
        is_on_trial=standing.is_on_trial,
        ask=ask,
        seated_ask=ask,
    )
    seats = tuple((*r, seat) if i == stage else r for i, r in enumerate(run.seats))
    following = tuple(n + 1 if i == stage else n for i, n in enumerate(run.next_seats))
    return replace(run, seats=seats, next_seats=following)


def with_changed_seat(run: Run, changed: Seat) -> Run:
    """Return the run with one seat's record replaced, if the seat is still there."""
    roster = tuple(changed if s.index == changed.index else s for s in run.seats[changed.stage])
    seats = tuple(roster if i == changed.stage else r for i, r in enumerate(run.seats))
    return replace(run, seats=seats)


def with_void(run: Run, stage: int, is_void: Callable[[Checkpoint], bool]) -> Run:
    """Return the run with some checkpoints of a stage void: they stay listed, for replays."""
    kept = tuple(replace(c, is_void=c.is_void or is_void(c)) for c in run.checkpoints[stage])
    every = tuple(kept if number == stage else old for number, old in enumerate(run.checkpoints))
    return replace(run, checkpoints=every)


def evicted(run: Run, peer: PeerId, stage: int, index: int) -> Run:
    """Return the run without a peer's seats and queue position; an owner loses only the named seat."""
    if peer != run.owner:
        return _without(run, frozenset({peer}))
    roster = tuple(seat for seat in run.seats[stage] if seat.index != index)
    return replace(run, seats=tuple(roster if i == stage else r for i, r in enumerate(run.seats)))


def rounds_missed(seat: Seat, round_: RoundIndex) -> int:
    """Return the rounds since the last commit, at the boundary of ``round_``.

    The commit of the round before can only come after this boundary, so it does not count.
    """
    return round_ - 2 - max(seat.last_commit_round, seat.joined_round - 1)


def lag_of(seat: Seat, round_: RoundIndex) -> int:
    """Return the rounds by which a seat is behind at the boundary of ``round_``, as the ledger shows it."""
    return max(rounds_missed(seat, round_), 0)


def keeps_up(seat: Seat, round_: RoundIndex) -> bool:
    """Return True if a seat is at most ``LAG_MAX`` rounds behind at the boundary of ``round_``."""
    return rounds_missed(seat, round_) <= LAG_MAX


def _able(roster: tuple[Seat, ...], round_: int, missed_max: int = 0) -> tuple[Seat, ...]:
    """Return the seats that were held through the round before, and whose last commit is recent.

    The commit of the round before is still on its way; ``missed_max`` more may be missing.
    """
    oldest = round_ - 2 - missed_max
    return tuple(s for s in roster if s.joined_round < round_ and s.last_commit_round >= oldest)


def _without(run: Run, peers: frozenset[PeerId]) -> Run:
    seats = tuple(tuple(s for s in roster if s.peer not in peers) for roster in run.seats)
    waiting = tuple(w for w in run.waiting if w.peer not in peers)
    return replace(run, seats=seats, waiting=waiting)


def _without_silent(run: Run, round_: RoundIndex) -> Run:
    seats = tuple(
        tuple(
            s for s in roster if s.peer == run.owner or rounds_missed(s, round_) < SILENT_ROUNDS_MAX
        )
        for roster in run.seats
    )
    return replace(run, seats=seats)


def _with_standing(run: Run, standing: Standings) -> Run:
    """Return the run with every seat marked anew as a volunteer's, or not; the owner is none."""
    seats: list[tuple[Seat, ...]] = []
    for roster in run.seats:
        marked: list[Seat] = []
        for seat in roster:
            now = standing(seat.peer)
            is_volunteer = not now.has_stake and seat.peer != run.owner
            is_on_trial = is_volunteer and now.is_on_trial
            marked.append(replace(seat, is_volunteer=is_volunteer, is_on_trial=is_on_trial))
        seats.append(tuple(marked))
    return replace(run, seats=tuple(seats))


def _within_share(run: Run) -> Run:
    """Return the run without the newest volunteers beyond their share of a stage: stakes were lost or taken."""
    limit, seats = volunteer_seats(run), list[tuple[Seat, ...]]()
    for roster in run.seats:
        kept = {seat.index for seat in [s for s in roster if s.is_volunteer][:limit]}
        seats.append(tuple(s for s in roster if not s.is_volunteer or s.index in kept))
    return replace(run, seats=tuple(seats))


def _owner_fills_empty(run: Run, round_: RoundIndex) -> Run:
    for stage, roster in enumerate(run.seats):
        if not roster:
            run = with_seat(run, stage, run.owner, round_)
    return run


def _owner_yields(run: Run) -> Run:
    """Release the owner's seats in stages that others carry, fullest first, down to one seat."""
    while len(seats_of(run, run.owner)) > 1:
        carried = [
            (-len(roster), stage)
            for stage, roster in enumerate(run.seats)
            if any(s.peer == run.owner for s in roster) and _is_carried(run, roster)
        ]
        if not carried:
            break
        _, chosen = min(carried)
        roster = tuple(s for s in run.seats[chosen] if s.peer != run.owner)
        seats = tuple(roster if i == chosen else r for i, r in enumerate(run.seats))
        run = replace(run, seats=seats)
    return run


def _is_carried(run: Run, roster: Sequence[Seat]) -> bool:
    """Return True if a stage goes on well without its owner: one other has a stake, or there are two others.

    A volunteer loses nothing by going: if it alone held a stage, the run would stand still until the stage is
    seen to be empty.
    """
    proven = [seat for seat in roster if seat.peer != run.owner and is_proven(run, seat)]
    return len(proven) > 1 or any(not seat.is_volunteer for seat in proven)


def is_proven(run: Run, seat: Seat) -> bool:
    """Return True if a seat may carry a stage: its work has stood, and its partners average with it."""
    newest = seat.last_verified_round if run.spec.is_exact else seat.last_commit_round
    return newest > NEVER and not seat.is_on_trial


def _seated(run: Run, round_: RoundIndex, standing: Standings) -> Run:
    """Return the run with as many of the queue seated as there is room for.

    Peers with a stake come first, of these the cheapest. The ask of a volunteer has no effect.
    """
    known = {waiter.peer: standing(waiter.peer) for waiter in run.waiting}
    order = {waiter.peer: _order(waiter, known[waiter.peer]) for waiter in run.waiting}
    queue = sorted(run.waiting, key=lambda waiter: order[waiter.peer])
    for waiter in queue:
        peer = known[waiter.peer]
        stage = _stage_with_room(run, peer)
        if stage is not None:
            run = with_seat(run, stage, waiter.peer, round_, peer, waiter.ask)
    seated = {seat.peer for roster in run.seats for seat in roster}
    return replace(run, waiting=tuple(w for w in run.waiting if w.peer not in seated))


def _order(waiter: Waiter, standing: Standing) -> tuple[bool, int]:
    return (not standing.has_stake, waiter.ask if standing.has_stake else 0)


def _stage_with_room(run: Run, peer: Standing) -> int | None:
    """Return the thinnest stage that has room for a peer of this standing, the lowest on ties; or None."""
    for size, stage in sorted((len(roster), stage) for stage, roster in enumerate(run.seats)):
        num_volunteers = sum(seat.is_volunteer for seat in run.seats[stage])
        if not peer.has_stake and num_volunteers >= volunteer_seats(run):
            continue
        if size < run.spec.replicas_max + _has_to_spare(run, stage):
            return stage
    return None


def _has_to_spare(run: Run, stage: int) -> bool:
    """Return True if the owner alone holds a stage and can yield it.

    If one replica is allowed, no other peer could enter the stage otherwise. The stage has one replica more
    until the successor has committed. The owner keeps one seat, so it can yield one fewer than it holds,
    less those that have a successor already.
    """
    limit = run.spec.replicas_max
    owned = [roster for roster in run.seats if any(s.peer == run.owner for s in roster)]
    succeeded = sum(len(roster) > limit for roster in owned)
    is_owners_only = all(s.peer == run.owner for s in run.seats[stage])
    return is_owners_only and len(owned) - 1 > succeeded


def _evened(run: Run, round_: RoundIndex) -> Run:
    """Move the newest seat of the fullest stage to the thinnest, if they are too uneven.

    One in a round: a stage never loses half of its replicas at once. The owner's seats stay: it yields by
    another rule.
    """
    thin = min((len(roster), stage) for stage, roster in enumerate(run.seats))
    full = max((len(roster), -stage) for stage, roster in enumerate(run.seats))
    roster = run.seats[-full[1]]
    others = [seat for seat in roster if seat.peer != run.owner]
    if full[0] - thin[0] < UNEVEN_MIN or not others:
        return run
    moved = max(others, key=lambda seat: (seat.joined_round, seat.index))
    num_volunteers = sum(seat.is_volunteer for seat in run.seats[thin[1]])
    if moved.is_volunteer and num_volunteers >= volunteer_seats(run):
        return run
    left = tuple(seat for seat in roster if seat != moved)
    seats = tuple(left if stage == moved.stage else r for stage, r in enumerate(run.seats))
    run = with_seat(replace(run, seats=seats), thin[1], moved.peer, round_)
    new = run.seats[thin[1]][-1]
    return with_changed_seat(
        run,
        replace(
            new,
            is_volunteer=moved.is_volunteer,
            is_on_trial=moved.is_on_trial,
            ask=moved.ask,
            seated_ask=moved.seated_ask,
        ),
    )
