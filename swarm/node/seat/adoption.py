"""Save a seat's shard, serve it to replicas of the same stage, and adopt the state that a replica committed.

Shell: reads and writes one file per seat, asks, fetches and serves; ``training/averaging/adoption.py`` says
which peers to ask, and what proves the answer.

    newcomer, or a seat too far behind -> ask replicas in turn -> wait for the commit -> fetch two tensors
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import trio
from torch import Tensor

from swarm.errors import BadConfig, Corrupt, PeerFault, Unreachable
from swarm.events import EventKind
from swarm.executor import ExecutorPort
from swarm.gossip.blobs.service import read_blob
from swarm.ledger.state.records import Run, Seat
from swarm.ledger.transition.rollbacks import anew_round
from swarm.node.artifacts.checkpoints import drop
from swarm.node.control.planner import is_accused
from swarm.node.ports import (
    HasBlobs,
    HasCompute,
    HasGenesis,
    HasHome,
    HasHost,
    HasLedger,
    HasMe,
    HasReport,
    HasRun,
    HasStore,
    HasWeights,
)
from swarm.placement import SLICE_BYTES, let_go
from swarm.primitives.codec import decode, encode
from swarm.primitives.crypto import peer_name
from swarm.primitives.state_parts import SECOND
from swarm.spill import file_bytes
from swarm.training.averaging.adoption import (
    ADOPTION_PROTOCOL,
    REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX,
    AdoptedState,
    OfferedState,
    StateFound,
    StateMissing,
    StateRequest,
    adopt,
    check_found,
    decode_reply,
    parts_given,
    replicas_to_ask,
)
from swarm.training.model.optimizer import num_second_moments
from swarm.training.model.stages import stage_of
from swarm.training.plan import RosterSeat
from swarm.training.record.checkpoint import (
    FLOAT_BYTES,
    SavedShard,
    decode_phi,
    decode_shard,
    encode_shard,
    phi_bytes,
)
from swarm.training.record.restore import saved_components, saved_of
from swarm.training.shard import Shard
from swarm.types import Digest, PeerId, RoundIndex, StageIndex
from swarm.verify.round_plan import round_plan
from swarm.verify.transcript import state_root

FOLDER = "seats"


class SavedFolder(HasHome, HasRun, Protocol):
    """Parts of a node that name the file of a seat."""


class SavingNode(HasHome, HasRun, HasCompute, HasReport, Protocol):
    """Parts of a node that write and read shards."""


async def keep_shard(
    context: SavingNode, run: Run, seat: Seat, shard: Shard, round_: RoundIndex
) -> None:
    """Save the state between two segments; a full disk is reported, and loses only the copy."""
    path = _file(context, seat.stage, seat.index)
    try:
        # In the worker of the shard: nothing may change it while it is written, and a copy is its size again.
        await context.compute.run(write_shard, path, shard, run.spec_digest, seat.index, round_)
    except OSError as error:
        context.report(
            EventKind.WARNING,
            f"the shard of stage {seat.stage} could not be saved: {error.strerror}; try: df -h {path.parent}",
        )


async def saved_at(context: SavedFolder, stage: StageIndex, index: int) -> int:
    """Return the time a seat was saved last, in nanoseconds of the disk's clock; 0 if never."""
    return await trio.to_thread.run_sync(_changed_ns, _file(context, stage, index))


async def saved_shard(
    context: SavingNode, run: Run, stage: StageIndex, index: int
) -> SavedShard | None:
    """Return the saved shard of a seat, or None; raises ``Corrupt`` if the disk has changed it."""
    data = await trio.to_thread.run_sync(_mapped, _file(context, stage, index))
    if not data:
        return None
    plan = stage_of(run.spec, stage).plan
    second = num_second_moments(run.spec.optimizer, plan)
    saved = await context.compute.run(decode_shard, data, plan.num_parameters, second)
    if (saved.run_digest, saved.stage, saved.seat) != (run.spec_digest, stage, index):
        raise Corrupt("a saved shard of another seat", hint="delete the folder of saved shards")
    return saved


async def former_state(
    context: SavingNode,
    run: Run,
    stage: StageIndex,
    but: int,
    is_known: Callable[[Digest], bool],
) -> tuple[AdoptedState, int] | None:
    """Return the newest state that this node saved in another seat of the stage, and its round; None if none.

    Who yielded a stage still has what it had learned: it need not begin again when it gets the stage back. But
    from a state whose root is not known on the ledger, as that of a refused segment, only refused ones follow.
    """
    found = list[SavedShard]()
    for index in await trio.to_thread.run_sync(_saved_indices, context, stage):
        if index == but:
            continue
        try:
            saved = await saved_shard(context, run, stage, index)
        except Corrupt as error:
            context.report(EventKind.WARNING, f"a saved shard cannot be used: {error}")
            continue
        if saved is not None:
            found.append(saved)
    plan = stage_of(run.spec, stage).plan
    numel, second = plan.num_parameters, num_second_moments(run.spec.optimizer, plan)
    for saved in sorted(found, key=lambda one: one.round, reverse=True):
        parts = await context.compute.run(saved_components, saved)
        if is_known(state_root(parts)):
            offered = OfferedState(saved.phi_P, saved.v_A, saved.step, parts)
            return await context.compute.run(adopt, offered, numel, second), saved.round
    return None


def _saved_indices(context: SavedFolder, stage: StageIndex) -> list[int]:
    prefix = f"{context.run16.hex()}-{stage}-"
    names = [path.stem for path in (context.home / FOLDER).glob(f"{prefix}*.bin")]
    return sorted(int(name.removeprefix(prefix)) for name in names)


def _file(context: SavedFolder, stage: StageIndex, index: int) -> Path:
    return context.home / FOLDER / f"{context.run16.hex()}-{stage}-{index}.bin"


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _mapped(path: Path) -> memoryview:
    return file_bytes(path) if path.exists() else memoryview(b"")


def write_shard(
    path: Path, shard: Shard, run_digest: Digest, seat: int, round_: RoundIndex
) -> None:
    """Replace the file of a seat atomically: a crash leaves the old one or the new one.

    No tensor is copied. Raises ``OSError`` if the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    with draft.open("wb") as file:
        for piece in encode_shard(saved_of(shard, run_digest, seat, round_)):
            for start in range(0, len(piece), SLICE_BYTES):
                file.write(piece[start : start + SLICE_BYTES])
                let_go()
    draft.replace(path)


ASK_TIMEOUT_S = 30.0
"""Seconds to wait for an answer: a replica reads its shard from disk and hashes it before its first one."""
FETCH_PATIENCE_S = 20.0
"""Seconds without data after which the next replica is asked."""
WAIT_ROUNDS = 1
"""Rounds to wait for commits on their way, of all replicas together: a longer wait costs a round of
training."""
CONCURRENCY_MAX = 4
PER_PEER_MAX = 1


class AdoptingNode(HasMe, HasGenesis, HasHost, HasLedger, HasBlobs, HasCompute, Protocol):
    """Parts of a node that ask other replicas for their state."""


class ServingNode(
    HasMe,
    HasHome,
    HasRun,
    HasHost,
    HasBlobs,
    HasStore,
    HasWeights,
    HasCompute,
    HasReport,
    Protocol,
):
    """Parts of a node that give the states of its seats to other replicas."""

    @property
    def checking(self) -> ExecutorPort:
        """Worker that gives way to training."""
        ...


async def adopt_from_replica(
    context: AdoptingNode, run: Run, stage: StageIndex
) -> tuple[AdoptedState, str] | None:
    """Return a state for a seat of the stage, and its source in words; None if no replica has one.

    Replicas that send false data are blamed, silent ones are skipped.
    """
    if not run.rounds:
        return None
    chain = context.genesis.chain
    last = context.ledger.height + WAIT_ROUNDS * run.spec.round_blocks
    plans = [round_plan(run, info, chain) for info in reversed(run.rounds)]
    asked = set[tuple[int, PeerId]]()
    for replica in (seat for plan in plans for seat in replicas_to_ask(plan, stage, context.me)):
        if (replica.index, replica.peer) in asked:
            continue  # who has left the stage since serves what it had for a while
        asked.add((replica.index, replica.peer))
        try:
            found, adopted = await _from(context, run, stage, replica, last)
        except PeerFault as fault:
            context.host.blame(replica.peer, fault)
        except (Unreachable, BadConfig):
            continue  # also if the disk has no room for two tensors: a checkpoint is one
        else:
            return adopted, f"what {peer_name(replica.peer)} committed in round {found.round}"
    return None


async def _from(
    context: AdoptingNode, run: Run, stage: StageIndex, replica: RosterSeat, last: int
) -> tuple[StateFound, AdoptedState]:
    """Return a replica's state, if its segment is on the ledger by height ``last``.

    Raises ``Unreachable`` or ``BadConfig`` if it cannot be had, ``PeerFault`` if it is not the committed one.
    """
    request = encode(StateRequest(run.index, stage, replica.index))
    raw = await context.host.call(
        replica.peer,
        ADOPTION_PROTOCOL,
        request,
        timeout_s=ASK_TIMEOUT_S,
        reply_limit=REPLY_BYTES_MAX,
    )
    found = decode_reply(raw)
    if isinstance(found, StateMissing):
        raise Unreachable("it has no state to give")
    check_found(found, await _committed(context, run, stage, replica, found.round, last))
    plan = stage_of(run.spec, stage).plan
    numel, second = plan.num_parameters, num_second_moments(run.spec.optimizer, plan)
    phi_root, v_root = parts_given(found.components)
    phi_P = await _tensor(context, run, stage, phi_root, numel, replica.peer)
    v_A = await _tensor(context, run, stage, v_root, second, replica.peer)
    offered = OfferedState(phi_P, v_A, found.step, found.components)
    return found, await context.compute.run(adopt, offered, numel, second)


async def _committed(
    context: HasLedger,
    run: Run,
    stage: StageIndex,
    replica: RosterSeat,
    round_: RoundIndex,
    last: int,
) -> Digest:
    """Return the end root of a replica's segment, once the ledger has it.

    Raises ``Unreachable`` if it does not come by height ``last``, is disputed, or was rolled back since.
    """
    ledger = context.ledger
    while (record := ledger.state.segment(run.index, round_, stage, replica.index)) is None:
        if ledger.height >= last:
            raise Unreachable(f"its segment of round {round_} is not on the ledger")
        await ledger.wait_height(ledger.height + 1)
    if is_accused(record) or round_ < anew_round(ledger.state.run(run.index), stage, replica.index):
        raise Unreachable(f"its segment of round {round_} may not stand")
    return record.end_root


async def _tensor(
    context: AdoptingNode, run: Run, stage: StageIndex, root: Digest, numel: int, peer: PeerId
) -> Tensor:
    """Return one tensor of a replica's state; its blob is deleted again unless somebody else needs it.

    Slow weights that the replica has posted meanwhile are the stage's newest checkpoint: another task of this
    node fetches them too, and may be about to read them.
    """
    blobs = context.blobs
    was_here = blobs.has(root)
    path = await blobs.fetch(root, numel * FLOAT_BYTES, lambda: [peer], patience_s=FETCH_PATIENCE_S)
    data = await read_blob(path)
    listed = context.ledger.state.run(run.index).checkpoints[stage]
    if not was_here and all(kept.phi_root != root for kept in listed):
        await blobs.remove(root)
    return await context.compute.run(decode_phi, data, numel)


class StateServer:
    """Server of the newest state of each of this node's seats, for replicas that start over."""

    def __init__(self, context: ServingNode) -> None:
        self._context = context
        self._published: dict[tuple[StageIndex, int], tuple[int, StateFound]] = {}
        """Time of saving and description of the state served, by seat."""
        self._turn = trio.Lock()
        """Lock that keeps one shard in memory at a time, however many peers ask."""

    def serve(self) -> None:
        """Start answering requests."""
        self._context.host.serve(
            ADOPTION_PROTOCOL,
            self.answer,
            request_limit=REQUEST_BYTES_MAX,
            concurrency=CONCURRENCY_MAX,
            per_peer=PER_PEER_MAX,
        )

    async def answer(self, peer: PeerId, raw: bytes) -> bytes:
        """Describe a seat's newest state to a peer of its stage; raises ``BadEncoding`` for junk."""
        request = decode(StateRequest, raw, limit=REQUEST_BYTES_MAX)
        run = self._context.run
        if run is None or run.index != request.run or not 0 <= request.stage < len(run.seats):
            return encode(StateMissing())
        roster = run.seats[request.stage]
        held = [roster, *(info.seats[request.stage] for info in run.rounds)]
        mine = (request.seat, self._context.me)
        is_mine = any((s.index, s.peer) == mine for seats in held for s in seats)
        if not is_mine or all(seat.peer != peer for seat in roster):
            return encode(StateMissing())
        async with self._turn:
            found = await self._found(run, request.stage, request.seat)
        return encode(StateMissing() if found is None else found)

    async def _found(self, run: Run, stage: StageIndex, index: int) -> StateFound | None:
        """Return a seat's newest state, its two tensors served as blobs; None if there is none, or no room."""
        context, key = self._context, (stage, index)
        at = await saved_at(context, stage, index)
        known_at, published = self._published.get(key, (0, None))
        is_served = published is not None and all(
            map(context.blobs.has, parts_given(published.components))
        )
        if is_served and at == known_at:
            return published
        try:
            saved = await saved_shard(context, run, stage, index)
            found = None if saved is None else await self._put(run, stage, saved)
        except (Corrupt, BadConfig) as error:
            context.report(EventKind.WARNING, f"no state can be served to replicas: {error}")
            return None
        if found is not None:
            await self._take_back(published, found)
            self._published[key] = (at, found)
        return found

    async def _put(self, run: Run, stage: StageIndex, saved: SavedShard) -> StateFound:
        """Serve the two tensors of a state, and note them, so that they are deleted when they are old."""
        context = self._context
        components = await context.checking.run(saved_components, saved)
        for tensor_P in (saved.phi_P, saved.v_A):
            shape = tuple(tensor_P.shape)
            root = await context.blobs.add(phi_bytes(tensor_P), dtype="float32", shape=shape)
            await context.artifacts.note(run, stage, saved.round, root)
        return StateFound(RoundIndex(saved.round), components, saved.step)

    async def _take_back(self, old: StateFound | None, new: StateFound) -> None:
        """Delete the second moments of an older state; its slow weights may have become an anchor."""
        if old is not None:
            root = old.components[SECOND]
            if root != new.components[SECOND]:
                await drop(self._context, root)
