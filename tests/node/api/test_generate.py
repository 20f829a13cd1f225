"""A generation uses the newest weights that the swarm has, and none outlives its reader."""

from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
import trio
from torch import Tensor

from swarm.errors import Unreachable, UsageError
from swarm.ledger.state.records import Checkpoint, Run, Seat
from swarm.node.api.generate import (
    GENERATIONS_MAX,
    PROMPT_TOKENS_MAX,
    READER_S,
    GenerationSessions,
)
from swarm.node.inference.server import PROTOCOL, InferenceServer
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.crypto import peer_name
from swarm.primitives.randomness import stream
from swarm.testing.executor import InlineExecutor
from swarm.training.inference.evaluate import whole_model
from swarm.training.inference.sampling import Sampling, generate
from swarm.training.model.profiles import table
from swarm.training.model.stages import init_flat, plan_stages
from swarm.training.starts import starts_of
from swarm.types import NO_DIGEST, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex
from tests.fakes import FakeHost, FakeNetwork
from tests.node.fakes import a_run
from tests.training.pipeline import a_spec

EXACT = "seq-f32/1"
PLAIN = a_spec(stages=2, numerics=EXACT)
PLANS = plan_stages(PLAIN.model, 2)
WEIGHTS = {round_: [init_flat(plan, 7 + round_) for plan in PLANS] for round_ in (0, 4, 8)}
ROOTS = {round_: [hash_of(flat) for flat in flats] for round_, flats in WEIGHTS.items()}
SPEC = replace(PLAIN, starts=starts_of(PLAIN, ROOTS[0]))
PROMPT = [3, 1, 4, 1, 5]


def a_seat(stage: int, index: int, peer: PeerId) -> Seat:
    start = RoundIndex(0)
    return Seat(
        stage=StageIndex(stage),
        index=index,
        peer=peer,
        joined_round=start,
        last_commit_round=start,
        last_end_root=NO_DIGEST,
        last_tokens=0,
        is_volunteer=False,
        last_verified_round=-1,
        is_on_trial=False,
        ask=0,
        seated_ask=0,
    )


def some_run(rounds: list[int], seats: list[list[PeerId]]) -> Run:
    """A run of two stages whose ledger lists the checkpoints of some rounds; its owner is gone since."""
    checkpoints = tuple(
        tuple(
            Checkpoint(
                round=RoundIndex(r),
                phi_root=ROOTS[r][stage],
                phi_bytes=4,
                peer=seats[stage][0],
                seat=0,
                height=Height(0),
                is_void=False,
            )
            for r in rounds
        )
        for stage in range(2)
    )
    return a_run(
        SPEC,
        index=RunIndex(2),
        owner=PeerId(b"o" * 32),
        seats=tuple(
            tuple(a_seat(stage, index, peer) for index, peer in enumerate(peers))
            for stage, peers in enumerate(seats)
        ),
        checkpoints=checkpoints,
    )


class FakeArtifacts:
    """The weights of some rounds."""

    def __init__(self, rounds: set[int]) -> None:
        self.rounds = rounds

    async def served(self, run: Run, stage: StageIndex, root: Digest) -> Tensor | None:
        held = {ROOTS[round_][stage]: WEIGHTS[round_][stage] for round_ in self.rounds}
        return held.get(root)

    async def base(self, run: Run, stage: StageIndex, *, is_here: bool = False) -> Tensor | None:
        return None


@dataclass
class Writing:
    """A node that generates."""

    me: PeerId
    host: FakeHost
    run: Run | None
    artifacts: FakeArtifacts
    run16: bytes = bytes(16)


class Harness:
    """A writer without a seat, and two peers in each of two stages."""

    def __init__(self, nursery: trio.Nursery, *, listed: list[int], held: set[int]) -> None:
        self.network = FakeNetwork()
        self.me = self.network.host(1)
        self.stages = [
            [self.network.host(10 + 2 * stage + i) for i in range(2)] for stage in (0, 1)
        ]
        run = some_run(listed, [[host.peer for host in hosts] for hosts in self.stages])
        for hosts in self.stages:
            for host in hosts:
                self.inference(host, held).serve()
        self.node = Writing(self.me.peer, self.me, run, FakeArtifacts(set()))
        self.sessions = GenerationSessions(self.node, self.inference(self.me, set()), nursery)

    def inference(self, host: FakeHost, held: set[int]) -> InferenceServer:
        return InferenceServer(
            host, FakeArtifacts(held), InlineExecutor(lambda _: 0.01), lambda: self.node.run
        )

    async def begin(self, **fields: object) -> dict[str, object]:
        found = await self.sessions.begin({"tokens": PROMPT, "count": 12, "seed": 5, **fields})
        await trio.lowlevel.checkpoint()
        return dict(found)

    async def read_all(self, name: dict[str, object]) -> tuple[list[int], dict[str, Any]]:
        tokens, reply = list[int](), dict[str, Any]()
        while not reply.get("is_over"):
            reply = dict(await self.sessions.read(name))
            tokens += cast("list[int]", reply["tokens"])
        return tokens, reply

    def calls(self) -> int:
        return sum(count for (_, what), count in self.me.calls.items() if what == PROTOCOL)


def here(round_: int, count: int = 12) -> list[int]:
    """What the checkpoint of a round writes on one machine."""
    stage, rng = (
        whole_model(SPEC.model, table(EXACT)),
        stream((5).to_bytes(8, "big"), "cli.generate"),
    )
    return list(generate(stage, torch.cat(WEIGHTS[round_]), PROMPT, count, rng, Sampling()))


@pytest.mark.rule("N17", "T32")
@pytest.mark.parametrize(
    ("listed", "held", "round_"),
    [
        ([8, 4], {0, 4, 8}, 8),
        ([8, 4], {0, 4}, 4),  # the peers have not fetched the newest yet
        ([8], {0}, 0),
        ([], {0}, 0),  # before the first checkpoint
    ],
)
async def test_a_generation_uses_the_newest_weights_that_all_stages_have(
    listed: list[int], held: set[int], round_: int, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, listed=listed, held=held)
        tokens, reply = await harness.read_all(await harness.begin())
        assert tokens == here(round_)
        assert reply["round"] == round_
        names = [[peer_name(host.peer) for host in hosts] for hosts in harness.stages]
        assert [name in names[stage] for stage, name in enumerate(reply["peers"])] == [True, True]


async def test_whoever_writes_goes_on_with_its_own_stages_itself(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, listed=[8], held={8})
        mine = harness.inference(harness.me, {8})
        assert harness.node.run is not None
        first, second = harness.node.run.seats
        seats = ((*first, a_seat(0, 9, harness.me.peer)), second)
        harness.node.run = replace(harness.node.run, seats=seats)
        sessions = GenerationSessions(harness.node, mine, nursery)
        harness.sessions = sessions
        tokens, reply = await harness.read_all(await harness.begin())
        assert tokens == here(8)
        assert reply["peers"][0] == peer_name(harness.me.peer)
        assert harness.calls() == 12, "a call for each token, to the other stage alone"


async def test_a_generation_that_no_peer_continues_fails_once(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, listed=[8], held={0, 8})
        for host in harness.stages[1]:
            host.is_alive = False
        name = await harness.begin()
        with pytest.raises(Unreachable, match="stage 1"):
            await harness.read_all(name)
        with pytest.raises(UsageError, match="no such generation"):
            await harness.sessions.read(name)


async def test_a_peer_that_dies_ends_no_generation(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, listed=[8], held={8})
        name = await harness.begin()
        first = dict(await harness.sessions.read(name))
        tokens: Any = first["tokens"]
        holder: Any = first["peers"]
        for hosts in harness.stages:
            for host in hosts:
                host.is_alive = host.is_alive and peer_name(host.peer) not in holder
        more, _ = await harness.read_all(name)
        assert [*tokens, *more] == here(8)


@pytest.mark.rule("N17")
async def test_four_generations_at_once_and_a_slot_for_each_that_ends(
    autojump_clock: object,
) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, listed=[8], held={8})
        names = [await harness.begin() for _ in range(GENERATIONS_MAX)]
        with pytest.raises(UsageError, match="are in progress"):
            await harness.begin()
        await harness.sessions.end(names[0])
        with pytest.raises(UsageError, match="no such generation"):
            await harness.sessions.end(names[0])
        names[0] = await harness.begin()
        for name in names:
            await harness.read_all(name)
        await harness.begin()


FEW_UNREAD = 16
"""A smaller bound on the tokens that nobody has read, which a generation meets sooner."""


@pytest.fixture
def few_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.node.api.generate.UNREAD_MAX", FEW_UNREAD)


@pytest.mark.rule("N17")
@pytest.mark.usefixtures("few_unread")
@pytest.mark.parametrize("count", [3, 2 * FEW_UNREAD])
@pytest.mark.parametrize("is_dead", [False, True])
async def test_generations_without_a_reader_make_room(
    count: int, is_dead: bool, autojump_clock: object
) -> None:
    """Whether they were written to the end, wait for a reader in the middle, or failed."""
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, listed=[8], held={8})
        for host in harness.stages[1]:
            host.is_alive = not is_dead
        for _ in range(GENERATIONS_MAX):
            await harness.begin(count=count)
        await trio.sleep(READER_S + 1)
        name = await harness.begin()
        await harness.sessions.end(name)
        with trio.fail_after(1):
            await trio.sleep(0.1)
    assert not nursery.child_tasks, "nothing writes on"


@pytest.mark.rule("N17")
@pytest.mark.usefixtures("few_unread")
async def test_a_generation_waits_for_a_slow_reader(autojump_clock: object) -> None:
    """What is not read yet is bounded; a reader within its patience loses nothing."""
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, listed=[8], held={8})
        name = await harness.begin(count=3 * FEW_UNREAD)
        await trio.sleep(READER_S - 1)
        written = harness.calls() // 2
        assert written == FEW_UNREAD + 1, "one more is in hand"
        tokens, _ = await harness.read_all(name)
        assert tokens == here(8, 3 * FEW_UNREAD)


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens": []},
        {"tokens": "text"},
        {"tokens": [1, True]},
        {"tokens": [1, "2"]},
        {"tokens": [1] * (PROMPT_TOKENS_MAX + 1)},
        {"tokens": [SPEC.model.vocab_size]},
        {"tokens": [-1]},
        {"count": -1},
        {"count": 1.5},
        {"count": 100_001},
        {"seed": True},
        {"seed": 1 << 64},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": "all"},
        {"temperature": float("nan")},
        {"temperature": -1},
    ],
)
async def test_an_impossible_request_is_refused_and_leaves_nothing(
    fields: dict[str, object], autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, listed=[8], held={8})
        for _ in range(GENERATIONS_MAX + 1):
            with pytest.raises(UsageError):
                await harness.begin(**fields)
        assert not nursery.child_tasks


async def test_without_a_run_there_is_nothing_to_write_with(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        harness = Harness(nursery, listed=[8], held={8})
        harness.node.run = None
        with pytest.raises(UsageError, match="no run yet"):
            await harness.begin()
        with pytest.raises(UsageError, match="no such generation"):
            await harness.sessions.read({"id": 7})
