"""One node: every room in one nursery, from the first byte on disk to Ctrl-C.

Shell: composes and decides nothing; what is due is in ``duties``, how it is done in the other modules.
"""

import json
import os
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import trio

from swarm import __version__
from swarm.codec import encode
from swarm.compute import Compute
from swarm.crypto import SecretKey, peer_name
from swarm.dht.directory import SOLVE, VALIDATE, Announcement
from swarm.dht.service import Dht
from swarm.errors import UsageError
from swarm.events import Event, EventKind
from swarm.gossip.blobs import Blobs
from swarm.gossip.service import Trades
from swarm.host.identity import lock_home
from swarm.host.service import Host, open_host
from swarm.ledger.records import Run
from swarm.ledger.service import LedgerService
from swarm.ledger.transactions import OpenRun
from swarm.node import acquaintances, entrance, launching
from swarm.node.context import Context, Tally
from swarm.node.reports import Reports
from swarm.node.snapshot import Snapshots
from swarm.node.steward import Steward
from swarm.run_file import NodeConfig, RunFile
from swarm.spec import Genesis
from swarm.store import Store
from swarm.ticket import Ticket, format_ticket
from swarm.training.ops import notice
from swarm.training.service import Pipeline
from swarm.types import PeerId
from swarm.web.service import Started, serve_web

STORE_FILE = "store.sqlite"
API_FILE = "api.json"
TICKET_DAYS = 30
SWITCH_INTERVAL_S = 0.001
"""How long arithmetic keeps the interpreter while the event loop wants it."""


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """What a node starts from; one of ``ticket``, ``launch`` or an earlier start of the home."""

    home: Path
    config: NodeConfig
    secret: SecretKey
    ticket: Ticket | None = None
    launch: RunFile | None = None
    launch_base: Path = Path()
    """Where the paths of a launched file are relative to."""
    report: Callable[[Event], None] | None = None


async def run_node(
    setup: NodeSetup,
    *,
    task_status: Started = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until cancelled; ``task_status.started`` is given the URL of the local page.

    Raises ``BadIdentity`` when the home is in use, ``UsageError`` for a busy port or a ticket of another
    network, ``BadConfig`` for a run that cannot be launched, ``Corrupt`` when the disk lied.
    """
    setup.home.mkdir(parents=True, exist_ok=True)
    report = Reports(setup.home, setup.report)
    with lock_home(setup.home):
        store = Store.open(setup.home / STORE_FILE)
        compute = Compute(num_workers=1, prepare=partial(_prepare_torch, setup.config.threads))
        try:
            await _run(setup, report, store, compute, task_status)
        finally:
            compute.close()
            store.close()
            (setup.home / API_FILE).unlink(missing_ok=True)


async def _run(
    setup: NodeSetup,
    report: Reports,
    store: Store,
    compute: Compute,
    task_status: Started,
) -> None:
    genesis = entrance.stored_genesis(store, setup.ticket)
    if genesis is None and setup.launch is not None:
        genesis = launching.genesis_for(setup.launch, setup.home, setup.secret)
    if genesis is None and setup.ticket is None:
        raise UsageError(
            "this home has not joined a network yet", hint="swarm join TICKET, or: swarm launch"
        )
    chain16 = genesis.chain[:16] if genesis is not None else setup.ticket.genesis16  # type: ignore[union-attr]
    config = setup.config
    async with (
        open_host(
            setup.secret, listen=config.listen, announce=config.announce, chain16=chain16
        ) as host,
        trio.open_nursery() as nursery,
    ):
        report(
            EventKind.NODE_STARTED,
            f"{peer_name(setup.secret.peer)} listens on {', '.join(host.addresses()[:2])}",
        )
        recalled = acquaintances.recalled(store, entrance.TABLE)
        targets = entrance.targets_of(setup.ticket, config, recalled)
        if not targets and setup.launch is None:
            report(EventKind.NETWORK, "this home knows no peer to call: swarm join TICKET")
        nursery.start_soon(entrance.keep_connected, host, targets, report)
        nursery.start_soon(acquaintances.keep_recalling, host, store, entrance.TABLE)
        if genesis is None:
            assert setup.ticket is not None, "checked above"
            genesis = await entrance.fetch_genesis(host, setup.ticket, report)
        store.put(entrance.TABLE, entrance.GENESIS_KEY, encode(genesis))
        launching.save_genesis(setup.home, genesis)
        async with _rooms(setup, report, store, compute, genesis, host) as (context, steward):
            snapshots = Snapshots(context)
            nursery.start_soon(_find_run, setup, context)
            nursery.start_soon(steward.serve)
            token = secrets.token_urlsafe(24)
            serve = partial(
                serve_web,
                snapshots.take,
                report.lines,
                port=config.api_port,
                token=token,
                actions={"ticket": partial(_invite, context)},
            )
            url = await _started(nursery, serve)
            snapshots.url = url
            _write_api(setup.home, url, token)
            report(EventKind.PROGRESS, f"map {url}")
            task_status.started(url)
            await trio.sleep_forever()


async def _started(nursery: trio.Nursery, serve: Any) -> Any:  # noqa: ANN401  any service's start value
    """``nursery.start``, whose overloads the checkers cannot match with a keyword-only argument."""
    return await nursery.start(serve)


@asynccontextmanager
async def _rooms(
    setup: NodeSetup,
    report: Reports,
    store: Store,
    compute: Compute,
    genesis: Genesis,
    host: Host,
) -> AsyncGenerator[tuple[Context, Steward]]:
    """Open dht, gossip, ledger and training on the host, in the order of the stairs."""
    config, secret = setup.config, setup.secret
    async with trio.open_nursery() as nursery:
        dht = Dht(host, secret)
        await _started(nursery, dht.run)
        blobs = Blobs(setup.home / "blobs", host, quota_bytes=config.disk_quota_mb << 20)
        trades = Trades(host, secret, genesis.chain, compute)
        is_alone = genesis.validators == (secret.peer,)  # a launch of its own: nobody else can vote
        validate = config.validate_ or is_alone
        ledger = LedgerService.open(store, genesis, secret, host, validate=validate)
        pipeline = Pipeline(host, secret)
        pipeline.serve()
        context = Context(
            home=setup.home,
            config=config,
            secret=secret,
            genesis=genesis,
            store=store,
            host=host,
            ledger=ledger,
            dht=dht,
            trades=trades,
            blobs=blobs,
            compute=compute,
            pipeline=pipeline,
            report=report,
            incarnation=entrance.next_incarnation(store),
            tally=Tally(),
        )
        await _started(nursery, ledger.run)
        nursery.start_soon(_announce, context)
        yield context, Steward(context, nursery)
        nursery.cancel_scope.cancel()


async def _find_run(setup: NodeSetup, context: Context) -> None:
    """Open the run we launch, or wait for the one we join."""
    store, report = context.store, context.report
    run16 = store.get(entrance.TABLE, entrance.RUN_KEY)
    if setup.ticket is not None and setup.ticket.run16 != entrance.NO_RUN:
        run16 = setup.ticket.run16
    if setup.launch is not None:
        run = await _launch(setup, context)
    else:
        context.tally.waits_for = "the run to appear on the ledger"
        run = await entrance.find_run(context.ledger, run16 or entrance.NO_RUN, report)
    context.tally.waits_for = ""
    # Refused here, by name, where this machine would compute other bits than the run is made of.
    said = await context.compute.run(notice, run.spec.numerics)
    context.run16 = run.spec_digest[:16]
    context.run_index = run.index
    store.put(entrance.TABLE, entrance.RUN_KEY, context.run16)
    report(
        EventKind.RUN_JOINED,
        f"run {run.spec.name}: {run.spec.num_stages} stages, {run.end_round} rounds,"
        f" spec {run.spec_digest.hex()[:8]}",
        run=run.index,
    )
    if said:
        report(EventKind.WARNING, said)


async def _launch(setup: NodeSetup, context: Context) -> Run:
    assert setup.launch is not None, "only a launch comes here"
    ledger, report = context.ledger, context.report
    spec = await launching.prepare_spec(
        setup.launch, setup.launch_base, context.blobs, context.compute, report
    )
    context.run16 = spec.digest[:16]
    ticket = make_ticket(context)
    context.store.put(entrance.TABLE, entrance.TICKET_KEY, ticket.encode())
    (context.home / "ticket.txt").write_text(ticket + "\n")
    report(EventKind.PROGRESS, f"ticket {ticket}", ticket=ticket)
    if entrance.named_run(ledger.state, context.run16) is None:
        escrow = launching.escrow_for(ledger.state, context.me)
        context.tally.waits_for = "the ledger to accept the run"
        await ledger.submit(OpenRun(encode(spec), escrow))
        report(EventKind.PROGRESS, f"opened the run with {escrow:,} in escrow; waiting for a block")
    return await entrance.find_run(ledger, context.run16, report)


def make_ticket(context: Context) -> str:
    """An invitation to this node's network and run, good for ``TICKET_DAYS``."""
    addresses = tuple(context.host.addresses()[:2])
    if not addresses:
        raise UsageError("this node has no address to put into a ticket", hint="set listen")
    return format_ticket(
        Ticket(
            genesis16=context.genesis.chain[:16],
            run16=context.run16,
            peer=context.me,
            addresses=addresses,
            expires=int(time.time()) + TICKET_DAYS * 86_400,
        )
    )


async def _invite(context: Context, _: Mapping[str, object]) -> Mapping[str, object]:
    """The action behind ``swarm ticket new``."""
    if context.run is None:
        raise UsageError("this node has no run to invite to yet", hint="swarm status")
    return {"ticket": make_ticket(context)}


async def _announce(context: Context) -> None:
    """Tell the directory who we are, again and again, and read who the others are."""
    await context.dht.directory_loop(partial(_announcement, context), context.peers_of_run)


def _announcement(context: Context) -> Announcement:
    run, tally = context.run, context.tally
    seats = tuple(
        (seat.stage, seat.index)
        for roster in (run.seats if run else ())
        for seat in roster
        if seat.peer == context.me
    )
    roles = (SOLVE if context.config.solve else 0) | (
        VALIDATE if context.ledger.is_validator else 0
    )
    losses = tally.losses
    return Announcement(
        run16=context.run16 if run else b"",
        roles=roles,
        seats=seats,
        tokens_per_s=tally.tokens_per_s,
        loss_milli=int(losses[-1][1] * 1000) if losses else -1,
        round=run.rounds[-1].round if run and run.rounds else 0,
        steps=tally.steps,
        height=context.ledger.height,
        reachability="direct",
        version=__version__,
        addresses=tuple(context.host.addresses()[:4]),
        state="training" if seats else ("idle" if run else "syncing"),
        num_traded=tally.trades,
        last_partner=tally.last_partner,
    )


def _write_api(home: Path, url: str, token: str) -> None:
    path = home / API_FILE
    draft = path.with_suffix(".part")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({"url": url, "token": token, "pid": os.getpid()}))
    draft.replace(path)


def _prepare_torch(threads: int) -> None:
    """Once per worker: explicit threads give the same bits in every run on this machine."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


__all__ = ["NodeSetup", "PeerId", "make_ticket", "run_node"]
