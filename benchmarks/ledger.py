"""Measure the ledger: execution, consensus in a simulator and over sockets, proofs, sync, and what seats cost.

Figures: transfers applied with signatures, state root and sqlite on one core; blocks, finality and transfers of
four validators over real sockets in one process; network hops per block and to finality in the simulator; bytes
of a light proof and of a seat's statements; what the sortition of a round with 1,024 seats takes.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from benchmarks.common import Outcome, say, spread
from benchmarks.ledger_followers import measure_followers
from benchmarks.ledger_founder import MOMENTS, measure_founder
from benchmarks.ledger_join import join_chain, long_chain, state_size
from benchmarks.ledger_loop import measure_loop
from benchmarks.ledger_network import follow_chain, simulate_hops, vote_over_sockets
from benchmarks.ledger_traffic import REPLICAS, traffic_table
from benchmarks.ledger_voters import vote_apart
from benchmarks.settlement import measure_settlement
from swarm.config.spec import NANO, CheckSpec, Genesis
from swarm.ledger.blocks import Block, Certificate
from swarm.ledger.chain import Head, compose_block, extend, genesis_head
from swarm.ledger.light import HASH_BYTES, parse_light_proof, prove_entries, verify_entries
from swarm.ledger.model_proof import model_keys
from swarm.ledger.net.archive import Archive
from swarm.ledger.state.draws import Draw
from swarm.ledger.state.records import Checkpoint, SegmentPhase
from swarm.ledger.state.runs import head_of
from swarm.ledger.state.state import State, account_key, money_in
from swarm.ledger.state.storage import NO_STORAGE
from swarm.ledger.storage_statements import StoreReceipt
from swarm.ledger.transactions import Join, PostCheckpoint, Transfer
from swarm.ledger.transition.seats import with_seat
from swarm.ledger.transition.storage import check_leaves, prove_storage
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import tensor_hash
from swarm.primitives.crypto import digest, expand
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.primitives.state_parts import COMPONENTS, PHI
from swarm.store import Store
from swarm.testing.ledger import InMemoryLedger, make_segment, numbered_key, small_run_spec
from swarm.types import Amount, Height, PeerId, RoundIndex, RunIndex, StageIndex, View
from swarm.verify.draws import Draws
from tests.ledger.checking import EXACT, Case

VALIDATORS_OF_PROOF = 16


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    blocks_applied: int
    transfers_per_block: int
    blocks_voted: int
    transfers_per_validator: int
    blocks_synced: int
    epochs_joined: int
    """Epochs of 720 blocks of the chain that is joined by a snapshot."""
    keys_joined: int
    views_simulated: int
    repetitions: int
    loop_stages: int
    """Stages of the run in which the event loop is timed, and seats of each."""
    loop_replicas: int
    loop_blocks: int
    loop_interval_ms: int
    moments: int
    """Moments at which a founder is lost."""
    blocks_apart: int
    """Blocks of four validators in four processes."""
    followers: int
    replicas: tuple[int, ...]
    """Replicas of four stages whose statements are counted."""

    @property
    def loop(self) -> tuple[int, int, int, int]:
        """Arguments of ``measure_loop``."""
        return self.loop_stages, self.loop_replicas, self.loop_blocks, self.loop_interval_ms


FULL = Sizes(
    blocks_applied=10,
    transfers_per_block=1_000,
    blocks_voted=200,
    transfers_per_validator=400,
    blocks_synced=10_000,
    epochs_joined=1_806,
    keys_joined=20_000,
    views_simulated=100,
    repetitions=20,
    loop_stages=64,
    loop_replicas=16,
    loop_blocks=57,
    loop_interval_ms=250,
    moments=MOMENTS,
    blocks_apart=200,
    followers=1_024,
    replicas=REPLICAS,
)
QUICK = Sizes(
    blocks_applied=2,
    transfers_per_block=100,
    blocks_voted=20,
    transfers_per_validator=20,
    blocks_synced=200,
    epochs_joined=20,
    keys_joined=500,
    views_simulated=20,
    repetitions=3,
    loop_stages=2,
    loop_replicas=4,
    loop_blocks=12,
    loop_interval_ms=50,
    moments=1,
    blocks_apart=10,
    followers=8,
    replicas=(4,),
)


def measure(quick: bool) -> Outcome:
    """Measure all parts."""
    sizes = QUICK if quick else FULL
    outcome = Outcome({"blocks_synced": sizes.blocks_synced, "validators": 4})
    with TemporaryDirectory() as folder:
        home = Path(folder)
        say(f"{sizes.blocks_applied} blocks of {sizes.transfers_per_block} transfers")
        outcome.figures["apply_tx_per_s"] = round(trio.run(apply_transfers, home, sizes))
        say(f"four validators over sockets, {sizes.blocks_voted} blocks")
        voted = trio.run(vote_over_sockets, home, sizes.blocks_voted, sizes.transfers_per_validator)
        outcome.figures |= voted.figures
        outcome.detail |= voted.detail
        outcome.figures |= simulate_hops(sizes.views_simulated)
        measure_proofs(sizes, outcome)
        say(f"a follower of {sizes.blocks_synced} blocks")
        seconds = trio.run(follow_chain, home, empty_chain(sizes.blocks_synced))
        key = "sync_10k_blocks_s"
        outcome.figures[key] = round(seconds, 1) if sizes is FULL else None
        outcome.detail["sync_s"] = round(seconds, 1)
        seats = sizes.loop_stages * sizes.loop_replicas
        say(f"the event loop of nodes among {seats} seats")
        timed = trio.run(measure_loop, home / "loop", *sizes.loop)
        outcome.figures |= timed.figures if sizes is FULL else dict.fromkeys(timed.figures)
        outcome.detail |= timed.detail | timed.figures
        measure_networks(home, sizes, outcome)
        measure_joins(home, sizes, outcome)
    measure_seats(sizes, outcome)
    outcome.detail["not_measured"] = measure_settlement(outcome)
    return outcome


def measure_networks(home: Path, sizes: Sizes, outcome: Outcome) -> None:
    """Lose a validator, let four vote as processes, let many follow, and count the statements of a round."""
    say(f"a founder is lost at {sizes.moments} moments, in virtual time")
    lost = measure_founder(home / "founder", sizes.moments)
    outcome.figures |= lost.figures if sizes is FULL else dict.fromkeys(lost.figures)
    outcome.detail |= lost.detail | lost.figures
    say("four validators in four processes")
    outcome.detail |= vote_apart(home / "apart", sizes.blocks_apart).detail
    say(f"{sizes.followers} followers, in virtual time")
    outcome.detail["followers"] = measure_followers(home / "followers", sizes.followers)
    say(f"statements of four stages of {sizes.replicas} replicas")
    outcome.detail["traffic"] = traffic_table(sizes.replicas)


async def apply_transfers(home: Path, sizes: Sizes) -> float:
    """Return how many transfers a second a node that sees them first checks, applies and keeps."""
    ledger = InMemoryLedger(256, 4, epoch_blocks=1_000)
    store = Store.open(home / "applied.sqlite")
    try:
        archive, seconds = Archive(store, ledger.genesis, genesis_head(ledger.genesis)), 0.0
        for _ in range(sizes.blocks_applied):
            block = _transfers(ledger, sizes.transfers_per_block)
            certificate = ledger.certificate(block)
            began = time.perf_counter()
            await archive.append([block], certificate, known={})
            seconds += time.perf_counter() - began
            ledger.head = archive.head
        assert ledger.state.account(numbered_key(0).peer).nonce > 0
        return sizes.blocks_applied * sizes.transfers_per_block / seconds
    finally:
        store.close()


def _transfers(ledger: InMemoryLedger, count: int) -> Block:
    """Return the next block, with transfers from all accounts in turns."""
    accounts = 256
    keys = [numbered_key(i) for i in range(accounts)]
    data = [
        ledger.sign(
            keys[i % accounts],
            Transfer(keys[(i + 1) % accounts].peer, Amount(1)),
            nonce=ledger.state.account(keys[i % accounts].peer).nonce + 1 + i // accounts,
        )
        for i in range(count)
    ]
    voters = ledger.state.validators
    leader = ledger.key_of(voters[ledger.state.height % len(voters)].peer)
    view = View(ledger.state.globals.view + 1)
    return compose_block(ledger.head, tuple(data), leader, view)[0]


def empty_chain(count: int) -> tuple[InMemoryLedger, list[tuple[Block, Certificate]]]:
    """Return a ledger of four validators, and that many blocks with finalizations."""
    ledger = InMemoryLedger(6, 4, epoch_blocks=1_000)
    head: Head = ledger.head
    links = list[tuple[Block, Certificate]]()
    for number in range(count):
        voters = head.state.validators
        leader = ledger.key_of(voters[number % len(voters)].peer)
        block, _ = compose_block(head, (), leader, View(head.state.globals.view + 1))
        ledger.head = head
        links.append((block, ledger.certificate(block)))
        head = extend(head, block)
    ledger.head = head
    return ledger, links


def measure_joins(home: Path, sizes: Sizes, outcome: Outcome) -> None:
    """Join a chain of 1.3 million blocks by a snapshot: its 16 validators change in every epoch, or never."""
    case, _ = _judged()
    demo, epochs = case.ledger.state, sizes.epochs_joined
    ways: dict[str, dict[str, int | bool]] = {
        "changing": {"changes": True},
        "changing, 10 blocks an epoch": {"changes": True, "epoch_blocks": 10},
        "equal": {"changes": False},
        "changing, more keys": {"changes": True, "keys": sizes.keys_joined},
    }
    rows = dict[str, object]()
    for name, options in ways.items():
        say(f"a newcomer to {epochs} epochs, validators {name}")
        length = int(options.pop("epoch_blocks", 720))
        genesis, base = _founded(demo, length)
        chain = long_chain(
            base,
            genesis,
            epochs=epochs,
            changes=bool(options["changes"]),
            blocks=length - 1,
            keys=int(options.get("keys", 1_000)),
        )
        folder = home / name
        folder.mkdir()
        seconds, num_bytes = trio.run(join_chain, folder, chain)
        rows[name] = {
            "s": round(seconds, 2),
            "received_bytes": num_bytes,
            "height": chain.boundary.height,
            "followed": len(chain.blocks),
            "handoffs": len(chain.handoffs) + 1,
            "state": state_size(chain.boundary.state),
        }
        if name == "changing":
            figures = {"snapshot_join_s": round(seconds, 2), "snapshot_join_bytes": num_bytes}
            outcome.figures |= figures if sizes is FULL else dict.fromkeys(figures)
    outcome.detail["snapshot_join"] = rows
    outcome.detail["snapshot_join_how"] = (
        f"{epochs} epochs, 16 validators; signed headers at the ends of epochs without the blocks between,"
        " a real state moved to the last of them, and real blocks after it, for all of an epoch but one; a new"
        " node on the same machine, over a socket"
    )


def _founded(demo: State, epoch_blocks: int) -> tuple[Genesis, State]:
    """Return a genesis with 16 validators, and a state of its network with the entries of another one, too."""
    ledger = InMemoryLedger(16, VALIDATORS_OF_PROOF, epoch_blocks=epoch_blocks)
    others = {key: entry for key, entry in demo.entries.items() if ledger.state.get(key) is None}
    made = sum(money_in(entry) for entry in others.values())
    globals_ = ledger.state.globals
    counted = replace(
        globals_,
        supply=Amount(globals_.supply + made),
        minted=Amount(globals_.minted + made),
        num_runs=demo.globals.num_runs,
    )
    return ledger.genesis, State(ledger.state.entries.update({**others, b"g": counted}))


def measure_proofs(sizes: Sizes, outcome: Outcome) -> None:
    """Prove a checkpoint of a network of 16 validators and 2,048 accounts, value included."""
    ledger, key = _checkpoint()
    block, certificate = ledger.links[-1]
    quorum = 2 * VALIDATORS_OF_PROOF // 3 + 1
    some = replace(
        certificate, bitmap=(1 << quorum) - 1, signatures=certificate.signatures[:quorum]
    )
    data = encode(prove_entries(ledger.state, block.header, some, [], [key]))
    seconds = list[float]()
    for _ in range(sizes.repetitions):
        began = time.perf_counter()
        verify_entries(ledger.genesis, parse_light_proof(data), [(key, Checkpoint)])
        seconds.append((time.perf_counter() - began) * 1_000)
    path, longest = _path_of(ledger, key), max(_path_of(ledger, other) for other in _accounts())
    outcome.detail["light_proof_path"] = path
    outcome.detail["light_proof_path_max"] = longest
    outcome.detail["light_proof_bytes_of_one"] = len(data)
    outcome.figures["light_proof_bytes_n16"] = len(data) + HASH_BYTES * (longest - path)
    outcome.figures["light_verify_ms"] = round(statistics.median(seconds), 2)
    outcome.detail["light_verify_ms"] = spread(seconds)


def _path_of(ledger: InMemoryLedger, key: bytes) -> int:
    """Return how many hashes prove an entry; it is chance, by the digest of its key."""
    return len(ledger.state.entries.prove(key).siblings)


def _accounts() -> list[bytes]:
    """Return the keys of the accounts that ``_checkpoint`` makes."""
    names = (digest("somebody", number.to_bytes(8, "big")) for number in range(2_048))
    return [account_key(PeerId(name)) for name in names]


def _checkpoint() -> tuple[InMemoryLedger, bytes]:
    """Return a ledger with 2,048 accounts more, and the key of a checkpoint in it."""
    ledger = InMemoryLedger(20, VALIDATORS_OF_PROOF, epoch_blocks=100_000)
    giver, nonce = ledger.keys[0], 0
    for start in range(0, 2_048, 256):
        nonce = ledger.state.account(giver.peer).nonce
        others = [digest("somebody", (start + i).to_bytes(8, "big")) for i in range(256)]
        gifts = [
            ledger.sign(giver, Transfer(PeerId(other), Amount(1)), nonce=nonce + 1 + i)
            for i, other in enumerate(others)
        ]
        ledger.block(*gifts)
    run = ledger.reach_round(ledger.open_run(small_run_spec(rounds=20)), 1)
    components = [digest("component", bytes([i])) for i in range(COMPONENTS)]
    ledger.block(*ledger.commit_all(run, 0))
    run = ledger.reach_round(run, 2)
    ledger.block(ledger.sign(giver, ledger.commit(run, 1, 0, 0, end_root=merkle_root(components))))
    body = PostCheckpoint(
        run=run.index,
        round=RoundIndex(2),
        stage=StageIndex(0),
        seat=0,
        phi_root=components[PHI],
        phi_bytes=4,
        proof=tuple(merkle_proof(components, PHI)),
    )
    ledger.block(ledger.sign(giver, body))
    return ledger, model_keys(run.index, RoundIndex(2), 2)[1]


def measure_seats(sizes: Sizes, outcome: Outcome) -> None:
    """Count what a seat puts into blocks and a large run into its entry; time the sortition of a round."""
    case, sizes_of = _judged()
    outcome.figures["commit_bytes"] = sizes_of[0]
    outcome.figures["bytes_per_seat_round"] = sum(sizes_of)
    outcome.detail["bytes_per_seat_round"] = sizes_of
    megabytes = (1, 64, 512) if sizes is FULL else (1,)
    outcome.detail["proofs_of_holders"] = {f"{size} MiB": _holder(size << 20) for size in megabytes}
    outcome.figures["run_entry_bytes_1024"] = _head_bytes()
    record = case.record
    rounds = list[float]()
    for number in range(sizes.repetitions):
        names = [digest("beacon", bytes([number, i])) for i in range(2)]
        draws = [Draw(Height(9), name, Amount(100_000)) for name in names]
        records = [
            replace(record, seat=i % 16, stage=i // 16, draws=(draws[i % 2],)) for i in range(1_024)
        ]
        known = Draws(numbered_key(3), case.ledger.state.chain)
        began = time.perf_counter()
        for one in records:
            known.of(one, Amount(100))
        rounds.append((time.perf_counter() - began) * 1_000)
    outcome.figures["sortition_ms_1024"] = round(statistics.median(rounds), 1)
    outcome.detail["sortition_ms_1024"] = spread(rounds)


def _judged() -> tuple[Case, Sequence[int]]:
    """Return a segment of 50 steps that two verifiers have approved, and the bytes of all its statements."""
    ledger = InMemoryLedger(4, 4, epoch_blocks=1_000)
    run = ledger.open_run(replace(EXACT, inner_steps_max=max(EXACT.inner_steps_max, 50)))
    ledger.block(ledger.sign(ledger.keys[1], Join(run.index)))
    run = ledger.reach_round(run, 2)
    true = make_segment(ledger, run, 1, 0, 1, num_steps=50)
    case, first = Case(ledger, run, true, true), len(ledger.links)
    case.submit(ledger.keys[1], true.commit)
    case.show(case.up_to_reveal())
    assert case.is_now(SegmentPhase.VERIFIED)
    bodies = (block.transactions for block, _ in ledger.links[first:])
    return case, [len(data) for body in bodies for data in body]


def _holder(num_bytes: int) -> dict[str, float]:
    """Return the bytes of a holder's proof for weights of some size, and what making and checking it takes."""
    data = expand(b"weights", "bench-weights", num_bytes)
    checkpoint = Checkpoint(
        round=RoundIndex(8),
        phi_root=tensor_hash("float32", (num_bytes // 4,), data),
        phi_bytes=num_bytes,
        peer=numbered_key(0).peer,
        seat=0,
        height=Height(1),
        is_void=False,
    )
    receipt = StoreReceipt(RunIndex(1), RoundIndex(8), StageIndex(0), numbered_key(1).peer)
    storage = replace(NO_STORAGE, asked=Height(80), seed=digest("beacon", b""))
    began = time.perf_counter()
    proof = prove_storage(checkpoint, storage, receipt, memoryview(data))
    made = time.perf_counter()
    check_leaves(checkpoint, storage, proof)
    checked = time.perf_counter()
    return {
        "bytes": len(encode(proof)),
        "make_s": round(made - began, 2),
        "check_ms": round((checked - made) * 1_000, 1),
    }


def _head_bytes() -> int:
    """Return the bytes of the entry of a run with 1,024 seats."""
    spec = small_run_spec(num_stages=64, replicas_max=16, checks=CheckSpec(NANO, 10, 8))
    run = InMemoryLedger().open_run(replace(spec, model=replace(spec.model, num_layers=64)))
    for stage in range(64):
        for number in range(15):
            run = with_seat(run, stage, numbered_key(number).peer, RoundIndex(0))
    assert sum(map(len, run.seats)) == 1_024
    return len(encode(head_of(run)))
