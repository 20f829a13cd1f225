"""A state is cut into parts, each of which is proved alone, and put together again; nothing else passes."""

import pytest

from swarm.errors import BadEncoding, BrokenPromise, PeerFault
from swarm.ledger import snapshot
from swarm.ledger.blocks import Block
from swarm.ledger.light import KnownEpoch, first_epoch, handoff_of
from swarm.ledger.snapshot import (
    EARLIER,
    EARLIER_BLOCKS_MAX,
    NO_OFFER,
    EarlierReply,
    Offer,
    PartName,
    PartReply,
    SnapshotRequest,
    check_earlier,
    check_offer,
    check_part,
    check_start,
    compose_offer,
    compose_part,
    cut_state,
    join_state,
    oldest_kept,
    oldest_needed,
    parse_offer,
    parse_request,
)
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.state.state import State
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import InMemoryLedger
from swarm.types import NO_DIGEST, Height
from tests.ledger.checking import EXACT, a_case

EPOCH = 10


def an_end() -> tuple[InMemoryLedger, Offer, list[bytes], State]:
    """A ledger at the end of epoch 0, its offer, and its parts as they are sent."""
    ledger = InMemoryLedger(40, 4, epoch_blocks=EPOCH)
    ledger.empty_blocks(EPOCH - 1)
    block, certificate = ledger.links[-1]
    parts = cut_state(ledger.state)
    boundary = handoff_of(block.header, certificate, ledger.state.validators)
    offer = compose_offer(boundary, parts)
    return ledger, offer, [encode(compose_part(part)) for part in parts], ledger.state


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PART_BYTES", 256)


@pytest.mark.rule("L61", "L6")
def test_a_state_is_the_same_from_its_parts(small_parts: None) -> None:
    ledger, offer, sent, state = an_end()
    assert len(sent) >= 8
    again = parse_offer(encode(offer))
    after = check_offer(ledger.genesis, first_epoch(ledger.genesis), again)
    assert (after.epoch, after.validators) == (1, state.validators)
    parts = [check_part(again, number, data) for number, data in enumerate(sent)]
    found = join_state(ledger.genesis, again, parts)
    assert found.root == state.root
    assert dict(found.entries.items()) == dict(state.entries.items())
    assert max(map(len, sent)) < 2_048


@pytest.mark.rule("L61")
def test_a_part_is_believed_in_its_place_only(small_parts: None) -> None:
    _, offer, sent, _ = an_end()
    full = [number for number, part in enumerate(offer.parts) if part.digest != NO_DIGEST]
    with pytest.raises(BrokenPromise, match="entries of another part"):
        check_part(offer, full[0], sent[full[1]])
    with pytest.raises(BadEncoding):
        check_part(offer, full[0], sent[full[0]][:-1])
    with pytest.raises(BadEncoding, match="unknown kind"):
        check_part(offer, full[0], encode(PartReply(((b"?", b"\xc0"),))))


@pytest.mark.rule("L60")
def test_a_snapshot_counts_for_its_epoch_and_network_alone() -> None:
    ledger, offer, sent, state = an_end()
    start, voters = first_epoch(ledger.genesis), ledger.state.validators
    for known in (KnownEpoch(1, voters), KnownEpoch(0, voters[:3]), KnownEpoch(0, voters[::-1])):
        with pytest.raises(PeerFault):
            check_offer(ledger.genesis, known, offer)
    with pytest.raises(PeerFault):
        check_offer(ledger.genesis, start, NO_OFFER)
    other = InMemoryLedger(40, 4, epoch_blocks=EPOCH, name="other").genesis
    with pytest.raises(PeerFault):
        check_offer(other, start, offer)
    assert offer.boundary is not None
    early = replace(offer.boundary, height=Height(EPOCH - 2))
    with pytest.raises(BrokenPromise, match="not of the end of an epoch"):
        check_offer(ledger.genesis, start, replace(offer, boundary=early))
    parts = [check_part(offer, number, data) for number, data in enumerate(sent)]
    with pytest.raises(BrokenPromise, match="another network"):
        join_state(other, offer, parts)
    with pytest.raises(BrokenPromise):
        check_start(ledger.genesis, [], early, state)
    ledger.block()
    with pytest.raises(BrokenPromise, match="not the state after its header"):
        check_start(ledger.genesis, [], offer.boundary, ledger.state)


def test_offers_and_requests_are_bounded() -> None:
    _, offer, _, _ = an_end()
    name = PartName(digest("part"), is_single=False)
    for parts in ((), (name,) * 3, (name,) * 8192, (replace(name, digest=b"short"),)):
        with pytest.raises(BadEncoding):
            parse_offer(encode(replace(offer, parts=parts)))
    with pytest.raises(BadEncoding):
        parse_offer(encode(replace(NO_OFFER, parts=(name,))))
    good = SnapshotRequest(EARLIER, Height(3), 0)
    assert parse_request(encode(good)) == good
    for changes in ({"subject": 4}, {"subject": -1}, {"height": -1}, {"number": -1}):
        with pytest.raises(BadEncoding):
            parse_request(encode(replace(good, **changes)))


@pytest.mark.rule("L62")
def test_earlier_blocks_are_believed_by_their_hashes() -> None:
    ledger = InMemoryLedger(num_validators=4)
    ledger.empty_blocks(6)
    blocks = [block for block, _ in ledger.links]
    parent = blocks[4].header.parent

    def checked(*sent: Block) -> int:
        return len(check_earlier(encode(EarlierReply(sent)), Height(5), parent))

    assert checked(*blocks[3::-1]) == 4
    assert checked(blocks[3]) == 1
    assert checked() == 0
    false = replace(blocks[2], header=replace(blocks[2].header, state_root=digest("lie")))
    for sent in (
        blocks[:4],
        [blocks[2]],
        [blocks[3], false],
        [blocks[3], blocks[1]],
        [replace(blocks[3], transactions=(b"more",))],
        [*blocks[3::-1], blocks[0]],
        [blocks[3]] * (EARLIER_BLOCKS_MAX + 1),
    ):
        with pytest.raises(PeerFault):
            checked(*sent)


@pytest.mark.rule("L62")
def test_blocks_are_kept_for_the_unbonding_and_the_challenge_window_and_while_they_are_needed() -> (
    None
):
    ledger = InMemoryLedger(4, 4, epoch_blocks=EPOCH)
    assert oldest_kept(ledger.state) == 1
    ledger.empty_blocks(50)
    span = ledger.genesis.unbonding_epochs * EPOCH
    assert oldest_kept(ledger.state) == 50 - span
    case = a_case()
    case.wait(SegmentPhase.SEALED)
    state = case.ledger.state
    assert oldest_needed(state) == case.record.height
    span = state.params.unbonding_epochs * state.params.epoch_blocks
    window = EXACT.checks.challenge_window_blocks
    case.ledger.empty_blocks(span + window - state.height + 2)
    assert oldest_kept(case.ledger.state) == 2
