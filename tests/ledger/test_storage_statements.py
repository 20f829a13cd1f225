"""Statements of holders are bounded before anything is looked up, and survive their encoding."""

import pytest

from swarm.errors import BadEncoding
from swarm.ledger.storage_statements import (
    LEAVES_DRAWN,
    PATH_MAX,
    STORAGE_PROOF_BYTES_MAX,
    StorageProof,
    StorageStatement,
    StoreReceipt,
    check_storage_shape,
)
from swarm.ledger.transactions import FREE_STATEMENT_BYTES_MAX, parse_transaction, sign_transaction
from swarm.primitives.blake3_tree import LEAF_BYTES
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.primitives.openings import Opening
from swarm.testing.ledger import numbered_key
from swarm.types import Height, PeerId, RoundIndex, RunIndex, StageIndex

KEY = numbered_key(0)
CHAIN = digest("chain", b"")
RECEIPT = StoreReceipt(RunIndex(1), RoundIndex(8), StageIndex(1), KEY.peer)
LEAF = Opening(1 << 40, bytes(LEAF_BYTES), (bytes(32),) * 31)
PROOF = StorageProof(
    run=RECEIPT.run,
    round=RECEIPT.round,
    stage=RECEIPT.stage,
    holder=KEY.peer,
    asked=Height(720),
    leaves=(LEAF,) * LEAVES_DRAWN,
)


@pytest.mark.rule("L109")
@pytest.mark.parametrize("body", [RECEIPT, PROOF], ids=["receipt", "proof"])
def test_a_statement_survives_its_encoding_and_the_longest_fits(body: StorageStatement) -> None:
    data = sign_transaction(KEY, CHAIN, body)
    assert parse_transaction(data).body == body
    limit = STORAGE_PROOF_BYTES_MAX if body is PROOF else FREE_STATEMENT_BYTES_MAX
    assert len(data) <= limit


@pytest.mark.rule("L109")
@pytest.mark.parametrize(
    "body",
    [
        replace(RECEIPT, run=RunIndex(0)),
        replace(RECEIPT, stage=StageIndex(-1)),
        replace(RECEIPT, round=RoundIndex(1 << 16)),
        replace(RECEIPT, holder=PeerId(bytes(33))),
        replace(PROOF, leaves=()),
        replace(PROOF, leaves=(LEAF,) * (LEAVES_DRAWN + 1)),
        replace(PROOF, leaves=(replace(LEAF, data=b""),)),
        replace(PROOF, leaves=(replace(LEAF, data=bytes(LEAF_BYTES + 1)),)),
        replace(PROOF, leaves=(replace(LEAF, path=(bytes(32),) * (PATH_MAX + 1)),)),
        replace(PROOF, leaves=(replace(LEAF, path=(bytes(33),)),)),
    ],
)
def test_what_is_out_of_bounds_is_refused_before_it_is_looked_at(body: StorageStatement) -> None:
    with pytest.raises(BadEncoding):
        parse_transaction(sign_transaction(KEY, CHAIN, body))


def test_a_receipt_has_no_leaves_to_check() -> None:
    check_storage_shape(RECEIPT)
