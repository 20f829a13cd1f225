"""Find the network and the run that a ticket or an earlier start names.

Shell: asks peers for the genesis, waits for the ledger, explains what it waits for.
"""

from collections.abc import Mapping, Sequence

import trio

from swarm.config.schema import NodeConfig
from swarm.config.spec import Genesis
from swarm.errors import (
    BadConfig,
    BadEncoding,
    BadTicket,
    Corrupt,
    PeerFault,
    Unreachable,
    UsageError,
)
from swarm.events import EventKind
from swarm.host.addresses import parse_address, relay_in
from swarm.host.bootstrap import Failed, Progress, Reached, bootstrap
from swarm.host.handshake import OTHER_NETWORK
from swarm.host.service import Host
from swarm.ledger.net.sync import GENESIS_BYTES_MAX, SYNC_PROTOCOL, FollowRequest, parse_genesis
from swarm.ledger.service import LedgerService
from swarm.ledger.state.records import Run
from swarm.ledger.state.state import State
from swarm.node.join import known_peers
from swarm.node.reporting import EventLog
from swarm.node.start import Join, Launch, Resume, Start
from swarm.primitives.codec import decode, encode
from swarm.primitives.crypto import parse_peer, peer_name
from swarm.store import Store
from swarm.ticket import Reach, Ticket, reach_of
from swarm.types import Height, PeerId

TABLE = "node"
GENESIS_KEY = b"genesis"
RUN_KEY = b"run"
INCARNATION_KEY = b"incarnation"
TICKET_KEY = b"ticket"
ASK_S = 10.0
MEET_S = 60.0
"""A newcomer gives up when no peer is connected for so long: three tries of both addresses of a ticket, up to
10 s each, and the waits between them would take no longer."""
SILENT_S = 180.0
"""A newcomer gives up when peers are connected for so long, and none sends the first block: one that serves the
network sends it in a second."""
RETRY_S = 1.0
PATIENCE_S = 10.0
"""Seconds of waiting after which the reason is reported again."""
NO_RUN = bytes(16)
"""Run of a ticket that stands for the newest one."""
LATE_BLOCKS = 30
"""Blocks after which a ledger that is up to date and still lacks the run will not get it."""


def targets_of(
    start: Start, config: NodeConfig, recalled: Sequence[known_peers.Target]
) -> list[tuple[PeerId, Sequence[str]]]:
    """Return the peers to connect to first; raises ``BadConfig`` for a bootstrap entry without a peer.

    The peer of the ticket comes first, then those of the node file, then those of the last start.
    """
    found: list[tuple[PeerId, Sequence[str]]] = []
    ticket = ticket_of(start)
    if ticket is not None:
        found.append((ticket.peer, ticket.addresses))
    found += [(peer, [address]) for peer, address in _entries("bootstrap", config.bootstrap)]
    named = {peer for peer, _ in found}
    return [*found, *((peer, addresses) for peer, addresses in recalled if peer not in named)]


def relays_of(
    config: NodeConfig, targets: Sequence[tuple[PeerId, Sequence[str]]]
) -> list[tuple[PeerId, str]]:
    """Return the relays that the node file names, then those through which first peers are reached.

    Raises ``BadConfig`` for an entry without a peer.
    """
    found = _entries("relays", config.relays)
    through = (relay_in(address) for _, addresses in targets for address in addresses)
    return [*found, *(relay for relay in through if relay is not None)]


def _entries(setting: str, entries: Sequence[str]) -> list[tuple[PeerId, str]]:
    """Read addresses that end with a peer; raise ``BadConfig``."""
    found = list[tuple[PeerId, str]]()
    for entry in entries:
        address, _, peer = entry.rpartition("/p2p/")
        try:
            found.append((parse_peer(peer), parse_address(address)))
        except BadEncoding:
            raise BadConfig(
                f'{setting} = "{entry}" is not like /ip4/HOST/tcp/PORT/p2p/PEER',
                hint="edit node.toml",
            ) from None
    return found


def ticket_of(start: Start) -> Ticket | None:
    """Return the ticket that a start was given; None if it needs none."""
    if isinstance(start, Join):
        return start.ticket
    return start.network if isinstance(start, Launch) else None


def stored_genesis(store: Store) -> Genesis | None:
    """Return the genesis this home belongs to; None if it belongs to no network yet.

    Raises ``Corrupt`` if the stored genesis is damaged.
    """
    raw = store.get(TABLE, GENESIS_KEY)
    if raw is None:
        return None
    try:
        return decode(Genesis, raw, limit=GENESIS_BYTES_MAX)
    except BadEncoding as error:
        moved = f"mv {store.path} {store.path}.damaged   (then swarm join TICKET syncs it again)"
        raise Corrupt(
            f"{store.path} is damaged: its network's first block is {error}", hint=moved
        ) from None


def check_network(genesis: Genesis, ticket: Ticket) -> None:
    """Raise ``UsageError`` if the ticket is for another network than this home's."""
    if genesis.chain[:16] != ticket.genesis16:
        raise UsageError(
            f"this home belongs to the network {genesis.chain.hex()[:12]} and the ticket is for"
            f" {ticket.genesis16.hex()[:12]}",
            hint="swarm join TICKET --home ANOTHER_FOLDER",
        )


def wanted_run(store: Store, start: Join | Resume) -> bytes:
    """Return the first 16 bytes of the digest of the run to wait for; ``NO_RUN`` takes any.

    The run of the ticket comes before that of the last start.
    """
    if isinstance(start, Join) and start.ticket.run16 != NO_RUN:
        return start.ticket.run16
    return store.get(TABLE, RUN_KEY) or NO_RUN


def next_incarnation(store: Store) -> int:
    """Count this start, durably, before anything is signed in it; return its number."""
    raw = store.get(TABLE, INCARNATION_KEY)
    number = int.from_bytes(raw or b"", "big") + 1
    store.put(TABLE, INCARNATION_KEY, number.to_bytes(4, "big"))
    return number


async def keep_connected(
    host: Host,
    targets: Sequence[tuple[PeerId, Sequence[str]]],
    report: EventLog,
    is_new: bool,
    failures: dict[PeerId, str],
) -> None:
    """Stay connected to the named peers and say how that goes; runs until cancelled.

    Args:
        host: The host of this node.
        targets: The peers to be connected to, and where.
        report: Function that reports one event.
        is_new: Whether this home has been in no network yet: then ``fetch_genesis`` ends the tries.
        failures: Given the last reason why each of them could not be reached.
    """
    send, receive = trio.open_memory_channel[Progress](16)
    until = f" for up to {MEET_S:.0f} s" if is_new else ", and again until a peer answers"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bootstrap, host, targets, send)
        async for progress in receive:
            match progress:
                case Failed(peer, attempt, reason, retry_s):
                    failures[peer] = reason
                    is_rare = attempt & (attempt - 1) == 0  # the 1st, 2nd, 4th, 8th ...
                    if attempt > 1 and (host.connected() or not (is_new or is_rare)):
                        continue  # others are there, or it was said: a line is not due every time
                    report(
                        EventKind.NETWORK,
                        f"{reason}; next try in {retry_s:.0f} s{until}",  # it names the peer
                        attempt=attempt,
                    )
                case Reached(peer, _):
                    report(EventKind.NETWORK, f"connected to {peer_name(peer)}")
                case _:
                    continue


async def fetch_genesis(
    host: Host, ticket: Ticket, report: EventLog, failures: Mapping[PeerId, str]
) -> Genesis:
    """Ask connected peers for the genesis the ticket names.

    ``failures`` has the last reason why a peer could not be reached. Raises ``BadTicket`` when the peer that
    the ticket names has proved to be on another network, and ``Unreachable`` after ``MEET_S`` without a peer,
    or ``SILENT_S`` without the genesis.
    """
    began = explained = met = trio.current_time()
    while True:
        reason = host.why_parted(ticket.peer)
        if reason.startswith(OTHER_NETWORK) and not host.connected():
            raise BadTicket(
                f"the ticket does not fit its network: {peer_name(ticket.peer)} {reason}",
                hint="ask for a new one: swarm ticket new",
            )
        for peer in host.connected():
            try:
                raw = await host.call(
                    peer,
                    SYNC_PROTOCOL,
                    encode(FollowRequest(Height(0), 0)),
                    timeout_s=ASK_S,
                    reply_limit=GENESIS_BYTES_MAX,
                )
                return parse_genesis(raw, ticket.genesis16)
            except Unreachable:
                continue
            except PeerFault as fault:
                host.blame(peer, fault)
        now = trio.current_time()
        met = now if host.connected() else met
        if now - met >= MEET_S:
            raise nobody_there(ticket, failures.get(ticket.peer, ""))
        if now - began >= max(SILENT_S, MEET_S) and host.connected():
            raise Unreachable(
                f"no peer of this ticket has sent the first block of its network in {SILENT_S:.0f} s",
                hint="ask for a new one: swarm ticket new",
            )
        if now - explained > PATIENCE_S:
            explained = now
            report(EventKind.NETWORK, "no peer has sent the first block of this network yet")
        await trio.sleep(RETRY_S)


async def expect_peer(host: Host, ticket: Ticket, failures: Mapping[PeerId, str]) -> None:
    """Raise ``Unreachable`` if no peer at all is connected within ``MEET_S`` of a start with a ticket.

    A home that has been in the network goes on without the peer of its ticket, if one that it remembers is
    there.
    """
    with trio.move_on_after(MEET_S):
        while not host.connected():  # noqa: ASYNC110  connections have no event that outlives them
            await trio.sleep(RETRY_S)
        return
    raise nobody_there(ticket, failures.get(ticket.peer, ""))


def nobody_there(ticket: Ticket, reason: str) -> Unreachable:
    """Return the error for a ticket of which no peer answered; ``reason`` is why its peer could not be
    reached.
    """
    reach = min(map(reach_of, ticket.addresses), default=Reach.ANYWHERE)
    cause, hint = {
        Reach.MACHINE: (
            "it is of use only on the machine that it was made on",
            "ask for one that other machines can use, from: swarm launch --listen 0.0.0.0:4001",
        ),
        Reach.PRIVATE: (
            "it is of use only in the private network of its peer",
            "ask for one with a public address (announce in node.toml): swarm ticket new",
        ),
        Reach.ANYWHERE: (
            "its peer is gone or cannot be dialled",
            "ask for a new one: swarm ticket new",
        ),
    }[reach]
    cause_text = reason or f"{peer_name(ticket.peer)} did not answer"
    return Unreachable(
        f"no peer of this ticket answered in {MEET_S:.0f} s: {cause_text}; {cause}", hint=hint
    )


async def find_run(ledger: LedgerService, run16: bytes, report: EventLog) -> Run:
    """Return the run of these 16 bytes (zeros: the newest one), as soon as the ledger knows it.

    Raises ``BadConfig`` if the ledger is up to date and, ``LATE_BLOCKS`` later, still lacks the run.
    """
    explained, up_to_date = trio.current_time(), None
    while True:
        run = named_run(ledger.state, run16)
        if run is not None:
            return run
        if ledger.is_caught_up and run16 != NO_RUN:
            up_to_date = ledger.height if up_to_date is None else up_to_date
            if ledger.height - up_to_date >= LATE_BLOCKS:
                raise BadConfig(
                    f"the ledger of this network is at block {ledger.height} and has no run"
                    f" {run16.hex()[:8]}, which the ticket is for",
                    hint="ask for a new one: swarm ticket new",
                )
        if trio.current_time() - explained > PATIENCE_S:
            explained = trio.current_time()
            where = "is still catching up" if up_to_date is None else "is up to date"
            report(
                EventKind.PROGRESS,
                f"the ledger {where} at block {ledger.height} and does not know the run yet",
            )
        await trio.sleep(RETRY_S / 2)


def named_run(state: State, run16: bytes) -> Run | None:
    """Return the run whose digest starts with these 16 bytes (zeros: the newest one); None if unknown."""
    runs = state.runs()
    if run16 == NO_RUN:
        return runs[-1] if runs else None
    return next((run for run in runs if run.spec_digest[:16] == run16), None)
