"""Play thousands of hearings on a ledger, honest peers against liars: a part of the benchmark ``verify``.

A segment is disputed on a real ledger; its run, its round and its claims are then made those of a window of
``benchmarks/hearing_cast.py``. From there on each game is played by the ledger's own handlers, with the court
of every node, block after block, on a draft that nobody else sees: moves are bytes, both clocks run, and what a
verdict costs is taken from accounts. Signatures, fees and all other statements of a block are left out.

In half of the games an honest solver is accused falsely, in the others an honest peer accuses a solver that
lies. Honest sides move a few blocks after it is their turn. A dishonest side has a habit:

* *lies*: it makes the best moves that its lie has
* *garbage*: before each of them it sends noise, and its move cut, or longer
* *mutants*: it sends its moves with a bit turned, and moves of before, and goes on with whatever is taken
* *random*: it makes any well-formed move of its turn, and goes on with whatever is taken
* *silent*: at any of its turns it says nothing any more; half of such solvers come back once

One honest solver in eight is without power at one of its turns, and comes back before its time is over. Slashed
is an honest peer that has less money at the end than before, its bond included: a solver that is convicted, or
an accuser whose accusation is refuted or given up although its solver has lied.
"""

import dataclasses
import random
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.common import Outcome, say
from benchmarks.disputes import Scene
from benchmarks.hearing_cast import Cast, Lie, TracedChallenger, TracedSolver, make_cast
from benchmarks.hearing_habits import Habit, Opponent
from swarm.config.spec import StageStart
from swarm.errors import InvalidStatement
from swarm.ledger.check_statements import DisputeMove
from swarm.ledger.state.accusations import Dispute, Turn
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Checkpoint, SegmentPhase, SegmentRecord
from swarm.ledger.state.runs import round_key
from swarm.ledger.state.state import Reader, State
from swarm.ledger.transition.checks import meet_deadlines
from swarm.ledger.transition.disputes import make_move
from swarm.ledger.transition.hearings import move_blocks
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from swarm.primitives.parts import at_once
from swarm.types import Digest, Height, PeerId, StageIndex
from swarm.verify.court import window_of
from swarm.verify.manifest import WindowManifest, manifest_of, sign_manifest
from swarm.verify.program.account import result_of
from swarm.verify.program.opened import Window
from tests.ledger.checking import Case, a_case
from tests.verify.program.scenes import Scene as Trained
from tests.verify.program.scenes import scene

GAMES, QUICK_GAMES = 10_000, 120
LIES, QUICK_LIES = 80, 6
"""Lies about each window: each is told in both roles, about ten times in each, by some habit."""
WINDOWS = ((0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2))
"""Stage and number of the windows, which have every kind of event."""
QUICK_WINDOWS = ((0, 1), (1, 2))
ACCOUNTS, VALIDATORS = 8, 4
HONEST_BLOCKS_MAX = 4
"""Blocks until an honest side has moved, at most: its turn is seen, and its move becomes final."""
BLOCKS_MAX = 2_000
"""Blocks of one game, at most: all clocks, and the time in which a silent solver may come back, are shorter."""
AWAY_GAMES = 8
"""One honest solver in so many games is away at one of its first turns."""
AWAY_TURNS = 4
SEED = 5


@dataclass(frozen=True, slots=True)
class Courtroom:
    """A ledger with a dispute about one window, at which every game about it begins."""

    state: State
    record: SegmentRecord
    """With the claims of an honest solver."""
    number: int
    """Of the disputed window."""
    accuser: PeerId
    leader: PeerId

    @property
    def bond(self) -> int:
        """What the accuser has put up."""
        return self.record.accusations[0].bond

    def wealth(self, reader: Reader, peer: PeerId) -> int:
        """Return all money of a peer, but for its bond."""
        account = reader.account(peer)
        return account.balance + account.stake + sum(part.amount for part in account.unbonding)


@dataclass
class Game:
    """One game, while it is played."""

    room: Courtroom
    lie: Lie
    honest: TracedSolver | TracedChallenger
    opponent: Opponent
    rng: random.Random
    draft: Draft = field(init=False)
    refused: Counter[bool] = field(init=False, default_factory=Counter[bool])
    """Moves that were none, by whether their side was honest."""
    taken: int = field(init=False, default=0)
    turns: int = field(init=False, default=0)
    """Turns of the solver so far."""
    away: int = field(init=False, default=-1)
    """Turn at which an honest solver is away; -1 if it never is."""
    was_silent: bool = field(init=False, default=False)
    has_returned: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        room, lies = self.room, result_of(self.lie.account).claim
        record, number = room.record, room.number
        self.draft = Draft(room.state, room.leader)
        if self.is_solver_honest and not self.rng.randrange(AWAY_GAMES):
            self.away = self.rng.randrange(AWAY_TURNS)
        if self.is_solver_honest:
            said = replace(record.accusations[0], claim=lies)
            changed = replace(record, accusations=(said,))
        else:
            claims = (*record.claims[:number], lies, *record.claims[number + 1 :])
            said = replace(record.accusations[0], claim=record.claims[number])
            changed = replace(record, claims=claims, accusations=(said,))
        self.draft.put_segment(changed)

    @property
    def is_solver_honest(self) -> bool:
        """True if the solver is accused falsely."""
        return isinstance(self.honest, TracedSolver)

    @property
    def record(self) -> SegmentRecord:
        """The segment as it is now."""
        old = self.room.record
        record = self.draft.segment(old.run, old.round, old.stage, old.seat)
        assert record is not None, "it is forgotten long after"
        return record

    def play(self) -> None:
        """Make blocks until nothing is disputed any more."""
        since, wait = self.draft.height, 0
        turn: tuple[int, int] | None = None
        for _ in range(BLOCKS_MAX):
            self._next_block()
            dispute = self.record.dispute
            if dispute is None:
                return
            if (dispute.turn, dispute.since) != turn:
                turn, since = (dispute.turn, dispute.since), self.draft.height
                wait = self._wait(dispute)
            if self.draft.height >= since + wait:
                self._act(dispute)
                if self.record.dispute is None:
                    return
        raise AssertionError("a dispute goes on for ever")

    def _next_block(self) -> None:
        height = Height(self.draft.height + 1)
        self.draft.put_globals(replace(self.draft.globals, height=height))
        at_once(meet_deadlines(self.draft))

    def _wait(self, dispute: Dispute) -> int:
        """Return the blocks until whoever's turn it is moves."""
        self.was_silent |= dispute.turn == Turn.SILENT
        self.has_returned |= dispute.has_returned
        limit = move_blocks(self.draft.run(self.record.run).spec.round_blocks)
        if dispute.turn == Turn.SILENT:
            left = dispute.deadline - self.draft.height
            comes = self.is_solver_honest or self.rng.randrange(2)
            return self.rng.randrange(left - HONEST_BLOCKS_MAX) if comes else BLOCKS_MAX
        if dispute.turn == Turn.SOLVER:
            self.turns += 1
            if self.turns - 1 == self.away:
                return BLOCKS_MAX
        if self._is_honests(dispute):
            return self.rng.randrange(HONEST_BLOCKS_MAX)
        return self.rng.randrange(limit)

    def _is_honests(self, dispute: Dispute) -> bool:
        return self.is_solver_honest == (dispute.turn in {Turn.SOLVER, Turn.SILENT})

    def _act(self, dispute: Dispute) -> None:
        if self._is_honests(dispute):
            self._say(self.honest.said(dispute.game), is_honest=True)
            return
        for move in self.opponent.tries(dispute.game):
            if self._say(move, is_honest=False):
                return

    def _say(self, move: bytes, *, is_honest: bool) -> bool:
        """Send a move of a side; return True if it is one."""
        sender = self.record.peer if is_honest == self.is_solver_honest else self.room.accuser
        try:
            self._submit(sender, move)
        except InvalidStatement:
            self.refused[is_honest] += 1
            return False
        self.taken += 1
        return True

    def _submit(self, sender: PeerId, move: bytes) -> None:
        r, attempt = self.room.record, self.draft.attempt()
        body = DisputeMove(r.run, r.round, r.stage, r.seat, self.room.number, move)
        make_move(attempt, sender, body)
        self.draft.absorb(attempt)

    @property
    def is_slashed(self) -> bool:
        """True if the honest side has lost money."""
        room = self.room
        peer = room.record.peer if self.is_solver_honest else room.accuser
        had = room.wealth(room.state, peer) + (0 if self.is_solver_honest else room.bond)
        return room.wealth(self.draft, peer) < had

    @property
    def is_liar_punished(self) -> bool:
        """True if the dishonest side has lost money."""
        room = self.room
        peer = room.accuser if self.is_solver_honest else room.record.peer
        had = room.wealth(room.state, peer) + (room.bond if self.is_solver_honest else 0)
        return room.wealth(self.draft, peer) < had


def measure_hearings(outcome: Outcome, quick: bool) -> None:
    """Fill ``honest_slashed_games``: honest peers that lost money in all games."""
    games = QUICK_GAMES if quick else GAMES
    windows, lies = (QUICK_WINDOWS, QUICK_LIES) if quick else (WINDOWS, LIES)
    slashed, counts = list[str](), Counter[str]()
    case = disputed_case()
    for place, (stage, number) in enumerate(windows):
        rng = random.Random(f"{SEED} {stage} {number}")
        room, here = courtroom(case, scene(stage, number))
        cast = make_cast(here, lies, rng)
        mine = games // len(windows) + (place < games % len(windows))
        for at in range(mine):
            game = a_game(room, cast, at, rng)
            game.play()
            counts.update(_notes(game))
            if game.is_slashed:
                slashed.append(f"window {number} of stage {stage}, game {at}")
        say(f"{counts['games']:,} hearings played, {len(slashed)} honest peers slashed")
    outcome.parameters["hearings"] = {"games": games, "windows": windows, "lies_per_window": lies}
    outcome.figures["honest_slashed_games"] = len(slashed)
    outcome.detail["hearings"] = {**dict(sorted(counts.items())), "slashed": slashed}


def _notes(game: Game) -> dict[str, int]:
    """Return what is counted of a game that is over."""
    role = "honest solver" if game.is_solver_honest else "honest accuser"
    return {
        "games": 1,
        f"{role}: {game.record.phase}": 1,
        "dishonest sides punished": int(game.is_liar_punished),
        "solvers fallen silent": int(game.was_silent),
        "solvers that came back": int(game.has_returned),
        f"habit {game.opponent.habit}": 1,
        f"lie {game.lie.kind}": 1,
        "moves taken": game.taken,
        "moves of honest sides refused": game.refused[True],
        "moves of dishonest sides refused": game.refused[False],
    }


def a_game(room: Courtroom, cast: Cast, number: int, rng: random.Random) -> Game:
    """Return a game about a window: the roles alternate, then the lies, and habits are drawn."""
    is_solver_honest, lie = number % 2 == 0, cast.lies[number // 2 % len(cast.lies)]
    habit = rng.choice(list(Habit))
    honest = cast.solver if is_solver_honest else cast.challenger
    opponent = Opponent(lie.accuser if is_solver_honest else lie.solver, habit, rng)
    return Game(room, lie, honest, opponent, rng)


def disputed_case() -> Case:
    """Return a segment that nobody was drawn for, and that a peer with a stake has accused since."""
    case: Case = a_case(num_accounts=ACCOUNTS, num_validators=VALIDATORS)
    case.show(case.up_to_reveal(0))
    case.wait(SegmentPhase.UNSAMPLED)
    case.blow(case.able[-1], 0, case.true.with_lie(0))
    assert case.is_now(SegmentPhase.DISPUTED), "an accusation opens a dispute"
    return case


def courtroom(case: Case, here: Trained) -> tuple[Courtroom, Scene]:
    """Return a disputed ledger of which the run, the round and the segment are those of a scene.

    The scene is returned with its window as this ledger has it.
    """
    state, record, number = case.ledger.state, case.record, here.window.number
    facts, draft = here.log.facts, Draft(case.ledger.state, case.ledger.keys[0].peer)
    *later, initial = sorted(here.window.anchors)
    stages, run = range(facts.spec.num_stages), state.run(record.run)
    starts = (StageStart(initial, 1, 1, 0),) * len(stages)
    spec = replace(facts.spec, starts=starts, round_blocks=run.spec.round_blocks)
    kept = tuple(
        Checkpoint(facts.round, root, 0, record.peer, record.seat, record.height, is_void=False)
        for root in later
    )
    seats = tuple(tuple(replace(s, stage=StageIndex(n)) for s in run.seats[0]) for n in stages)
    draft.put_run(
        replace(
            run,
            spec=spec,
            spec_digest=facts.run_digest,
            checkpoints=tuple(kept if stage == facts.stage else () for stage in stages),
            seats=seats,
        )
    )
    info = draft.round_info(record.run, record.round)
    assert info is not None, "a round is kept while it is disputed"
    mine, one = here.log.data.key.seat, seats[0][0]
    roster = tuple(
        replace(one, stage=facts.stage, index=seat, peer=record.peer if seat == mine else peer)
        for seat, peer in here.log.seating.seats
    )
    rosters = tuple(roster if n == facts.stage else seats[n] for n in stages)
    frozen = replace(info, beacon=facts.beacon, seats=rosters)
    draft.changes[round_key(record.run, record.round)] = frozen
    is_last = here.window.is_last
    steps = here.window.first_step + here.window.steps + (0 if is_last else 1)
    honest = result_of(here.account).claim
    (accusation,), dispute = record.accusations, record.dispute
    assert dispute is not None, "it is disputed"
    draft.drop_segment(record)
    changed = replace(
        record,
        stage=facts.stage,
        seat=here.log.data.key.seat,
        num_steps=steps,
        claims=(Digest(bytes(32)),) * number + (honest,),
        accusations=(replace(accusation, window=number),),
        dispute=replace(dispute, window=number),
    )
    draft.put_segment(changed)
    assert (record.round, facts.is_final_averaging) == (facts.round, False), "a round of training"
    patched, window = draft.finish(), window_of(draft, changed, number)
    leader = case.ledger.keys[0].peer
    room = Courtroom(patched, changed, number, accusation.peer, leader)
    facts, seating = window.facts, window.seating
    logged = dataclasses.replace(
        here.window, facts=facts, seating=seating, anchors=(*later, initial)
    )
    assert window == logged, "the ledger has the window of the log"
    manifest = _served(here, window, case.ledger.key_of(record.peer))
    return room, Scene(here.log, window, here.account, manifest)


def _served(here: Trained, window: Window, solver: SecretKey) -> WindowManifest:
    """Return what the solver on the ledger has signed about the log."""
    data = dataclasses.replace(here.log.data, start_root=Digest(here.account.start))
    run, round_, stage, seat, number = dataclasses.astuple(window.seating.key)
    named = {"run": run, "round": round_, "stage": stage, "seat": seat, "window": number}
    unsigned = replace(manifest_of(data, Digest(bytes(32)), 1), **named)
    return sign_manifest(solver, window.seating.chain, window.facts.run_digest, unsigned)
