"""Hash what a solver hides until it is checked, and what its verifiers answer blind.

Core: pure functions. The verify room makes these hashes from transcripts, the ledger judges them.

    step leaf     = H(step, dropped | state root or none | root of its micro-batch leaves)
    trace root    = M(step and merge leaves, in the order in which they happened)
    trace commit  = H(trace root | salt)
    window claim  = H(leaves of the window | state root at its end)
    verify commit = H(leaves of the window | state root at its end | salt | verifier)

H is BLAKE3 under a purpose, M a Merkle root over BLAKE3; M of nothing is ``NO_DIGEST``. The verifier's name is
in its commitment, so copying another's is worth nothing. Source: docs/spec/protocol.md section 6.
"""

from collections.abc import Sequence

from swarm.codec import encode
from swarm.crypto import fast_digest
from swarm.errors import UsageError
from swarm.merkle import merkle_root
from swarm.types import NO_DIGEST, Digest, PeerId

SALT_BYTES = 32
"""Of solvers and verifiers alike: nobody finds leaves from a commitment by trying."""


def step_leaf_digest(
    step: int, dropped: Sequence[tuple[int, int, int]], state_root: Digest, microbatches: Digest
) -> Digest:
    """One optimizer step: ``dropped`` is sorted, ``state_root`` is ``NO_DIGEST`` where none was taken."""
    return fast_digest("step-leaf", encode((step, tuple(dropped))), state_root, microbatches)


def leaves_root(leaves: Sequence[bytes]) -> Digest:
    """Root over hashes; ``NO_DIGEST`` if there are none."""
    return merkle_root(leaves) if leaves else NO_DIGEST


def trace_root(leaves: Sequence[bytes]) -> Digest:
    """Root of the chain of step and merge leaves."""
    return leaves_root(leaves)


def trace_commit(trace: Digest, salt: bytes) -> Digest:
    """What goes on the ledger before anybody may see the trace root."""
    return fast_digest("trace-commit", trace, _checked(salt))


def window_claim(leaves: Sequence[bytes], end_root: Digest) -> Digest:
    """What somebody says about a window, as one hash: equal for those who agree."""
    return fast_digest("window-claim", encode(tuple(leaves)), end_root)


def verify_commit(
    leaves: Sequence[bytes], end_root: Digest, salt: bytes, verifier: PeerId
) -> Digest:
    """What a verifier puts on the ledger before it can see the solver's leaves."""
    return fast_digest("verify-commit", encode(tuple(leaves)), end_root, _checked(salt), verifier)


def _checked(salt: bytes) -> bytes:
    if len(salt) != SALT_BYTES:
        raise UsageError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return salt
