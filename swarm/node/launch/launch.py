"""Prepare what a launch publishes: the run spec and the genesis.

Shell: reads this machine's disk and chooses the seed of a new network; ``node/launch/publish.py`` handles the
text.
"""

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from swarm.config.bounds import check_fit
from swarm.config.load import genesis_of, planned_spec, run_spec, with_shape
from swarm.config.schema import RunFile
from swarm.config.spec import NANO, Genesis, RunSpec
from swarm.errors import BadConfig, InvalidStatement, SwarmError
from swarm.events import EventKind
from swarm.executor import ExecutorPort
from swarm.gossip.blobs.service import Blobs
from swarm.ledger.odds import look_odds_of, odds_of
from swarm.ledger.state.state import State
from swarm.ledger.transactions import OpenRun, Stake
from swarm.ledger.transition.prices import run_deposit, solver_stake, sufficient_fee
from swarm.ledger.transition.runs import LIVE_PHASES, check_run_spec
from swarm.node.artifacts.cache import seeded_root
from swarm.node.launch.publish import opened_start, publish_data, publish_start
from swarm.node.launch.sizing import check_window, tolerance_text
from swarm.node.reporting import EventLog
from swarm.node.start import (
    Launch,
    check_odds,
    lazy_text,
    odds_text,
    paying_text,
    saved_genesis,
    unchecked_text,
)
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey, peer_text
from swarm.store import Store
from swarm.training.model.profiles import table
from swarm.training.starts import starts_of
from swarm.types import Amount, Digest, PeerId

OWNER_BALANCE = 1_000_000_000_000
"""Balance of the first account of a new network: it pays for runs, and no other account has any yet."""
OWNER_STAKE = 1_000_000
ESCROW_SHARE = 10
"""Divisor of the balance for the escrow of a launch: a tenth of it."""


def report_odds(start: Launch, genesis: Genesis, report: EventLog) -> None:
    """Report what those who check the run find, and what lies in it are worth, or that nothing is checked.

    Raises ``BadConfig`` where lies pay, unless the launch is forced.
    """
    spec = planned_spec(start.file)
    if unchecked := unchecked_text(spec):
        how = tolerance_text(spec)
        report(EventKind.WARNING, f"{how}; {unchecked}" if how else unchecked)
        return
    if not start.force:
        check_odds(spec, genesis.stake_segments)
    odds = odds_of(spec, genesis.stake_segments)
    report(
        EventKind.PROGRESS,
        odds_text(odds, spec),
        found_one_window_nano=round(odds.found_one_window * NANO),
        found_all_windows_nano=round(odds.found_all_windows * NANO),
        worst_nano=round(odds.worst * NANO),
        worst_way=odds.worst_way,
    )
    if looking := lazy_text(spec, look_odds_of(spec, genesis.stake_segments)):
        report(EventKind.PROGRESS, looking)
    if paying := paying_text(odds):
        report(EventKind.WARNING, paying)


async def prepare_spec(
    file: RunFile,
    base: Path,
    genesis: Genesis,
    blobs: Blobs,
    compute: ExecutorPort,
    store: Store,
    fits: Callable[[RunSpec], Awaitable[None]],
    report: EventLog,
) -> RunSpec:
    """Publish the token files of a run as blobs, and return the spec that names them.

    ``fits`` raises for a run that this machine cannot hold, before anything is computed of it. With
    ``init_from`` the weights of that folder are published too, a blob for each stage: what the run starts from,
    or what its adapter rests on. Raises ``BadConfig`` when
    there is too little text, a setting is not supported by this build, or the run is larger than the ledger or
    who checks its windows takes, and ``VerificationFailed`` when its dataset is not what its manifest says.
    Nothing stays among the blobs of a run that is refused.
    """
    held = frozenset(blobs.roots())
    try:
        return await _published_spec(file, base, genesis, blobs, compute, store, fits, report)
    except SwarmError:
        for root in blobs.roots():
            if root not in held:
                await blobs.remove(root)
        raise


async def _published_spec(
    file: RunFile,
    base: Path,
    genesis: Genesis,
    blobs: Blobs,
    compute: ExecutorPort,
    store: Store,
    fits: Callable[[RunSpec], Awaitable[None]],
    report: EventLog,
) -> RunSpec:
    await compute.run(table, file.run.numerics)  # exact runs only where this machine has the bits
    start = None
    if file.model.init_from:
        start = await opened_start(base, file.model.init_from)
        file = with_shape(file, start.model)
    data = await publish_data(file, base, blobs, report)
    draft = run_spec(file, data=data)
    check_limits(draft, genesis)
    await fits(draft)
    roots = tuple[Digest, ...]()
    if start is not None:
        roots = await publish_start(start, draft, blobs, compute, report)
    if roots and not draft.adapter.rank:
        return run_spec(file, data=data, starts=starts_of(draft, roots), is_pretrained=True)
    say, stages = partial(report, EventKind.PROGRESS), range(draft.num_stages)
    seeded_roots = [await seeded_root(draft, stage, store, compute, say) for stage in stages]
    return run_spec(file, data=data, starts=starts_of(draft, seeded_roots), base_roots=roots)


def genesis_for(file: RunFile, home: Path, secret: SecretKey) -> Genesis:
    """Return the genesis of ``home/genesis.bin``, or that of a new network with this node as its validator.

    Raises ``Corrupt`` if the file is there and holds something else.
    """
    held = saved_genesis(home)
    if held is not None:
        return held
    return genesis_of(
        file,
        validators={secret.peer: OWNER_STAKE},
        accounts={secret.peer: OWNER_BALANCE},
        seed=secrets.token_bytes(32),
    )


def funds_for(state: State, owner: PeerId, spec: RunSpec) -> tuple[Amount, Amount]:
    """Return what the owner of a run lacks of a solver's stake, and the escrow to open the run with.

    Raises ``BadConfig`` if the account cannot pay both and their fees.
    """
    account, wanted = state.account(owner), solver_stake(state.params, spec)
    missing, least = Amount(max(wanted - account.stake, 0)), run_deposit(state.params, spec)
    fees = sufficient_fee(state.params, OpenRun(encode(spec), least))
    if missing:
        fees = Amount(fees + sufficient_fee(state.params, Stake(missing)))
    spare = account.balance - missing - fees
    if spare < least:
        stake = f" beside {missing:,} of stake" if missing else ""
        raise BadConfig(
            f"this key holds {account.balance:,} on the ledger, and a run needs an escrow of at least"
            f" {least:,}{stake} and {fees:,} of fees",
            hint=f"somebody that has it: swarm wallet send {peer_text(owner)} AMOUNT",
        )
    return missing, Amount(max(spare // ESCROW_SHARE, least))


def left_text(state: State, owner: PeerId) -> str:
    """Return a sentence on the runs of ``owner`` that have not ended: a node trains one run at a time."""
    names = [
        run.spec.name for run in state.runs() if run.owner == owner and run.phase in LIVE_PHASES
    ]
    return f"this home now trains the new run only, and leaves {', '.join(names)}" if names else ""


def check_limits(spec: RunSpec, genesis: Genesis) -> None:
    """Raise ``BadConfig``, before anything is computed or opened, for what others would refuse later."""
    try:
        check_fit(spec, genesis)
    except BadConfig as error:
        raise BadConfig(
            f"{error}, on the network of this home",
            hint="launch it on a network of its own: --home ANOTHER_FOLDER",
        ) from None
    try:
        check_run_spec(spec)
    except InvalidStatement as error:
        raise BadConfig(f"no ledger takes this run: {error}", hint="edit the run file") from None
    check_window(spec)
