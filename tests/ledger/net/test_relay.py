"""A node takes transactions from strangers, and blames who sends what can be no difference in height."""

from types import SimpleNamespace
from typing import cast

import pytest

from swarm.errors import BadSignature, BrokenPromise, InvalidStatement, PeerFault, Reason
from swarm.host.service import Host
from swarm.ledger.check_statements import Report, TraceFraud
from swarm.ledger.mempool import Mempool
from swarm.ledger.net.archive import Archive
from swarm.ledger.net.relay import BATCH_MAX, FLOOD_MAX, Relay, TransactionBatch
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
    Relay(cast("Archive", archive), cast("Mempool", pool), secret, cast("Host", host))
    (handler,) = host.handlers.values()
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
    Relay(cast("Archive", archive), cast("Mempool", pool), secret, cast("Host", host))
    (handler,) = host.handlers.values()
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
