"""Run one node: all packages in one nursery, from the first byte on disk to Ctrl-C.

Shell: composes and decides nothing; ``node/control/planner.py`` decides what is due, the other modules carry it
out.
"""

import json
import math
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, assert_never

import trio

from swarm.config.schema import NodeConfig
from swarm.config.spec import Genesis, RunSpec
from swarm.dht.service import Dht
from swarm.errors import UsageError
from swarm.events import Event, EventKind
from swarm.files import write_whole
from swarm.gossip.blobs.disk import BLOBS
from swarm.gossip.blobs.service import Blobs
from swarm.gossip.news.service import News
from swarm.gossip.trade.service import Trades
from swarm.host.identity import lock_home
from swarm.host.relay.hop import Relaying, RelayMode
from swarm.host.roaming import keep_roaming
from swarm.host.service import Host, open_host
from swarm.host.uplink import BYTES_PER_MBIT, Uplink
from swarm.host.upnp.mapper import keep_forwarded
from swarm.host.whereabouts import Move
from swarm.ledger.consensus.memory import VoteMemory
from swarm.ledger.reader import Ledger
from swarm.ledger.service import LedgerService
from swarm.ledger.state.records import Run
from swarm.ledger.transactions import OpenRun, Stake
from swarm.ledger.transition.storage import holders_of
from swarm.node.api.actions import RunControl, SeatControl, actions_of, make_ticket
from swarm.node.api.audit import Auditor
from swarm.node.api.funding import Funder
from swarm.node.api.generate import sessions_of
from swarm.node.api.state import StateBuilder
from swarm.node.api.wallet import Purse
from swarm.node.artifacts.cache import ArtifactCache, Holders
from swarm.node.artifacts.evaluate import evaluate_checkpoints
from swarm.node.artifacts.holding import hold_checkpoints
from swarm.node.artifacts.text import keep_heldout
from swarm.node.context import Executors, NodeContext, NodeStats, open_executors, validates
from swarm.node.control.controller import Controller
from swarm.node.join import join, known_peers
from swarm.node.join.announce import announce
from swarm.node.join.lan import tell_network
from swarm.node.join.staying import stay_connected
from swarm.node.join.twins import heed_twins
from swarm.node.launch import launch
from swarm.node.launch.fit import check_fits, start_warnings
from swarm.node.launch.publish import adopt_dataset
from swarm.node.reporting import EventLog
from swarm.node.seat.compute import find_devices, notice_of
from swarm.node.start import (
    Join,
    Launch,
    Resume,
    Start,
    fitted_to,
    save_genesis,
    saved_genesis,
)
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.spill import SPILL, use_folder
from swarm.store import STORE_FILE, Store
from swarm.ticket import Ticket, reach_text, widest
from swarm.training.model.profiles import notice
from swarm.training.pipeline import Pipeline
from swarm.types import Amount, PeerId
from swarm.verify.service import CHECKS_AT_ONCE, Verifier
from swarm.web.service import bind_loopback, serve_web

API_FILE = "api.json"


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """Inputs of one start of a node."""

    home: Path
    config: NodeConfig
    secret: SecretKey
    start: Start
    report: Callable[[Event], None] | None = None
    """Function called with every event, besides the log in the home."""


@dataclass(frozen=True, slots=True)
class OpenedNode:
    """Running node, for the other tasks of its process."""

    context: NodeContext
    auditor: Auditor
    control: RunControl
    url: str
    """Address of the local page."""


class Started(Protocol):
    """Interface of the ``task_status`` that ``nursery.start`` passes in."""

    def started(self, value: OpenedNode, /) -> None:
        """Report that the node runs and its page answers."""


async def run_node(
    setup: NodeSetup,
    *,
    task_status: Started = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until cancelled; ``task_status.started`` is given the ``OpenedNode`` once its page answers.

    Raises:
        BadIdentity: the home is in use, or its key on another machine.
        UsageError: a port is busy, or the ticket is for another network.
        BadConfig: a run or a device cannot be had.
        Corrupt: the disk has damaged what was stored.
        Unreachable: no peer of the ticket answered.
    """
    devices = find_devices(setup.config)
    setup.home.mkdir(parents=True, exist_ok=True)
    use_folder(setup.home / SPILL)
    report = EventLog(setup.home, setup.report)
    for warning in start_warnings(setup.config.threads):
        report(EventKind.WARNING, warning)
    with lock_home(setup.home):
        store = Store.open(setup.home / STORE_FILE)
        workers = open_executors(setup.config.threads, devices)
        try:
            await _run(setup, report, store, workers, task_status)
        finally:
            workers.close()
            store.close()
            (setup.home / API_FILE).unlink(missing_ok=True)


async def _run(
    setup: NodeSetup,
    report: EventLog,
    store: Store,
    workers: Executors,
    task_status: Started,
) -> None:
    network = _network_of(setup, store)
    chain16 = network.chain[:16] if isinstance(network, Genesis) else network.genesis16
    config = setup.config
    opened = _host_of(setup, store, chain16)
    async with (
        opened as host,
        trio.open_nursery() as nursery,
    ):
        report(
            EventKind.NODE_STARTED,
            f"{peer_name(setup.secret.peer)} listens on {', '.join(host.addresses()[:2])}",
        )
        await known_peers.remember_port(store, join.TABLE, config, host.addresses())
        nursery.start_soon(heed_twins, host, report)
        _keep_reachable(setup, store, host, nursery, report)
        genesis = await _met(setup, network, host, nursery, store, report)
        if isinstance(setup.start, Launch) and setup.start.network is not None:
            setup = replace(setup, start=fitted_to(setup.start, genesis, setup.home))
        quota_mb = config.disk_quota_mb + config.storage_mb
        blobs = Blobs(setup.home / BLOBS, host, quota_bytes=quota_mb << 20)
        wanted = await _wanted(setup, genesis, blobs, workers, store, report)
        # Only now: a home whose launch failed belongs to no network, and a corrected file starts afresh.
        store.put(join.TABLE, join.GENESIS_KEY, encode(genesis))
        save_genesis(setup.home, genesis)
        packages = _packages(setup, report, store, workers, genesis, host, blobs)
        async with packages as (context, controller):
            nursery.start_soon(stay_connected, context, [peer for peer, _ in _named(setup, store)])
            snapshots = _watched(context, nursery)
            ledger = Ledger(context.store, genesis, lambda: context.ledger.state)
            auditor, control = Auditor(context, ledger), RunControl(context)
            nursery.start_soon(_find_run, setup, context, wanted)
            nursery.start_soon(controller.serve)
            token = secrets.token_urlsafe(24)
            serve = partial(
                serve_web,
                snapshots.take,
                report.lines,
                port=config.api_port,
                token=token,
                actions=actions_of(context, auditor, control, SeatControl(context))
                | Purse(context).actions()
                | Funder(context).actions()
                | sessions_of(context, workers.serving, nursery).actions,
            )
            url = snapshots.url = await _started(nursery, serve)
            _write_api(setup.home, url, token)
            report(EventKind.PROGRESS, f"map {url}")
            task_status.started(OpenedNode(context, auditor, control, url))
            await trio.sleep_forever()


def _keep_reachable(
    setup: NodeSetup, store: Store, host: Host, nursery: trio.Nursery, report: EventLog
) -> None:
    """Begin to see who can reach this node, and to help it: by the router of its home, and by relays."""
    config = setup.config
    nursery.start_soon(host.reach.keep_asking)
    if config.upnp and not config.announce:  # else its owner has seen to that
        nursery.start_soon(keep_forwarded, host, partial(report, EventKind.NETWORK))
    nursery.start_soon(keep_roaming, host, partial(_moved, report))
    for relay, address in join.relays_of(config, _named(setup, store)):
        host.relays.name(relay, address)
    nursery.start_soon(host.relays.keep)


def _moved(report: EventLog, move: Move) -> None:
    report(EventKind.NETWORK, move.text())


def _host_of(setup: NodeSetup, store: Store, chain16: bytes) -> AbstractAsyncContextManager[Host]:
    """Return the host of a node, to be opened."""
    config = setup.config
    uplink = Uplink(config.upload_mbit * BYTES_PER_MBIT) if config.upload_mbit else None
    return open_host(
        setup.secret,
        listen=known_peers.usual_listen(store, join.TABLE, config.listen),
        announce=config.announce,
        chain16=chain16,
        uplink=uplink,
        relaying=Relaying(RelayMode(config.relay), config.relay_mbit),
    )


def _network_of(setup: NodeSetup, store: Store) -> Genesis | Ticket:
    """Return the genesis of the network, or the ticket whose peer is asked for it.

    Raises ``UsageError`` for a ticket of another network than the home's, and for a home to resume without any.
    """
    stored = join.stored_genesis(store)
    match setup.start:
        case Join(ticket):
            if stored is not None:
                join.check_network(stored, ticket)
            return stored or ticket
        case Launch(file) as start:
            if stored is not None and start.network is not None:
                join.check_network(stored, start.network)
            ours = saved_genesis(setup.home) if start.network is not None else None
            elsewhere = ours or start.network
            return stored or elsewhere or launch.genesis_for(file, setup.home, setup.secret)
        case Resume():
            if stored is None:
                raise UsageError(
                    "this home has not joined a network yet",
                    hint="swarm join TICKET, or: swarm launch",
                )
            return stored
        case _:
            assert_never(setup.start)


async def _met(
    setup: NodeSetup,
    network: Genesis | Ticket,
    host: Host,
    nursery: trio.Nursery,
    store: Store,
    report: EventLog,
) -> Genesis:
    """Begin to connect to the peers this start knows of; return the genesis, from one of them if need be."""
    targets = _named(setup, store)
    if not targets and not isinstance(setup.start, Launch):
        report(EventKind.NETWORK, "this home knows no peer to call: swarm join TICKET")
    failures, is_new = dict[PeerId, str](), isinstance(network, Ticket)
    connect = partial(join.keep_connected, host, targets, report, is_new, failures)
    nursery.start_soon(connect)
    if isinstance(network, Genesis):
        ticket = join.ticket_of(setup.start)
        if ticket is not None and network.validators != (setup.secret.peer,):
            nursery.start_soon(join.expect_peer, host, ticket, failures)
        return network
    return await join.fetch_genesis(host, network, report, failures)


def _named(setup: NodeSetup, store: Store) -> list[tuple[PeerId, Sequence[str]]]:
    """Return the peers that the ticket, the node file and the last start of this home name."""
    recalled = known_peers.recalled(store, join.TABLE)
    return join.targets_of(setup.start, setup.config, recalled)


def _watched(context: NodeContext, nursery: trio.Nursery) -> StateBuilder:
    """Return the builder of the node's document; its figures are watched from now on."""
    snapshots = StateBuilder(context)
    nursery.start_soon(snapshots.watch)
    return snapshots


async def _started(nursery: trio.Nursery, serve: Any) -> Any:  # noqa: ANN401  any service's start value
    """Call ``nursery.start``, whose overloads the checkers cannot match with a keyword-only argument."""
    return await nursery.start(serve)


def _ledger(
    setup: NodeSetup, store: Store, genesis: Genesis, host: Host, news: News, report: EventLog
) -> LedgerService:
    return LedgerService.open(
        store,
        genesis,
        setup.secret,
        host,
        news=news,
        validate=validates(setup.config, genesis, setup.secret.peer),
        memory=VoteMemory.open(setup.home),
        keeps_all=setup.config.archive,
        report=partial(report, EventKind.WARNING),
        tell=partial(report, EventKind.PROGRESS),
    )


@asynccontextmanager
async def _packages(
    setup: NodeSetup,
    report: EventLog,
    store: Store,
    workers: Executors,
    genesis: Genesis,
    host: Host,
    blobs: Blobs,
) -> AsyncGenerator[tuple[NodeContext, Controller]]:
    """Open dht, gossip, ledger and training on the host, lower layers first."""
    config, secret = setup.config, setup.secret
    async with trio.open_nursery() as nursery:
        dht, news = Dht(host, secret), News(host)
        incarnation = join.next_incarnation(store)
        trades = Trades(host, secret, genesis.chain, workers.trading, incarnation=incarnation)
        for serve in (dht.run, news.run, trades.run):
            await _started(nursery, serve)
        ledger = _ledger(setup, store, genesis, host, news, report)
        progress = partial(report, EventKind.PROGRESS)
        artifacts = ArtifactCache(host, blobs, workers.compute, store, progress, _holders(ledger))
        checks = Verifier(
            host=host,
            secret=secret,
            chain=genesis.chain,
            ledger=ledger,
            blobs=blobs,
            store=store,
            compute=workers.checking,
            artifacts=artifacts,
            report=report,
            checks_at_once=CHECKS_AT_ONCE if config.verify else 0,
            audit_rate=config.audit_rate,
        )
        context = NodeContext(
            home=setup.home,
            config=config,
            secret=secret,
            genesis=genesis,
            store=store,
            host=host,
            ledger=ledger,
            dht=dht,
            news=news,
            trades=trades,
            blobs=blobs,
            compute=workers.compute,
            checking=workers.checking,
            artifacts=artifacts,
            checks=checks,
            pipeline=_serving_pipeline(host, secret),
            report=report,
            incarnation=incarnation,
            stats=NodeStats(),
            devices=workers.devices,
        )
        await _started(nursery, ledger.run)
        for task in (announce, _check, _hold, evaluate_checkpoints, tell_network):
            nursery.start_soon(task, context)
        yield context, Controller(context, nursery)
        nursery.cancel_scope.cancel()


def _serving_pipeline(host: Host, secret: SecretKey) -> Pipeline:
    pipeline = Pipeline(host, secret)
    pipeline.serve()
    return pipeline


async def _check(context: NodeContext) -> None:
    """Run the checks once the ledger has caught up: those that an old state asks for are over."""
    await _caught_up(context)
    await context.checks.run()


async def _hold(context: NodeContext) -> None:
    """Hold checkpoints of other stages once the ledger has caught up."""
    await _caught_up(context)
    await hold_checkpoints(context)


async def _caught_up(context: NodeContext) -> None:
    while not (context.ledger.is_caught_up or context.ledger.is_validator):
        await context.ledger.wait_height(context.ledger.height + 1)


def _holders(ledger: LedgerService) -> Holders:
    return lambda run, stage, round_: holders_of(ledger.state, run.index, stage, round_)


async def _wanted(
    setup: NodeSetup,
    genesis: Genesis,
    blobs: Blobs,
    workers: Executors,
    store: Store,
    report: EventLog,
) -> RunSpec | bytes:
    """Publish the text of the run to launch and return its spec; or return the digest of the run to wait for.

    The digest is cut to 16 bytes, and may be ``NO_RUN``.

    Raises ``BadConfig``, ``UsageError`` or ``VerificationFailed`` for every error that can be found here.
    """
    match setup.start:
        case Launch(file, base) as start:
            launch.report_odds(start, genesis, report)
        case Join() | Resume():
            return join.wanted_run(store, setup.start)
        case _:
            assert_never(setup.start)
    bind_loopback(setup.config.api_port).close()
    fits = partial(
        check_fits,
        is_owner=True,
        config=setup.config,
        devices=workers.devices,
        blobs=setup.home / BLOBS,
        report=report,
    )
    return await launch.prepare_spec(
        file, base, genesis, blobs, workers.compute, store, fits, report
    )


async def _find_run(setup: NodeSetup, context: NodeContext, wanted: RunSpec | bytes) -> None:
    """Open the run to launch, or wait for the one to join; then fetch the held-out text and the tokenizer."""
    store, report = context.store, context.report
    match wanted:
        case RunSpec():
            is_ours = not (isinstance(setup.start, Launch) and setup.start.network)
            run = await _launch(context, wanted, is_ours=is_ours)
        case bytes():
            run = await _await_run(setup, context, wanted)
        case _:
            assert_never(wanted)
    context.stats.waits_for = ""
    # Refuse here, with a clear error, if this machine computes other bits than the run requires.
    message = await context.compute.run(notice, run.spec.numerics)
    context.run16 = run.spec_digest[:16]
    context.run_index = run.index
    store.put(join.TABLE, join.RUN_KEY, context.run16)
    report(
        EventKind.RUN_JOINED,
        f"run {run.spec.name}: {run.spec.num_stages} stage{'s' * (run.spec.num_stages != 1)},"
        f" {run.end_round} round{'s' * (run.end_round != 1)},"
        f" spec {run.spec_digest.hex()[:8]}",
        run=run.index,
    )
    resting = await context.compute.run(notice_of, run.spec, context.devices, context.config)
    for text in filter(None, (message, resting)):
        report(EventKind.WARNING, text)
    await keep_heldout(context, run)


async def _await_run(setup: NodeSetup, context: NodeContext, run16: bytes) -> Run:
    """Wait for the run of these 16 bytes; check that it fits here, and take its text from this disk."""
    report = context.report
    context.stats.waits_for = "the run to appear on the ledger"
    run = await join.find_run(context.ledger, run16, report)
    await check_fits(
        run.spec,
        is_owner=run.owner == context.me,
        config=setup.config,
        devices=context.devices,
        blobs=setup.home / BLOBS,
        report=report,
    )
    if not isinstance(setup.start, Launch) and setup.start.dataset:
        await adopt_dataset(Path(setup.start.dataset), run.spec.data, context.blobs, report)
    return run


async def _launch(context: NodeContext, spec: RunSpec, *, is_ours: bool) -> Run:
    """Write the ticket and open the run; raises ``BadConfig`` before both where this key cannot pay.

    On a network of others (``is_ours`` is False) the ledger is caught up with first: it tells what there is.
    """
    ledger, report = context.ledger, context.report
    if not is_ours:
        context.stats.waits_for = "the ledger of the network"
        while not ledger.is_caught_up:
            await ledger.wait_height(ledger.height + 1)
    context.run16 = spec.digest[:16]
    is_open = join.named_run(ledger.state, context.run16) is not None
    missing, escrow = Amount(0), Amount(0)
    if not is_open:
        missing, escrow = launch.funds_for(ledger.state, context.me, spec)
    await context.host.relays.asked()
    ticket = make_ticket(context)
    context.store.put(join.TABLE, join.TICKET_KEY, ticket.encode())
    write_whole(context.home / "ticket.txt", f"{ticket}\n".encode(), is_secret=True)
    report(EventKind.PROGRESS, f"ticket {ticket}", ticket=ticket)
    others = "" if is_open else launch.left_text(ledger.state, context.me)
    for text in filter(None, (reach_text(widest(context.host.addresses())), others)):
        report(EventKind.WARNING, text)
    if missing:  # with the ticket out: other validators may wait for it
        context.stats.waits_for = "the stake that trains this run"
        await ledger.submit_final(Stake(missing), math.inf)
        report(EventKind.PROGRESS, f"put up {missing:,} as a stake: it trains this run")
    if not is_open:
        context.stats.waits_for = "the ledger to accept the run"
        await ledger.submit(OpenRun(encode(spec), escrow))
        report(EventKind.PROGRESS, f"opened the run with {escrow:,} in escrow; waiting for a block")
    return await join.find_run(ledger, context.run16, report)


def _write_api(home: Path, url: str, token: str) -> None:
    text = json.dumps({"url": url, "token": token, "pid": os.getpid()})
    write_whole(home / API_FILE, text.encode(), is_secret=True)
