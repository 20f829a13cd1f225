"""What a block may stand on: the newest notarized parent, and proof that every view since was skipped.

Core: questions about a branch and a tally, answered without changing either.
"""

from dataclasses import dataclass

from swarm.errors import BrokenPromise
from swarm.ledger.blocks import NOTARIZE, NULLIFY, Block, Certificate
from swarm.ledger.branch import Branch
from swarm.ledger.votes import (
    JUSTIFICATION_MAX,
    REQUEST_MAX,
    Proof,
    Request,
    Statement,
    Supply,
    Tally,
)
from swarm.types import Digest, Height, View

SUPPLIES_MAX = 4
"""Blocks in one answer: a megabyte at most."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A parent to build on, and the certificates that allow it, oldest first."""

    parent: Digest
    height: Height
    """Of the parent."""
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class Lack:
    """What keeps us from judging a block: nothing, when both are empty."""

    block: Digest | None
    views: tuple[View, ...]


def find_ground(branch: Branch, tally: Tally, view: View) -> Ground | View:
    """The newest ground for a block of ``view``; or the view whose certificate we lack."""
    found, before = list[Certificate](), View(view - 1)
    while before > branch.tip.view:
        certificate = tally.certificate(NOTARIZE, before)
        if certificate is not None and branch.missing_ancestor(certificate.block) is None:
            height = branch.height_of(certificate.block)
            assert height is not None, "a block without missing ancestors is kept"
            return Ground(certificate.block, height, _newest([*found, certificate]))
        nullification = tally.certificate(NULLIFY, before)
        if nullification is None:
            return before
        found.append(nullification)
        before = View(before - 1)
    tip = [] if branch.certificate is None else [branch.certificate]
    return Ground(branch.tip.digest, branch.tip.height, _newest(found + tip))


def find_lack(branch: Branch, tally: Tally, block: Block) -> Lack:
    """What we lack to know that ``block`` stands on good ground.

    Raises ``BrokenPromise`` if nothing could ever show it.
    """
    header = block.header
    is_tip = header.parent == branch.tip.digest
    view, height = branch.view_of(header.parent), branch.height_of(header.parent)
    if view is None or height is None:
        return Lack(header.parent, ())
    notarization = tally.certificate(NOTARIZE, view)
    if not is_tip and notarization is not None and notarization.block != header.parent:
        raise BrokenPromise("its parent lost the view to another block")
    if view >= header.view or header.height != height + 1 or (view <= branch.tip.view) != is_tip:
        raise BrokenPromise("it does not follow its parent")
    views = [] if is_tip or notarization is not None else [view]
    skipped = (View(v) for v in range(view + 1, header.view))
    views += [v for v in skipped if tally.certificate(NULLIFY, v) is None]
    return Lack(branch.missing_ancestor(header.parent), tuple(views[:REQUEST_MAX]))


def find_answers(branch: Branch, tally: Tally, request: Request, view: View) -> list[Statement]:
    """What helps a validator that asks, when we stand in ``view``.

    Raises ``BrokenPromise`` if it asks for more than anybody needs.
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
        held = (tally.certificate(kind, lacking) for kind in (NOTARIZE, NULLIFY))
        answers += [Proof(certificate) for certificate in held if certificate is not None]
    return answers


def _newest(certificates: list[Certificate]) -> tuple[Certificate, ...]:
    """Newest first in, oldest first out, within bounds: who lacks older ones asks."""
    return tuple(certificates[:JUSTIFICATION_MAX][::-1])
