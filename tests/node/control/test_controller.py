"""After every block the node does what is due, once, waits for nothing, and says what went wrong."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from swarm.config.schema import NodeConfig
from swarm.config.spec import RunSpec
from swarm.errors import InvalidStatement, Reason, SwarmError, Unreachable
from swarm.events import EventKind
from swarm.ledger.check_statements import AMOUNT_MAX
from swarm.ledger.state.records import Checkpoint, Run
from swarm.ledger.state.state import State
from swarm.ledger.transactions import (
    Body,
    ChangeAsk,
    CloseRun,
    Join,
    PauseRun,
    ResumeRun,
    Stake,
    Transfer,
)
from swarm.ledger.transition.prices import solver_stake, sufficient_fee
from swarm.node.artifacts import checkpoints
from swarm.node.context import NodeStats
from swarm.node.control import controller
from swarm.node.control.controller import (
    JOIN_RETRY_BLOCKS,
    POLL_S,
    RATE_S,
    STAKE_RETRY_BLOCKS,
    Controller,
)
from swarm.node.control.planner import (
    FEES_KEPT,
    Action,
    BeginRound,
    CloseRound,
    LeaveSeat,
    LocalSeat,
    TakeSeat,
    TradeFragment,
)
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import Amount, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex
from tests.fakes import FakeHost, FakeNetwork

SPEC = small_run_spec(round_blocks=6, checkpoint_rounds=1)
LOST = Unreachable("the partner is gone")


@dataclass
class FakeLedger:
    """A chain of final blocks that the test makes, and what the node submits to it."""

    chain: InMemoryLedger = field(default_factory=InMemoryLedger)
    submitted: list[Body] = field(default_factory=list)
    refusal: SwarmError | None = None
    is_slow: bool = False
    """Whether what is submitted stays on its way until the test says ``arrived``."""
    arrived: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[None](1000)

    @property
    def state(self) -> State:
        return self.chain.state

    @property
    def height(self) -> int:
        return self.state.height

    def subscribe(self) -> "trio.MemoryReceiveChannel[None]":
        return self._receive

    async def submit(self, body: Body) -> None:
        await trio.lowlevel.checkpoint()
        self.submitted.append(body)
        if self.is_slow:
            await self.arrived.wait()
        if self.refusal is not None:
            raise self.refusal

    async def submit_final(self, body: Body, timeout_s: float) -> None:
        await self.submit(body)

    def block(self, *transactions: bytes) -> None:
        self.chain.block(*transactions)
        self._send.send_nowait(None)


@dataclass
class FakeShard:
    tokens_total: int = 0


@dataclass
class FakeRunner:
    shard: FakeShard = field(default_factory=FakeShard)
    steps_total: int = 0


@dataclass
class FakeLive:
    round_index: RoundIndex | None = None
    runner: FakeRunner = field(default_factory=FakeRunner)
    is_open: bool = False


@dataclass
class FakeSeats:
    """Seats that are ready at once and do what they are asked, or fail with ``failure``."""

    live: dict[tuple[StageIndex, int], FakeLive] = field(default_factory=dict)
    done: list[Action] = field(default_factory=list)
    failure: SwarmError | None = None
    settles: trio.Event | None = None
    """What every trade waits for; None: it is settled at once."""
    phi: object | None = None
    """Of a closed segment; None while it is open."""
    num_tidied: int = 0
    num_resubmitted: int = 0

    @property
    def commits(self) -> "FakeSeats":
        return self

    async def resubmit(self, run: Run) -> None:
        self.num_resubmitted += 1

    def tidy(self, run: Run) -> None:
        self.num_tidied += 1

    def locals(self) -> tuple[LocalSeat, ...]:
        return tuple(
            LocalSeat(stage, index, one.round_index, is_ready=True, is_open=one.is_open)
            for (stage, index), one in sorted(self.live.items())
        )

    def take(self, duty: TakeSeat) -> None:
        self.done.append(duty)
        self.live[duty.seat.stage, duty.seat.index] = FakeLive()

    async def leave(self, duty: LeaveSeat) -> None:
        await self._do(duty)
        del self.live[duty.stage, duty.index]

    async def close(self, duty: CloseRound) -> None:
        await self._do(duty)
        self.live[duty.stage, duty.index].is_open = False

    async def begin(self, duty: BeginRound) -> None:
        await self._do(duty)
        self.live[duty.stage, duty.index].is_open = True

    async def trade(self, duty: TradeFragment) -> None:
        await self._do(duty)
        if self.settles is not None:
            await self.settles.wait()

    async def _do(self, duty: Action) -> None:
        self.done.append(duty)
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure

    def closed(self, stage: StageIndex, index: int, round_: RoundIndex) -> object | None:
        return self.phi

    def anchors(self) -> set[Digest] | None:
        return None

    def hashing_s(self) -> float:
        return 0.5

    def open_loss(self) -> float | None:
        return None

    def of_kind(self, kind: type[Action]) -> list[Action]:
        return [duty for duty in self.done if isinstance(duty, kind)]


@dataclass
class FakeChecks:
    reveals: dict[tuple[RunIndex, RoundIndex, StageIndex, int], object] = field(
        default_factory=dict
    )

    @property
    def log_store(self) -> "FakeChecks":
        return self


@dataclass
class FakeArtifacts:
    fetched: list[tuple[StageIndex, RoundIndex]] = field(default_factory=list)
    failure: SwarmError | None = None

    async def keep_base(self, run: Run, stage: StageIndex) -> None:
        pass

    async def checkpoint(self, run: Run, stage: StageIndex, kept: Checkpoint) -> None:
        await trio.lowlevel.checkpoint()
        self.fetched.append((stage, kept.round))
        if self.failure is not None:
            raise self.failure


class FakeContext:
    """What the controller of one node is given; ``key`` is who it is."""

    def __init__(self, key: SecretKey, ledger: FakeLedger, **config: object) -> None:
        self.me: PeerId = key.peer
        self.secret = key
        self.ledger = ledger
        self.genesis = ledger.chain.genesis
        self.config = NodeConfig(**config)  # type: ignore[arg-type]
        self.host = FakeHost(FakeNetwork(), key)
        self.checks = FakeChecks()
        self.artifacts = FakeArtifacts()
        self.stats = NodeStats()
        self.checkpoints_held: dict[StageIndex, int] = {}
        self.events: list[tuple[EventKind, str]] = []
        self.listed: Checkpoint | None = None
        """A checkpoint of stage 1 that the run lists, as the test wants it."""

    @property
    def run(self) -> Run | None:
        run = self.ledger.state.find_run(RunIndex(1))
        if run is not None and self.listed is not None:
            return replace(run, checkpoints=((), (self.listed,)))
        return run

    def report(self, kind: EventKind, text: str, **fields: str | int) -> None:
        self.events.append((kind, text))

    def texts(self, kind: EventKind) -> list[str]:
        return [text for reported, text in self.events if reported is kind]


@dataclass
class Harness:
    """One node under its controller; it has done what was due when ``block`` returns."""

    context: FakeContext
    seats: FakeSeats
    ledger: FakeLedger

    async def block(self, *transactions: bytes, count: int = 1) -> None:
        for number in range(count):
            self.ledger.block(*(transactions if number == 0 else ()))
            await wait_all_tasks_blocked()

    async def say(self, body: Body) -> None:
        """A block with a statement of the owner of the run."""
        await self.block(self.ledger.chain.sign(self.ledger.chain.keys[0], body))

    async def reach_round(self, round_: int) -> Run:
        while not (run := self.run).rounds or run.rounds[-1].round < round_:
            await self.block()
        return run

    @property
    def run(self) -> Run:
        run = self.context.run
        assert run is not None
        return run

    def joins(self) -> int:
        return sum(isinstance(body, Join) for body in self.ledger.submitted)

    def stakes(self) -> list[int]:
        return [body.amount for body in self.ledger.submitted if isinstance(body, Stake)]


Begin = Callable[..., "Harness"]


@pytest.fixture
async def begin(nursery: trio.Nursery) -> Begin:
    """Start a node: ``number`` says whose, 0 is the owner of the run."""

    def start(
        number: int = 0, *, opens: bool = True, spec: RunSpec = SPEC, **config: object
    ) -> Harness:
        ledger = FakeLedger()
        if opens:
            ledger.chain.open_run(spec)
        context, seats = FakeContext(ledger.chain.keys[number], ledger, **config), FakeSeats()
        controller = Controller(context, nursery)  # type: ignore[arg-type]
        controller.seats = seats  # type: ignore[assignment]
        nursery.start_soon(controller.serve)
        return Harness(context, seats, ledger)

    return start


async def test_without_a_run_nothing_is_done(begin: Begin, autojump_clock: MockClock) -> None:
    harness = begin(opens=False)
    await harness.block(count=5)
    assert (harness.seats.done, harness.ledger.submitted, harness.context.events) == ([], [], [])
    assert harness.seats.num_tidied == 0


@pytest.mark.rule("N1")
async def test_a_seat_is_taken_begun_and_traded_for_once_each(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin()
    await harness.reach_round(0)
    await harness.block(count=SPEC.round_blocks - 1)
    seats = harness.seats
    assert len(seats.of_kind(TakeSeat)) == SPEC.num_stages
    assert len(seats.of_kind(BeginRound)) == SPEC.num_stages
    assert len(seats.of_kind(TradeFragment)) == SPEC.num_stages * SPEC.outer.fragments
    await harness.reach_round(1)
    assert len(seats.of_kind(TakeSeat)) == SPEC.num_stages, "the seats of round 0 are still here"
    assert len(seats.of_kind(BeginRound)) == 2 * SPEC.num_stages


@pytest.mark.rule("N12a")
@pytest.mark.parametrize("failure", [None, LOST])
async def test_a_later_exchange_begins_once_the_one_before_is_settled(
    begin: Begin, autojump_clock: MockClock, failure: SwarmError | None
) -> None:
    outer = replace(SPEC.outer, fragments=1, trades_per_round=3)
    harness = begin(spec=replace(SPEC, outer=outer, round_blocks=12))
    harness.seats.settles = settles = trio.Event()
    await harness.reach_round(0)

    def exchanges() -> list[int]:
        duties = harness.seats.of_kind(TradeFragment)
        return [d.exchange for d in duties if isinstance(d, TradeFragment) and d.stage == 0]

    while not exchanges():
        await harness.block()
    await harness.block(count=3)
    assert exchanges() == [0], "the second is due, and the first is still open"
    harness.seats.failure = failure
    settles.set()
    await wait_all_tasks_blocked()
    await harness.block()
    assert exchanges() == [0, 1]
    await harness.block(count=3)
    assert exchanges() == [0, 1, 2], "a trade that failed is settled too"


@pytest.mark.rule("N1")
async def test_every_block_is_acted_on_and_without_one_the_node_polls_by_itself(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin()
    await wait_all_tasks_blocked()
    before = harness.seats.num_tidied
    await harness.block(count=3)
    assert harness.seats.num_tidied == harness.seats.num_resubmitted == before + 3
    await trio.sleep(3 * POLL_S + POLL_S / 2)
    assert harness.seats.num_tidied == before + 6


async def test_a_seat_is_asked_for_and_again_when_nothing_came_of_it(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin(1)
    await wait_all_tasks_blocked()
    assert harness.joins() == 1
    await harness.block(count=JOIN_RETRY_BLOCKS - 1)
    assert harness.joins() == 1
    await harness.block()
    assert harness.joins() == 2
    assert harness.context.texts(EventKind.PROGRESS).count("asked the ledger for a seat") == 2


async def test_who_waits_for_a_seat_does_not_ask_again(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin(1)
    chain = harness.ledger.chain
    await wait_all_tasks_blocked()
    await harness.block(chain.sign(chain.keys[1], Join(RunIndex(1))))
    await harness.block(count=2 * JOIN_RETRY_BLOCKS)
    assert harness.joins() == 1


async def test_a_seat_that_was_refused_is_reported_with_its_reason(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin(1)
    harness.ledger.refusal = InvalidStatement(Reason.FULL, "the queue for seats is full")
    await wait_all_tasks_blocked()
    (message,) = harness.context.texts(EventKind.WARNING)
    assert "could not ask for a seat yet" in message
    assert "queue" in message


@pytest.mark.rule("N2")
@pytest.mark.parametrize("kind", [BeginRound, TradeFragment])
async def test_a_duty_that_the_network_failed_is_reported_and_ends_nothing(
    begin: Begin, autojump_clock: MockClock, kind: type[Action]
) -> None:
    harness = begin()
    harness.seats.failure = LOST
    await harness.reach_round(0)
    await harness.block(count=SPEC.round_blocks - 1)
    texts = harness.context.texts(EventKind.WARNING)
    what = {BeginRound: "a round was not begun", TradeFragment: "a fragment was not traded"}[kind]
    assert texts.count(f"{what}: {LOST}") == len(harness.seats.of_kind(kind)) > 0
    harness.seats.failure = None
    await harness.reach_round(1)
    assert len(harness.seats.of_kind(BeginRound)) == 2 * SPEC.num_stages, (
        "and the next one is begun"
    )


@pytest.mark.rule("N2")
async def test_an_unforeseen_error_is_not_hidden(autojump_clock: MockClock) -> None:
    ledger = FakeLedger()
    ledger.chain.open_run(SPEC)
    seats = FakeSeats(failure=InvalidStatement(Reason.BAD_FIELD, "a bug"))
    with pytest.RaisesGroup(InvalidStatement, flatten_subgroups=True, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            context = FakeContext(ledger.chain.keys[0], ledger)
            controller = Controller(context, nursery)  # type: ignore[arg-type]
            controller.seats = seats  # type: ignore[assignment]
            nursery.start_soon(controller.serve)
            await Harness(context, seats, ledger).reach_round(0)
            await wait_all_tasks_blocked()


@pytest.mark.rule("N11")
async def test_a_stake_is_put_up_once_while_it_is_on_its_way(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin(2, stake=1_500)
    harness.ledger.is_slow = True
    await harness.block(count=4)
    assert harness.stakes() == [500]
    assert not harness.context.texts(EventKind.PROGRESS)[1:], "nothing is said before it is final"
    harness.ledger.arrived.set()
    await wait_all_tasks_blocked()
    assert "put up 500 as a stake" in harness.context.texts(EventKind.PROGRESS)


@pytest.mark.rule("N11")
async def test_a_stake_that_the_ledger_refused_is_tried_again_later(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin(2, stake=1_500, solve=False)
    harness.ledger.refusal = InvalidStatement(Reason.BALANCE, "spent")
    await wait_all_tasks_blocked()
    assert harness.stakes() == [500]
    (message,) = harness.context.texts(EventKind.WARNING)
    assert "the stake was not put up yet" in message
    await harness.block(count=STAKE_RETRY_BLOCKS - 1)
    assert harness.stakes() == [500]
    await harness.block()
    assert harness.stakes() == [500, 500]


@pytest.mark.rule("N11")
async def test_a_stake_beyond_the_balance_is_mentioned_once(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin(2, stake=10_000_000, solve=False)
    await harness.block(count=4)
    assert harness.stakes() == []
    (message,) = harness.context.texts(EventKind.PROGRESS)
    assert "asks for a stake of 10,000,000" in message


@pytest.mark.rule("N11")
async def test_a_solver_puts_up_the_stake_of_its_run_once_its_balance_allows_it(
    begin: Begin, autojump_clock: MockClock
) -> None:
    """Key 9 has no account: until it is given enough for the stake and some fees, it is a volunteer."""
    harness = begin(9)
    chain, me = harness.ledger.chain, harness.context.me
    wanted = solver_stake(chain.state.params, SPEC)
    kept = FEES_KEPT * sufficient_fee(chain.state.params, Stake(Amount(AMOUNT_MAX)))
    await harness.say(Transfer(me, Amount(wanted + kept - 1)))
    await harness.block(count=2)
    assert harness.stakes() == []
    assert not [text for text in harness.context.texts(EventKind.PROGRESS) if "stake" in text]
    assert harness.joins() >= 1, "it asks for a seat all the same"
    await harness.say(Transfer(me, Amount(1)))
    assert harness.stakes() == [wanted]


@pytest.mark.rule("N11")
async def test_a_solver_tops_up_its_stake_and_who_does_not_solve_puts_up_none(
    begin: Begin, autojump_clock: MockClock
) -> None:
    for solves, stakes in ((True, [solver_stake_of() - 100]), (False, [])):
        harness = begin(9, solve=solves)
        chain, key = harness.ledger.chain, harness.context.secret
        await harness.say(Transfer(key.peer, Amount(120)))
        await harness.block(chain.sign(key, Stake(Amount(100))))
        await harness.say(Transfer(key.peer, Amount(10_000)))
        assert harness.stakes() == stakes


def solver_stake_of() -> int:
    return solver_stake(InMemoryLedger().state.params, SPEC)


@pytest.mark.rule("N11")
async def test_who_asks_for_a_larger_stake_puts_up_that(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin(9, stake=2_000)
    await harness.say(Transfer(harness.context.me, Amount(10_000)))
    assert harness.stakes() == [2_000]


@pytest.mark.rule("N7")
async def test_a_checkpoint_is_posted_as_soon_as_its_segment_is_closed(
    begin: Begin, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted: list[tuple[int, int]] = []

    async def post(context: object, stage: int, index: int, boundary: int, closed: object) -> bool:
        await trio.lowlevel.checkpoint()
        assert closed is phi
        posted.append((stage, boundary))
        return True

    phi = object()
    monkeypatch.setattr(checkpoints, checkpoints.post_quietly.__name__, post)
    harness = begin()
    run = await harness.reach_round(1)
    await harness.block(*harness.ledger.chain.commit_all(run, 0))
    await harness.block(count=2)
    assert posted == [], "the segment is not closed here yet"
    harness.seats.phi = phi
    await harness.block()
    assert sorted(posted) == [(0, 1), (1, 1)]
    await harness.block(count=2)
    assert len(posted) == 2


def a_checkpoint(round_: int) -> Checkpoint:
    return Checkpoint(
        round=RoundIndex(round_),
        phi_root=Digest(bytes(32)),
        phi_bytes=4,
        peer=PeerId(bytes(32)),
        seat=0,
        height=Height(round_),
        is_void=False,
    )


@pytest.mark.rule("N8")
async def test_a_checkpoint_is_fetched_until_it_is_here(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin()
    artifacts = harness.context.artifacts
    artifacts.failure = Unreachable("no peer serves it")
    harness.context.listed = a_checkpoint(4)
    await harness.reach_round(0)
    assert artifacts.fetched == [(1, 4)], "once while it is under way"
    assert harness.context.texts(EventKind.WARNING) == ["checkpoint of stage 1: no peer serves it"]
    assert harness.context.checkpoints_held == {}
    artifacts.failure = None
    await trio.sleep(2.5 * POLL_S)
    assert artifacts.fetched == [(1, 4)] * 2
    assert harness.context.checkpoints_held == {1: 4}
    await harness.block(count=2)
    assert artifacts.fetched == [(1, 4)] * 2


@pytest.mark.rule("N2")
async def test_a_trial_and_its_end_are_reported_when_they_change(
    begin: Begin, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = begin()
    said = ["on trial: 0 of 8", "on trial: 0 of 8", "on trial: 1 of 8", "", ""]
    monkeypatch.setattr(controller, "trial_text", lambda *_: said.pop(0))
    for number in range(5):
        await harness.reach_round(number)
    assert said == []
    texts = [text for text in harness.context.texts(EventKind.PROGRESS) if "trial" in text]
    assert texts == [
        "on trial: 0 of 8",
        "on trial: 1 of 8",
        "the trial is over: partners take its weights now",
    ]


@pytest.mark.rule("N2")
async def test_what_happens_to_the_run_is_reported_once(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin()
    run = await harness.reach_round(1)
    await harness.block(count=2)
    assert len(harness.context.texts(EventKind.ROUND_STARTED)) == 2
    await harness.say(PauseRun(run.index))
    await harness.block(count=SPEC.round_blocks)
    await harness.say(ResumeRun(run.index))
    await harness.reach_round(2)
    texts = harness.context.texts(EventKind.PROGRESS)
    assert texts.count(f"run {SPEC.name} rests: its owner paused it") == 1
    assert texts.count(f"run {SPEC.name} goes on after a pause") == 1
    await harness.say(CloseRun(run.index))
    await harness.block(count=3 * SPEC.round_blocks)
    (over,) = harness.context.texts(EventKind.RUN_FINISHED)
    assert over == "the run is over after 3 rounds"


@pytest.mark.rule("N10")
async def test_in_a_pause_segments_are_closed_and_seats_kept_and_at_the_end_they_are_left(
    begin: Begin,
    autojump_clock: MockClock,
) -> None:
    harness = begin()
    run = await harness.reach_round(1)
    await harness.say(PauseRun(run.index))
    await harness.block(count=SPEC.round_blocks)
    assert len(harness.seats.of_kind(CloseRound)) == SPEC.num_stages
    assert len(harness.seats.live) == SPEC.num_stages
    await harness.say(CloseRun(run.index))
    await harness.block(count=3 * SPEC.round_blocks)
    assert len(harness.seats.of_kind(LeaveSeat)) == SPEC.num_stages
    assert harness.seats.live == {}


@pytest.mark.rule("N3")
async def test_a_segment_closed_before_a_restart_is_not_begun_again(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin()
    for stage in range(SPEC.num_stages):
        harness.context.checks.reveals[RunIndex(1), RoundIndex(0), StageIndex(stage), 0] = object()
    await harness.reach_round(0)
    await harness.block(count=2)
    assert len(harness.seats.of_kind(TakeSeat)) == SPEC.num_stages
    assert harness.seats.of_kind(BeginRound) == []


async def test_the_rate_is_measured_while_the_node_trains(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin()
    await harness.reach_round(0)
    for one in harness.seats.live.values():
        one.runner.shard.tokens_total, one.runner.steps_total = 1_000, 3
    await trio.sleep(1.5 * RATE_S)
    stats = harness.context.stats
    assert (stats.tokens, stats.steps, stats.hashing_s) == (2_000, 6, 0.5)


@pytest.mark.rule("L70")
async def test_a_node_asks_for_its_seat_and_states_a_change_until_it_is_taken(
    begin: Begin, autojump_clock: MockClock
) -> None:
    harness = begin(1, ask=1)
    chain = harness.ledger.chain
    await wait_all_tasks_blocked()
    assert harness.ledger.submitted[-1] == Join(RunIndex(1), 1)
    await harness.block(chain.sign(chain.keys[1], Join(RunIndex(1), 1)))
    harness.ledger.refusal = InvalidStatement(Reason.FEE, "too little")
    harness.context.config = NodeConfig(ask=0)
    await harness.block(count=2)
    change = ChangeAsk(RunIndex(1), 0)
    assert harness.ledger.submitted.count(change) == 1, "not again at once"
    assert "the ask was not changed yet" in harness.context.texts(EventKind.WARNING)[-1]
    harness.ledger.refusal = None
    await harness.block(count=STAKE_RETRY_BLOCKS)
    assert harness.ledger.submitted.count(change) >= 2
    told = "asks 0 for 1,000 tokens from the next round on"
    assert told in harness.context.texts(EventKind.PROGRESS)
    count = harness.ledger.submitted.count(change)
    await harness.block(chain.sign(chain.keys[1], change))
    await harness.block(count=2)
    assert harness.ledger.submitted.count(change) == count
