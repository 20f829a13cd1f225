"""A file of blocks holds what the ledger holds, and one that was changed anywhere is refused."""

from pathlib import Path

import pytest

from swarm.errors import UsageError, VerificationFailed
from swarm.ledger.chain_file import LENGTH_BYTES, MAGIC, open_chain, write_chain
from swarm.ledger.reader import verify_file
from swarm.ledger.transactions import Transfer
from swarm.primitives.codec import encode
from swarm.testing.ledger import InMemoryLedger
from swarm.types import Amount


def a_file(folder: Path) -> tuple[InMemoryLedger, Path]:
    """Four blocks with a transfer each; the second is covered by the third."""
    ledger, path = InMemoryLedger(4, 4), folder / "chain.bin"
    for _ in range(4):
        ledger.block(ledger.sign(ledger.keys[0], Transfer(ledger.keys[1].peer, Amount(3))))
    links = [(b, None if b.header.height == 2 else c) for b, c in ledger.links]
    assert write_chain(path, ledger.genesis, links) == 4
    return ledger, path


@pytest.mark.rule("L27b")
def test_what_was_written_is_read_and_verified(tmp_path: Path) -> None:
    ledger, path = a_file(tmp_path)
    seen = list[int]()
    chain = open_chain(path)
    report = verify_file(chain, lambda block: seen.append(block.header.height))
    assert chain.genesis == ledger.genesis
    assert report.chain.head.state.root == ledger.state.root
    assert (report.chain.num_transactions, report.chain.num_certificates) == (4, 3)
    assert seen == [1, 2, 3, 4]
    assert [file.name for file in tmp_path.iterdir()] == ["chain.bin"]


@pytest.mark.rule("L27b")
def test_a_file_with_any_flipped_bit_is_refused_or_of_another_network(tmp_path: Path) -> None:
    ledger, path = a_file(tmp_path)
    data = path.read_bytes()
    for at in range(0, len(data), 37):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            chain = open_chain(path)
            verify_file(chain)
        except VerificationFailed:
            continue
        assert chain.genesis.chain != ledger.genesis.chain, f"byte {at}"


def test_a_file_that_is_cut_off_is_refused_or_ends_at_a_block(tmp_path: Path) -> None:
    _, path = a_file(tmp_path)
    data = path.read_bytes()
    for length in range(0, len(data) - 1, 41):
        path.write_bytes(data[:length])
        try:
            height = verify_file(open_chain(path)).chain.head.state.height
        except VerificationFailed:
            continue
        assert height < 4


def test_a_frame_too_long_is_refused_before_it_is_read(tmp_path: Path) -> None:
    ledger, path = a_file(tmp_path)
    genesis = encode(ledger.genesis)
    whole = MAGIC + len(genesis).to_bytes(LENGTH_BYTES, "big") + genesis
    path.write_bytes(whole + b"\xff\xff\xff\xff")
    with pytest.raises(VerificationFailed, match="a frame of 4294967295 bytes"):
        list(open_chain(path).links())
    path.write_bytes(b"something else")
    with pytest.raises(VerificationFailed, match="no file of swarm ledger export"):
        open_chain(path)
    with pytest.raises(UsageError, match="cannot be read"):
        open_chain(tmp_path / "nothing")


def test_no_file_is_overwritten_and_none_is_left_half(tmp_path: Path) -> None:
    ledger, path = a_file(tmp_path)
    with pytest.raises(UsageError, match="exists already"):
        write_chain(path, ledger.genesis, [])
    with pytest.raises(UsageError, match="cannot be written"):
        write_chain(tmp_path / "no folder" / "chain.bin", ledger.genesis, [])

    def broken() -> "list[object]":
        raise VerificationFailed("block 1 is missing on this disk")

    with pytest.raises(VerificationFailed):
        write_chain(tmp_path / "other.bin", ledger.genesis, (broken() for _ in range(1)))  # type: ignore[misc]
    assert [file.name for file in tmp_path.iterdir()] == ["chain.bin"]
