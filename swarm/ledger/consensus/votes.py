"""Define consensus messages, the validators of an epoch, and the count of votes.

Core: verifies before it remembers; a vote or certificate is verified once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from swarm.errors import BadEncoding, BrokenPromise, OutOfTurn
from swarm.ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    VOTE_PURPOSES,
    Block,
    Certificate,
    Validator,
    block_digest,
    check_block_shape,
    check_certificate,
    vote_parts,
)
from swarm.ledger.check_statements import HEIGHT_MAX
from swarm.ledger.leaders import LeaderSchedule
from swarm.primitives.codec import Message
from swarm.primitives.crypto import SecretKey, verify
from swarm.types import NO_DIGEST, Digest, PeerId, View

BATCH_MESSAGES_MAX = 64
"""Messages in one frame: the answers to a late validator and a few votes, not a flood."""

JUSTIFICATION_MAX = 32
"""Certificates in one proposal; a validator that lacks older ones requests them."""

REQUEST_MAX = 32
"""Blocks or views in one request."""

VIEWS_AHEAD_MAX = 64
"""Views ahead of the current one up to which votes are kept: longer than a restart, and small in memory."""

RIVALS = {NOTARIZE: (NOTARIZE,), NULLIFY: (FINALIZE,), FINALIZE: (NULLIFY, FINALIZE)}
"""Kinds of votes of which one may contradict a vote of each kind."""

BLOCKS_PER_VOTER_MAX = 2
"""Different blocks counted per voter, kind and view: one is honest, two convict, three add nothing."""


LEADERS_KEPT = 32
"""Views below the final one of which the leader's vote is kept: what the other half heard may come late."""


class Vote(Message, frozen=True, tag=1):
    """One validator's vote in one view."""

    kind: int
    view: View
    block: Digest
    """Digest of the block voted for; ``NO_DIGEST`` if it nullifies."""
    voter: int
    """Index of the voter in the order of its epoch's validators."""
    signature: bytes


class Proposal(Message, frozen=True, tag=2):
    """A leader's block, with the certificates that justify its parent.

    The last block of an epoch is proposed again, as it is, until it is final: no block of the epoch follows it.
    """

    view: View
    """View in which it is proposed; that of its header unless it is proposed again."""
    block: Block
    certificates: tuple[Certificate, ...]
    """Notarization of the parent, or of the block itself, then the nullification of every skipped view, newest
    last."""
    signature: bytes
    """Signature over the chain, the epoch, the view and the block's digest, under ``proposal``."""


class Proof(Message, frozen=True, tag=3):
    """A certificate for a validator that lacks it."""

    certificate: Certificate


class Request(Message, frozen=True, tag=4):
    """Request of a validator in ``view``: statements to move on, these blocks, certificates of these views."""

    view: View
    blocks: tuple[Digest, ...] = ()
    views: tuple[View, ...] = ()


class Supply(Message, frozen=True, tag=5):
    """A block that was requested."""

    block: Block


class Heard(Message, frozen=True, tag=6):
    """A leader's notarize vote, passed on by who heard it, of a view that was skipped or went to another block.

    A leader may tell each half of the others its own block; the two votes meet only if somebody passes one on.
    """

    vote: Vote


Statement = Vote | Proposal | Proof | Request | Supply | Heard


class Said(Message, frozen=True):
    """A statement, and the epoch that it is about."""

    epoch: int
    statement: Statement


class Batch(Message, frozen=True):
    """One frame of the consensus protocol."""

    statements: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two votes of one validator that no honest validator signs both of. Proposals never convict."""

    first: Vote
    second: Vote


class Electorate:
    """Validators of one epoch: their order, power and leaders, and checks of their signatures."""

    def __init__(
        self,
        chain: Digest,
        validators: Sequence[Validator],
        seed: bytes,
        *,
        epoch: int = 0,
        last: int = HEIGHT_MAX,
    ) -> None:
        self.chain = chain
        self.epoch = epoch
        self.last = last
        """Height of the last block of the epoch."""
        self.validators = tuple(validators)
        self.total = sum(validator.power for validator in validators)
        self._schedule = LeaderSchedule(seed, validators)
        self._index = {validator.peer: i for i, validator in enumerate(validators)}

    def __len__(self) -> int:
        return len(self.validators)

    def index_of(self, peer: PeerId) -> int | None:
        """Return the index of ``peer`` among the validators, or None."""
        return self._index.get(peer)

    def is_quorum(self, voters: Mapping[int, bytes]) -> bool:
        """Return True if these voters hold more than two thirds of the power."""
        return 3 * sum(self.validators[i].power for i in voters) > 2 * self.total

    def leader(self, view: View) -> int:
        """Return the index of the leader of ``view``."""
        return self._schedule.leader(view)

    def sign_vote(self, secret: SecretKey, kind: int, view: View, block: Digest) -> Vote:
        """Return a signed vote of the validator that owns ``secret``."""
        parts = vote_parts(self.chain, self.epoch, view, block)
        signature = secret.sign(VOTE_PURPOSES[kind], *parts)
        return Vote(kind, view, block, self._index[secret.peer], signature)

    def check_vote(self, vote: Vote) -> None:
        """Raise ``BadSignature`` unless the voter it names signed it."""
        peer = self.validators[vote.voter].peer
        parts = vote_parts(self.chain, self.epoch, vote.view, vote.block)
        verify(peer, vote.signature, VOTE_PURPOSES[vote.kind], *parts)

    def sign_proposal(
        self, secret: SecretKey, view: View, block: Block, certificates: tuple[Certificate, ...]
    ) -> Proposal:
        """Return a signed proposal of the validator that owns ``secret``."""
        parts = vote_parts(self.chain, self.epoch, view, block_digest(block.header))
        return Proposal(view, block, certificates, secret.sign("proposal", *parts))

    def check_proposal(self, proposal: Proposal) -> None:
        """Raise ``PeerFault`` unless it is within bounds and the leader of its view signed it."""
        check_block_shape(proposal.block)
        self.check_place(proposal)
        peer = self.validators[self.leader(proposal.view)].peer
        name = block_digest(proposal.block.header)
        parts = vote_parts(self.chain, self.epoch, proposal.view, name)
        verify(peer, proposal.signature, "proposal", *parts)

    def check_place(self, proposal: Proposal) -> None:
        """Raise ``BrokenPromise`` unless its block may be proposed in its view, as far as its header tells."""
        header, view = proposal.block.header, proposal.view
        if (header.chain, header.epoch) != (self.chain, self.epoch):
            raise BrokenPromise("a proposal for another chain, or another epoch")
        if len(proposal.certificates) > JUSTIFICATION_MAX or header.height > self.last:
            raise BrokenPromise("a proposal over its bounds, or past the end of its epoch")
        if header.view != view and (header.view > view or header.height < self.last):
            raise BrokenPromise("a block is proposed in its own view, but for the last of an epoch")
        if header.leader != self.validators[self.leader(header.view)].peer:
            raise BrokenPromise("a block in the name of another than the leader of its view")

    def check_certificate(self, certificate: Certificate) -> None:
        """Raise ``BadEncoding`` or ``BadSignature`` unless a quorum signed it."""
        check_certificate(certificate, self.chain, self.epoch, self.validators)


def check_vote_shape(vote: Vote, sender: int) -> None:
    """Raise ``PeerFault`` unless ``vote`` is well formed and ``sender``'s own."""
    if vote.voter != sender:
        raise OutOfTurn("a vote comes from its voter")
    if vote.kind not in {NOTARIZE, NULLIFY, FINALIZE} or vote.view < 1:
        raise BadEncoding("no such kind of vote")
    if len(vote.block) != len(NO_DIGEST) or (vote.kind == NULLIFY) != (vote.block == NO_DIGEST):
        raise BadEncoding("a vote names one block, and none when it nullifies")


def first_voter(certificate: Certificate) -> int:
    """Return the first validator that voted for the certified block, and so keeps it."""
    return (certificate.bitmap & -certificate.bitmap).bit_length() - 1


def votes_in(certificate: Certificate) -> list[Vote]:
    """Return the votes of a certificate, in the order of their voters."""
    kind, view, block, bitmap = (
        certificate.kind,
        certificate.view,
        certificate.block,
        certificate.bitmap,
    )
    voters = [i for i in range(bitmap.bit_length()) if bitmap >> i & 1]
    pairs = zip(voters, certificate.signatures, strict=True)
    return [Vote(kind, view, block, voter, signature) for voter, signature in pairs]


@dataclass(slots=True)
class _Ballot:
    """Votes of one view by voter, and by block for the quorum."""

    seen: dict[tuple[int, int], list[Vote]] = field(
        default_factory=dict[tuple[int, int], list[Vote]]
    )
    counts: dict[tuple[int, Digest], dict[int, bytes]] = field(
        default_factory=dict[tuple[int, Digest], dict[int, bytes]]
    )


class VoteCounter:
    """Votes counted and certificates held, for the views above ``floor``."""

    def __init__(self, electorate: Electorate) -> None:
        self.floor = View(0)
        self._electorate = electorate
        self._ballots: dict[View, _Ballot] = {}
        self._certificates: dict[tuple[int, View], Certificate] = {}
        self._accused: set[tuple[int, View]] = set()
        self._leaders: dict[View, Vote] = {}
        """Notarize votes of the leaders of views that are final, or were skipped, the newest last."""

    def certificate(self, kind: int, view: View) -> Certificate | None:
        """Return the certificate of that kind and view, or None."""
        return self._certificates.get((kind, view))

    def add_vote(self, vote: Vote, *, is_ours: bool = False) -> Equivocation | None:
        """Count a vote; return proof that its voter equivocated, once. Raises ``BadSignature``."""
        if vote.view <= self.floor:
            return None
        ballot = self._ballots.get(vote.view) or _Ballot()
        earlier = ballot.seen.get((vote.voter, vote.kind), [])
        known = any(other.block == vote.block for other in earlier)
        if known or len(earlier) >= BLOCKS_PER_VOTER_MAX:
            return None
        needless = (vote.kind, vote.view) in self._certificates
        conflicting = self._conflicting(ballot, vote) or self._contradicted(vote)
        if needless and conflicting is None and vote.kind != FINALIZE:
            # Its certificate exists already: the signature would be checked for nothing. A finalize
            # vote is still recorded, it may convict its voter of a nullify vote.
            return None
        if not is_ours:
            self._electorate.check_vote(vote)
        self._ballots[vote.view] = ballot
        ballot.seen[vote.voter, vote.kind] = [*earlier, vote]
        count = ballot.counts.setdefault((vote.kind, vote.block), {})
        count[vote.voter] = vote.signature
        return self._accuse(conflicting, vote)

    def quorum(self, vote: Vote) -> Certificate | None:
        """Return the certificate that ``vote`` completes, or None if one is held or there is no quorum."""
        ballot = self._ballots.get(vote.view)
        if ballot is None or (vote.kind, vote.view) in self._certificates:
            return None
        count = ballot.counts.get((vote.kind, vote.block), {})
        if not self._electorate.is_quorum(count):
            return None
        bitmap = sum(1 << voter for voter in count)
        signatures = tuple(count[voter] for voter in sorted(count))
        return Certificate(vote.kind, vote.view, vote.block, bitmap, signatures)

    def notarizations(self) -> list[Certificate]:
        """Return every notarization held, oldest view first."""
        held = sorted(self._certificates.items())
        return [certificate for (kind, _), certificate in held if kind == NOTARIZE]

    def lacks(self, certificate: Certificate) -> bool:
        """Return True if the certificate is new: its view is not final, and none of its kind is held."""
        held = (certificate.kind, certificate.view) in self._certificates
        return certificate.view > self.floor and not held

    def add_certificate(self, certificate: Certificate) -> list[Equivocation]:
        """Store a certificate that was verified before; return proof of each voter that said otherwise here.

        A validator may tell one half of the others one thing and the other half another: what the one half was
        told is seen by the other only in a certificate.
        """
        if certificate.view <= self.floor:
            return []
        self._certificates[certificate.kind, certificate.view] = certificate
        ballot, found = self._ballots.get(certificate.view), list[Equivocation]()
        if ballot is None:
            return found
        for vote in votes_in(certificate):
            evidence = self._accuse(self._conflicting(ballot, vote), vote)
            found += [] if evidence is None else [evidence]
        return found

    def prune(self, floor: View) -> None:
        """Forget every view up to ``floor``: it is final."""
        self.floor = floor
        for view in sorted(v for v in self._ballots if v <= floor):
            vote = self.leader_vote(view)
            if vote is not None:
                self._leaders[view] = vote
        while len(self._leaders) > LEADERS_KEPT:
            del self._leaders[next(iter(self._leaders))]
        self._ballots = {v: ballot for v, ballot in self._ballots.items() if v > floor}
        self._certificates = {k: c for k, c in self._certificates.items() if k[1] > floor}
        self._accused = {(i, view) for i, view in sorted(self._accused) if view > floor}

    def leader_vote(self, view: View) -> Vote | None:
        """Return the first notarize vote of a view's leader that was heard here, or None."""
        ballot = self._ballots.get(view)
        leader = self._electorate.leader(view)
        votes = [] if ballot is None else ballot.seen.get((leader, NOTARIZE), [])
        return votes[0] if votes else self._leaders.get(view)

    def add_heard(self, vote: Vote) -> Equivocation | None:
        """Compare a leader's vote that was passed on with what is known of a view that is over.

        Returns proof that it equivocated, once. Raises ``BadSignature``.
        """
        known = self._leaders.get(vote.view)
        if known is None or known.block == vote.block:
            return None
        self._electorate.check_vote(vote)
        del self._leaders[vote.view]
        return Equivocation(known, vote)

    def _accuse(self, earlier: Vote | None, vote: Vote) -> Equivocation | None:
        """Return proof that a voter signed both, once for a view; None if there is no earlier vote."""
        if earlier is None or (vote.voter, vote.view) in self._accused:
            return None
        self._accused.add((vote.voter, vote.view))
        return Equivocation(earlier, vote)

    def _contradicted(self, vote: Vote) -> Vote | None:
        """Return the voter's conflicting vote in a certificate, or None."""
        for kind in RIVALS[vote.kind]:
            certificate = self._certificates.get((kind, vote.view))
            if certificate is not None and certificate.bitmap >> vote.voter & 1:
                signed = next(v for v in votes_in(certificate) if v.voter == vote.voter)
                if signed.kind != vote.kind or signed.block != vote.block:
                    return signed
        return None

    @staticmethod
    def _conflicting(ballot: _Ballot, vote: Vote) -> Vote | None:
        """Return an earlier vote of the voter that no honest validator signs beside this one, or None."""
        others = (o for kind in RIVALS[vote.kind] for o in ballot.seen.get((vote.voter, kind), ()))
        return next((o for o in others if o.kind != vote.kind or o.block != vote.block), None)
