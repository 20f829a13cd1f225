"""A person's texts are written with the newest weights that the swarm has, and none outlives its reader."""

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
    UNREAD_MAX,
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
from swarm.types import NO_DIGEST, Digest, Height, PeerId, RoundIndex, RunIndex, StageIndex
from tests.fakes import FakeHost, FakeNetwork
from tests.node.fakes import a_run
from tests.training.pipeline import a_spec

EXACT = "seq-f32/1"
SPEC = a_spec(stages=2, numerics=EXACT)
PLANS = plan_stages(SPEC.model, 2)
WEIGHTS = {round_: [init_flat(plan, 7 + round_) for plan in PLANS] for round_ in (0, 4, 8)}
ROOTS = {round_: [hash_of(flat) for flat in flats] for round_, flats in WEIGHTS.items()}
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


class FakeLibrary:
    """The weights of some rounds."""

    def __init__(self, rounds: set[int]) -> None:
        self.rounds = rounds

    async def initial_root(self, _: object, stage: StageIndex) -> Digest:
        return ROOTS[0][stage]

    async def served(self, run: Run, stage: StageIndex, root: Digest) -> Tensor | None:
        held = {ROOTS[round_][stage]: WEIGHTS[round_][stage] for round_ in self.rounds}
        return held.get(root)


@dataclass
class Writing:
    """A node that writes texts."""

    me: PeerId
    host: FakeHost
    run: Run | None
    library: FakeLibrary
    run16: bytes = bytes(16)


class Room:
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
        self.node = Writing(self.me.peer, self.me, run, FakeLibrary(set()))
        self.speaking = GenerationSessions(self.node, self.inference(self.me, set()), nursery)

    def inference(self, host: FakeHost, held: set[int]) -> InferenceServer:
        return InferenceServer(
            host, FakeLibrary(held), InlineExecutor(lambda _: 0.01), lambda: self.node.run
        )

    async def begin(self, **wish: object) -> dict[str, object]:
        found = await self.speaking.begin({"tokens": PROMPT, "count": 12, "seed": 5, **wish})
        await trio.lowlevel.checkpoint()
        return dict(found)

    async def whole(self, name: dict[str, object]) -> tuple[list[int], dict[str, Any]]:
        tokens, said = list[int](), dict[str, Any]()
        while not said.get("is_over"):
            said = dict(await self.speaking.read(name))
            tokens += cast("list[int]", said["tokens"])
        return tokens, said

    def calls(self) -> int:
        return sum(count for (_, what), count in self.me.calls.items() if what == PROTOCOL)


def here(round_: int, count: int = 12) -> list[int]:
    """What the checkpoint of a round writes on one machine."""
    stage, dice = (
        whole_model(SPEC.model, table(EXACT)),
        stream((5).to_bytes(8, "big"), "cli.generate"),
    )
    return list(generate(stage, torch.cat(WEIGHTS[round_]), PROMPT, count, dice, Sampling()))


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
async def test_a_text_is_that_of_the_newest_weights_that_all_stages_have(
    listed: list[int], held: set[int], round_: int, autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        room = Room(nursery, listed=listed, held=held)
        tokens, said = await room.whole(await room.begin())
        assert tokens == here(round_)
        assert said["round"] == round_
        names = [[peer_name(host.peer) for host in hosts] for hosts in room.stages]
        assert [name in names[stage] for stage, name in enumerate(said["peers"])] == [True, True]


async def test_whoever_writes_goes_on_with_its_own_stages_itself(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        room = Room(nursery, listed=[8], held={8})
        mine = room.inference(room.me, {8})
        assert room.node.run is not None
        first, second = room.node.run.seats
        seats = ((*first, a_seat(0, 9, room.me.peer)), second)
        room.node.run = replace(room.node.run, seats=seats)
        speaking = GenerationSessions(room.node, mine, nursery)
        room.speaking = speaking
        tokens, said = await room.whole(await room.begin())
        assert tokens == here(8)
        assert said["peers"][0] == peer_name(room.me.peer)
        assert room.calls() == 12, "a call for each token, to the other stage alone"


async def test_a_text_that_nobody_goes_on_with_says_so_once(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        room = Room(nursery, listed=[8], held={0, 8})
        for host in room.stages[1]:
            host.is_alive = False
        name = await room.begin()
        with pytest.raises(Unreachable, match="stage 1"):
            await room.whole(name)
        with pytest.raises(UsageError, match="no such text"):
            await room.speaking.read(name)


async def test_a_peer_that_dies_ends_no_text(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        room = Room(nursery, listed=[8], held={8})
        name = await room.begin()
        first = dict(await room.speaking.read(name))
        tokens: Any = first["tokens"]
        holder: Any = first["peers"]
        for hosts in room.stages:
            for host in hosts:
                host.is_alive = host.is_alive and peer_name(host.peer) not in holder
        more, _ = await room.whole(name)
        assert [*tokens, *more] == here(8)


@pytest.mark.rule("N17")
async def test_four_texts_at_once_and_a_place_for_each_that_ends(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        room = Room(nursery, listed=[8], held={8})
        names = [await room.begin() for _ in range(GENERATIONS_MAX)]
        with pytest.raises(UsageError, match="are being written"):
            await room.begin()
        await room.speaking.end(names[0])
        with pytest.raises(UsageError, match="no such text"):
            await room.speaking.end(names[0])
        names[0] = await room.begin()
        for name in names:
            await room.whole(name)
        await room.begin()


@pytest.mark.rule("N17")
@pytest.mark.parametrize("count", [3, 400])
@pytest.mark.parametrize("is_dead", [False, True])
async def test_texts_whose_readers_are_gone_make_room(
    count: int, is_dead: bool, autojump_clock: object
) -> None:
    """Whether they were written to the end, wait for a reader in the middle, or failed."""
    async with trio.open_nursery() as nursery:
        room = Room(nursery, listed=[8], held={8})
        for host in room.stages[1]:
            host.is_alive = not is_dead
        for _ in range(GENERATIONS_MAX):
            await room.begin(count=count)
        await trio.sleep(READER_S + 1)
        name = await room.begin()
        await room.speaking.end(name)
        with trio.fail_after(1):
            await trio.sleep(0.1)
    assert not nursery.child_tasks, "nothing writes on"


@pytest.mark.rule("N17")
async def test_a_text_waits_for_a_slow_reader(autojump_clock: object) -> None:
    """What is not read yet is bounded; a reader within its patience loses nothing."""
    async with trio.open_nursery() as nursery:
        room = Room(nursery, listed=[8], held={8})
        name = await room.begin(count=300)
        await trio.sleep(READER_S - 1)
        written = room.calls() // 2
        assert written == UNREAD_MAX + 1, "one more is in hand"
        tokens, _ = await room.whole(name)
        assert tokens == here(8, 300)


@pytest.mark.parametrize(
    "wish",
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
async def test_a_wish_that_cannot_be_is_refused_and_leaves_nothing(
    wish: dict[str, object], autojump_clock: object
) -> None:
    async with trio.open_nursery() as nursery:
        room = Room(nursery, listed=[8], held={8})
        for _ in range(GENERATIONS_MAX + 1):
            with pytest.raises(UsageError):
                await room.begin(**wish)
        assert not nursery.child_tasks


async def test_without_a_run_there_is_nothing_to_write_with(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        room = Room(nursery, listed=[8], held={8})
        room.node.run = None
        with pytest.raises(UsageError, match="no run yet"):
            await room.begin()
        with pytest.raises(UsageError, match="no such text"):
            await room.speaking.read({"id": 7})
