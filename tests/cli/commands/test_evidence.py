"""`swarm verify-evidence` needs a file and nothing else, and its exit code says what the file shows."""

import json
from pathlib import Path

import pytest

from swarm.cli.main import run
from swarm.ledger.light import trusted_epoch
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import tensor_hash
from swarm.testing.ledger import make_genesis
from swarm.verify.evidence_file import write_evidence
from tests.training.pipeline import TEXT
from tests.verify.evidence_world import LIE, World, a_world, result_of

KEYS = """file verdict network is_trusted trusted_epoch version run run_digest round stage seat
window windows solver peer committed height end_root claim replay text""".split()
NO_FRAUD, BAD = 7, 6


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    """A folder with the evidence of a lie and that of an honest window, of one network."""
    folder, world = tmp_path_factory.mktemp("evidence"), a_world()
    write_evidence(folder / "honest", world.shown(world.record()))
    write_evidence(folder / "lie", world.shown(world.lying()))
    write_evidence(folder / "bare", replace(world.shown(world.record()), chunks={}))
    (folder / "genesis").write_bytes(encode(world.ledger.genesis))
    return folder, world


def verify(home: Path, *args: object) -> int:
    return run(["verify-evidence", *map(str, args), "--home", str(home / "none")])


@pytest.mark.rule("V43")
def test_a_lie_exits_with_0_and_says_who_where_and_what(
    files: tuple[Path, World], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, world = files
    chain = world.ledger.genesis.chain.hex()
    assert verify(tmp_path, folder / "lie") == 0
    out = capsys.readouterr().out
    assert out.startswith(f"verdict   FRAUD: window {LIE} of segment 1/1/0 of ")
    for said in (
        "round 1, stage 1, seat 0, window 1 of 3",
        "run my-run",
        "proved by the final block",
        f"genesis {chain}, which you must know by yourself: --network HEX",
        f"claim {result_of(world).claim.hex()}",
        "this program, version",
    ):
        assert said in out
    assert not (tmp_path / "none").exists()


def test_the_object_for_programs_has_fixed_keys(
    files: tuple[Path, World], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, world = files
    assert verify(tmp_path, folder / "lie", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert list(row) == KEYS
    assert (row["verdict"], row["window"], row["is_trusted"]) == ("fraud", LIE, False)
    chain = world.ledger.genesis.chain.hex()
    assert verify(tmp_path, folder / "lie", "--json", "--chain", chain) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["network"], row["is_trusted"]) == (chain, True)


@pytest.mark.rule("V43")
def test_an_honest_window_has_an_exit_code_of_its_own(
    files: tuple[Path, World], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = files
    assert verify(tmp_path, folder / "honest") == NO_FRAUD
    assert "verdict   HONEST: " in capsys.readouterr().out


def test_the_network_is_pinned_by_its_id_its_genesis_or_an_epoch(
    files: tuple[Path, World], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, world = files
    chain = world.ledger.genesis.chain.hex()
    epoch = trusted_epoch(0, world.state.validators)
    assert verify(tmp_path, folder / "lie", "--network", chain, "--trust", epoch) == 0
    assert f"validators of epoch {epoch}, as you said" in capsys.readouterr().out
    assert verify(tmp_path, folder / "lie", "--genesis", folder / "genesis") == 0
    assert "as you said" in capsys.readouterr().out
    other = tmp_path / "genesis"
    other.write_bytes(encode(make_genesis(5, 2)))
    assert verify(tmp_path, folder / "lie", "--genesis", other) == BAD
    assert "is of network" in capsys.readouterr().err
    assert verify(tmp_path, folder / "lie", "--network", "ab" * 32) == BAD
    assert verify(tmp_path, folder / "lie", "--network", chain, "--genesis", other) == 2
    assert verify(tmp_path, folder / "lie", "--trust", f"0:{'ab' * 32}") == BAD


@pytest.mark.rule("V44")
def test_a_bad_file_is_one_sentence_and_exit_code_6(
    files: tuple[Path, World], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = files
    raw = (folder / "lie").read_bytes()
    bent = bytearray(raw)
    bent[-1] ^= 1
    path = tmp_path / "bad"
    for data, cause in ((raw[:-1], "ends within"), (bytes(bent), "chunk 0"), (b"x" * 50, "not ev")):
        path.write_bytes(data)
        assert verify(tmp_path, path) == BAD
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "proves nothing" in printed.err
        assert cause in printed.err
    with path.open("wb") as file:
        file.truncate(1 << 30)
    assert verify(tmp_path, path) == BAD
    assert "a file of 1024 MiB" in capsys.readouterr().err
    assert verify(tmp_path, tmp_path / "nothing") == 2
    assert "cannot be read" in capsys.readouterr().err
    assert verify(tmp_path, tmp_path) == 2


def test_text_that_is_not_in_the_file_is_given_beside_it(
    files: tuple[Path, World], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = files
    assert verify(tmp_path, folder / "bare") == 4
    printed = capsys.readouterr().err
    assert tensor_hash("uint8", (len(TEXT),), TEXT).hex() in printed
    assert "--data" in printed
    text = tmp_path / "train.bin"
    text.write_bytes(TEXT)
    assert verify(tmp_path, folder / "bare", "--data", text) == NO_FRAUD
    capsys.readouterr()
    text.write_bytes(TEXT + b"x")
    assert verify(tmp_path, folder / "bare", "--data", text) == BAD
    assert "has the hash" in capsys.readouterr().err
