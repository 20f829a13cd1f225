"""A demand is about what one solver signed for one segment; an answer opens its list there."""

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.gossip.trade.messages import Offer
from swarm.ledger.demands import (
    DEMAND_BYTES_MAX,
    SHOW_BYTES_MAX,
    DemandEntry,
    ShowEntry,
    check_demand,
    demand_order,
    fits,
    index_shown,
    new_demand,
)
from swarm.ledger.edges import COUNT_MAX, EdgeMessage
from swarm.ledger.transactions import parse_transaction
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SIGNATURE_BYTES, digest
from swarm.primitives.edges import SENT_MAX, SentEntry, SentKind, open_at, open_place, sent_root
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import Digest
from tests.ledger.demanding import WHERE
from tests.ledger.edges import (
    ACTIVATION,
    GRADIENT,
    INCARNATION,
    OFFER,
    SENT,
    other,
    sign_message,
)

SOLVER, ASKER = numbered_key(1), numbered_key(2)
CHAIN, RUN_DIGEST, ROOT = digest("chain", b""), digest("run", b""), sent_root(SENT)
BY_KIND = pytest.mark.parametrize(
    "message", [ACTIVATION, GRADIENT, OFFER], ids=lambda m: type(m).__name__
)


def demanded(message: EdgeMessage) -> DemandEntry:
    return DemandEntry(*WHERE, sign_message(SOLVER, CHAIN, RUN_DIGEST, message))


def check(
    body: DemandEntry,
    *,
    incarnation: int = INCARNATION,
    root: Digest = ROOT,
    chain: Digest = CHAIN,
    run_digest: Digest = RUN_DIGEST,
) -> None:
    check_demand(
        body,
        peer=SOLVER.peer,
        incarnation=incarnation,
        sent_root=root,
        chain=chain,
        run_digest=run_digest,
    )


@pytest.mark.rule("L105")
@BY_KIND
def test_what_a_solver_signed_may_be_demanded_and_is_found_in_its_list(
    message: EdgeMessage,
) -> None:
    body = demanded(message)
    check(body)
    waiting = new_demand(body, ASKER.peer, 30, 77)
    assert (waiting.peer, waiting.bond, waiting.end) == (ASKER.peer, 30, 77)
    opening = open_place(SENT, waiting.place)
    assert opening is not None
    index = index_shown(ROOT, waiting, opening)
    assert index is not None
    assert SENT[index].place == waiting.place
    lie = new_demand(demanded(other(message)), ASKER.peer, 30, 77)
    assert index_shown(ROOT, lie, opening) is None
    with pytest.raises(InvalidStatement):
        index_shown(ROOT, waiting, open_at(SENT, 0))


@pytest.mark.rule("L105")
@BY_KIND
def test_what_was_signed_for_another_network_or_run_is_refused(message: EdgeMessage) -> None:
    body = demanded(message)
    with pytest.raises(InvalidStatement) as found:
        check(body, chain=digest("chain", b"2"))
    assert found.value.reason is Reason.BAD_SIGNATURE
    if not isinstance(message, Offer):  # which is signed for the network, and names its run
        with pytest.raises(InvalidStatement) as found:
            check(body, run_digest=digest("run", b"2"))
        assert found.value.reason is Reason.BAD_SIGNATURE


@pytest.mark.rule("L105")
@pytest.mark.parametrize("incarnation", [INCARNATION - 1, INCARNATION + 1])
def test_only_a_message_of_the_start_that_the_commit_names_is_demanded(incarnation: int) -> None:
    with pytest.raises(InvalidStatement):
        check(demanded(GRADIENT), incarnation=incarnation)


@pytest.mark.rule("L106")
def test_entries_that_were_shown_stand_in_the_order_of_their_places() -> None:
    first, second = (new_demand(demanded(m), ASKER.peer, 1, 9) for m in (ACTIVATION, OFFER))
    shown = replace(second, index=5)
    assert fits(first, 2, (shown,))
    assert fits(first, 2, (replace(second, index=-1),))
    assert not fits(first, 5, (shown,))
    assert not fits(first, 6, (shown,))
    assert not fits(second, 4, (shown,)), "one place has one entry"


@pytest.mark.rule("L105", "L106")
def test_the_longest_demand_and_the_longest_answer_fit_into_their_bounds() -> None:
    long = dict.fromkeys(("step", "microbatch", "version", "budget_ms", "batch"), COUNT_MAX)
    up = replace(ACTIVATION, **long, signature=bytes(SIGNATURE_BYTES))
    assert len(encode(DemandEntry(*WHERE, up))) < DEMAND_BYTES_MAX // 2
    wire = digest("x", b"")
    sent = tuple(
        SentEntry(SentKind.MICROBATCH, COUNT_MAX, COUNT_MAX, number, COUNT_MAX, wire, wire)
        for number in range(SENT_MAX)
    )
    body = ShowEntry(*WHERE, 255, open_at(sent, SENT_MAX - 2, 2))
    ledger = InMemoryLedger()
    data = ledger.sign(ledger.keys[1], body)
    assert 1_000 < len(data) <= SHOW_BYTES_MAX
    assert parse_transaction(data).body == body


@pytest.mark.rule("V59")
def test_which_message_a_peer_demands_is_drawn_by_a_beacon_that_its_sender_does_not_know() -> None:
    messages = [
        sign_message(SOLVER, CHAIN, RUN_DIGEST, replace(GRADIENT, step=n)) for n in range(8)
    ]
    draws = {
        min(
            messages,
            key=lambda m: demand_order(digest("beacon", bytes([b])), ASKER.peer, m.signature),
        )
        for b in range(64)
    }
    assert draws == set(messages)
