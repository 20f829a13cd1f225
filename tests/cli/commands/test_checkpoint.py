"""A folder holds what its proof says, weight by weight, or the command says where it does not."""

from pathlib import Path

import pytest

from swarm.cli.commands.checkpoint import compare_weights, read_proof, trusted_network
from swarm.config.spec import RunSpec
from swarm.errors import BadConfig, UsageError, VerificationFailed
from swarm.ledger.light import prove_entries, trusted_epoch
from swarm.ledger.model_proof import PROOF_FILE, ModelProof, model_keys
from swarm.ledger.transactions import PostCheckpoint
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.crypto import digest
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.primitives.state_parts import COMPONENTS, PHI
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.training.hf.export import WEIGHTS_FILE, export_files
from swarm.training.model.stages import init_flat, plans_of
from swarm.types import RoundIndex, StageIndex

SPEC: RunSpec = small_run_spec(rounds=20)
ROUND = RoundIndex(2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, InMemoryLedger]:
    """A folder with the weights that a lone launcher posted at round 2, and their proof."""
    ledger, folder = InMemoryLedger(), tmp_path_factory.mktemp("model")
    run = ledger.reach_round(ledger.open_run(SPEC), 1)
    ledger.block(*ledger.commit_all(run, 0))
    run = ledger.reach_round(run, 2)
    shards = [init_flat(plan, 7) for plan in plans_of(SPEC)]
    for stage, shard in enumerate(shards):
        components = [digest("component", bytes([stage, i])) for i in range(COMPONENTS)]
        components[PHI] = hash_of(shard)
        end = merkle_root(components)
        ledger.block(ledger.sign(ledger.keys[0], ledger.commit(run, 1, stage, 0, end_root=end)))
        body = PostCheckpoint(
            run=run.index,
            round=ROUND,
            stage=StageIndex(stage),
            seat=0,
            phi_root=hash_of(shard),
            phi_bytes=4,
            proof=tuple(merkle_proof(components, PHI)),
        )
        ledger.block(ledger.sign(ledger.keys[0], body))
    block, certificate = ledger.links[-1]
    light = prove_entries(
        ledger.state, block.header, certificate, [], model_keys(run.index, ROUND, 2)
    )
    proof = ModelProof(ledger.genesis, run.index, ROUND, 2, light)
    for name, data in export_files(SPEC.model, shards, facts=None, end_token=None).items():
        (folder / name).write_bytes(data)
    (folder / PROOF_FILE).write_bytes(encode(proof))
    return folder, ledger


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_was_exported_is_proved(exported: tuple[Path, InMemoryLedger]) -> None:
    folder, ledger = exported
    proved = read_proof(folder)
    compare_weights(folder, proved)
    assert proved.network == ledger.genesis.chain


@pytest.mark.rule("L64")
def test_who_trusts_an_epoch_needs_no_more_than_its_validators(
    exported: tuple[Path, InMemoryLedger],
) -> None:
    folder, ledger = exported
    voters = ledger.state.validators
    assert read_proof(folder, trusted_epoch(0, voters)).network == ledger.genesis.chain
    with pytest.raises(VerificationFailed, match="without the validators of the epoch"):
        read_proof(folder, trusted_epoch(0, voters * 2))
    with pytest.raises(VerificationFailed, match="before epoch 7 that you trust"):
        read_proof(folder, trusted_epoch(7, voters))


@pytest.mark.parametrize("at", [-1, -4_000])
def test_one_flipped_byte_of_the_weights_is_refused(
    exported: tuple[Path, InMemoryLedger], tmp_path: Path, at: int
) -> None:
    folder = copied(exported[0], tmp_path / "bad")
    flip(folder / WEIGHTS_FILE, at)
    with pytest.raises(VerificationFailed, match="the weights of stage"):
        compare_weights(folder, read_proof(folder))


def test_a_proof_that_does_not_hold_or_is_not_there_is_told(
    exported: tuple[Path, InMemoryLedger], tmp_path: Path
) -> None:
    folder = copied(exported[0], tmp_path / "bad")
    flip(folder / PROOF_FILE, -1)
    with pytest.raises(VerificationFailed, match="proves nothing"):
        read_proof(folder)
    (folder / PROOF_FILE).unlink()
    with pytest.raises(BadConfig, match=r"has no ledger_proof\.bin"):
        read_proof(folder)
    with pytest.raises(UsageError, match="is no folder"):
        read_proof(tmp_path / "nothing")


def test_an_adapters_sum_has_no_hash_on_the_ledger(
    exported: tuple[Path, InMemoryLedger],
) -> None:
    folder, _ = exported
    proved = read_proof(folder)
    spec = replace(SPEC, adapter=replace(SPEC.adapter, rank=4))
    object.__setattr__(proved, "spec", spec)
    with pytest.raises(BadConfig, match="merged into its base"):
        compare_weights(folder, proved)


def test_the_trusted_network_is_named_or_that_of_the_home(
    exported: tuple[Path, InMemoryLedger], tmp_path: Path
) -> None:
    _, ledger = exported
    chain = ledger.genesis.chain
    assert trusted_network(tmp_path, chain.hex()) == chain
    assert trusted_network(tmp_path, "") is None
    (tmp_path / "genesis.bin").write_bytes(encode(ledger.genesis))
    assert trusted_network(tmp_path, "") == chain
    for wrong in ("00", "zz" * 32):
        with pytest.raises(UsageError, match="64 hexadecimal"):
            trusted_network(tmp_path, wrong)
