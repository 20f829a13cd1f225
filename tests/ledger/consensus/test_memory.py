"""A validator that does not know what it has signed signs nothing until a new epoch has begun."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from swarm.errors import DiskFull, UsageError
from swarm.host.identity import UNUSED_FILE, folder_number, load_identity
from swarm.ledger.consensus.journal import Journal, VoteRecord
from swarm.ledger.consensus.memory import MARK_FILE, UNKNOWN, VoteMemory
from swarm.ledger.consensus.votes import Vote
from swarm.ledger.recover import recover_votes
from swarm.store import STORE_FILE
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import NO_DIGEST, View
from tests.ledger.services import MemoryHost, MemoryNet, a_genesis, a_ledger, digests

EPOCH = 10


def a_home(folder: Path) -> Path:
    """A home whose key was made in it."""
    load_identity(folder)
    return folder


def a_journal(count: int) -> Journal:
    journal = Journal.empty()
    for view in range(1, count + 1):
        journal.append(VoteRecord(0, Vote(0, View(view), NO_DIGEST, 0, b""), None))
    return journal


def test_a_key_that_was_made_here_and_never_used_begins_with_a_whole_memory(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    assert (home / UNUSED_FILE).exists()
    memory = VoteMemory.open(home)
    assert memory.is_whole(Journal.empty())
    assert not (home / UNUSED_FILE).exists(), "it says so once"
    assert VoteMemory.open(home).is_whole(Journal.empty())


def test_a_key_that_was_brought_here_begins_with_a_lost_memory(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy2(home / "identity.key", other)
    assert not VoteMemory.open(other).is_whole(Journal.empty())
    shutil.copy2(home / UNUSED_FILE, other)
    assert not VoteMemory.open(other).is_whole(Journal.empty()), "it was made in another folder"


@pytest.mark.rule("L52", "S9b")
def test_a_vote_log_that_is_older_than_the_mark_has_forgotten_votes(tmp_path: Path) -> None:
    memory = VoteMemory.open(a_home(tmp_path / "home"))
    memory.note(a_journal(3))
    again = VoteMemory.open(memory.home)
    assert again.is_whole(a_journal(3))
    assert again.is_whole(a_journal(4)), "a crash between the two writes"
    assert not again.is_whole(a_journal(2)), "rolled back"
    assert not again.is_whole(Journal.empty()), "moved away"
    other = a_journal(2)
    other.append(VoteRecord(1, Vote(0, View(9), NO_DIGEST, 0, b""), None))
    assert not again.is_whole(other), "as long, and another history"
    pruned = a_journal(5)
    pruned.prune(0, View(4))
    assert again.is_whole(pruned)


@pytest.mark.rule("L52", "S9b")
def test_a_copy_of_a_home_has_lost_its_memory(tmp_path: Path) -> None:
    memory = VoteMemory.open(a_home(tmp_path / "home"))
    memory.note(a_journal(3))
    shutil.copytree(memory.home, tmp_path / "copy")
    assert not VoteMemory.open(tmp_path / "copy").is_whole(a_journal(3))
    moved = memory.home.rename(tmp_path / "moved")
    assert VoteMemory.open(moved).is_whole(a_journal(3)), "the same folder under another name"


def test_a_mark_with_a_flipped_bit_or_a_cut_one_counts_as_none(tmp_path: Path) -> None:
    memory = VoteMemory.open(a_home(tmp_path / "home"))
    memory.note(a_journal(3))
    path = memory.home / MARK_FILE
    whole = path.read_bytes()
    length = 33 + whole[32]
    for at in range(8 * length):
        bent = bytearray(whole)
        bent[at // 8] ^= 1 << at % 8
        path.write_bytes(bent)
        assert VoteMemory.open(memory.home).mark is None
    for size in (0, 1, 32, 33, length - 1):
        path.write_bytes(whole[:size])
        assert not VoteMemory.open(memory.home).is_whole(a_journal(3))
    path.write_bytes(whole)
    assert VoteMemory.open(memory.home).is_whole(a_journal(3))


def test_a_home_that_cannot_be_written_is_told_by_name(tmp_path: Path) -> None:
    memory = VoteMemory.open(a_home(tmp_path / "home"))
    path = memory.home / MARK_FILE
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match=r"cannot write .*votes\.mark"):
        memory.note(a_journal(1))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_before_anything_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    memory = VoteMemory.open(a_home(tmp_path / "home"))

    def full(*_: object) -> int:
        raise OSError(number, "no room")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFull, match="no room left"):
        memory.note(a_journal(1))


def test_a_silence_outlasts_a_restart_until_the_owner_ends_it(tmp_path: Path) -> None:
    memory = VoteMemory.open(a_home(tmp_path / "home"))
    memory.note(a_journal(3))
    memory.be_silent(5, Journal.after(3))
    again = VoteMemory.open(memory.home)
    assert again.mark is not None
    assert again.mark.silent_through == 5
    assert again.is_whole(Journal.after(3))
    again.accept(Journal.after(3))
    assert again.mark.folder == folder_number(memory.home)
    assert again.mark.silent_through == UNKNOWN


@pytest.mark.rule("L52", "S9b")
@pytest.mark.parametrize("damage", ["rolled back", "moved away", "flipped", "cut", "no mark"])
async def test_a_validator_whose_disk_forgot_votes_is_silent_until_the_next_epoch(
    tmp_path: Path, autojump_clock: MockClock, damage: str
) -> None:
    """It follows the others meanwhile, signs no second vote, and votes again by itself."""
    net, genesis = MemoryNet(), a_genesis(4, epoch_blocks=EPOCH)
    homes = [a_home(tmp_path / f"home-{i}") for i in range(4)]
    hosts = [MemoryHost(net, numbered_key(i)) for i in range(4)]
    async with (
        a_ledger(homes[1], genesis, 1, hosts[1], remembers=True) as first,
        a_ledger(homes[2], genesis, 2, hosts[2], remembers=True),
        a_ledger(homes[3], genesis, 3, hosts[3], remembers=True),
    ):
        path = homes[0] / "0.sqlite"
        async with a_ledger(homes[0], genesis, 0, hosts[0], remembers=True) as ours:
            await ours.wait_height(12)
        early = tmp_path / "early.sqlite"
        shutil.copy2(path, early)
        async with a_ledger(homes[0], genesis, 0, hosts[0], remembers=True) as ours:
            await ours.wait_height(first.height + 2)
            assert ours.is_validator, "a restart alone forgets nothing"
        forget(damage, homes[0], path, early)
        async with a_ledger(homes[0], genesis, 0, hosts[0], remembers=True) as ours:
            epoch = (await ours.wait_height(first.height + 3)).next_epoch
            assert ours.is_silent
            assert not ours.is_validator
            await ours.wait_height((epoch + 1) * EPOCH + 1)
            assert ours.is_validator
            upto = ours.height
            await first.wait_height(upto)
            assert digests(ours, upto) == digests(first, upto)
        assert first.stats.evidence == 0


def forget(damage: str, home: Path, path: Path, early: Path) -> None:
    match damage:
        case "rolled back":
            shutil.copy2(early, path)
        case "moved away":
            path.rename(path.with_suffix(".damaged"))
        case "flipped":
            mark = bytearray((home / MARK_FILE).read_bytes())
            mark[40] ^= 4
            (home / MARK_FILE).write_bytes(mark)
        case "cut":
            (home / MARK_FILE).write_bytes((home / MARK_FILE).read_bytes()[:20])
        case _:
            (home / MARK_FILE).unlink()


@pytest.mark.rule("L52", "S9b")
async def test_a_lone_founder_whose_disk_forgot_signs_no_rival_and_its_owner_decides(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its follower has 19 blocks; what the founder gets back are those, and it adds none by itself."""
    net, genesis = MemoryNet(), a_genesis(1, epoch_blocks=60)
    founder, follower = a_home(tmp_path / "founder"), a_home(tmp_path / "follower")
    host, other = MemoryHost(net, numbered_key(0)), MemoryHost(net, numbered_key(5))
    path = founder / "0.sqlite"
    async with a_ledger(follower, genesis, 5, other, validate=False) as copy:
        async with a_ledger(founder, genesis, 0, host, remembers=True) as ours:
            await copy.wait_height(19)
        height = copy.height
        before = digests(copy, height)
        path.rename(path.with_suffix(".damaged"))
        async with a_ledger(founder, genesis, 0, host, remembers=True) as ours:
            await ours.wait_height(height)
            await trio.sleep(60.0)
            assert ours.height == height
            assert ours.is_silent
        path.rename(founder / STORE_FILE)
        assert recover_votes(founder) == height
        (founder / STORE_FILE).rename(path)
        async with a_ledger(founder, genesis, 0, host, remembers=True) as ours:
            await copy.wait_height(height + 3)
            assert digests(copy, height) == before == digests(ours, height)


def test_a_founder_that_brings_its_key_along_has_signed_nothing_in_a_new_network(
    tmp_path: Path,
) -> None:
    """Else all founders of a network begun anew would wait for each other, and no epoch would ever end."""
    home = a_home(tmp_path / "home")
    genesis = InMemoryLedger(4, 1).genesis
    assert recover_votes(home, genesis) == 0
    assert recover_votes(home) == 0, "the ledger is there now"


def test_a_home_without_a_ledger_has_nothing_to_recover(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no ledger yet"):
        recover_votes(a_home(tmp_path / "home"))
