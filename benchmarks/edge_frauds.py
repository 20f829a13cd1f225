"""Measure the proofs that a seat sent something else than it committed to: a part of the benchmark ``verify``.

A seat commits to a list of as many entries as one may have, with the largest numbers in those that are shown,
and signs activations, a gradient and a fragment of which the list has something else, or nothing. A bystander
proves each of these lies by one transaction, and two entries out of order by another. Every proof is judged
twice: in a block of a real ledger, whose coordinates are small; and with the largest coordinates, start,
nonce, fee and expiry that a transaction can have, by the checks that a block makes of it.
"""

from dataclasses import dataclass

from benchmarks.common import Outcome, say
from swarm.errors import InvalidStatement
from swarm.gossip.trade.messages import Codec, Offer
from swarm.ledger.check_statements import AMOUNT_MAX, HEIGHT_MAX, SHORT_MAX, STAGE_MAX
from swarm.ledger.edges import (
    COUNT_MAX,
    EdgeFraud,
    EdgeMessage,
    check_fraud,
    place_of,
)
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transactions import check_signature, parse_transaction, sign_transaction
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.edges import (
    SENT_MAX,
    ActivationSent,
    GradientSent,
    SentEntry,
    open_at,
    open_place,
    sent_root,
)
from swarm.testing.ledger import numbered_key
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex
from tests.ledger.checking import Case, a_case
from tests.ledger.edges import ACTIVATION, GRADIENT, OFFER, sign_message

MESSAGES: tuple[EdgeMessage, ...] = (ACTIVATION, GRADIENT, OFFER)
Sent = tuple[SentEntry, ...]
Coordinates = tuple[RunIndex, RoundIndex, StageIndex, int]
ON_LEDGER: Coordinates = (RunIndex(1), RoundIndex(1), StageIndex(0), 1)
"""Segment of the solver of ``a_case``: run, round, stage, seat."""
AT_LIMITS: Coordinates = (
    RunIndex(SHORT_MAX),
    RoundIndex(SHORT_MAX),
    StageIndex(STAGE_MAX),
    SHORT_MAX,
)
LONG = COUNT_MAX
"""Number that takes as many bytes as any, wherever it is signed or committed to."""
LATER, NOTHING = "a later start", "an empty list"
ORDERLY, FALSE, TWICE, SWAPPED = "no entry", "another entry", "an entry twice", "entries swapped"


@dataclass(frozen=True, slots=True)
class Fraud:
    """A lie about an edge: the list that was committed to, and the message that it has not."""

    name: str
    where: Coordinates
    sent: Sent
    message: EdgeMessage | None
    """Not signed yet; None where the list alone is the proof."""
    shows_list: bool = True

    def proof(self, key: SecretKey, chain: Digest, run_digest: Digest) -> EdgeFraud:
        """Return the proof, once the solver has signed the message."""
        if self.message is None:
            return EdgeFraud(*self.where, None, open_at(self.sent, len(self.sent) - 2, 2))
        signed = sign_message(key, chain, run_digest, self.message)
        opening = open_place(self.sent, place_of(signed)) if self.shows_list else None
        return EdgeFraud(*self.where, signed, opening)


def measure_edge_frauds(outcome: Outcome, quick: bool) -> None:
    """Fill ``edge_fraud_bytes``: bytes of the longest transaction that convicts, over all kinds of lies."""
    del quick  # seconds as it is
    on_ledger, at_limits = dict[str, int](), dict[str, int]()
    for fraud in frauds(ON_LEDGER):
        on_ledger[fraud.name] = convicted_in_block(fraud)
    for fraud in frauds(AT_LIMITS):
        at_limits[fraud.name] = convicted_at_limits(fraud)
    longest = max(*on_ledger.values(), *at_limits.values())
    outcome.figures["edge_fraud_bytes"] = longest
    outcome.detail["edge_frauds"] = {
        "entries": SENT_MAX,
        "bytes_in_a_block": on_ledger,
        "bytes_at_limits": at_limits,
    }
    say(f"the longest of {len(at_limits)} proofs about an edge has {longest:,} bytes")


def frauds(where: Coordinates, entries: int = SENT_MAX) -> list[Fraud]:
    """Return every kind of lie about the edges of a segment, with lists of so many entries."""
    found, lists = list[Fraud](), _lists(entries)
    for message in (_longest(one, where) for one in MESSAGES):
        what = type(message).__name__
        later = replace(message, incarnation=SHORT_MAX + 1)
        found += [
            Fraud(f"{what}, {ORDERLY}", where, lists[ORDERLY], message),
            Fraud(f"{what}, {FALSE}", where, lists[FALSE], message),
            Fraud(f"{what}, {NOTHING}", where, (), message),
            Fraud(f"{what}, {LATER}", where, lists[ORDERLY], later, shows_list=False),
        ]
    return [*found, *(Fraud(name, where, lists[name], None) for name in (TWICE, SWAPPED))]


def _lists(entries: int) -> dict[str, Sent]:
    """Return lists whose last two entries are as long as can be, and are what a proof shows."""
    rest = tuple(_entry(0, number, 0, 0) for number in range(entries - 2))
    first, last = _entry(0, LONG, LONG, LONG - 2), _entry(LONG, LONG, LONG, LONG)
    return {
        ORDERLY: (*rest, first, last),
        FALSE: (*rest, _entry(0, LONG, LONG, LONG - 1), _entry(1, LONG, Codec.INT8, 0)),
        TWICE: (*rest, last, replace(last, window=LONG - 1)),
        SWAPPED: (*rest, last, _entry(LONG, LONG, LONG, LONG - 1)),
    }


def _entry(kind: int, first: int, second: int, third: int) -> SentEntry:
    name = f"{kind} {first} {second} {third}".encode()
    return SentEntry(kind, first, second, third, LONG, digest("up", name), digest("down", name))


def _longest(message: EdgeMessage, where: Coordinates) -> EdgeMessage:
    """Return a message from a segment, with numbers as long as can be everywhere else."""
    run, round_, stage, seat = where
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    numbers: dict[str, object] = {
        name: LONG for name, value in values.items() if type(value) is int
    }
    numbers |= {"incarnation": SHORT_MAX}
    match message:
        case ActivationSent():
            changes = {"run": run, "round": round_, "stage": stage + 1, "source": seat}
            numbers |= changes | {"microbatch": LONG - 1}
        case GradientSent():
            changes = {"run": run, "round": round_, "stage": stage, "destination": seat}
            numbers |= changes | {"microbatch": LONG - 1}
        case Offer():
            numbers["key"] = replace(
                message.key, run=run, round=round_, stage=stage, seat=seat, exchange=LONG
            )
    return replace(message, **numbers)


def convicted_in_block(fraud: Fraud) -> int:
    """Return the bytes of the transaction that convicts the solver of a segment in a block."""
    case: Case = a_case(sent=fraud.sent, incarnation=SHORT_MAX, num_accounts=5)
    chain, ledger = case.ledger.state.chain, case.ledger
    body = fraud.proof(case.solver, chain, case.run.spec_digest)
    solver, data = case.solver, ledger.sign(ledger.keys[4], body)
    ledger.block(data)
    assert case.is_now(SegmentPhase.GUILTY), f"{fraud.name} is proven"
    assert not case.stake(solver), "a lie costs the stake"
    return len(data)


def convicted_at_limits(fraud: Fraud) -> int:
    """Return the bytes of a transaction as long as can be, which every check of a block lets pass."""
    solver, sender = numbered_key(1), numbered_key(2)
    chain, run_digest = digest("bench-chain", b""), digest("bench-run", b"")
    body = fraud.proof(solver, chain, run_digest)
    long = {"nonce": HEIGHT_MAX, "fee": AMOUNT_MAX, "expiry": HEIGHT_MAX}
    data = sign_transaction(sender, chain, body, **long)
    parsed = parse_transaction(data)
    check_signature(parsed, chain, sender.peer)
    assert isinstance(parsed.body, EdgeFraud), "it was encoded as one"
    try:
        check_fraud(
            parsed.body,
            peer=solver.peer,
            incarnation=SHORT_MAX,
            sent_root=sent_root(fraud.sent),
            chain=chain,
            run_digest=run_digest,
        )
    except InvalidStatement as error:
        raise AssertionError(f"{fraud.name} is not proven") from error
    return len(data)
