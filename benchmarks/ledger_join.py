"""Let a newcomer join a long chain by a snapshot, over a socket.

A million blocks take hours to make. Here the headers at the ends of epochs are signed by the real keys of their
validators, and the blocks between them are left out: nobody who joins by a snapshot asks for them. The state at
the last of these headers is a real one, moved to that height, and the blocks after it are real again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ledger_network import a_node
from swarm.config.spec import Genesis
from swarm.ledger.blocks import (
    FINALIZE,
    VOTE_PURPOSES,
    Block,
    Certificate,
    Header,
    Validator,
    block_digest,
    is_quorum,
    last_height,
    validators_digest,
    vote_parts,
)
from swarm.ledger.chain import Head, compose_block, genesis_head
from swarm.ledger.light import Handoff, handoff_of, stay_of
from swarm.ledger.net.archive import Archive, Boundary
from swarm.ledger.state.records import Account, Entry
from swarm.ledger.state.state import EMPTY_ACCOUNT, State, account_key
from swarm.primitives import vrf
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.store import Store
from swarm.testing.ledger import numbered_key
from swarm.types import NO_DIGEST, Amount, Digest, Height, PeerId, View

SERVER, NEWCOMER = 40, 41
"""Keys of two nodes that are no validators."""


@dataclass(frozen=True, slots=True)
class LongChain:
    """A chain without the blocks before its last end of an epoch."""

    genesis: Genesis
    boundary: Boundary
    handoffs: Sequence[Handoff]
    blocks: Sequence[tuple[Block, Certificate]]
    """Real blocks after the boundary."""


def long_chain(
    base: State, genesis: Genesis, *, epochs: int, changes: bool, blocks: int, keys: int = 0
) -> LongChain:
    """Return a chain of so many epochs that ends with the entries of ``base``, and ``keys`` accounts more.

    Args:
        base: State of a ledger of that genesis.
        genesis: Its validators are the first numbered keys.
        epochs: Epochs before the boundary, its own included.
        changes: Whether the validators of every epoch differ from those before by a unit of power.
        blocks: Blocks after the boundary.
        keys: Accounts to add.
    """
    secrets = {numbered_key(i).peer: numbered_key(i) for i in range(len(genesis.validators))}
    first = base.council.current
    sets = [_changed(first, epoch) if changes else first for epoch in range(epochs + 1)]
    epoch_blocks, handoffs = genesis.epoch_blocks, list[Handoff]()
    state = _moved(base, last_height(epoch_blocks, epochs - 1), sets[-1], keys)
    for epoch in range(epochs - 1) if changes else ():
        header = _header(genesis, last_height(epoch_blocks, epoch), sets[epoch + 1], NO_DIGEST)
        handoffs.append(handoff_of(header, _final(header, sets[epoch], secrets), sets[epoch + 1]))
    if not changes:
        header = _header(genesis, (epochs - 1) * epoch_blocks, first, NO_DIGEST)
        handoffs.append(stay_of(header, _final(header, first, secrets)))
    header = _header(genesis, state.height, sets[-1], state.root)
    certificate = _final(header, sets[epochs - 1], secrets)
    boundary = Boundary(handoff_of(header, certificate, sets[-1]), state)
    head, links = boundary.head, list[tuple[Block, Certificate]]()
    for number in range(blocks):
        leader = secrets[sets[-1][number % len(first)].peer]
        block, after = compose_block(head, (), leader, View(head.state.globals.view + 1))
        links.append((block, _final(block.header, head.state.validators, secrets)))
        head = Head(block_digest(block.header), after)
    return LongChain(genesis, boundary, handoffs, links)


async def join_chain(home: Path, chain: LongChain) -> tuple[float, int]:
    """Return the seconds until a new node has the last block, and the bytes that it received for that."""
    height = chain.boundary.height + len(chain.blocks)
    store = Store.open(home / f"{SERVER}.sqlite")
    try:
        archive = Archive(store, chain.genesis, genesis_head(chain.genesis))
        await archive.adopt(chain.boundary, chain.handoffs)
        for block, certificate in chain.blocks:
            await archive.append([block], certificate, known={})
    finally:
        store.close()
    async with a_node(home, chain.genesis, SERVER, [], validate=False) as (host, _):
        vrf.verify.cache_clear()  # the newcomer has seen none of these blocks
        began = time.perf_counter()
        async with a_node(home, chain.genesis, NEWCOMER, [host], validate=False) as (_, ledger):
            await ledger.wait_height(height)
            seconds = time.perf_counter() - began
            assert ledger.first == chain.boundary.height + 1
            return seconds, ledger.stats.received_sync_bytes


def state_size(state: State) -> dict[str, int]:
    """Return how many entries a state has, and how many bytes they take."""
    sizes = [len(key) + len(encode(entry)) for key, entry in state.entries.items()]
    return {"entries": len(sizes), "bytes": sum(sizes)}


def _changed(validators: Sequence[Validator], epoch: int) -> tuple[Validator, ...]:
    index = epoch % len(validators)
    return tuple(
        replace(one, power=Amount(one.power + (epoch > 0))) if i == index else one
        for i, one in enumerate(validators)
    )


def _moved(base: State, height: Height, validators: tuple[Validator, ...], keys: int) -> State:
    """Return a state at another height, in which no run is active any more."""
    council = replace(
        base.council,
        previous=validators,
        current=validators,
        next=validators,
        skipped=(0,) * len(validators),
    )
    extra = {
        account_key(PeerId(digest("somebody", number.to_bytes(8, "big")))): _account(number)
        for number in range(keys)
    }
    supply = base.supply + sum(account.balance for account in extra.values())
    globals_ = replace(
        base.globals,
        height=height,
        view=View(0),
        last_due=height,
        active_runs=(),
        supply=Amount(supply),
        minted=Amount(base.globals.minted + supply - base.supply),
    )
    changes: dict[bytes, Entry | None] = {b"g": globals_, b"e": council, **extra}
    return State(base.entries.update(changes))


def _account(number: int) -> Account:
    return replace(EMPTY_ACCOUNT, balance=Amount(1 + number), nonce=number % 100)


def _header(
    genesis: Genesis, height: int, heirs: tuple[Validator, ...], state_root: Digest
) -> Header:
    return Header(
        chain=genesis.chain,
        height=Height(height),
        epoch=height // genesis.epoch_blocks,
        view=View(height % genesis.epoch_blocks + 1),
        parent=digest("parent", height.to_bytes(8, "big")),
        state_root=state_root,
        body_root=digest("body"),
        next_validators=validators_digest(heirs),
        vrf_proof=bytes(80),
        leader=heirs[0].peer,
    )


def _final(
    header: Header, validators: Sequence[Validator], secrets: dict[PeerId, SecretKey]
) -> Certificate:
    """Return a finalization by as many of the validators as it takes."""
    name, signatures, power = block_digest(header), list[bytes](), 0
    parts = vote_parts(header.chain, header.epoch, header.view, name)
    while not is_quorum(power, validators):
        voter = validators[len(signatures)]
        signatures.append(secrets[voter.peer].sign(VOTE_PURPOSES[FINALIZE], *parts))
        power += voter.power
    bitmap = (1 << len(signatures)) - 1
    return Certificate(FINALIZE, header.view, name, bitmap, tuple(signatures))
