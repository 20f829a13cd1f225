"""Agree on the next block: Simplex (Chan and Pass, 2023), as one validator runs it.

Core: statements and the time come in, effects go out; the block executor builds and validates blocks.

    view v:  propose --> notarize --quorum--> finalize --quorum--> final
                |  (timer, or a bad block)       |
                +--> nullify --quorum------------+--> view v + 1

A machine lives for one epoch: its validators, its views from 1 on, its blocks up to the last one. No block of
the epoch follows the last, so it is proposed again in every view until it is final; then the machine
``is_over``, and only answers those that are behind.

One notarize vote per view, never both nullify and finalize, and nothing is sent before it is saved: of a list
of effects, the shell makes every ``Save`` durable before it carries out any ``Send``. The effects are defined
here, and so is ``BlockExecutor``, the interface that the machine needs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from swarm.errors import InvalidStatement, OutOfTurn, PeerFault, VerificationFailed
from swarm.ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    Block,
    Certificate,
    block_digest,
    check_block_shape,
)
from swarm.ledger.consensus.branch import (
    Branch,
    FinalPoint,
    ParentProof,
    find_answers,
    missing_for,
    select_parent,
)
from swarm.ledger.consensus.journal import ProposalRecord, Record, VoteLog, VoteRecord, unsettled
from swarm.ledger.consensus.timers import RETRY_DELTAS, TimerParams, Timers
from swarm.ledger.consensus.votes import (
    VIEWS_AHEAD_MAX,
    Electorate,
    Equivocation,
    Heard,
    Proof,
    Proposal,
    Request,
    Statement,
    Supply,
    Vote,
    VoteCounter,
    check_vote_shape,
    first_voter,
)
from swarm.primitives.crypto import SecretKey
from swarm.types import NO_DIGEST, Digest, Height, View


def signed_badly(error: Exception) -> VerificationFailed:
    """Return the error of a validator to whom a quorum gives a final block that is invalid."""
    return VerificationFailed(
        f"more than two thirds of the power signed a bad block: {error}", hint="swarm ledger verify"
    )


class BlockExecutor(Protocol):
    """Block executor: builds and validates blocks on the ledger's state."""

    def build(self, parent: Digest, height: Height, view: View) -> Block:
        """Return this node's block on ``parent``."""
        ...

    def validate(self, block: Block) -> None:
        """Raise ``InvalidStatement`` or ``PeerFault`` unless ``block`` is valid on its parent.

        The parent is the final block, or was validated before; validating again costs nothing.
        """
        ...

    def is_complete(self, block: Block) -> bool:
        """Return False if a valid block omits what this node has held for long; others may see it otherwise."""
        ...


@dataclass(frozen=True, slots=True)
class Save:
    """Effect: make this record durable before any ``Send`` of the same list."""

    record: Record


@dataclass(frozen=True, slots=True)
class Send:
    """Effect: send a statement to one validator, or to all others if ``to`` is None."""

    to: int | None
    statement: Statement


@dataclass(frozen=True, slots=True)
class Finalized:
    """Effect: these blocks, oldest first, are final; the certificate covers the last one."""

    blocks: tuple[Block, ...]
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Behind:
    """Effect: the network has finalised this view, far ahead of this node: start bulk sync."""

    view: View


@dataclass(frozen=True, slots=True)
class Muted:
    """Effect: a vote of this validator is missing from its vote log, so it must not vote any more."""

    view: View


Effect = Save | Send | Finalized | Behind | Muted | Equivocation


def records_of(effects: Iterable[Effect]) -> list[Record]:
    """Return the records that must be durable before any statement is sent."""
    return [effect.record for effect in effects if isinstance(effect, Save)]


def batches_of(effects: Iterable[Effect], *, me: int, count: int) -> dict[int, list[Statement]]:
    """Return the statements to send, by validator, without duplicates: one batch each."""
    batches: dict[int, list[Statement]] = {}
    for effect in effects:
        if isinstance(effect, Send):
            everybody = [i for i in range(count) if i != me]
            for to in everybody if effect.to is None else [effect.to]:
                batch = batches.setdefault(to, [])
                if effect.statement not in batch:
                    batch.append(effect.statement)
    return batches


GAP_VIEWS_MAX = 8
"""Views between the tip and a finalization above which the gap is closed by bulk sync, not block by block."""


class Simplex:
    """Consensus machine of one validator. Feed it statements and the time; carry out its effects in order."""

    def __init__(
        self,
        electorate: Electorate,
        secret: SecretKey,
        executor: BlockExecutor,
        pace: TimerParams,
        *,
        tip: FinalPoint,
        certificate: Certificate | None,
        records: Sequence[Record] = (),
        is_muted: bool = False,
    ) -> None:
        me = electorate.index_of(secret.peer)
        assert me is not None, "only a validator votes"
        self.me, self.view, self.is_muted = me, tip.view, is_muted
        self._electorate, self._secret, self._executor = electorate, secret, executor
        self._timers = Timers(pace)
        self._branch = Branch(tip, certificate)
        self._counter = VoteCounter(electorate)
        self._counter.prune(tip.view)
        self._vote_log = VoteLog()
        self._pending_final: Certificate | None = None
        self._requested = tip.view
        self._now = 0.0
        self._effects = list[Effect]()
        votes, self._proposals, blocks = unsettled(records, electorate.epoch, tip.view)
        for vote in votes:
            self._vote_log.add(vote)
        for block in blocks:
            self._branch.add(block)

    @property
    def tip(self) -> FinalPoint:
        """The newest finalised block."""
        return self._branch.tip

    @property
    def is_over(self) -> bool:
        """True if the last block of the epoch is final: there is nothing more to vote on."""
        return self.tip.height >= self._electorate.last

    @property
    def deadline(self) -> float:
        """Time at which to call ``expire`` if nothing arrives before; infinity if nothing is pending."""
        if self.is_over:
            return float("inf")
        at = self._timers.deadline
        wants = [want.ask_at for want in self._branch.wanted.values()]
        return min(wants if at is None else [*wants, at], default=float("inf"))

    @property
    def paced_from(self) -> float | None:
        """Time at which the newest block was voted for or known as notarized; None if none was."""
        return self._timers.newest_at

    def start(self, now: float, *, paced_from: float | None = None) -> list[Effect]:
        """Enter the view after the tip's, and repeat the votes and proposals made before a restart.

        ``paced_from`` is that of the machine of the epoch before: the interval holds over its end.
        """
        self._now = now
        if paced_from is not None:
            self._timers.note(self.tip.view, paced_from)
        self._enter(View(self.tip.view + 1))
        for view in self._vote_log.views():
            self._repeat(None, view)
            for vote in self._vote_log.in_view(view):
                self._count(vote, is_ours=True)
        self._send(None, Request(self.view))
        return self._taken()

    def awaits(self, proposal: Proposal, sender: int) -> bool:
        """Return True if ``receive`` will look at this block soon: the first of its view, by its leader."""
        view = proposal.view
        is_soon = self.tip.view < view and self.view <= view <= self.view + 1 and not self.is_over
        return is_soon and view not in self._proposals and self._electorate.leader(view) == sender

    def proposes(self, now: float) -> ParentProof | None:
        """Return the parent of the block that ``expire`` will have built now, or None if it builds none."""
        at = self._timers.propose_at
        if at is None or now < at or self.view in self._proposals or self.is_muted:
            return None
        proof = select_parent(self._branch, self._counter, self.view)
        if not isinstance(proof, ParentProof) or proof.height >= self._electorate.last:
            return None
        return proof

    def receive(self, statement: Statement, sender: int, now: float) -> list[Effect]:
        """Process one statement of validator ``sender``.

        Raises ``PeerFault``, changing nothing, if no honest validator sends it; ``VerificationFailed`` if
        two final blocks exist at one height.
        """
        self._now = now
        self._timers.hear(sender, self.view)
        if self.is_over and not isinstance(statement, Request):
            return []
        match statement:
            case Vote():
                check_vote_shape(statement, sender)
                if self._is_near(statement.view):
                    self._count(statement)
            case Proposal():
                self._consider(statement, sender)
            case Proof(certificate):
                if self._counter.lacks(certificate):
                    self._electorate.check_certificate(certificate)
                    self._certified(certificate)
            case Request():
                self._help(statement, sender)
            case Heard(vote):
                self._overhear(vote)
            case Supply(block):
                if block_digest(block.header) in self._branch.wanted:
                    check_block_shape(block)
                    self._branch.add(block)
                    self._resume()
        return self._taken()

    def _overhear(self, vote: Vote) -> None:
        """Count a leader's vote that another validator has passed on; of a view that is over, compare it."""
        check_vote_shape(vote, vote.voter)
        is_near = self._is_near(vote.view)
        if not is_near and vote.view > self._counter.floor:
            return
        if vote.kind != NOTARIZE or vote.voter != self._electorate.leader(vote.view):
            raise OutOfTurn("only a leader's notarize vote is passed on")
        if is_near:
            self._count(vote)
            return
        evidence = self._counter.add_heard(vote)
        self._effects += [] if evidence is None else [evidence]

    def _help(self, request: Request, sender: int) -> None:
        """Answer a request; once the epoch is over, with the end of it."""
        for answer in find_answers(self._branch, self._counter, request, self.view):
            self._send(sender, answer)
        if self.is_over and self._branch.certificate is not None:
            self._send(sender, Proof(self._branch.certificate))
        else:
            self._repeat(sender, self.view)

    def greet(self, validator: int, now: float) -> list[Effect]:
        """Send a request to a newly connected validator: each may have what the other lacks."""
        self._now = now
        self._send(validator, Request(self.view))
        return self._taken()

    def adopt(self, block: Block, certificate: Certificate, now: float) -> list[Effect]:
        """Move the tip to a final block that bulk sync has checked, with all before it; ignore older ones."""
        self._now = now
        if certificate.view > self.tip.view:
            self._branch.adopt(block, certificate)
            self._settled()
        return self._taken()

    def expire(self, now: float) -> list[Effect]:
        """Act on every timer and every block request that is due."""
        self._now = now
        timers = self._timers
        if timers.propose_at is not None and now >= timers.propose_at:
            timers.propose_at = None
            self._propose()
        if timers.vote_at is not None and now >= timers.vote_at:
            timers.vote_at = None
            self._consent()
        if timers.leader_at is not None and now >= timers.leader_at:
            timers.leader_at = None
            if not self._vote_log.has(NOTARIZE, self.view):
                self._vote(NULLIFY, self.view, NO_DIGEST)
        if timers.advance_at is not None and now >= timers.advance_at:
            timers.advance_at = now + RETRY_DELTAS * timers.delta_s
            self._requested = self.tip.view
            self._vote(NULLIFY, self.view, NO_DIGEST)
            self._send(None, Request(self.view))  # the answers repeat what others said in this view
        others = [i for i in range(len(self._electorate)) if i != self.me]
        for name, holder in self._branch.due(others, now, retry_s=timers.delta_s):
            self._send(holder, Request(self.view, blocks=(name,)))
        return self._taken()

    def _enter(self, view: View) -> None:
        if view > self.view and not self.is_over:
            self.view = view
            leader = self._electorate.leader(view)
            self._timers.enter(view, self.tip.view, leader=leader, me=self.me, now=self._now)
            self._consent()

    def _propose(self) -> None:
        """Propose on the newest notarized block, with the proof that later views were skipped."""
        if self.view in self._proposals or self.is_muted:
            return
        proof = select_parent(self._branch, self._counter, self.view)
        if not isinstance(proof, ParentProof):
            self._send(None, Request(self.view, views=(proof,)))
            self._timers.propose_at = self._now + self._timers.delta_s
            return
        try:
            self._judge(proof.parent)
        except (InvalidStatement, PeerFault):
            return  # a quorum notarized an invalid block: do not build on it
        if proof.height >= self._electorate.last:
            last = self._branch.get(proof.parent)
            assert last is not None, "a block without missing ancestors is kept"
            block = last
        else:
            block = self._executor.build(proof.parent, Height(proof.height + 1), self.view)
        proposal = self._electorate.sign_proposal(
            self._secret, self.view, block, proof.certificates
        )
        self._proposals[self.view] = proposal
        self._branch.add(block)
        self._effects.append(Save(ProposalRecord(self._electorate.epoch, proposal)))
        self._send(None, proposal)
        self._consent()

    def _consider(self, proposal: Proposal, sender: int) -> None:
        """Process a leader's proposal: its certificates at once, the block when its view comes."""
        view = proposal.view
        if view < 1 or self._electorate.leader(view) != sender:
            raise OutOfTurn("a proposal comes from the leader of its view")
        if view in self._proposals or not self._is_near(view):
            return
        self._electorate.check_proposal(proposal)
        unknown = [c for c in proposal.certificates if self._counter.lacks(c)]
        for certificate in unknown:
            self._electorate.check_certificate(certificate)
        self._proposals[view] = proposal
        self._branch.add(proposal.block)
        for certificate in unknown:
            self._certified(certificate)
        self._resume()

    def _consent(self) -> None:
        """Vote for the proposal of this view when it is time and it is valid; nullify if it is invalid."""
        proposal, timers = self._proposals.get(self.view), self._timers
        if proposal is None or self._vote_log.has(NOTARIZE, self.view):
            return
        if self._now < timers.hold_until:
            timers.vote_at = timers.hold_until
            return
        try:
            missing = missing_for(self._branch, self._counter, proposal)
            if missing.block is None and not missing.views:
                self._judge(block_digest(proposal.block.header))
        except (InvalidStatement, PeerFault):
            self._vote(NULLIFY, self.view, NO_DIGEST)
            return
        leader = self._electorate.leader(self.view)
        if missing.block is not None:
            self._branch.want(missing.block, leader, self._now)
        elif missing.views and self._requested < self.view:
            self._requested = self.view
            self._send(leader, Request(self.view, views=missing.views))
        elif not missing.views:
            self._approve(proposal.block)

    def _approve(self, block: Block) -> None:
        """Vote for a valid block, unless it is new and omits what this node has held for long."""
        if block.header.view == self.view and not self._executor.is_complete(block):
            self._vote(NULLIFY, self.view, NO_DIGEST)
            return
        self._timers.note(self.view, self._now)
        self._vote(NOTARIZE, self.view, block_digest(block.header))

    def _judge(self, name: Digest) -> None:
        """Raise ``InvalidStatement`` or ``PeerFault`` unless all blocks from the tip to this are valid."""
        for block in self._branch.path(name):
            self._executor.validate(block)

    def _judge_final(self, certificate: Certificate) -> None:
        """Validate final blocks that were never voted on here, so that a block can be built on the tip at once.

        The effect that writes them may be carried out after the next proposal of the same turn. Raises
        ``VerificationFailed`` if a quorum finalized an invalid block.
        """
        try:
            self._judge(certificate.block)
        except (InvalidStatement, PeerFault) as error:
            raise signed_badly(error) from None

    def _vote(self, kind: int, view: View, block: Digest) -> None:
        """Vote, unless this validator is muted or an earlier vote forbids it."""
        if self.is_muted or self.is_over or not self._vote_log.allow(kind, view):
            return
        vote = self._electorate.sign_vote(self._secret, kind, view, block)
        self._vote_log.add(vote)
        kept = self._branch.get(block) if kind == NOTARIZE else None
        self._effects.append(Save(VoteRecord(self._electorate.epoch, vote, kept)))
        self._send(None, vote)
        self._count(vote, is_ours=True)

    def _count(self, vote: Vote, *, is_ours: bool = False) -> None:
        evidence = self._counter.add_vote(vote, is_ours=is_ours)
        if evidence is not None:
            self._effects.append(evidence)
        certificate = self._counter.quorum(vote)
        if certificate is None:
            return
        if certificate.kind != FINALIZE:
            # Sent once, by those that saw the votes; the next block's finalization covers this one.
            self._send(None, Proof(certificate))
        self._certified(certificate)

    def _is_near(self, view: View) -> bool:
        return self.tip.view < view <= self.view + VIEWS_AHEAD_MAX

    def _certified(self, certificate: Certificate) -> None:
        """Act on a certificate that was verified."""
        if certificate.view <= self.tip.view:
            return
        self._effects += self._counter.add_certificate(certificate)
        self._pass_on(certificate)
        if self._vote_log.lack(certificate, self.me) and not self.is_muted:
            self.is_muted = True
            self._effects.append(Muted(certificate.view))
        if certificate.kind == NULLIFY:
            self._enter(View(certificate.view + 1))
        elif certificate.kind == NOTARIZE:
            self._notarized(certificate)
        else:
            rivals = [c for c in (self._pending_final, certificate) if c is not None]
            self._pending_final = max(rivals, key=lambda c: c.view)
            self._finalize()

    def _pass_on(self, certificate: Certificate) -> None:
        """Pass on the vote of a view's leader for another block than the one it went to, if it went to any."""
        vote = self._counter.leader_vote(certificate.view)
        if vote is not None and vote.block != certificate.block and vote.voter != self.me:
            self._send(None, Heard(vote))

    def _notarized(self, certificate: Certificate) -> None:
        view, block = certificate.view, certificate.block
        if view <= self.tip.view:
            return
        if self._branch.get(block) is None:
            self._branch.want(block, first_voter(certificate), self._now)
            return
        self._timers.note(view, self._now)
        if self._counter.certificate(NULLIFY, view) is None:
            self._vote(FINALIZE, view, block)
        self._enter(View(view + 1))

    def _finalize(self) -> None:
        """Move the tip to the newest finalization if all its ancestors are here; request the missing ones."""
        certificate = self._pending_final
        if certificate is None or certificate.view <= self.tip.view:
            return
        missing = self._branch.missing_ancestor(certificate.block)
        if missing is None:
            self._judge_final(certificate)
            self._effects.append(Finalized(self._branch.advance(certificate), certificate))
            self._settled()
            return
        self._branch.want(missing, first_voter(certificate), self._now)
        if certificate.view - self.tip.view > GAP_VIEWS_MAX:
            self._effects.append(Behind(certificate.view))
        self._enter(View(certificate.view + 1))

    def _settled(self) -> None:
        """Forget the views that the new tip decides, and continue from it."""
        final = self.tip.view
        self._counter.prune(final)
        self._timers.forget(final)
        self._vote_log.prune(final)
        self._proposals = {view: p for view, p in self._proposals.items() if view > final}
        self._enter(View(final + 1))
        self._resume()

    def _resume(self) -> None:
        """Continue what waited for a block to arrive or for the tip to move."""
        for certificate in self._counter.notarizations():
            self._notarized(certificate)
        self._finalize()
        self._consent()

    def _repeat(self, to: int | None, view: View) -> None:
        """Send again what this validator said in a view."""
        proposal = self._proposals.get(view)
        if proposal is not None and self._electorate.leader(view) == self.me:
            self._send(to, proposal)
        for vote in self._vote_log.in_view(view):
            self._send(to, vote)

    def _send(self, to: int | None, statement: Statement) -> None:
        if len(self._electorate) > 1:
            self._effects.append(Send(to, statement))

    def _taken(self) -> list[Effect]:
        taken, self._effects = self._effects, []
        return taken
