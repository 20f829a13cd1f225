"""A certificate holds only for a quorum of the genesis, for one view, for one block."""

import pytest

from swarm.errors import BadEncoding, BadSignature, PeerFault
from swarm.ledger.blocks import (
    BLOCK_BYTES_MAX,
    BODY_BYTES_MAX,
    BODY_TRANSACTIONS_MAX,
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    Block,
    Validator,
    body_root,
    check_certificate,
    is_quorum,
    parse_block,
    validators_of,
)
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import InMemoryLedger
from swarm.types import NO_DIGEST, Amount, PeerId, View


def a_block() -> tuple[InMemoryLedger, Block]:
    stage = InMemoryLedger(num_validators=4)
    stage.block()
    return stage, stage.links[-1][0]


@pytest.mark.rule("L31")
def test_a_quorum_is_more_than_two_thirds_of_the_power() -> None:
    three = [Validator(PeerId(bytes([i]) * 32), Amount(1)) for i in range(3)]
    assert not is_quorum(2, three)
    assert is_quorum(3, three)
    assert is_quorum(3, [*three, Validator(PeerId(b"x" * 32), Amount(1))])


def test_a_certificate_of_everybody_holds() -> None:
    stage, block = a_block()
    certificate = stage.certificate(block)
    check_certificate(certificate, stage.state.chain, 0, validators_of(stage.genesis))


def test_three_of_four_are_enough_and_two_are_not() -> None:
    stage, block = a_block()
    whole, voters = stage.certificate(block), validators_of(stage.genesis)
    three = replace(whole, bitmap=0b1101, signatures=(whole.signatures[0], *whole.signatures[2:]))
    check_certificate(three, stage.state.chain, 0, voters)
    two = replace(whole, bitmap=0b1100, signatures=whole.signatures[2:])
    with pytest.raises(BadSignature):
        check_certificate(two, stage.state.chain, 0, voters)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": NOTARIZE},
        {"kind": NULLIFY},
        {"kind": NULLIFY, "block": NO_DIGEST},
        {"kind": 3},
        {"kind": -1},
        {"view": View(9)},
        {"view": View(0)},
        {"block": digest("block", b"another")},
        {"block": NO_DIGEST},
        {"block": b"short"},
        {"bitmap": 0b0111},
        {"bitmap": 0b10111},
        {"bitmap": -1},
        {"signatures": ()},
        {"signatures": (b"short",) * 4},
    ],
    ids=str,
)
def test_a_certificate_holds_for_nothing_else(changes: dict[str, object]) -> None:
    stage, block = a_block()
    certificate = replace(stage.certificate(block), **changes)
    with pytest.raises(PeerFault):
        check_certificate(certificate, stage.state.chain, 0, validators_of(stage.genesis))


def test_votes_of_another_chain_or_epoch_do_not_count() -> None:
    stage, block = a_block()
    certificate, voters = stage.certificate(block), validators_of(stage.genesis)
    with pytest.raises(BadSignature):
        check_certificate(certificate, stage.state.chain, 1, voters)
    with pytest.raises(BadSignature):
        check_certificate(
            stage.certificate(block), digest("genesis", b"other"), 0, validators_of(stage.genesis)
        )
    assert stage.certificate(block).kind == FINALIZE


def test_a_block_survives_its_encoding_and_a_changed_one_is_refused() -> None:
    _, block = a_block()
    assert parse_block(encode(block)) == block
    for header in (
        replace(block.header, body_root=digest("x", b"")),
        replace(block.header, height=0),
        replace(block.header, view=0),
        replace(block.header, epoch=-1),
        replace(block.header, next_validators=b"short"),
        replace(block.header, leader=b"short"),
        replace(block.header, vrf_proof=b""),
    ):
        with pytest.raises(BadEncoding):
            parse_block(encode(replace(block, header=header)))


@pytest.mark.parametrize(
    "body",
    [(b"x" * BODY_BYTES_MAX, b"x"), (b"",) * (BODY_TRANSACTIONS_MAX + 1)],
    ids=["bytes", "count"],
)
def test_a_body_over_its_limits_is_refused(body: tuple[bytes, ...]) -> None:
    _, block = a_block()
    header = replace(block.header, body_root=body_root(body))
    with pytest.raises(BadEncoding):
        parse_block(encode(Block(header, body)))


def test_the_largest_body_fits_an_encoded_block() -> None:
    _, block = a_block()
    size = BODY_BYTES_MAX // BODY_TRANSACTIONS_MAX
    body = (b"x" * size,) * BODY_TRANSACTIONS_MAX
    data = encode(Block(replace(block.header, body_root=body_root(body)), body))
    assert len(data) <= BLOCK_BYTES_MAX
    parse_block(data)
