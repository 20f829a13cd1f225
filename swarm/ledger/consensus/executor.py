"""Build and validate blocks for the consensus machine of one validator, over the mempool of its node.

Core: a table of states. The state after every block above the final one is kept, so each block is applied once.

A valid block may still be an unfair one: a leader that omits a check or a report for ten blocks helps a cheat.
Each validator judges that by its own mempool, and votes against such a block; no other node refuses it.
"""

from collections.abc import Callable

from swarm.errors import BrokenPromise, InvalidStatement, PeerFault
from swarm.ledger.blocks import Block, block_digest
from swarm.ledger.chain import Head, build_in_parts, find_omitted_in_parts, validate_in_parts
from swarm.ledger.mempool import Mempool
from swarm.ledger.state.state import State
from swarm.primitives.crypto import SecretKey
from swarm.primitives.parts import Parts, at_once
from swarm.types import NO_DIGEST, Digest, Height, PeerId, View

REFUSED_MAX = 64
"""Invalid blocks remembered: as many as the views a proposal may be ahead."""


class StateExecutor:
    """Block executor of one validator, over the mempool of its node.

    ``miss`` is called with the leader of a block and a transaction that it omits.
    """

    def __init__(
        self,
        head: Head,
        pool: Mempool,
        secret: SecretKey,
        miss: Callable[[PeerId, bytes], None] = lambda _, __: None,
    ) -> None:
        self._miss = miss
        self._states = {head.digest: head.state}
        self._refused: list[Digest] = []
        self._looked_at: tuple[Digest, bytes | None] = (NO_DIGEST, None)
        """The block that was looked at last, and what it omits."""
        self._built: tuple[tuple[Digest, View], Block] | None = None
        """The block that was built last, and its parent and view."""
        self._pool, self._secret = pool, secret

    def build(self, parent: Digest, height: Height, view: View) -> Block:
        """Build this node's block on ``parent``, which was validated before."""
        if self._built is None or self._built[0] != (parent, view):
            at_once(self.build_in_parts(parent, height, view))
        assert self._built is not None, "it was built just now"
        return self._built[1]

    def build_in_parts(self, parent: Digest, height: Height, view: View) -> Parts[None]:
        """Prepare the block that ``build`` returns next, and let the caller do something else in between."""
        state = self._states[parent]
        assert state.height + 1 == height, "the parent is one below"
        head = Head(parent, state)
        block, after = yield from build_in_parts(head, self._pool, self._secret, view)
        self._states[block_digest(block.header)] = after
        self._built = (parent, view), block

    def validate(self, block: Block) -> None:
        """Raise ``InvalidStatement`` or ``PeerFault`` unless ``block`` is valid on its parent."""
        at_once(self.validate_in_parts(block))

    def validate_in_parts(self, block: Block) -> Parts[None]:
        """Validate a block as ``validate`` does, and let the caller do something else in between."""
        name = block_digest(block.header)
        if name in self._states:
            return
        state = self._states.get(block.header.parent)
        if name in self._refused or state is None:
            raise BrokenPromise("a block that was refused, or stands on one")
        try:
            self._states[name] = yield from validate_in_parts(state, block, known=self._pool.known)
        except (InvalidStatement, PeerFault):
            self._refused = [*self._refused, name][-REFUSED_MAX:]
            raise

    def look_at_in_parts(self, block: Block) -> Parts[None]:
        """Validate a block, and prepare what ``is_complete`` says of it, in parts."""
        yield from self.validate_in_parts(block)
        omitted = yield from self._omitted_in_parts(block)
        self._looked_at = block_digest(block.header), omitted

    def is_complete(self, block: Block) -> bool:
        """Return False if a valid block omits without a reason what this node has held for some blocks."""
        if self._built is not None and self._built[1] is block:
            return True  # it has all that there was room for
        name, missed = self._looked_at
        if name != block_digest(block.header):
            missed = at_once(self._omitted_in_parts(block))
        if missed is None:
            return True
        self._miss(block.header.leader, missed)
        return False

    def _omitted_in_parts(self, block: Block) -> Parts[bytes | None]:
        state = self._states.get(block.header.parent)
        waiting = () if state is None else self._pool.overdue(state.height)
        if state is None or not waiting:
            return None  # it may be final meanwhile
        known = self._pool.known
        return (yield from find_omitted_in_parts(state, block, waiting, known=known))

    def state_after(self, name: Digest) -> State | None:
        """Return the state after a block that was built or validated here, or None."""
        return self._states.get(name)

    def settle(self, head: Head) -> None:
        """Forget the states at or below the new final block, except the state after that block."""
        height = head.state.height
        self._states = {name: s for name, s in self._states.items() if s.height > height}
        self._states[head.digest] = head.state
