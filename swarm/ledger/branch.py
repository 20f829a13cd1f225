"""The finalised tip, and the blocks above it that may become final.

Core: a small table with a walk down the parents; it judges no block.
"""

from dataclasses import dataclass

from swarm.errors import VerificationFailed
from swarm.ledger.blocks import Block, Certificate, block_digest
from swarm.types import Digest, Height, View

RECENT_MAX = 16
"""Finalised blocks kept to answer validators a few blocks behind; the others sync in bulk."""

WANTED_MAX = 64
"""Blocks asked for at one time: as many as the views a vote may be ahead."""


@dataclass(frozen=True, slots=True)
class FinalPoint:
    """The newest finalised block; height 0 and view 0 with the chain id is the genesis."""

    height: Height
    view: View
    digest: Digest


@dataclass(slots=True)
class Want:
    """A block somebody has and we lack."""

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
        """Keep a block; it is not wanted any more."""
        name = block_digest(block.header)
        if block.header.height > self.tip.height or name == self.tip.digest:
            self._blocks[name] = block
        self.wanted.pop(name, None)
        return name

    def get(self, name: Digest) -> Block | None:
        """The block, if kept."""
        return self._blocks.get(name)

    def view_of(self, name: Digest) -> View | None:
        """The view of a block that is kept, or of the tip."""
        if name == self.tip.digest:
            return self.tip.view
        block = self._blocks.get(name)
        return None if block is None else block.header.view

    def height_of(self, name: Digest) -> Height | None:
        """The height of a block that is kept, or of the tip."""
        if name == self.tip.digest:
            return self.tip.height
        block = self._blocks.get(name)
        return None if block is None else block.header.height

    def want(self, name: Digest, holder: int, now: float) -> None:
        """Ask for a block, first from ``holder``; no effect when it is kept or already wanted."""
        if name not in self._blocks and len(self.wanted) < WANTED_MAX:
            self.wanted.setdefault(name, Want(holder, now))

    def due(self, others: list[int], now: float, *, retry_s: float) -> list[tuple[Digest, int]]:
        """Which block to ask of whom now: the likely holder first, then one after the other."""
        asks = list[tuple[Digest, int]]()
        for name, want in sorted(self.wanted.items()):
            if now >= want.ask_at:
                later = [i for i in others if i >= want.ask_next] or others
                asks += [(name, i) for i in later[:1]]
                want.ask_next, want.ask_at = (later or [0])[0] + 1, now + retry_s
        return asks

    def missing_ancestor(self, name: Digest) -> Digest | None:
        """The first block that is lacking on the way from ``name`` down to the tip, or None.

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
        """The blocks above the tip up to ``name``, oldest first; none may be missing."""
        path = list[Block]()
        while name != self.tip.digest:
            path.append(self._blocks[name])
            name = path[-1].header.parent
        return path[::-1]

    def advance(self, certificate: Certificate) -> tuple[Block, ...]:
        """Move the tip to the certified block; return the newly final blocks, oldest first."""
        path = self.path(certificate.block)
        names = {block_digest(block.header) for block in path}
        top = path[-1].header
        self.tip = FinalPoint(top.height, top.view, certificate.block)
        self.certificate = certificate
        self._prune(names)
        return tuple(path)

    def adopt(self, block: Block, certificate: Certificate) -> None:
        """Move the tip to a block whose ancestors are kept elsewhere."""
        self.tip = FinalPoint(block.header.height, block.header.view, certificate.block)
        self.certificate = certificate
        self._blocks[certificate.block] = block
        self._prune({certificate.block})

    def _prune(self, final: set[Digest]) -> None:
        """Drop rivals of final blocks, and final blocks that are old."""
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
