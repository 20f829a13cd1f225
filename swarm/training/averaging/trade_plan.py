"""Decide one trade: publish a fragment, pull the partner's or a standby's, and merge it or step alone.

Core: a machine; the time comes in as ``now``, and every event returns the next action.

    READY --start--> neither a partner nor a standby: Settle, a solo step
      | Publish
    PUBLISHED --published--> the drawn partner may be merged: PullFrom it until ``PARTNER_SHARE`` of the time
      |                      else: as after a pull that failed
    PULLING --delivered--> as below
      |  ^ |
      |  +-+ failed: PullFrom the next standby, first one that has asked for our fragment
      |  failed, and no standby or no time is left: as below
    HEARING, if int4 was sent to a drawn partner --AwaitReceipt, acknowledged--> as below
      |
    SETTLED: Settle, with the weight of the terms if something was delivered, else a solo step

The terms of the round (``training/terms.py``) are derived here, once for each exchange of a seat; node/ carries
the actions out and reports the events.
Source: docs/spec/training.md section 4, docs/spec/protocol.md section 4.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from torch import Tensor

from swarm.config.spec import OuterSpec
from swarm.errors import UsageError
from swarm.gossip.trade.messages import Codec, FragmentKey
from swarm.gossip.trade.outbox import NO_STANDBY, PublishedFragment, StandbyReceivers
from swarm.gossip.trade.payload import FragmentPayload, ReceivedFragment
from swarm.gossip.trade.pull import Wanted
from swarm.primitives.codec import replace
from swarm.training.averaging.outer_step import (
    FragmentSnapshot,
    Merge,
    SentFragment,
    outer_scalars,
)
from swarm.training.averaging.payload import fragment_payload, read_values
from swarm.training.plan import RoundPlan
from swarm.training.terms import TradeTerms, is_standby, standby_partners, terms_of, terms_with
from swarm.types import NO_DIGEST, Digest, PeerId, StageIndex

PARTNER_SHARE = 0.5
"""The part of the time for a trade in which the drawn partner must have offered; then another is asked, which
needs the rest."""
ACKNOWLEDGE_WAIT_S = 5.0
"""Both sides pull at once, so a partner's receipt comes about when our own pull ends, or is lost. A payload
that is sent twice for want of a receipt costs a little accuracy; a merge that waits for it costs steps."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Action: offer our fragment to the drawn partner and to standby receivers, then call ``published``."""

    key: FragmentKey
    payload: FragmentPayload
    partner: PeerId | None
    standby: StandbyReceivers
    outdated: tuple[FragmentKey, ...]
    """Fragments of ours that nobody asks for any more once this one is on offer."""


@dataclass(frozen=True, slots=True)
class PullFrom:
    """Action: pull this fragment, then call ``delivered`` or ``failed``."""

    wanted: Wanted
    anchor: Tensor
    offer_by: float
    """Time by which its owner must have made an offer."""
    deadline: float


@dataclass(frozen=True, slots=True)
class AwaitReceipt:
    """Action: wait for the drawn partner's receipt until a time, then call ``acknowledged``."""

    until: float


@dataclass(frozen=True, slots=True)
class Settle:
    """Action: apply this outer step between two optimizer steps; the trade is decided."""

    merge: Merge


Action = Publish | PullFrom | AwaitReceipt | Settle


class Phase(Enum):
    """State of a trade."""

    READY = auto()
    PUBLISHED = auto()
    PULLING = auto()
    AWAITING_RECEIPT = auto()
    SETTLED = auto()


def outdated_keys(outer: OuterSpec, key: FragmentKey) -> tuple[FragmentKey, ...]:
    """Return the keys of a seat's fragment that were published two or more trades before ``key``.

    The trade before is kept, for a partner that is late. With one trade a round these are of rounds that the
    outbox drops anyway: none.
    """
    fragment, trade = outer.fragment_of(key.exchange), outer.trade_of(key.exchange)
    most = outer.trades_per_round
    before = [(key.round - 1, earlier) for earlier in range(most if trade else most - 1)]
    here = [(key.round, earlier) for earlier in range(trade - 1)]
    return tuple(
        replace(key, round=round_, exchange=earlier * outer.fragments + fragment)
        for round_, earlier in (*before, *here)
        if outer.trades_per_round > 1
    )


class TradePlan:
    """Trade of one seat in one exchange of a round."""

    def __init__(self, plan: RoundPlan, stage: StageIndex, seat: int, exchange: int) -> None:
        self.key = FragmentKey(plan.run, stage, exchange, plan.round, seat)
        self._plan = plan
        self._pairing = terms_of(plan, stage, seat, exchange)
        self._standby = standby_partners(plan, stage, seat, exchange)
        self._phase = Phase.READY
        self._deadline = 0.0
        self._asked: TradeTerms | None = None
        self._tried = set[int]()
        """Seats that were asked in place of the drawn partner."""
        self._snapshot: FragmentSnapshot
        self._payload: FragmentPayload
        self._received: ReceivedFragment | None = None
        self._shown: Digest = NO_DIGEST
        """The payload of ours that the peer that delivered was offered."""

    @property
    def partner(self) -> PeerId | None:
        """The peer that the beacon drew; None if the seat is left over."""
        return None if self._pairing is None else self._pairing.partner.peer

    @property
    def is_one_way(self) -> bool:
        """True if the peer that the beacon drew only receives: it is new, on trial or far behind."""
        return self._pairing is not None and not self._pairing.gives

    def start(self, snapshot: FragmentSnapshot) -> Publish | Settle:
        """Begin with the fragment as it is at the step of the trade."""
        self._expect(Phase.READY)
        plan, self._snapshot = self._plan, snapshot
        if self._pairing is None and not self._standby:
            return self._settled(None)
        self._phase = Phase.PUBLISHED
        self._payload = fragment_payload(
            plan.spec, plan.round, snapshot, is_final_averaging=plan.is_final_averaging
        )
        most = plan.spec.outer.num_retries
        standby = StandbyReceivers(self.may_receive, most) if self._standby else NO_STANDBY
        return Publish(
            key=self.key,
            payload=self._payload,
            partner=self.partner,
            standby=standby,
            outdated=outdated_keys(plan.spec.outer, self.key),
        )

    def may_receive(self, seat: int, peer: PeerId) -> bool:
        """Return True if a peer that asks may have our fragment in place of a partner that failed it."""
        key = self.key
        return is_standby(self._plan, key.stage, key.exchange, key.seat, seat, peer)

    def published(self, now: float) -> Action:
        """Continue once our fragment is on offer; the time for the trade begins."""
        self._expect(Phase.PUBLISHED)
        self._phase = Phase.PULLING
        self._deadline = now + self._plan.spec.deadlines.exchange_ms / 1000
        if self._pairing is None or not self._pairing.gives:
            return self._next(now, ())
        share = PARTNER_SHARE if self._standby else 1.0
        return self._pull(self._pairing, now + share * (self._deadline - now))

    def failed(self, now: float, receivers: Iterable[int]) -> Action:
        """Continue after a pull that brought nothing.

        ``receivers`` are the seats that were given our fragment in place of their partner: they are reachable
        and want a partner too, so they are asked first.
        """
        self._expect(Phase.PULLING)
        return self._next(now, receivers)

    def delivered(
        self, now: float, received: ReceivedFragment, shown: Digest | None
    ) -> AwaitReceipt | Settle:
        """Continue with a partner's fragment; ``shown`` is the payload of ours that it was offered, if any."""
        self._expect(Phase.PULLING)
        self._received, self._shown = received, shown or NO_DIGEST
        return self._await_receipt(now)

    def acknowledged(self, published: PublishedFragment | None) -> Settle:
        """Settle with our fragment as its receipt left it; None if no receipt came in time."""
        self._expect(Phase.AWAITING_RECEIPT)
        packed = None if published is None else published.acknowledged
        if published is None or published.receipt is None or packed is None:
            return self._settled(None)
        residual = packed.residual
        sent = None if residual is None else SentFragment(published.receipt, residual)
        return self._settled(sent)

    def _next(self, now: float, receivers: Iterable[int]) -> Action:
        """Ask the next standby; if there is none, or no time is left, go on without a partner."""
        if len(self._tried) < len(self._standby) and now < self._deadline:
            key = self.key
            where = (self._plan, key.stage, key.seat, key.exchange)
            came = (terms_with(*where, seat) for seat in sorted(receivers))
            willing = [terms for terms in came if terms is not None and terms.gives]
            for terms in (*willing, *self._standby):
                if terms.partner.index not in self._tried:
                    self._tried.add(terms.partner.index)
                    return self._pull(terms, self._deadline)
        self._asked = None
        return self._await_receipt(now)

    def _pull(self, terms: TradeTerms, offer_by: float) -> PullFrom:
        self._asked, mine, payload = terms, self.key, self._payload
        theirs = FragmentKey(mine.run, mine.stage, mine.exchange, mine.round, terms.partner.index)
        wanted = Wanted(
            key=theirs,
            partner=terms.partner.peer,
            to_seat=mine.seat,
            anchor_root=payload.anchor_root,
            numel=payload.theta.numel(),
            codec=payload.codec,
        )
        return PullFrom(wanted, payload.anchor, offer_by, self._deadline)

    def _await_receipt(self, now: float) -> AwaitReceipt | Settle:
        """Wait for the receipt of an int4 payload with error feedback, which alone moves the residual."""
        payload = self._payload
        is_fed_back = payload.codec is Codec.INT4 and payload.residual is not None
        if not is_fed_back or self._pairing is None:
            return self._settled(None)
        self._phase = Phase.AWAITING_RECEIPT
        return AwaitReceipt(min(self._deadline, now + ACKNOWLEDGE_WAIT_S))

    def _settled(self, sent: SentFragment | None) -> Settle:
        self._phase = Phase.SETTLED
        plan, snapshot = self._plan, self._snapshot
        scalars = outer_scalars(plan.spec.outer, plan.round)
        if self._received is None or self._asked is None:
            return Settle(
                Merge.solo(snapshot, scalars, sent, is_final_averaging=plan.is_final_averaging)
            )
        received, partner = self._received, self._asked.partner
        theta_hat, phi_hat = read_values(
            plan.spec, received.values, is_final_averaging=plan.is_final_averaging
        )
        return Settle(
            Merge(
                snapshot=snapshot,
                theta_hat_P=theta_hat,
                weight_nano=self._asked.due_nano(snapshot.tokens, received.offer.tokens),
                scalars=scalars,
                partner=partner.peer,
                partner_seat=partner.index,
                my_payload=self._shown if sent is None else sent.receipt.payload_hash,
                received=received,
                phi_hat_P=phi_hat,
                sent=sent,
                is_final_averaging=plan.is_final_averaging,
            )
        )

    def _expect(self, phase: Phase) -> None:
        if self._phase is not phase:
            raise UsageError(
                f"a trade that is {self._phase.name.lower()}, not {phase.name.lower()}"
            )
