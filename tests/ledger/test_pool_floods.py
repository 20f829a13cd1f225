"""64 keys fill the pool with all that costs them nothing: what checks need gets in, and memory is bounded."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from swarm.config.spec import GenesisAccount
from swarm.errors import InvalidStatement
from swarm.ledger.blocks import NOTARIZE, VOTE_PURPOSES, vote_parts
from swarm.ledger.chain import build_block, extend
from swarm.ledger.mempool import LANE_MAX, POOL_MAX, Lane, Mempool
from swarm.ledger.net.relay import PRUNED_MAX
from swarm.ledger.state.records import UNDEALT, SegmentPhase
from swarm.ledger.transactions import Body, Evidence, Join, SignedVote, Transfer
from swarm.ledger.transition.accounts import NONCE_WINDOW
from swarm.primitives.crypto import SecretKey, digest
from swarm.testing.ledger import BALANCE, STAKE, numbered_key
from swarm.types import Amount, View
from tests.ledger.checking import Case, a_case

FLOODERS, HONEST = 64, 8
BLOCKS = 12
PER_KEY = 8
"""Statements of each of them between two blocks."""


@dataclass
class Flood:
    """A case, its validators' pool, and 64 keys that have an account."""

    case: Case
    pool: Mempool = field(default_factory=Mempool)
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    refused: Counter[str] = field(default_factory=Counter[str])
    has_traitor: bool = False
    """A validator gives them pairs of votes: each pair is evidence against it, and only one of them pays."""
    sizes: list[int] = field(default_factory=list)
    sent: dict[bytes, int] = field(default_factory=dict)
    """Heights at which the honest statements came."""
    waited: list[int] = field(default_factory=list)
    """Blocks until each of them was in one."""

    @property
    def keys(self) -> list[SecretKey]:
        return self.case.ledger.keys[-FLOODERS:]

    def submit(self, key: SecretKey, body: Body) -> None:
        """An honest statement, signed with what everybody pays."""
        data = self.case.ledger.sign(key, body)
        assert self.pool.add(data, self.case.ledger.state)
        self.sent[data] = self.case.ledger.state.height

    def block(self) -> None:
        """A flood, then a block of whoever leads; the pool is cleaned up as nodes do."""
        ledger = self.case.ledger
        for key in self.keys:
            for _ in range(PER_KEY):
                try:
                    self.pool.add(self.junk(key), ledger.state)
                except InvalidStatement as refusal:
                    self.refused[str(refusal.reason)] += 1
        leader = ledger.key_of(ledger.state.validators[0].peer)
        view = View(ledger.state.globals.view + 1)
        block, _ = build_block(ledger.head, self.pool, leader, view)
        ledger.head = extend(ledger.head, block, known=self.pool.known)
        self.pool.remove(block.transactions)
        self.pool.prune(ledger.state, PRUNED_MAX)
        for data in block.transactions:
            if data in self.sent:
                self.waited.append(ledger.state.height - self.sent.pop(data))
        self.check()

    def junk(self, key: SecretKey) -> bytes:
        """Cheapest, dear, replaced, far ahead, expired, oversized, malformed, or twice the balance."""
        ledger, dice = self.case.ledger, self.dice
        account = ledger.state.account(key.peer)
        nonce = account.nonce + dice.randrange(1, NONCE_WINDOW + 3)
        body: Body = Transfer(self.keys[0].peer, Amount(dice.choice([1, account.balance])))
        least = len(ledger.sign(key, body)) // 100 + 3
        fee = dice.choice([least, least, least + dice.randrange(1_000), account.balance])
        late = max(ledger.state.height - 1, 0)
        makers: list[Callable[[], bytes]] = [
            lambda: dice.randbytes(dice.choice([0, 40, 300])),
            lambda: ledger.sign(key, body, nonce=nonce) + bytes(70_000),
            lambda: ledger.sign(key, body, nonce=nonce, expiry=late),
            lambda: ledger.sign(key, body, nonce=account.nonce + NONCE_WINDOW + 1),
            lambda: ledger.sign(key, Join(self.case.run.index), nonce=nonce, fee=0),
            lambda: ledger.sign(key, body, nonce=nonce, fee=fee),
            lambda: ledger.sign(key, body, nonce=nonce, fee=fee),
            lambda: ledger.sign(key, self.evidence(), nonce=nonce, fee=account.balance),
        ]
        return dice.choice(makers if self.has_traitor else makers[:-1])()

    def evidence(self) -> Evidence:
        """Evidence against the traitor, another pair of votes every time."""
        ledger = self.case.ledger
        culprit = ledger.key_of(ledger.state.validators[-1].peer)
        votes = list[SignedVote]()
        for part in (self.dice.randrange(1, 1 << 30), 0):
            name = digest("block", part.to_bytes(8, "big"))
            parts = vote_parts(ledger.state.chain, 0, View(1), name)
            votes.append(SignedVote(NOTARIZE, name, culprit.sign(VOTE_PURPOSES[NOTARIZE], *parts)))
        return Evidence(culprit.peer, 0, View(1), *votes)

    def check(self) -> None:
        """The pool stays within its bounds, and so does every sender."""
        items = list(self.pool._items.values())
        lanes = Counter(item.lane for item in items)
        assert all(lanes[lane] <= LANE_MAX[lane] for lane in Lane)
        senders = Counter(item.signer for item in items if item.lane is not Lane.FREE)
        assert max(senders.values(), default=0) <= NONCE_WINDOW
        assert sum(item.lane is Lane.DUTY for item in items if item.signer in self.peers) <= 1
        tables = [part for part in vars(self.pool).values() if isinstance(part, dict)]
        assert max(map(len, tables)) <= POOL_MAX
        assert sum(map(len, self.pool._cheapest.values())) <= 2 * POOL_MAX
        self.sizes.append(sum(len(item.data) for item in items))

    @property
    def peers(self) -> set[bytes]:
        return {key.peer for key in self.keys}


def accounts() -> tuple[GenesisAccount, ...]:
    """Eight with a stake, and 64 with money alone."""
    keys = [numbered_key(number) for number in range(HONEST + FLOODERS)]
    found = [
        GenesisAccount(key.peer, BALANCE, STAKE if number < HONEST else Amount(0))
        for number, key in enumerate(keys)
    ]
    return tuple(sorted(found, key=lambda account: account.peer))


@pytest.mark.rule("L28", "L29", "S19a")
def test_a_flood_of_64_keys_holds_up_no_check_and_costs_its_senders_their_places() -> None:
    case = a_case(num_accounts=HONEST + FLOODERS, num_validators=4, accounts=accounts())
    flood = Flood(case)
    for _ in range(4):
        flood.block()
    case.draw_verifiers()
    honest = [key for key in case.able if key.peer not in flood.peers]
    drawn = [key for key in honest if case.claimed.request(case.ledger.state, key) is not None]
    assert drawn, "another seed of the case"
    for key in drawn:
        body = case.claimed.request(case.ledger.state, key)
        assert body is not None
        flood.submit(key, body)
    reporter = next(key for key in honest if key not in drawn)
    flood.has_traitor = True
    while flood.sent or any(check.window == UNDEALT for check in case.record.checks):
        flood.block()
    for key in drawn:
        check = next(check for check in case.record.checks if check.peer == key.peer)
        flood.submit(key, case.true.blind(case.ledger.state, key.peer, check.window))
    while not case.is_now(SegmentPhase.SEALED):
        flood.block()
    flood.submit(case.solver, case.claimed.reveal())
    while flood.sent:
        flood.block()
    for key in drawn:
        check = next(check for check in case.record.checks if check.peer == key.peer)
        flood.submit(key, case.true.shown(case.ledger.state, key.peer, check.window))
    flood.submit(reporter, case.claimed.report(reporter.peer, 0))
    for _ in range(BLOCKS):
        flood.block()
    assert len(flood.waited) == 3 * len(drawn) + 2
    assert max(flood.waited) <= 2
    assert not flood.sent
    assert {"balance too low", "nonce out of window", "expired"} <= set(flood.refused)
    assert max(flood.sizes) < FLOODERS * NONCE_WINDOW * 600


def test_evidence_against_one_validator_has_one_place_whoever_sends_how_many_pairs() -> None:
    flood = Flood(a_case(num_accounts=HONEST + FLOODERS, num_validators=4, accounts=accounts()))
    state, pool, took = flood.case.ledger.state, flood.pool, 0
    for nonce in range(1, 4):
        for key in flood.keys[:8]:
            data = flood.case.ledger.sign(key, flood.evidence(), nonce=nonce, fee=100)
            with suppress(InvalidStatement):
                took += pool.add(data, state)
    assert (took, len(pool)) == (1, 1)
    dearer = flood.case.ledger.sign(flood.keys[9], flood.evidence(), fee=111)
    assert pool.add(dearer, state)
    assert pool.transactions() == (dearer,)


def test_a_sender_says_one_thing_about_a_segment_at_a_time() -> None:
    case, pool = a_case(), Mempool()
    case.draw_verifiers()
    key = case.drawn(case.able)[0]
    body = case.claimed.request(case.ledger.state, key)
    assert body is not None
    assert pool.add(case.ledger.sign(key, body), case.ledger.state)
    for nonce in range(2, NONCE_WINDOW):
        with pytest.raises(InvalidStatement, match="another one is on its way"):
            pool.add(case.ledger.sign(key, body, nonce=nonce), case.ledger.state)


def test_what_a_sender_cannot_pay_any_more_goes_first() -> None:
    """All its money leaves with the first of its statements: the others would never pay."""
    flood = Flood(a_case(num_accounts=HONEST + FLOODERS, num_validators=4, accounts=accounts()))
    ledger, pool = flood.case.ledger, flood.pool
    others = [ledger.sign(key, Transfer(key.peer, Amount(1))) for key in flood.keys[:20]]
    assert all(pool.add(data, ledger.state) for data in others)
    rich, to = flood.keys[-1], flood.keys[0].peer
    fee = 1_000
    away = ledger.sign(rich, Transfer(to, Amount(BALANCE - fee)), fee=fee)
    assert pool.add(away, ledger.state)
    for nonce in range(2, NONCE_WINDOW + 1):
        data = ledger.sign(rich, Transfer(to, Amount(1)), nonce=nonce, fee=fee)
        assert pool.add(data, ledger.state)
    ledger.block(away)
    pool.remove([away])
    assert pool.prune(ledger.state, NONCE_WINDOW) == NONCE_WINDOW - 1
    assert len(pool) == len(others)
