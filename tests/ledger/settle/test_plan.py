"""What is brought to the contract follows from both states; what it would refuse is found before."""

import pytest

from swarm.errors import InvalidStatement, VerificationFailed
from swarm.ledger.payouts import key_digest, members_digest, statement_digest
from swarm.ledger.settle.plan import (
    SLOTS,
    ContractState,
    NothingToDo,
    Slot,
    check_roots,
    compact_signature,
    count_signatures,
    free_slot,
    kept_statements,
    pack_members,
    pack_votes,
    parse_head,
    parse_members,
    parse_slot,
    plan_challenges,
    plan_claim,
    plan_posting,
    present_members,
    settlement_log,
    signed_power,
    unproved_keys,
)
from swarm.ledger.settlement_statements import SettlementKey, SignPayouts, Withdraw
from swarm.ledger.state.payouts import PayoutStatement, SettlementMember, SettlementTarget
from swarm.ledger.state.state import State
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.primitives.merkle import sha256_hash, verify_proof
from swarm.testing.ledger import STAKE, InMemoryLedger
from swarm.types import NO_DIGEST, Amount, Digest

EPOCH = 10
CONTRACT, OWN, OTHER = bytes([0xC0]) * 20, bytes([0xA1]) * 20, bytes([0xA2]) * 20
TARGET = SettlementTarget(31337, CONTRACT)
WINDOW_S = 100


def address_of(number: int) -> bytes:
    return bytes([1 + number]) * 20


def signature_of(number: int, signed: Digest) -> bytes:
    """A stand-in for a signature, which ``recover`` knows."""
    return bytes([1 + number]) + signed[:31] + bytes(31) + b"\x01\x00"


def recover(signed: Digest, signature: bytes) -> bytes | None:
    return bytes([signature[0]]) * 20 if signature[1:32] == signed[:31] else None


class Network:
    """A ledger of four validators that settles."""

    def __init__(self) -> None:
        self.ledger = InMemoryLedger(8, 4, epoch_blocks=EPOCH)
        for number in range(4):
            peer = self.ledger.keys[number].peer
            proof = signature_of(number, key_digest(self.state.chain, peer, address_of(number)))
            self.submit(number, SettlementKey(address_of(number), proof, 31337, CONTRACT))

    @property
    def state(self) -> State:
        return self.ledger.state

    def submit(self, number: int, body: SettlementKey | Withdraw | SignPayouts) -> None:
        self.ledger.block(self.ledger.sign(self.ledger.keys[number], body))

    def end_epoch(self, *withdrawals: tuple[int, bytes]) -> PayoutStatement:
        for amount, address in withdrawals:
            self.submit(5, Withdraw(Amount(amount), address))
        self.ledger.empty_blocks(EPOCH - 1 - self.state.height % EPOCH or EPOCH)
        return kept_statements(self.state)[0]

    def sign(self, statement: PayoutStatement, *numbers: int, of: int | None = None) -> None:
        signed = statement_digest(self.state.chain, TARGET, statement)
        for number in numbers:
            signer = number if of is None else of
            self.submit(number, SignPayouts(statement.epoch, signature_of(signer, signed)))


def contract(
    members: tuple[SettlementMember, ...], *slots: Slot, next_epoch: int = 0, funds: int = 10**9
) -> ContractState:
    left = tuple(parse_slot(index, NO_DIGEST, 0) for index in range(len(slots), SLOTS))
    return ContractState(
        target=TARGET,
        ledger=NO_DIGEST,
        window_s=WINDOW_S,
        bond_wei=7,
        unit_wei=10,
        next_epoch=next_epoch,
        era=0,
        num_bonds=len(slots),
        members=members_digest(members),
        slots=(*slots, *left),
        balance_wei=funds + 7 * len(slots),
        now_s=1_000,
    )


def posted(index: int, statement: PayoutStatement, age_s: int = WINDOW_S) -> Slot:
    return Slot(
        index=index,
        root=statement.root,
        posted_s=1_000 - age_s,
        epoch=statement.epoch,
        era=0,
        is_held=True,
        poster=OTHER,
    )


@pytest.fixture
def network() -> Network:
    return Network()


def nothing_announced() -> bytes:
    raise AssertionError("the signers are on the ledger")


def test_the_words_of_storage_are_read_as_the_contract_packs_them() -> None:
    meta = 5 | 6 << 36 | 7 << 76 | 1 << 95 | int.from_bytes(OWN, "big") << 96
    slot = parse_slot(3, digest("x", b""), meta)
    assert (slot.posted_s, slot.epoch, slot.era, slot.is_held, slot.poster) == (5, 6, 7, True, OWN)
    assert parse_head(9 | 2 << 40 | 3 << 59) == (9, 2, 3)
    members = (SettlementMember(OWN, Amount(5)), SettlementMember(OTHER, Amount(1 << 62)))
    assert parse_members(pack_members(members)) == members


def test_a_signature_is_packed_into_64_bytes_or_is_none() -> None:
    r, s = b"\x01" * 32, b"\x02" * 32
    assert compact_signature(r + s + b"\x00") == r + s
    assert compact_signature(r + s + b"\x01") == r + b"\x82" + s[1:]
    for bad in (r + b"\x80" * 32 + b"\x00", r + s + b"\x02", bytes(32) + s + b"\x00"):
        assert compact_signature(bad) is None
    members = [SettlementMember(OWN, Amount(5)), SettlementMember(OTHER, Amount(6))]
    assert pack_votes(members, {OTHER: r + s + b"\x00"}) == bytes(64) + r + s
    assert signed_power(members, {OTHER: b""}) == (6, 11)


@pytest.mark.rule("L69")
def test_signatures_that_do_not_hold_are_dropped_and_named(network: Network) -> None:
    statement = network.end_epoch((100, OWN))
    network.sign(statement, 0, 1)
    network.sign(statement, 2, of=1)  # a copy under another name
    network.submit(3, SignPayouts(statement.epoch, b"\xff" * 64 + b"\x00"))
    statement = kept_statements(network.state)[0]
    ballot = count_signatures(network.state, TARGET, statement, recover)
    keys = network.ledger.keys
    assert set(ballot.valid) == {address_of(0), address_of(1)}, "the copy counts for its key, once"
    assert [one.peer for one in ballot.broken] == [keys[3].peer]
    view = contract(statement.members)
    with pytest.raises(VerificationFailed, match="50% of the power has signed") as caught:
        plan_posting(network.state, view, statement.members, recover)
    assert "do not hold" in str(caught.value)


@pytest.mark.rule("L69")
def test_the_newest_statement_that_enough_have_signed_is_posted(network: Network) -> None:
    older = network.end_epoch((100, OWN))
    network.sign(older, 0, 1, 2)
    newer = network.end_epoch((50, OTHER))
    network.sign(newer, 0)
    view = contract(older.members)
    assert present_members(network.state, view, nothing_announced) == older.members
    posting, broken = plan_posting(network.state, view, older.members, recover)
    assert (posting.statement.epoch, posting.slot, broken) == (older.epoch, 0, [])
    assert (posting.signed, posting.power, posting.heirs) == (3 * STAKE, 4 * STAKE, ())
    network.sign(newer, 1, 3)
    posting, _ = plan_posting(network.state, view, older.members, recover)
    assert posting.statement.epoch == newer.epoch
    done = contract(older.members, posted(0, newer), next_epoch=newer.epoch + 1)
    with pytest.raises(NothingToDo, match="newest payouts are posted"):
        plan_posting(network.state, done, older.members, recover)


@pytest.mark.rule("L69")
def test_validators_that_replace_all_their_keys_hand_over_with_the_old_ones(
    network: Network,
) -> None:
    before = network.end_epoch((100, OWN))
    for number in range(4):
        network.submit(number, SettlementKey(address_of(10 + number), bytes(65), 31337, CONTRACT))
    after = network.end_epoch((50, OTHER))
    assert {m.address for m in after.members} == {address_of(10 + n) for n in range(4)}
    signed = statement_digest(network.state.chain, TARGET, after)
    for number in range(3):
        for key in (number, 10 + number):
            network.submit(number, SignPayouts(after.epoch, signature_of(key, signed)))
    view = contract(before.members)
    posting, broken = plan_posting(network.state, view, before.members, recover)
    assert (posting.statement.epoch, posting.heirs, broken) == (after.epoch, after.members, [])
    posting, _ = plan_posting(network.state, contract(after.members), after.members, recover)
    assert posting.signed == 3 * STAKE


def test_signers_that_change_are_handed_over(network: Network) -> None:
    statement = network.end_epoch((100, OWN))
    network.sign(statement, 0, 1, 2)
    before = (*statement.members[:3], SettlementMember(OWN, Amount(1)))
    view = contract(before)
    assert present_members(network.state, view, lambda: pack_members(before)) == before
    with pytest.raises(VerificationFailed, match="other signers"):
        present_members(network.state, view, lambda: pack_members(before[:2]))
    posting, _ = plan_posting(network.state, view, before, recover)
    assert posting.heirs == statement.members


def test_the_oldest_final_root_makes_room_and_the_newest_never_does(network: Network) -> None:
    statement = network.end_epoch((100, OWN))
    network.sign(statement, 0, 1, 2)
    old = [replace(posted(i, statement), epoch=i) for i in range(SLOTS)]
    assert free_slot(contract(statement.members, *old[:3])) == 3
    assert free_slot(contract(statement.members, *old)) == 0
    waiting = [replace(slot, posted_s=950 + slot.index) for slot in old]
    busy = contract(statement.members, old[0], *waiting[1:])
    assert free_slot(busy) is None
    with pytest.raises(NothingToDo, match="51 s more"):
        plan_posting(network.state, busy, statement.members, recover)


def test_before_the_first_statement_there_is_nothing_to_post(network: Network) -> None:
    view = contract((SettlementMember(OWN, Amount(1)),))
    with pytest.raises(NothingToDo, match="no epoch has ended"):
        plan_posting(network.state, view, (), recover)
    with pytest.raises(InvalidStatement):
        settlement_log(InMemoryLedger(1).state)


def test_a_claim_is_the_newest_leaf_under_a_root_that_is_final(network: Network) -> None:
    first = network.end_epoch((100, OWN), (50, OTHER))
    second = network.end_epoch((25, OWN))
    view = contract(first.members, posted(0, first), posted(1, second, age_s=40))
    claim = plan_claim(network.state, view, OWN, 0)
    assert (claim.slot, claim.count, claim.index, claim.total, claim.due) == (0, 2, 0, 100, 100)
    leaf = claim.address + claim.total.to_bytes(32, "big")
    verify_proof(first.root, leaf, claim.index, claim.count, claim.proof, sha256_hash)
    with pytest.raises(NothingToDo, match="25 units wait: their root can be proved wrong for 60 s"):
        plan_claim(network.state, view, OWN, 100)
    later = contract(first.members, posted(0, first), posted(1, second))
    claim = plan_claim(network.state, later, OWN, 100)
    assert (claim.slot, claim.index, claim.total, claim.due) == (1, 2, 125, 25)


def test_why_there_is_nothing_to_claim_is_told(network: Network) -> None:
    first = network.end_epoch((100, OWN))
    network.submit(5, Withdraw(Amount(30), OTHER))
    view = contract(first.members, posted(0, first))
    for address, claimed, why in (
        (address_of(9), 0, "nothing was withdrawn to 0x0a0a"),
        (OWN, 100, "all 100 units withdrawn to 0xa1a1"),
        (OTHER, 0, "30 units wait until an epoch has ended and its root is posted"),
    ):
        with pytest.raises(NothingToDo, match=why):
            plan_claim(network.state, view, address, claimed)
    poor = contract(first.members, posted(0, first), funds=999)
    with pytest.raises(NothingToDo, match="has 999 wei where 1000 are due"):
        plan_claim(network.state, poor, OWN, 0)


def test_a_root_of_long_ago_is_found_again_though_its_statement_is_not_kept(
    network: Network,
) -> None:
    first = network.end_epoch((100, OWN))
    for _ in range(17):
        network.end_epoch((20, OTHER))
    assert first.epoch not in {one.epoch for one in kept_statements(network.state)}
    view = contract(first.members, posted(0, first))
    assert check_roots(network.state, view) == {first.root: 1}
    assert plan_claim(network.state, view, OWN, 0).due == 100


@pytest.mark.rule("S39")
def test_a_root_that_is_not_the_ledgers_stops_who_settles_and_is_refuted_by_its_own(
    network: Network,
) -> None:
    statement = network.end_epoch((100, OWN))
    foreign = replace(posted(0, statement, age_s=10), root=digest("another", b""))
    view = contract(statement.members, foreign)
    for plan in (
        lambda: check_roots(network.state, view),
        lambda: plan_claim(network.state, view, OWN, 0),
    ):
        with pytest.raises(VerificationFailed, match="is not one of this ledger"):
            plan()

    def announced(_: int) -> bytes:
        return pack_members(statement.members)

    with pytest.raises(VerificationFailed, match="cannot be refuted by signatures"):
        plan_challenges(network.state, view, announced, recover)
    network.sign(statement, 0, 1, 2)
    (challenge,) = plan_challenges(network.state, view, announced, recover)
    assert (challenge.slot, challenge.statement.root) == (0, statement.root)
    honest = contract(statement.members, posted(0, statement, age_s=10))
    with pytest.raises(NothingToDo, match="all roots are this ledger's"):
        plan_challenges(network.state, honest, announced, recover)


@pytest.mark.rule("L69")
def test_a_key_that_is_not_shown_to_be_its_validators_is_named(network: Network) -> None:
    assert unproved_keys(network.state, recover) == []
    peers = [network.ledger.keys[number].peer for number in (0, 1)]
    proof = signature_of(0, key_digest(network.state.chain, peers[0], address_of(0)))
    network.submit(1, SettlementKey(address_of(0), proof, 31337, CONTRACT))
    assert unproved_keys(network.state, recover) == [peers[1]]
