"""A node takes transactions from strangers, and blames who sends what can be no difference in height."""

from types import SimpleNamespace
from typing import cast

import pytest

from swarm.errors import BadSignature, BrokenPromise, InvalidStatement, PeerFault, Reason
from swarm.gossip.news.messages import PROTOCOL as NEWS
from swarm.gossip.news.messages import Frame, Notice, encode_frame
from swarm.gossip.news.service import News
from swarm.host.service import Host
from swarm.ledger.check_statements import Report, TraceFraud
from swarm.ledger.mempool import Mempool
from swarm.ledger.net.archive import Archive
from swarm.ledger.net.relay import (
    BATCH_MAX,
    FLOOD_MAX,
    PROTOCOL,
    TOPIC,
    Relay,
    TransactionBatch,
)
from swarm.ledger.transactions import Body, sign_transaction
from swarm.primitives.codec import encode
from swarm.testing.ledger import InMemoryLedger, numbered_key
from swarm.types import NO_DIGEST, Amount, Height, RoundIndex, RunIndex, StageIndex
from tests.ledger.services import MemoryHost, MemoryNet

WHERE = (RunIndex(1), RoundIndex(0), StageIndex(0), 0)
FRAUD = TraceFraud(*WHERE, b"nothing")
REPORT = Report(*WHERE, 0, NO_DIGEST)


class Refusing:
    """A pool that refuses everything for one reason."""

    def __init__(self, reason: Reason) -> None:
        self.reason, self.num_judged = reason, 0

    def add(self, *_: object) -> bool:
        """Refuse."""
        self.num_judged += 1
        raise InvalidStatement(self.reason, "no")


async def answered(reason: Reason, *bodies: Body) -> int:
    """How many transactions a relay has had judged; raises what it blames their sender for."""
    pool, net, secret = Refusing(reason), MemoryNet(), numbered_key(0)
    archive = SimpleNamespace(
        head=SimpleNamespace(state=InMemoryLedger().state), subscribe=lambda: None
    )
    host = MemoryHost(net, secret)
    news = News(cast("Host", host))
    Relay(cast("Archive", archive), cast("Mempool", pool), secret, cast("Host", host), news)
    handler = host.handlers[PROTOCOL]
    signed = [
        sign_transaction(secret, NO_DIGEST, body, nonce=n, fee=Amount(9), expiry=Height(9))
        for n, body in enumerate(bodies, 1)
    ]
    try:
        await handler(numbered_key(1).peer, encode(TransactionBatch(tuple(signed))))
    except PeerFault:
        assert pool.num_judged == 1, "the rest of the frame costs nothing more"
        raise
    return pool.num_judged


@pytest.mark.rule("L99")
async def test_attack_false_proofs_without_end_cost_a_validator_one_judgement() -> None:
    """No fee is taken for what is in no block, so who sends one is blamed, as for a false signature."""
    with pytest.raises(BrokenPromise, match="proves nothing"):
        await answered(Reason.BAD_PROOF, *[FRAUD] * 5)
    with pytest.raises(BadSignature):
        await answered(Reason.BAD_SIGNATURE, *[FRAUD] * 5)


async def test_what_may_be_a_difference_in_height_blames_nobody() -> None:
    assert await answered(Reason.WRONG_PHASE, FRAUD, FRAUD) == 2
    assert await answered(Reason.BAD_PROOF, REPORT, REPORT) == 2


class Taking:
    """A pool that takes everything."""

    num_judged = 0

    def add(self, *_: object) -> bool:
        """Take it, as nothing new."""
        self.num_judged += 1
        return False


@pytest.mark.rule("L120")
async def test_attack_transactions_of_many_keys_of_one_address_count_as_those_of_one() -> None:
    """Who has a stake has a share of its own, whatever address it has."""
    ledger, pool, net = InMemoryLedger(), Taking(), MemoryNet()
    staked = next(peer for peer, account in ledger.state.accounts() if account.stake)
    archive = SimpleNamespace(head=SimpleNamespace(state=ledger.state), subscribe=lambda: None)
    secret = numbered_key(50)
    host = MemoryHost(net, secret)
    news = News(cast("Host", host))
    Relay(cast("Archive", archive), cast("Mempool", pool), secret, cast("Host", host), news)
    handler = host.handlers[PROTOCOL]
    strangers = [numbered_key(number).peer for number in range(100, 164)]
    net.origins = dict.fromkeys([*strangers, staked], "203.0.113.0/24")
    frame = encode(TransactionBatch((b"x",) * BATCH_MAX))
    for peer in strangers:
        await handler(peer, frame)
    assert pool.num_judged == FLOOD_MAX
    await handler(staked, frame)
    assert pool.num_judged == FLOOD_MAX + BATCH_MAX
    net.origins[strangers[0]] = "198.51.100.0/24"
    await handler(strangers[0], frame)
    assert pool.num_judged == FLOOD_MAX + 2 * BATCH_MAX


def a_frame(*transactions: bytes) -> bytes:
    notices = tuple(Notice(TOPIC, data) for data in transactions)
    return encode_frame(Frame((TOPIC,), notices, (), b"", (), ()))


def a_relay(pool: object) -> tuple[MemoryNet, MemoryHost]:
    """A relay over a pool, and the host that its news comes in by."""
    net, secret, ledger = MemoryNet(), numbered_key(50), InMemoryLedger()
    archive = SimpleNamespace(head=SimpleNamespace(state=ledger.state), subscribe=lambda: None)
    host = MemoryHost(net, secret)
    served = cast("Archive", archive), cast("Mempool", pool), secret, cast("Host", host)
    Relay(*served, News(cast("Host", host)))
    return net, host


@pytest.mark.rule("L120")
async def test_attack_transactions_as_news_count_for_the_origin_of_who_brings_them() -> None:
    pool = Taking()
    net, host = a_relay(pool)
    strangers = [numbered_key(number).peer for number in range(100, 110)]
    net.origins = dict.fromkeys(strangers, "203.0.113.0/24")
    for number, peer in enumerate(strangers):
        frame = a_frame(*(b"%d %d" % (number, n) for n in range(256)))
        await host.handlers[NEWS](peer, frame)
    assert pool.num_judged == FLOOD_MAX


@pytest.mark.rule("L122")
async def test_news_that_was_not_looked_at_is_looked_at_when_another_brings_it() -> None:
    """Else who is first to pass a statement on, from a place without any share left, silences it."""
    for reason, again in ((Reason.FULL, 2), (Reason.WRONG_ROUND, 1), (Reason.DUPLICATE, 1)):
        pool = Refusing(reason)
        _, host = a_relay(pool)
        for number in (1, 2):
            await host.handlers[NEWS](numbered_key(number).peer, a_frame(b"statement"))
        assert pool.num_judged == again


@pytest.mark.rule("L122")
async def test_attack_false_signatures_as_news_end_their_frame_and_are_blamed() -> None:
    pool = Refusing(Reason.BAD_SIGNATURE)
    _, host = a_relay(pool)
    with pytest.raises(BadSignature):
        await host.handlers[NEWS](numbered_key(1).peer, a_frame(b"one", b"two", b"three"))
    assert pool.num_judged == 1
