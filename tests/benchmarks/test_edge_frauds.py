"""Every kind of proof about an edge in the benchmark convicts, and one that is none does not."""

import dataclasses

import pytest

from benchmarks.edge_frauds import (
    AT_LIMITS,
    NOTHING,
    ON_LEDGER,
    Fraud,
    convicted_at_limits,
    convicted_in_block,
    frauds,
)
from swarm.ledger.edges import EDGE_FRAUD_BYTES_MAX, place_of
from swarm.primitives.edges import ActivationSent, SentEntry

ENTRIES = 16
"""Of a list: a path of four hashes."""


def named(what: str, found: list[Fraud]) -> list[Fraud]:
    return [fraud for fraud in found if what in fraud.name]


def test_every_kind_of_fraud_is_proven_at_the_limits() -> None:
    found = frauds(AT_LIMITS, ENTRIES)
    assert len({fraud.name for fraud in found}) == len(found) == 14
    sizes = [convicted_at_limits(fraud) for fraud in found]
    assert max(sizes) < EDGE_FRAUD_BYTES_MAX


@pytest.mark.parametrize(
    "what", ["Offer, no entry", "GradientSent, another entry", "entries swapped"]
)
def test_a_proof_convicts_in_a_block(what: str) -> None:
    (fraud,) = named(what, frauds(ON_LEDGER, ENTRIES))
    assert convicted_in_block(fraud) < EDGE_FRAUD_BYTES_MAX


def test_what_a_list_has_is_no_fraud() -> None:
    (fraud,) = named(f"ActivationSent, {NOTHING}", frauds(AT_LIMITS, ENTRIES))
    message = fraud.message
    assert isinstance(message, ActivationSent)
    entry = SentEntry(*place_of(message), 0, message.wire, b"")
    honest = dataclasses.replace(fraud, sent=(entry,))
    with pytest.raises(AssertionError, match="is not proven"):
        convicted_at_limits(honest)
