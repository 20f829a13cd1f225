"""The log of payouts is a Merkle tree that only grows; its root is that of the list of its leaves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import BadEncoding
from swarm.ledger.payouts import (
    address_text,
    key_digest,
    log_root,
    members_digest,
    parse_address,
    payout_leaf,
    statement_digest,
    with_leaf,
)
from swarm.ledger.state.payouts import PayoutStatement, SettlementMember, SettlementTarget
from swarm.primitives.codec import replace
from swarm.primitives.merkle import merkle_root, sha256_hash
from swarm.testing.ledger import numbered_key
from swarm.types import Amount, Digest

CHAIN = Digest(bytes([7]) * 32)
TARGET = SettlementTarget(31337, bytes([9]) * 20)
MEMBERS = (
    SettlementMember(bytes([1]) * 20, Amount(5)),
    SettlementMember(bytes([2]) * 20, Amount(6)),
)
STATEMENT = PayoutStatement(3, 2, Digest(bytes([5]) * 32), MEMBERS, ())


@pytest.mark.rule("L65")
@given(st.integers(0, 70))
def test_the_root_of_the_log_is_the_merkle_root_of_its_leaves(count: int) -> None:
    leaves = [payout_leaf(bytes([1 + i]) * 20, i) for i in range(count)]
    peaks = tuple[Digest, ...]()
    for index, leaf in enumerate(leaves):
        peaks = with_leaf(peaks, index, leaf)
    assert len(peaks) == count.bit_count()
    assert log_root(peaks, count) == merkle_root(leaves, sha256_hash)


@pytest.mark.rule("L67")
def test_a_signature_on_payouts_is_for_one_ledger_contract_epoch_root_and_set() -> None:
    said = statement_digest(CHAIN, TARGET, STATEMENT)
    others = [
        statement_digest(Digest(bytes(32)), TARGET, STATEMENT),
        statement_digest(CHAIN, replace(TARGET, evm_chain=1), STATEMENT),
        statement_digest(CHAIN, replace(TARGET, contract=bytes([8]) * 20), STATEMENT),
        statement_digest(CHAIN, TARGET, replace(STATEMENT, epoch=4)),
        statement_digest(CHAIN, TARGET, replace(STATEMENT, root=CHAIN)),
        statement_digest(CHAIN, TARGET, replace(STATEMENT, members=MEMBERS[:1])),
        key_digest(CHAIN, numbered_key(0).peer, TARGET.contract),
    ]
    assert len({said, *others}) == 8
    assert members_digest(MEMBERS) != members_digest(MEMBERS[::-1])


@pytest.mark.parametrize(
    "text", ["", "0x", "ab" * 20, "0x" + "g" * 40, "0x" + "0" * 40, "0x" + "a" * 39]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadEncoding):
        parse_address(text)


def test_an_address_has_one_text_and_its_digits_any_case() -> None:
    text = "0x" + "ab" * 20
    assert address_text(parse_address("0x" + "aB" * 20)) == text
