"""Track the finalised tip and the blocks above it, and select the justified parent of the next block.

Core: a table of blocks with a walk along the parents; it validates no block.

The parent of a block is the newest notarized one, with proof that every view since was skipped.
"""

from dataclasses import dataclass

from swarm.errors import BrokenPromise, VerificationFailed
from swarm.ledger.blocks import NOTARIZE, NULLIFY, Block, Certificate, block_digest
from swarm.ledger.consensus.votes import (
    JUSTIFICATION_MAX,
    REQUEST_MAX,
    Proof,
    Proposal,
    Request,
    Statement,
    Supply,
    VoteCounter,
)
from swarm.types import Digest, Height, View

RECENT_MAX = 16
"""Finalised blocks kept to answer validators a few blocks behind; others use bulk sync."""

WANTED_MAX = 64
"""Blocks requested at one time: as many as the views a vote may be ahead."""


@dataclass(frozen=True, slots=True)
class FinalPoint:
    """Position of the newest finalised block in an epoch.

    At the start of an epoch it is the last block of the one before, with view 0; the chain id stands for
    block 0.
    """

    height: Height
    view: View
    digest: Digest


@dataclass(slots=True)
class Want:
    """A missing block that is being requested: the next validator to ask, and the time to ask it."""

    ask_next: int
    ask_at: float


class Branch:
    """Blocks by digest, from a few below the tip to the newest proposed."""

    def __init__(self, tip: FinalPoint, certificate: Certificate | None) -> None:
        self.tip = tip
        self.certificate = certificate
        self.wanted: dict[Digest, Want] = {}
        self._blocks: dict[Digest, Block] = {}
        self._final: set[Digest] = set()

    def add(self, block: Block) -> Digest:
        """Keep a block and stop requesting it; return its digest."""
        name = block_digest(block.header)
        if block.header.height > self.tip.height or name == self.tip.digest:
            self._blocks[name] = block
        self.wanted.pop(name, None)
        return name

    def get(self, name: Digest) -> Block | None:
        """Return the block, or None if it is not kept."""
        return self._blocks.get(name)

    def view_of(self, name: Digest) -> View | None:
        """Return the view of a kept block or of the tip; None if the block is not kept."""
        if name == self.tip.digest:
            return self.tip.view
        block = self._blocks.get(name)
        return None if block is None else block.header.view

    def height_of(self, name: Digest) -> Height | None:
        """Return the height of a kept block or of the tip; None if the block is not kept."""
        if name == self.tip.digest:
            return self.tip.height
        block = self._blocks.get(name)
        return None if block is None else block.header.height

    def want(self, name: Digest, holder: int, now: float) -> None:
        """Request a block, first from ``holder``; no effect if it is kept or already requested."""
        if name not in self._blocks and len(self.wanted) < WANTED_MAX:
            self.wanted.setdefault(name, Want(holder, now))

    def due(self, others: list[int], now: float, *, retry_s: float) -> list[tuple[Digest, int]]:
        """Return (block, validator) pairs to request now: the likely holder first, then the others in turn."""
        asks = list[tuple[Digest, int]]()
        for name, want in sorted(self.wanted.items()):
            if now >= want.ask_at:
                later = [i for i in others if i >= want.ask_next] or others
                asks += [(name, i) for i in later[:1]]
                want.ask_next, want.ask_at = (later or [0])[0] + 1, now + retry_s
        return asks

    def missing_ancestor(self, name: Digest) -> Digest | None:
        """Return the first block that is missing on the way from ``name`` down to the tip, or None.

        Raises ``VerificationFailed`` if the way leads past the tip: two finalised blocks at one height.
        """
        while name != self.tip.digest:
            block = self._blocks.get(name)
            if block is None:
                return name
            if block.header.height <= self.tip.height:
                raise VerificationFailed(
                    f"two final blocks at height {block.header.height}: "
                    "more than a third of the validators' power signed both",
                    hint="swarm ledger verify",
                )
            name = block.header.parent
        return None

    def path(self, name: Digest) -> list[Block]:
        """Return the blocks above the tip up to ``name``, oldest first; none may be missing."""
        path = list[Block]()
        while name != self.tip.digest:
            path.append(self._blocks[name])
            name = path[-1].header.parent
        return path[::-1]

    def advance(self, certificate: Certificate) -> tuple[Block, ...]:
        """Move the tip to the certified block; return the newly final blocks, oldest first."""
        path = self.path(certificate.block)
        names = {block_digest(block.header) for block in path}
        self.tip = FinalPoint(path[-1].header.height, certificate.view, certificate.block)
        self.certificate = certificate
        self._prune(names)
        return tuple(path)

    def adopt(self, block: Block, certificate: Certificate) -> None:
        """Move the tip to a block whose ancestors are stored elsewhere."""
        self.tip = FinalPoint(block.header.height, certificate.view, certificate.block)
        self.certificate = certificate
        self._blocks[certificate.block] = block
        self._prune({certificate.block})

    def _prune(self, final: set[Digest]) -> None:
        """Drop blocks that conflict with final ones, and final blocks that are old."""
        oldest = self.tip.height - RECENT_MAX
        self._blocks = {
            name: block
            for name, block in self._blocks.items()
            if block.header.height > self.tip.height
            or name in final
            or (name in self._final and block.header.height > oldest)
        }
        self._final = (self._final | final) & self._blocks.keys()
        self.wanted.clear()


SUPPLIES_MAX = 4
"""Blocks in one answer: a megabyte at most."""


@dataclass(frozen=True, slots=True)
class ParentProof:
    """Justification of a block: its parent, and the certificates that allow it, oldest first."""

    parent: Digest
    height: Height
    """Height of the parent."""
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """Block and certificates still missing to validate the parent of a block; both empty if none is."""

    block: Digest | None
    views: tuple[View, ...]


def select_parent(branch: Branch, counter: VoteCounter, view: View) -> ParentProof | View:
    """Return the newest justified parent for a block of ``view``, or the view whose certificate is missing."""
    found, before = list[Certificate](), View(view - 1)
    while before > branch.tip.view:
        certificate = counter.certificate(NOTARIZE, before)
        if certificate is not None and branch.missing_ancestor(certificate.block) is None:
            height = branch.height_of(certificate.block)
            assert height is not None, "a block without missing ancestors is kept"
            return ParentProof(certificate.block, height, _newest([*found, certificate]))
        nullification = counter.certificate(NULLIFY, before)
        if nullification is None:
            return before
        found.append(nullification)
        before = View(before - 1)
    tip = [] if branch.certificate is None else [branch.certificate]
    return ParentProof(branch.tip.digest, branch.tip.height, _newest(found + tip))


def missing_for(branch: Branch, counter: VoteCounter, proposal: Proposal) -> Missing:
    """Return the block and certificates still missing to validate the parent of a proposed block.

    Raises ``BrokenPromise`` if no certificate could justify it.
    """
    header = proposal.block.header
    if proposal.view != header.view:
        return _missing_again(branch, counter, proposal)
    is_tip = header.parent == branch.tip.digest
    view, height = branch.view_of(header.parent), branch.height_of(header.parent)
    if view is None or height is None:
        return Missing(header.parent, ())
    notarization = counter.certificate(NOTARIZE, view)
    if not is_tip and notarization is not None and notarization.block != header.parent:
        raise BrokenPromise("its parent lost the view to another block")
    if view >= header.view or header.height != height + 1 or (view <= branch.tip.view) != is_tip:
        raise BrokenPromise("it does not follow its parent")
    views = [] if is_tip or notarization is not None else [view]
    skipped = (View(v) for v in range(view + 1, header.view))
    views += [v for v in skipped if counter.certificate(NULLIFY, v) is None]
    return Missing(branch.missing_ancestor(header.parent), tuple(views[:REQUEST_MAX]))


def _missing_again(branch: Branch, counter: VoteCounter, proposal: Proposal) -> Missing:
    """Return what is missing to vote for the last block of an epoch again: it must be the newest notarized."""
    name, missing = block_digest(proposal.block.header), list[View]()
    view = View(proposal.view - 1)
    while view >= proposal.block.header.view and view > branch.tip.view:
        notarization = counter.certificate(NOTARIZE, view)
        if notarization is not None and notarization.block == name:
            return Missing(branch.missing_ancestor(name), tuple(missing[-REQUEST_MAX:]))
        if counter.certificate(NULLIFY, view) is None:
            missing.append(view)
        view = View(view - 1)
    if not missing:
        raise BrokenPromise("every view since the block was proposed is nullified")
    return Missing(branch.missing_ancestor(name), tuple(missing[-REQUEST_MAX:]))


def find_answers(
    branch: Branch, counter: VoteCounter, request: Request, view: View
) -> list[Statement]:
    """Return the statements that help a validator that requests them, if this one is in ``view``.

    Raises ``BrokenPromise`` if the request is over its bounds.
    """
    if max(len(request.blocks), len(request.views)) > REQUEST_MAX:
        raise BrokenPromise("a request over its bounds")
    blocks = [branch.get(name) for name in request.blocks[:SUPPLIES_MAX]]
    answers: list[Statement] = [Supply(block) for block in blocks if block is not None]
    wanted = list(request.views)
    if request.view < view:
        wanted += [request.view, View(view - 1)]
        if branch.certificate is not None and request.view <= branch.tip.view:
            answers.append(Proof(branch.certificate))
    elif request.view > view:
        answers.append(Request(view))
    for lacking in sorted(set(wanted)):
        held = (counter.certificate(kind, lacking) for kind in (NOTARIZE, NULLIFY))
        answers += [Proof(certificate) for certificate in held if certificate is not None]
    return answers


def _newest(certificates: list[Certificate]) -> tuple[Certificate, ...]:
    """Return the newest certificates, oldest first, from a list that is newest first.

    At most ``JUSTIFICATION_MAX``: a validator that lacks older ones requests them.
    """
    return tuple(certificates[:JUSTIFICATION_MAX][::-1])
