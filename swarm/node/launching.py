"""Prepare what a launch publishes: the text, the run spec, the genesis.

Shell: reads the corpus from this machine's disk and draws the seed of a new network.
"""

import secrets
from pathlib import Path

import trio

from swarm.codec import decode, encode
from swarm.compute import ComputePort
from swarm.config import genesis_of, run_spec
from swarm.crypto import SecretKey
from swarm.errors import BadConfig, BadEncoding, Corrupt
from swarm.events import EventKind
from swarm.gossip.blobs import Blobs
from swarm.ledger.economics import run_deposit
from swarm.ledger.state import State
from swarm.node.reports import Reports
from swarm.run_file import RunFile
from swarm.spec import Genesis, ModelSpec, RunSpec
from swarm.training.data import Corpus, build_corpus
from swarm.training.data_files import read_source
from swarm.training.ops import table
from swarm.training.stages import init_root, plan_stages
from swarm.types import Amount, Digest, PeerId

GENESIS_FILE = "genesis.bin"
OWNER_BALANCE = 1_000_000_000_000
"""What the first account of a new network holds: it pays for runs, and nobody else has any yet."""
OWNER_STAKE = 1_000_000
ESCROW_SHARE = 10
"""A launch puts a tenth of its balance into the run."""


async def prepare_spec(
    file: RunFile, base: Path, blobs: Blobs, compute: ComputePort, report: Reports
) -> RunSpec:
    """Build the token files of a run, publish them as blobs, and return the spec that names them.

    Raises ``BadConfig`` when there is too little text, or when this machine has not the bits of an exact run.
    """
    await compute.run(table, file.run.numerics)  # exact runs only where this machine has the bits
    report(EventKind.PROGRESS, "reading the text of the run")
    corpus = await trio.to_thread.run_sync(_corpus, file, base)
    if len(corpus.train) <= file.model.seq_len or len(corpus.heldout) <= file.model.seq_len:
        raise BadConfig(
            f"the run's text is too short: {len(corpus.train)} training and"
            f" {len(corpus.heldout)} held-out bytes, with windows of {file.model.seq_len}",
            hint="name more files under [data] source",
        )
    train_root = await blobs.add(corpus.train)
    heldout_root = await blobs.add(corpus.heldout)
    draft = run_spec(
        file,
        train_root=train_root,
        train_bytes=len(corpus.train),
        heldout_root=heldout_root,
        heldout_bytes=len(corpus.heldout),
        init_root=Digest(bytes(32)),
    )
    root = await compute.run(_init_root, draft.model, draft.num_stages, draft.seed)
    spec = run_spec(
        file,
        train_root=train_root,
        train_bytes=len(corpus.train),
        heldout_root=heldout_root,
        heldout_bytes=len(corpus.heldout),
        init_root=root,
    )
    report(
        EventKind.PROGRESS,
        f"{len(corpus.train) / 1e6:.1f} MB to train on, {len(corpus.heldout) / 1e6:.1f} MB held out",
    )
    return spec


def genesis_for(file: RunFile, home: Path, secret: SecretKey) -> Genesis:
    """The genesis of ``home/genesis.bin``, or that of a new network with this node as its validator.

    Raises ``Corrupt`` when the file is there and holds something else.
    """
    path = home / GENESIS_FILE
    if path.exists():
        try:
            return decode(Genesis, path.read_bytes(), limit=1 << 20)
        except BadEncoding as error:
            raise Corrupt(f"{path} is damaged: {error}", hint=f"mv {path} {path}.damaged") from None
    return genesis_of(
        file,
        validators={secret.peer: OWNER_STAKE},
        accounts={secret.peer: OWNER_BALANCE},
        seed=secrets.token_bytes(32),
    )


def escrow_for(state: State, owner: PeerId) -> Amount:
    """What a launch puts into its run; raises ``BadConfig`` when the account cannot pay the least."""
    balance = state.account(owner).balance
    least = run_deposit(state.params)
    if balance < least:
        raise BadConfig(
            f"this key holds {balance} on the ledger, and a run needs an escrow of at least {least}",
            hint="ask somebody who holds money on this network for a transfer",
        )
    return Amount(max(balance // ESCROW_SHARE, least))


def save_genesis(home: Path, genesis: Genesis) -> None:
    """Keep the genesis beside the store, for people and for tools."""
    (home / GENESIS_FILE).write_bytes(encode(genesis))


def _corpus(file: RunFile, base: Path) -> Corpus:
    source = file.data.source
    names = source if isinstance(source, str) else [str(base / name) for name in source]
    data = file.data
    return build_corpus(
        read_source(names), max_bytes=data.max_bytes, heldout_every=data.heldout_every
    )


def _init_root(model: ModelSpec, num_stages: int, seed: int) -> Digest:
    return init_root(plan_stages(model, num_stages), seed)
