"""Check the windows of others at drawn elements, and show those of our own: the spot checks of a node.

Shell: asks the solver, fetches what it shows, and blames it for faults; computes its own windows one at a time.

    verifier   statement --> opened, checked --> a seed of its own --> shown, checked --> a result, or a proof
    solver     log --> statement and opened | seed --> shown; both for each verifier, and to some of them false

Whoever asks gets an answer at once: what is not there yet is put in a queue, and asked for again. Peers whose
answers the ledger waits for have a queue of their own, which goes first: others could else keep it from them.
"""

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar, TypeVarTuple

import trio

from swarm.config.tolerance import SPOT_ITEMS
from swarm.errors import BadConfig, BrokenPromise, PeerFault, Unreachable, UsageError
from swarm.executor import ExecutorPort
from swarm.gossip.trade.service import TradeLinks
from swarm.primitives.codec import decode, encode
from swarm.primitives.commitments import WindowResult
from swarm.primitives.crypto import SecretKey
from swarm.training.record.window import WindowKey
from swarm.types import Digest, PeerId
from swarm.verify.answers import Sought
from swarm.verify.ports import BlobsPort, LedgerPort
from swarm.verify.program.account import result_of
from swarm.verify.program.computed import Log
from swarm.verify.program.opened import Window
from swarm.verify.spots.checking import (
    Spot,
    SpotShown,
    check_opened,
    find_false,
    result_in,
    wanted,
)
from swarm.verify.spots.exchange import (
    REPLY_BYTES_MAX,
    REQUEST_BYTES_MAX,
    SEED_BYTES,
    SHOWN_BYTES_MAX,
    SPOT_PROTOCOL,
    SpotFound,
    SpotMissing,
    SpotRequest,
    SpotWorking,
    decode_reply,
    decode_request,
    request_of,
)
from swarm.verify.spots.proof import FalseTrace
from swarm.verify.spots.solving import Solved
from swarm.verify.spots.statement import (
    SpotOpened,
    SpotStatement,
    TraceSaid,
    check_statement,
    decode_opened,
    sign_statement,
)

ASK_TIMEOUT_S = 10.0
"""Seconds for a reply of a few hundred bytes."""
ASK_AGAIN_S = 2.0
"""Seconds between two requests for something that is being computed."""
WORKING_S_MAX = 900.0
"""Seconds that a solver may compute: it does two steps, and those since its last kept state."""
STATEMENTS_MAX = 256
"""Statements whose seeds are remembered."""
FETCH_PATIENCE_S = 20.0
"""Seconds without progress after which a fetch is given up for now."""
QUEUE_MAX = 32
"""Requests that wait to be computed; more are asked to come again."""
SEEDS_MAX = 3
"""Seeds of a peer about one window: a check has one, and a node that starts again another."""
ASKERS_MAX = 4096
"""Peers and windows whose seeds are remembered; the oldest are forgotten first."""
KEPT_MAX = 64
"""Answers that are kept as blobs; older ones are computed again when they are asked for."""
SERVED_MAX = 16
SERVED_PER_PEER_MAX = 4

STATED_MAX = 16
"""Windows of which what is stated is remembered: for another peer it is only signed again."""

Asked = tuple[PeerId, WindowKey, bytes]
"""Peer that asks, window and seed; that is empty for the statement."""


@dataclass(frozen=True, slots=True)
class SpotResult:
    """Result of a check."""

    result: WindowResult
    proof: FalseTrace | None
    statement: SpotStatement
    opened: SpotOpened


@dataclass(frozen=True, slots=True)
class OwnWindow:
    """A window of our own, with all that its programs are computed from."""

    window: Window
    log: Log
    spot: Spot


@dataclass(frozen=True, slots=True)
class Stated:
    """All that is stated of a window, without who it is for."""

    claim: Digest
    opened: SpotOpened
    traces: tuple[TraceSaid, ...]


T = TypeVar("T")
Ts = TypeVarTuple("Ts")
OwnSource = Callable[[WindowKey], Awaitable[OwnWindow]]
"""Reads a window of our own; raises ``Unreachable`` if it is not here, or not committed."""
SpotSource = Callable[[Sought], Awaitable[Spot]]
"""Finds all that the ledger and the run have of a window of another; raises ``Unreachable``."""


class Shelf(Protocol):
    """Place of the blobs that are shown to verifiers, which a crash does not fill for good."""

    async def put(self, raw: bytes) -> Digest:
        """Serve some bytes as a blob and return its root; raises ``BadConfig`` if they do not fit."""
        ...

    async def drop(self, root: Digest) -> None:
        """Serve a blob no more."""
        ...

    async def clear(self) -> None:
        """Drop all that an earlier start has left."""
        ...


Turn = Callable[[], AbstractAsyncContextManager[None]]
"""The turn of a computation among others."""


class SpotChecks:
    """Client and server for spot checks."""

    def __init__(
        self,
        *,
        host: TradeLinks,
        secret: SecretKey,
        ledger: LedgerPort,
        blobs: BlobsPort,
        shelf: Shelf,
        compute: ExecutorPort,
        turn: Turn,
        own: OwnSource,
        spot: SpotSource,
        admits: Callable[[PeerId, WindowKey], bool],
        is_drawn: Callable[[PeerId, WindowKey], bool],
        forced: Callable[[PeerId, WindowKey], Digest | None],
        items: int = SPOT_ITEMS,
    ) -> None:
        """Serve the protocol.

        ``admits``: whether a peer may ask for a window now; ``is_drawn``: whether the ledger waits for it to
        check that, so that it is served first; ``forced``: the seed of what is to be stated falsely to it, None
        for the truth; ``items``: as many as a check has.
        """
        self._forced = forced
        self._items = items
        self._host, self._secret, self._ledger, self._blobs = host, secret, ledger, blobs
        self._compute, self._turn, self._own, self._spot = compute, turn, own, spot
        self._admits, self._is_drawn, self._shelf = admits, is_drawn, shelf
        self._made: OrderedDict[Asked, SpotFound] = OrderedDict()
        self._drawn: OrderedDict[Asked, None] = OrderedDict()
        self._queue: OrderedDict[Asked, None] = OrderedDict()
        self._seeds: OrderedDict[tuple[PeerId, WindowKey], set[bytes]] = OrderedDict()
        self._stated: OrderedDict[tuple[WindowKey, Digest | None], Stated] = OrderedDict()
        self._under_way: Asked | None = None
        self._own_seeds: OrderedDict[bytes, bytes] = OrderedDict()
        self._is_due = trio.Event()
        host.serve(
            SPOT_PROTOCOL,
            self._serve,
            request_limit=REQUEST_BYTES_MAX,
            concurrency=SERVED_MAX,
            per_peer=SERVED_PER_PEER_MAX,
        )

    # --- the verifier ---

    async def check(self, sought: Sought) -> SpotResult:
        """Check a window of another peer at elements that are drawn now.

        Raises ``Unreachable`` if its solver does not serve it, or something else than what it states or what
        was asked for, and ``BadConfig`` if the disk cannot take it.
        """
        spot = await self._spot(sought)
        try:
            return await self._checked(sought, spot)
        except PeerFault as error:
            fault = error
        except (ArithmeticError, LookupError, UsageError, ValueError) as error:
            # The checks should refuse it before. If one is missing, its sender loses by that; no node stops.
            fault = BrokenPromise(f"nothing can be computed with it: {error}")
        self._host.blame(sought.record.peer, fault)
        raise Unreachable(f"its solver shows nothing that can be checked: {fault}")

    async def _checked(self, sought: Sought, spot: Spot) -> SpotResult:
        solver, chain = sought.record.peer, self._ledger.state.chain
        found = await self._ask(sought, b"")
        check_statement(found.statement, solver, chain, sought.run.spec_digest)
        if found.statement.to != self._host.peer:
            raise BrokenPromise("a statement for somebody else")
        opened = decode_opened(await self._fetched(found, solver))
        traces = await self._worked(check_opened, spot, found.statement, opened)
        seed = self._seed_for(found.statement)
        asked = await self._worked(wanted, spot, opened, traces, seed, self._items)
        answer = await self._ask(sought, seed)
        raw = await self._fetched(answer, solver)
        shown = decode(SpotShown, raw, limit=SHOWN_BYTES_MAX)
        proof = await self._worked(find_false, found.statement, traces, asked, shown)
        return SpotResult(result_in(opened), proof, found.statement, opened)

    def _seed_for(self, said: SpotStatement) -> bytes:
        """Return the seed for a statement: the same in every try, and another if it says anything else."""
        seed = self._own_seeds.setdefault(encode(said), secrets.token_bytes(SEED_BYTES))
        while len(self._own_seeds) > STATEMENTS_MAX:
            self._own_seeds.popitem(last=False)
        return seed

    async def _ask(self, sought: Sought, seed: bytes) -> SpotFound:
        """Return the answer of a solver once it is there; raise ``Unreachable`` if it never is, or too late."""
        with trio.move_on_after(WORKING_S_MAX):
            return await self._asked(sought, seed)
        raise Unreachable("its solver has computed for too long")

    async def _asked(self, sought: Sought, seed: bytes) -> SpotFound:
        key, solver = sought.key, sought.record.peer
        asked = request_of(key, seed)
        while True:
            raw = await self._host.call(
                solver,
                SPOT_PROTOCOL,
                encode(asked),
                timeout_s=ASK_TIMEOUT_S,
                reply_limit=REPLY_BYTES_MAX,
            )
            match decode_reply(raw, asked):
                case SpotFound() as found:
                    return found
                case SpotWorking():
                    await trio.sleep(ASK_AGAIN_S)
                case SpotMissing():
                    raise Unreachable("its solver has no such window")

    async def _fetched(self, found: SpotFound, solver: PeerId) -> bytes:
        path = await self._blobs.fetch(
            found.root, found.num_bytes, lambda: (solver,), patience_s=FETCH_PATIENCE_S
        )
        raw = await trio.to_thread.run_sync(path.read_bytes)
        await self._blobs.remove(found.root)
        if len(raw) != found.num_bytes:
            raise BrokenPromise("a blob of another size than was said")
        return raw

    # --- the solver ---

    async def run(self) -> None:
        """Compute what was asked for until cancelled."""
        await self._shelf.clear()
        while True:
            while queue := self._drawn or self._queue:
                self._under_way, _ = queue.popitem(last=False)
                # Whoever asks for what cannot be made asks again, until it is late.
                with suppress(Unreachable, BadConfig, PeerFault):
                    await self._make(self._under_way)
                self._under_way = None
            self._is_due = trio.Event()
            await self._is_due.wait()

    async def _serve(self, peer: PeerId, raw: bytes) -> bytes:
        asked = decode_request(raw)
        what = (peer, asked.key, asked.seed)
        if what in self._made:
            return encode(self._made[what])
        if not self._admits(peer, asked.key) or not self._is_within(peer, asked):
            return encode(SpotMissing())
        queue = self._drawn if self._is_drawn(peer, asked.key) else self._queue
        if what != self._under_way and what not in queue and len(queue) < QUEUE_MAX:
            queue[what] = None
            self._is_due.set()
        return encode(SpotWorking())

    def _is_within(self, peer: PeerId, asked: SpotRequest) -> bool:
        """Return True unless a peer asks for one more seed than it needs: each costs two steps."""
        seeds = self._seeds.setdefault((peer, asked.key), set())
        if asked.seed and asked.seed not in seeds:
            if len(seeds) >= SEEDS_MAX:
                return False
            seeds.add(asked.seed)
        while len(self._seeds) > ASKERS_MAX:
            self._seeds.popitem(last=False)
        return True

    async def _make(self, asked: Asked) -> None:
        """Compute a statement, or what a seed asks for, and keep it as a blob."""
        peer, key, seed = asked
        own, forced = await self._own(key), self._forced(peer, key)
        shown = b""
        if seed or (key, forced) not in self._stated:
            made, shown = await self._worked(_made, own, forced, seed, self._items)
            self._stated[key, forced] = made
            while len(self._stated) > STATED_MAX:
                self._stated.popitem(last=False)
        stated = self._stated[key, forced]
        raw = shown if seed else encode(stated.opened)
        root = await self._shelf.put(raw)
        self._made[asked] = SpotFound(self._signed(stated, own, peer), root, len(raw))
        while len(self._made) > KEPT_MAX:
            _, old = self._made.popitem(last=False)
            if all(other.root != old.root for other in self._made.values()):
                await self._shelf.drop(old.root)

    def _signed(self, stated: Stated, own: OwnWindow, peer: PeerId) -> SpotStatement:
        chain, spot = self._ledger.state.chain, own.spot
        where = (self._secret, chain, spot.plan.run_digest, spot.key, peer)
        return sign_statement(*where, stated.claim, stated.opened, stated.traces)

    async def false_elements(
        self, key: WindowKey, to: PeerId, seed: Digest, dice: bytes
    ) -> list[FalseTrace]:
        """Return what shows that a statement of ours for a peer was false on purpose.

        Raises ``Unreachable`` if the log of the window is not here.
        """
        own = await self._own(key)
        where = (self._secret, self._ledger.state.chain, own.spot.plan.run_digest)
        return await self._worked(_false_elements, own, *where, to, seed, dice)

    async def _worked(self, function: Callable[[*Ts], T], *given: *Ts) -> T:
        async with self._turn():
            return await self._compute.run(function, *given)


def _made(own: OwnWindow, forced: Digest | None, seed: bytes, items: int) -> tuple[Stated, bytes]:
    """Return what is stated of a window, and what a seed asks for, encoded."""
    solved = Solved(own.window, own.log, forced)
    stated = Stated(result_of(solved.account).claim, solved.opened, solved.traces)
    if not seed:
        return stated, b""
    asked = wanted(own.spot, solved.opened, solved.traces, seed, items)
    return stated, encode(solved.shown(asked))


def _false_elements(
    own: OwnWindow,
    secret: SecretKey,
    chain: Digest,
    run_digest: Digest,
    to: PeerId,
    seed: Digest,
    dice: bytes,
) -> list[FalseTrace]:
    solved = Solved(own.window, own.log, seed)
    said = solved.statement(secret, chain, run_digest, own.spot.key, to)
    return solved.false_elements(said, dice)
