"""Play one segment on a real ledger: a solver, its friends, honest verifiers, and some that never answer.

All keys, VRF draws, blocks and statements are real; only the training is left out: the leaves of a segment are
invented, and a window with a false step has another leaf than its honest replay. Of a dispute the end is
said, and not computed: a lie is convicted, a false accuser refuted. A liar that falls silent there loses as
much, some epochs later. Prices are those of the packaged run file.

Money is what the accounts of the ledger have after the verdict, less what they had before the commit. What a
peer spends on computing is not on the ledger, and is added by the caller.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from swarm.config.load import planned_data, run_spec
from swarm.config.schema import RunFile
from swarm.config.spec import NANO, GenesisAccount, RunSpec
from swarm.errors import InvalidStatement
from swarm.ledger.check_statements import DataRequest, DisputeMove
from swarm.ledger.state.accusations import Turn
from swarm.ledger.state.draft import JUDGED
from swarm.ledger.state.draws import Contest
from swarm.ledger.state.records import (
    UNDEALT,
    Check,
    CheckPhase,
    Run,
    SegmentPhase,
    SegmentRecord,
)
from swarm.ledger.state.state import State, audit_supply
from swarm.ledger.transactions import Body, Join
from swarm.ledger.transition.phases import (
    answers_end,
    are_reveals_open,
    contest_start,
    gather_end,
    open_checks,
    open_contest,
)
from swarm.ledger.transition.prices import (
    CHECKS_MAX,
    offered_fee,
    reward_max,
    segment_tokens_max,
    solver_stake,
)
from swarm.ledger.transition.sampling import check_eligible, draw_probability
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import CheckedSegment, InMemoryLedger, make_segment, numbered_key
from swarm.training.starts import starts_of
from swarm.types import Amount, PeerId
from tests.ledger.scripted import scripted_court

FILE = RunFile()
REWARD_OVER_COST = Fraction(5, 4)
"""R: the reward of a segment, in what it costs to compute."""
OWNER, SOLVER, FIRST_HONEST = 0, 1, 2
"""Key numbers: the owner is the partner of the solver, so that neither of them checks it."""
NUM_HONEST, NUM_VALIDATORS = 8, 4
PRESENT = Fraction(12)
"""Stake of all that answer, friends of the solver included, in stakes of a solver; as much is absent."""
BALANCE = 10_000_000
PRICE_MAX = 100
"""Highest price of a run whose rounds clear below it: so many steps there are between nothing and that."""
ROUND = 2
"""Round of the segment that is played."""
BLOCKS_MAX = 400
"""Blocks of one game, at most: every phase ends long before."""


class Serves(StrEnum):
    """Whom a solver gives the data of its segment, without which nobody can replay it."""

    ALL = "all"
    FRIENDS = "friends"
    UNLESS_HIT = "unless_hit"
    """Not an honest verifier that was dealt a false window: the ledger says who was."""
    NOBODY = "nobody"


class Shows(StrEnum):
    """When a solver reveals its leaves."""

    ALWAYS = "always"
    UNLESS_HIT = "unless_hit"
    """Not if an honest verifier has answered for a false window."""
    NEVER = "never"


class Friends(StrEnum):
    """What the attackers' verifiers do."""

    HONEST = "honest"
    AGREE = "agree"
    """Ask, and answer what the solver claims without a replay."""
    ABSENT = "absent"
    GUESS = "guess"
    """Ask, answer something, and never show it."""
    GUESS_SHOWN = "guess_shown"
    """Ask, answer something, and show it."""
    WITHHOLD = "withhold"
    """Ask as soon as they are drawn, and never answer."""
    WITHHOLD_LATE = "withhold_late"
    """Wait until the last draw is nearly over; if nobody has asked, ask and never answer."""
    CONTEST = "contest"
    """Ask, never answer, complain as soon as that is possible, and say as witnesses that nothing was served."""


ASK_ONLY = frozenset({Friends.WITHHOLD, Friends.WITHHOLD_LATE, Friends.CONTEST})


@dataclass(frozen=True, slots=True)
class Plan:
    """What the attackers do with one segment."""

    false_windows: int = 0
    """Windows with a false step: the first ones."""
    serves: Serves = Serves.ALL
    shows: Shows = Shows.ALWAYS
    friends: Friends = Friends.AGREE
    reports: bool = False
    """True if a friend reports the segment once it is paid."""


@dataclass(frozen=True, slots=True)
class World:
    """A network with one seat that is about to commit, at which every game begins."""

    ledger: InMemoryLedger
    run: Run
    honest: tuple[SecretKey, ...]
    friends: tuple[SecretKey, ...]

    @property
    def eligible(self) -> int:
        """Stake of all that could be drawn, the absent included."""
        state = self.ledger.state
        is_volunteer = self.run.seats[0][1].is_volunteer
        out = (SOLVER,) if is_volunteer else (OWNER, SOLVER)  # the owner trades with the solver
        return state.globals.staked - sum(self.stake(self.ledger.keys[n]) for n in out)

    @property
    def cost(self) -> float:
        """What an honest segment costs its solver: the unit of every expectation."""
        tokens = segment_tokens_max(self.run.spec, 1)
        return float(reward_max(self.run.spec, tokens) / REWARD_OVER_COST)

    @property
    def draw_probability(self) -> float:
        """Half of the verifiers that one draw selects on average."""
        spec, seat = self.run.spec, self.run.seats[0][1]
        nano = draw_probability(
            spec,
            is_volunteer=seat.is_volunteer,
            stake=self.stake(self.ledger.keys[SOLVER]),
            reward_max=reward_max(spec, segment_tokens_max(spec, 1)),
        )
        return nano / NANO

    def stake(self, key: SecretKey) -> int:
        """Stake of a key."""
        return self.ledger.state.account(key.peer).stake


@dataclass(frozen=True, slots=True)
class Played:
    """How a game ended."""

    phase: SegmentPhase
    gains: tuple[int, ...]
    """Money that each key has won, by number."""
    replays: tuple[int, ...]
    """Windows that each key has replayed, by number."""
    is_hit: bool
    """True if an honest verifier was served a false window."""
    friends_asked: int
    honest_asked: int
    answered_by: frozenset[int]
    """Numbers of the keys whose answers decided the segment."""
    locked: int
    """Part of the solver's stake that it has earned and cannot withdraw."""


def exact_spec() -> RunSpec:
    """Return the spec of the packaged run file, with exact numerics."""
    draft = run_spec(FILE, data=planned_data(FILE))
    spec = replace(draft, starts=starts_of(draft, [digest("bench", b"init")] * draft.num_stages))
    return replace(spec, numerics="seq-f32/1")


def make_world(
    share: Fraction,
    *,
    present: Fraction = PRESENT,
    num_friends: int | None = None,
    is_volunteer: bool = False,
    earned: int = 0,
    price: Fraction = Fraction(1),
) -> World:
    """Return a world in which ``share`` of the stake of those that answer are friends of the solver.

    Args:
        share: The friends' part of the stake that answers.
        present: That stake, in stakes of a solver; as much again belongs to verifiers that never answer,
            the owner among them where it may check.
        num_friends: Accounts of the friends; None for as many as have the stake of a solver each.
        is_volunteer: True if the solver begins without a stake, and without any money.
        earned: Segments that a volunteer has been paid for: that is in its stake.
        price: Pay of the round, as a part of the highest that the run pays; below 1 an honest peer sits in the
            other stage, works, and asks for that.
    """
    spec, own = exact_spec(), FILE.ledger
    spec = spec if price == 1 else replace(spec, price_max=PRICE_MAX)
    probe = InMemoryLedger(2, 1, stake_segments=own.stake_segments)
    unit = solver_stake(probe.state.params, spec)
    theirs = share * present * unit
    count = int(share * present) if num_friends is None else num_friends
    each = (present * unit - theirs) // NUM_HONEST
    reward = reward_max(spec, segment_tokens_max(spec, 1))
    stakes = [unit, earned * reward if is_volunteer else unit, *[int(each)] * NUM_HONEST]
    stakes += [int(theirs // count)] * count if count else []
    is_owner_able = is_volunteer and earned * reward < unit
    stakes.append(int(present * unit) - is_owner_able * unit)
    keys = [numbered_key(number) for number in range(len(stakes))]
    accounts = (
        GenesisAccount(key.peer, Amount(0 if is_volunteer and n == SOLVER else BALANCE), Amount(s))
        for n, (key, s) in enumerate(zip(keys, stakes, strict=True))
    )
    ledger = InMemoryLedger(
        len(keys),
        1,
        accounts=tuple(sorted(accounts, key=lambda account: account.peer)),
        validators=tuple(
            sorted(k.peer for k in keys[FIRST_HONEST : FIRST_HONEST + NUM_VALIDATORS])
        ),
        epoch_blocks=own.epoch_blocks,
        beacon_delay=own.beacon_delay,
        unbonding_epochs=own.unbonding_epochs,
        stake_segments=own.stake_segments,
        fee_min=Amount(own.fee_min),
        fee_per_byte_nano=round(own.fee_per_byte * NANO),
    )
    run = ledger.open_run(spec, escrow=BALANCE // 2)
    is_asking = price < 1
    joins = Join(run.index, int(price * PRICE_MAX)) if is_asking else Join(run.index)
    fee = offered_fee(ledger.state.params, joins, ledger.state.account(keys[SOLVER].peer).balance)
    others = [ledger.sign(keys[FIRST_HONEST], joins)] if is_asking else []
    ledger.block(ledger.sign(keys[SOLVER], joins, fee=fee), *others)
    if is_asking:
        run = ledger.reach_round(run, 1)
        seat = next(s for s in run.seats[1] if s.peer == keys[FIRST_HONEST].peer)
        work = ledger.commit(run, 0, 1, seat.index)
        ledger.block(ledger.sign(keys[FIRST_HONEST], work))
    run = ledger.reach_round(run, ROUND)
    ledger.block(ledger.sign(keys[SOLVER], ledger.commit(run, ROUND - 1, 0, 1)))
    run = ledger.reach_round(run, ROUND + 1)
    end = FIRST_HONEST + NUM_HONEST
    honest, friends = tuple(keys[FIRST_HONEST:end]), tuple(keys[end : end + count])
    return World(ledger, run, honest, friends)


def play(world: World, plan: Plan, seed: int) -> Played:
    """Play one segment from its commit to its last verdict; the seed decides all draws."""
    try:
        with scripted_court():
            return _Game(world, plan, seed).play()
    except InvalidStatement as error:
        error.add_note(f"{plan}, seed {seed}")
        raise


def committed(world: World, seed: int) -> SegmentRecord:
    """Return the record of a segment that has just been committed."""
    game = _Game(world, Plan(), seed)
    game.commit()
    return game.record


def eligible_friends(world: World) -> int:
    """Return how many of the friends could be drawn to check a segment."""
    game = _Game(world, Plan(), 0)
    game.commit()
    return sum(_is_eligible(game.ledger.state, game.record, key) for key in world.friends)


def _is_eligible(state: State, record: SegmentRecord, key: SecretKey) -> bool:
    try:
        check_eligible(state, record, state.run(record.run).spec, key.peer)
    except InvalidStatement:
        return False
    return True


def wealth(state: State, peer: PeerId) -> int:
    """Return all money of a peer."""
    account = state.account(peer)
    return account.balance + account.stake + sum(part.amount for part in account.unbonding)


@dataclass(slots=True)
class _Game:
    world: World
    plan: Plan
    seed: int
    ledger: InMemoryLedger = field(init=False)
    true: CheckedSegment = field(init=False)
    claimed: CheckedSegment = field(init=False)
    drawn: dict[tuple[int, PeerId], DataRequest | None] = field(init=False, default_factory=dict)
    replays: dict[PeerId, int] = field(init=False, default_factory=dict)
    asked: dict[PeerId, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = copy.copy(self.world.ledger)
        self.ledger.links = []
        run = self.world.run
        end = digest("bench-game", self.seed.to_bytes(8, "big"))
        steps, tokens = run.spec.inner_steps_max, segment_tokens_max(run.spec, 1)
        shape = {"num_steps": steps, "tokens": tokens, "end_root": end}
        self.true = make_segment(self.ledger, run, ROUND, 0, 1, **shape)
        self.claimed = self.true
        for window in range(self.plan.false_windows):
            self.claimed = self.claimed.with_lie(window)

    @property
    def record(self) -> SegmentRecord:
        return self.claimed.record(self.ledger.state)

    def commit(self) -> None:
        solver = self.ledger.keys[SOLVER]
        self.ledger.block(self.ledger.sign(solver, self.claimed.commit))

    def play(self) -> Played:
        keys = self.ledger.keys
        before = [wealth(self.ledger.state, key.peer) for key in keys]
        self.commit()
        for _ in range(BLOCKS_MAX):
            statements = self._statements()
            if not statements and self.record.phase in JUDGED:
                break
            self.ledger.block(*(self._signed(key, body) for key, body in statements))
        else:
            raise AssertionError(f"no verdict: {self.plan}, seed {self.seed}")
        state = self.ledger.state
        assert audit_supply(state) == state.supply, f"{self.plan}, seed {self.seed}"
        gains = (wealth(state, key.peer) - old for key, old in zip(keys, before, strict=True))
        friends = {key.peer for key in self.world.friends}
        friends_asked = sum(peer in friends for peer in self.asked)
        shown = {CheckPhase.AGREED, CheckPhase.DIFFERED}
        decided = {c.peer for c in self.record.checks if c.phase in shown}
        return Played(
            phase=self.record.phase,
            gains=tuple(gains),
            replays=tuple(self.replays.get(key.peer, 0) for key in keys),
            is_hit=self._is_hit(self.record),
            friends_asked=friends_asked,
            honest_asked=len(self.asked) - friends_asked,
            answered_by=frozenset(n for n, key in enumerate(keys) if key.peer in decided),
            locked=state.account(keys[SOLVER].peer).locked,
        )

    def _signed(self, key: SecretKey, body: Body) -> bytes:
        """Sign a statement; the run pays for the moves of a solver without money."""
        if not isinstance(body, DisputeMove):
            return self.ledger.sign(key, body)
        state = self.ledger.state
        fee = offered_fee(state.params, body, state.account(key.peer).balance)
        return self.ledger.sign(key, body, fee=fee)

    def _statements(self) -> list[tuple[SecretKey, Body]]:
        record = self.record
        match record.phase:
            case SegmentPhase.POSTED | SegmentPhase.SAMPLED:
                return self._checking(record)
            case SegmentPhase.SEALED:
                return self._leaves(record)
            case SegmentPhase.REVEALED:
                return self._shown(record)
            case SegmentPhase.DISPUTED:
                return self._shown(record) or self._heard(record)
            case SegmentPhase.VERIFIED | SegmentPhase.UNSAMPLED if self.plan.reports:
                friend = self.world.friends[0]
                return [(friend, self.true.report(friend.peer, 0))]
            case _:
                return []

    def _checking(self, record: SegmentRecord) -> list[tuple[SecretKey, Body]]:
        contest = open_contest(record)
        if contest is not None and contest.draw is not None:
            return [*self._witnesses(record, contest), *self._answers(record)]
        said = [*self._requests(record), *self._answers(record)]
        return said or self._complaints(record)

    def _complaints(self, record: SegmentRecord) -> list[tuple[SecretKey, Body]]:
        """Let the first complain that was not served, or that says so."""
        if open_contest(record) is not None:
            return []
        spec, height = self.world.run.spec, self.ledger.state.height + 1
        for place, check in enumerate(record.checks):
            is_friend = any(key.peer == check.peer for key in self.world.friends)
            lies = is_friend and self.plan.friends is Friends.CONTEST
            was_heard = any(c.check == place and c.height > check.height for c in record.contests)
            is_due = check.phase is CheckPhase.REQUESTED and height >= contest_start(record, spec)
            if is_due and not was_heard and (lies or not (is_friend or self._is_served(check))):
                body = self.claimed.complaint(self.ledger.state, check.peer)
                return [(self.ledger.key_of(check.peer), body)]
        return []

    def _witnesses(self, record: SegmentRecord, contest: Contest) -> list[tuple[SecretKey, Body]]:
        """Let all say that are drawn: the honest the truth, the friends what helps them."""
        if self.ledger.state.height + 1 >= contest.end:
            return []
        check, bodies = record.checks[contest.check], list[tuple[SecretKey, Body]]()
        heard = {check.peer, *contest.served, *contest.refused}
        is_served = self._is_served(check)
        for key in [*self.world.honest, *self.world.friends]:
            is_friend, friends = key in self.world.friends, self.plan.friends
            if key.peer in heard or (is_friend and friends is Friends.ABSENT):
                continue
            says = friends is not Friends.CONTEST if is_friend else is_served
            body = self.claimed.witness(self.ledger.state, key, is_served=says)
            if body is not None:
                bodies.append((key, body))
        return bodies

    def _requests(self, record: SegmentRecord) -> list[tuple[SecretKey, Body]]:
        """Let those that are drawn ask: there are not places for all, and the friends come first."""
        height, under_way = self.ledger.state.height + 1, open_checks(record)
        is_last = len(record.draws) == 3 and not under_way
        if not record.draws or (is_last and height >= record.due):
            return []
        if under_way and height >= gather_end(record, self.world.run.spec):
            return []
        asking = [*self.world.honest]
        if self.plan.friends is Friends.WITHHOLD_LATE:
            asking += self.world.friends if is_last and height == record.due - 1 else ()
        elif self.plan.friends is not Friends.ABSENT:
            asking += self.world.friends
        bodies = list[tuple[SecretKey, Body]]()
        for key in sorted(asking, key=self._turn):
            body = self._drawn(record, key)
            if body is not None and len(under_way) + len(bodies) < CHECKS_MAX:
                bodies.append((key, body))
                self.asked[key.peer] = self.asked.get(key.peer, 0) + 1
        return bodies

    def _turn(self, key: SecretKey) -> tuple[bool, bytes]:
        """Return the place of a key among those that ask: after all friends, or at random among them."""
        dice = digest("queue", self.true.commit.end_root, key.peer)
        return key not in self.world.friends, dice

    def _drawn(self, record: SegmentRecord, key: SecretKey) -> DataRequest | None:
        """Return the first draw that selects a key; one that has missed its check needs a later one."""
        mine = next((check for check in record.checks if check.peer == key.peer), None)
        if mine is not None and mine.phase is not CheckPhase.MISSED:
            return None
        for attempt, draw in enumerate(record.draws):
            if mine is not None and draw.height <= mine.height:
                continue
            name = attempt, key.peer
            if name not in self.drawn:
                self.drawn[name] = self.claimed.request(self.ledger.state, key, attempt)
            if self.drawn[name] is not None:
                return self.drawn[name]
        return None

    def _answers(self, record: SegmentRecord) -> list[tuple[SecretKey, Body]]:
        """Let those that were dealt a window answer blind, if they can or pretend to."""
        if not open_checks(record):
            return []
        if self.ledger.state.height + 1 >= answers_end(record, self.world.run.spec):
            return []
        bodies = list[tuple[SecretKey, Body]]()
        for check in record.checks:
            if check.phase is CheckPhase.REQUESTED and check.window != UNDEALT:
                view = self._view(check)
                if view is not None:
                    blind = view.blind(self.ledger.state, check.peer, check.window)
                    bodies.append((self.ledger.key_of(check.peer), blind))
        return bodies

    def _view(self, check: Check) -> CheckedSegment | None:
        """Return the segment as a peer says that it is; None if it cannot say, or does not."""
        plan, is_friend = self.plan, any(k.peer == check.peer for k in self.world.friends)
        if check.is_report or not is_friend or plan.friends is Friends.HONEST:
            if not check.is_report and not self._is_served(check):
                return None
            self.replays[check.peer] = 1
            return self.true
        if plan.friends in ASK_ONLY:
            return None
        if plan.friends is Friends.AGREE:
            return self.claimed
        guess = digest("guess", check.peer)
        return self.true.with_results([replace(r, leaves_root=guess) for r in self.true.results])

    def _is_served(self, check: Check) -> bool:
        """Return True if an honest verifier, or a friend that works like one, gets its window's data."""
        if self.plan.serves is Serves.UNLESS_HIT:
            return not self._is_false(check)
        return self.plan.serves is Serves.ALL

    def _leaves(self, record: SegmentRecord) -> list[tuple[SecretKey, Body]]:
        is_shown = self.plan.shows is Shows.ALWAYS or (
            self.plan.shows is Shows.UNLESS_HIT and not self._is_hit(record)
        )
        if not is_shown or self.ledger.state.height + 1 >= record.due:
            return []
        return [(self.ledger.key_of(record.peer), self.claimed.reveal())]

    def _shown(self, record: SegmentRecord) -> list[tuple[SecretKey, Body]]:
        if not are_reveals_open(record, self.ledger.state.height + 1):
            return []
        bodies = list[tuple[SecretKey, Body]]()
        for check in record.checks:
            is_friend = any(key.peer == check.peer for key in self.world.friends)
            is_hidden = is_friend and self.plan.friends is Friends.GUESS
            if check.phase is CheckPhase.SEALED and not is_hidden:
                view = self._view(check)
                assert view is not None, "it has answered blind"
                shown = view.shown(self.ledger.state, check.peer, check.window)
                bodies.append((self.ledger.key_of(check.peer), shown))
        return bodies

    def _heard(self, record: SegmentRecord) -> list[tuple[SecretKey, Body]]:
        """Let whoever's turn it is in a dispute move: a lie is convicted, a false accuser refuted."""
        dispute = record.dispute
        assert dispute is not None, "it is disputed"
        is_lie, window = dispute.window < self.plan.false_windows, dispute.window
        if dispute.turn == Turn.ACCUSER:
            move = (b"guilty" if is_lie else b"next") if dispute.game else b"open"
            return [(self.ledger.key_of(dispute.accuser), self.claimed.move(window, move))]
        move = b"next" if is_lie else b"false"
        return [(self.ledger.key_of(record.peer), self.claimed.move(window, move))]

    def _is_hit(self, record: SegmentRecord) -> bool:
        honest = {key.peer for key in self.world.honest}
        return self.plan.serves is Serves.ALL and any(
            check.peer in honest and self._is_false(check) for check in record.checks
        )

    def _is_false(self, check: Check) -> bool:
        """Return True if a check was dealt a false window."""
        return check.window != UNDEALT and check.window < self.plan.false_windows


def total(gains: Sequence[int], keys: Sequence[SecretKey], world: World) -> int:
    """Return what some keys have won together."""
    wanted = {key.peer for key in keys}
    return sum(g for g, key in zip(gains, world.ledger.keys, strict=True) if key.peer in wanted)
