"""Prepare what a launch publishes: the run spec and the genesis.

Shell: reads this machine's disk and chooses the seed of a new network; ``node/launch/publish.py`` handles the
text.
"""

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from swarm.config.bounds import check_fit
from swarm.config.load import genesis_of, run_spec, with_shape
from swarm.config.schema import RunFile
from swarm.config.spec import Genesis, RunSpec
from swarm.errors import BadConfig, BadEncoding, Corrupt, InvalidStatement
from swarm.events import EventKind
from swarm.executor import ExecutorPort
from swarm.gossip.blobs.service import Blobs
from swarm.ledger.state.state import State
from swarm.ledger.transition.accounts import run_deposit
from swarm.ledger.transition.spec_check import check_run_spec
from swarm.node.artifacts.init_weights import drawn_root
from swarm.node.launch.publish import opened_start, publish_data, publish_start
from swarm.node.launch.retention import check_window
from swarm.node.reporting import EventLog
from swarm.primitives.codec import decode, encode
from swarm.primitives.crypto import SecretKey
from swarm.primitives.merkle import merkle_root
from swarm.store import Store
from swarm.training.model.profiles import table
from swarm.types import NO_DIGEST, Amount, PeerId

GENESIS_FILE = "genesis.bin"
GENESIS_BYTES_MAX = 1 << 20
"""Bytes of the longest genesis file: the limit of one that peers send."""
OWNER_BALANCE = 1_000_000_000_000
"""Balance of the first account of a new network: it pays for runs, and no other account has any yet."""
OWNER_STAKE = 1_000_000
ESCROW_SHARE = 10
"""Divisor of the balance for the escrow of a launch: a tenth of it."""


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

    With ``init_from`` the weights of that folder are published too, a blob for each stage.

    Args:
        file: run file.
        base: folder that its paths are relative to.
        genesis: genesis of the network.
        blobs: blob service.
        compute: worker for the arithmetic.
        store: remembers the roots of initial weights.
        fits: raises for a run that this machine cannot hold, before anything of it is computed.
        report: event log.

    Raises:
        BadConfig: there is too little text, this build does not support a setting, or the run is larger than
            the ledger or its checkers take.
        VerificationFailed: the dataset is not what its manifest says.
    """
    await compute.run(table, file.run.numerics)  # exact runs only if the bits agree here
    start = None
    if file.model.init_from:
        start = await opened_start(base, file.model.init_from)
        file = with_shape(file, start.model)
    data = await publish_data(file, base, blobs, report)
    draft = run_spec(file, data=data, init_root=NO_DIGEST)
    check_limits(draft, genesis)
    await fits(draft)
    if start is None:
        say = partial(report, EventKind.PROGRESS)
        drawn = [
            await drawn_root(draft, stage, store, compute, say) for stage in range(draft.num_stages)
        ]
        return run_spec(file, data=data, init_root=merkle_root(drawn))
    roots = await publish_start(start, draft, blobs, compute, report)
    return run_spec(file, data=data, init_root=merkle_root(roots), initial_roots=roots)


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


def saved_genesis(home: Path) -> Genesis | None:
    """Return the genesis saved in a home, or None; raises ``Corrupt`` if the file holds something else."""
    path = home / GENESIS_FILE
    if not path.exists():
        return None
    try:
        return decode(Genesis, path.read_bytes(), limit=GENESIS_BYTES_MAX)
    except BadEncoding as error:
        raise Corrupt(f"{path} is damaged: {error}", hint=f"mv {path} {path}.damaged") from None


def escrow_for(state: State, owner: PeerId) -> Amount:
    """Return the escrow of a launch; raises ``BadConfig`` if the account cannot pay the minimum."""
    balance = state.account(owner).balance
    least = run_deposit(state.params)
    if balance < least:
        raise BadConfig(
            f"this key holds {balance} on the ledger, and a run needs an escrow of at least {least}",
            hint="ask somebody who holds money on this network for a transfer",
        )
    return Amount(max(balance // ESCROW_SHARE, least))


def save_genesis(home: Path, genesis: Genesis) -> None:
    """Write the genesis beside the store, for users and tools."""
    (home / GENESIS_FILE).write_bytes(encode(genesis))


def check_limits(spec: RunSpec, genesis: Genesis) -> None:
    """Raise ``BadConfig``, before anything is computed or opened, for what others would refuse later."""
    try:
        check_fit(spec, genesis)
    except BadConfig as error:
        raise BadConfig(
            f"{error}, on the network that this home belongs to",
            hint="edit the run file, or launch it on a network of its own: --home ANOTHER_FOLDER",
        ) from None
    try:
        check_run_spec(spec)
    except InvalidStatement as error:
        raise BadConfig(f"no ledger takes this run: {error}", hint="edit the run file") from None
    check_window(spec)
