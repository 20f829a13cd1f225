"""Change the roster of a run at its round boundaries, by fixed rules.

Core: functions from a run to a run.

In order: peers that asked to leave go; seats that fell silent go; the owner fills empty stages; the owner
yields where others have committed; the queue is seated, thinnest stage first; a stage that is over-full even
then gives its newest seat to the thinnest.
"""

from swarm.ledger.state.records import Run, Seat
from swarm.primitives.codec import replace
from swarm.primitives.randomness import stream
from swarm.types import NO_DIGEST, Digest, Height, PeerId, RoundIndex, StageIndex

SILENT_ROUNDS_MAX = 6
"""Rounds without a commit before a seat is taken away: enough for a reboot and a slow download."""

LAST_MISSED_MAX = 1
"""Rounds without a commit with which a seat still takes part in the final averaging."""

UNEVEN_MIN = 2
"""Difference in seats between the fullest and the thinnest stage from which on one moves.

A smaller difference would only change sides, and the move costs the shard its moments.
"""

NEVER = -1


def next_roster(run: Run, round_: RoundIndex, height: Height, patience_blocks: int) -> Run:
    """Return the run with the seats of ``round_``; peers that waited longer than the patience are dropped."""
    run = _without(run, frozenset(run.leaving))
    run = replace(run, leaving=())
    run = _without_silent(run, round_)
    run = _owner_fills_empty(run, round_)
    run = _owner_yields(run)
    waiting = tuple(w for w in run.waiting if w.height + patience_blocks >= height)
    return _evened(_seated(replace(run, waiting=waiting), round_), round_)


def last_roster(run: Run, round_: RoundIndex) -> Run:
    """Return the run with the seats of its final averaging: those known to have trained to the end.

    A partner that is long gone would only keep others apart. A round without a commit proves nothing: where a
    step has few micro-batches, the deal may leave a seat without any. A stage without such a seat keeps all.
    """
    run = replace(_without(run, frozenset(run.leaving)), leaving=(), waiting=())
    able = (_able(roster, round_, LAST_MISSED_MAX) for roster in run.seats)
    seats = tuple(few or all_ for few, all_ in zip(able, run.seats, strict=True))
    return _owner_fills_empty(replace(run, seats=seats), round_)


def seats_free(run: Run) -> int:
    """Return the number of waiting peers to be seated at the next boundary if no seat is freed until then."""
    return len(run.waiting) - len(_seated(run, run.next_round).waiting)


def draw_posters(run: Run, round_: RoundIndex, beacon: Digest) -> tuple[int, ...]:
    """Return per stage the seat that posts the checkpoint from the end of the round before, or -1.

    Drawn by the beacon from the seats that were held through that round and whose last commit is recent.
    """
    every = run.spec.checkpoint_rounds
    if round_ == 0 or (round_ % every and round_ != run.final_round):
        return (NEVER,) * len(run.seats)
    drawn: list[int] = []
    for stage, roster in enumerate(run.seats):
        able = _able(roster, round_) if run.rollbacks[stage].boundary != round_ else ()
        rng = stream(beacon, "ledger.checkpoint", run.index, stage, round_)
        drawn.append(rng.choice(able).index if able else NEVER)
    return tuple(drawn)


def seats_of(run: Run, peer: PeerId) -> tuple[Seat, ...]:
    """Return the seats a peer holds now, by stage."""
    return tuple(seat for roster in run.seats for seat in roster if seat.peer == peer)


def with_seat(
    run: Run, stage: int, peer: PeerId, round_: RoundIndex, *, is_volunteer: bool = False
) -> Run:
    """Return the run with one more seat, under an index that was never used."""
    index = run.next_seats[stage]
    seat = Seat(
        stage=StageIndex(stage),
        index=index,
        peer=peer,
        joined_round=round_,
        last_commit_round=NEVER,
        last_end_root=NO_DIGEST,
        last_tokens=0,
        is_volunteer=is_volunteer,
    )
    seats = tuple((*r, seat) if i == stage else r for i, r in enumerate(run.seats))
    following = tuple(n + 1 if i == stage else n for i, n in enumerate(run.next_seats))
    return replace(run, seats=seats, next_seats=following)


def with_changed_seat(run: Run, changed: Seat) -> Run:
    """Return the run with one seat's record replaced, if the seat is still there."""
    roster = tuple(changed if s.index == changed.index else s for s in run.seats[changed.stage])
    seats = tuple(roster if i == changed.stage else r for i, r in enumerate(run.seats))
    return replace(run, seats=seats)


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
            if any(s.peer == run.owner for s in roster)
            and any(s.peer != run.owner and s.last_commit_round > NEVER for s in roster)
        ]
        if not carried:
            break
        _, chosen = min(carried)
        roster = tuple(s for s in run.seats[chosen] if s.peer != run.owner)
        seats = tuple(roster if i == chosen else r for i, r in enumerate(run.seats))
        run = replace(run, seats=seats)
    return run


def _seated(run: Run, round_: RoundIndex) -> Run:
    queue = list(run.waiting)
    while queue:
        size, stage = min((len(roster), stage) for stage, roster in enumerate(run.seats))
        if size >= run.spec.replicas_max + _has_to_spare(run, stage):
            break
        waiter = queue.pop(0)
        run = with_seat(run, stage, waiter.peer, round_, is_volunteer=waiter.is_volunteer)
    return replace(run, waiting=tuple(queue))


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
    left = tuple(seat for seat in roster if seat != moved)
    seats = tuple(left if stage == moved.stage else r for stage, r in enumerate(run.seats))
    run = replace(run, seats=seats)
    return with_seat(run, thin[1], moved.peer, round_, is_volunteer=moved.is_volunteer)
