"""Signatures that cost nothing, and blocks without a ledger, for many histories of consensus."""

from swarm.errors import BadSignature, InvalidStatement, Reason
from swarm.ledger.blocks import VRF_PROOF_BYTES, Block, Certificate, Header, block_digest, body_root
from swarm.ledger.consensus.votes import Electorate, Proposal, Vote
from swarm.primitives.crypto import SecretKey, digest
from swarm.types import NO_DIGEST, Digest, Height, View

CHAIN = digest("genesis", b"a chain")


class PlainElectorate(Electorate):
    """Signatures that name their signer and cost nothing; everything else is real."""

    def sign_vote(self, secret: SecretKey, kind: int, view: View, block: Digest) -> Vote:
        index = self.index_of(secret.peer)
        assert index is not None
        return Vote(kind, view, block, index, self._mark(index, kind, view, block))

    def check_vote(self, vote: Vote) -> None:
        if vote.signature != self._mark(vote.voter, vote.kind, vote.view, vote.block):
            raise BadSignature("forged")

    def sign_proposal(
        self, secret: SecretKey, view: View, block: Block, certificates: tuple[Certificate, ...]
    ) -> Proposal:
        return Proposal(view, block, certificates, secret.peer * 2)

    def check_proposal(self, proposal: Proposal) -> None:
        self.check_place(proposal)
        leader = self.leader(proposal.view)
        if proposal.signature != self.validators[leader].peer * 2:
            raise BadSignature("forged")

    def check_certificate(self, certificate: Certificate) -> None:
        voters = [i for i in range(len(self)) if certificate.bitmap >> i & 1]
        marks = [
            self._mark(i, certificate.kind, certificate.view, certificate.block) for i in voters
        ]
        if list(certificate.signatures) != marks or not self.is_quorum(dict.fromkeys(voters, b"")):
            raise BadSignature("forged")

    def _mark(self, voter: int, kind: int, view: int, block: bytes) -> bytes:
        return plain_mark(voter, kind, view, block, self.epoch)


def plain_mark(voter: int, kind: int, view: int, block: bytes, epoch: int = 0) -> bytes:
    return b"%d/%d/%d/%d/" % (voter, kind, view, epoch) + block


def is_bad(block: Block) -> bool:
    """Return True if a block says that it is invalid."""
    return block.transactions == (b"bad",)


class PlainExecutor:
    """Blocks without a ledger; a body that says so is bad."""

    def __init__(
        self,
        secret: SecretKey,
        tip: Digest | None = None,
        epoch: int = 0,
        chain: Digest = CHAIN,
        life: int = 0,
    ) -> None:
        self.secret, self.epoch, self.chain = secret, epoch, chain
        self.twist, self.life = b"", b"life %d" % life
        """What is in its blocks; after a restart, blocks of the same view are others."""
        self.known = None if tip is None else {tip}
        """With a ``tip``, the blocks whose state is here; they alone can be built on."""

    def build(self, parent: Digest, height: Height, view: View) -> Block:
        transactions = (self.twist or self.life,)
        proof = bytes(VRF_PROOF_BYTES)
        root = body_root(transactions)
        header = Header(
            chain=self.chain,
            height=height,
            epoch=self.epoch,
            view=view,
            parent=parent,
            state_root=NO_DIGEST,
            body_root=root,
            next_validators=NO_DIGEST,
            vrf_proof=proof,
            leader=self.secret.peer,
        )
        block = Block(header, transactions)
        self._know(block)
        return block

    def validate(self, block: Block) -> None:
        if is_bad(block):
            raise InvalidStatement(Reason.BAD_FIELD, "says so")
        self._know(block)

    def is_complete(self, block: Block) -> bool:
        return block.transactions != (b"unfair",)

    def _know(self, block: Block) -> None:
        if self.known is not None:
            assert block.header.parent in self.known, "a state that the validator does not have"
            self.known.add(block_digest(block.header))
