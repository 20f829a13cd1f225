"""Check what a solver shows of the states around an event: their ten parts, and the counters among them.

Core: pure functions.

What a state is the root of is shown part by part. Parts that a program computes are its to decide; of all
others it is known what an event makes of them.
"""

from collections.abc import Collection, Mapping, Sequence

from swarm.errors import BadEncoding, BrokenPromise
from swarm.primitives.merkle import merkle_root
from swarm.primitives.state_parts import COMPONENTS, tokens_component
from swarm.training.messages import COUNT_MAX


def check_parts(parts: Sequence[bytes], root: bytes) -> None:
    """Raise ``PeerFault`` unless these are the parts of the state of a root."""
    if len(parts) != COMPONENTS or any(len(part) != 32 for part in parts):
        raise BadEncoding(f"a state has {COMPONENTS} parts")
    if merkle_root(parts) != root:
        raise BrokenPromise("parts of another state")


def check_tokens(tokens: Sequence[int], part: bytes) -> None:
    """Raise ``PeerFault`` unless a part is of these tokens: the total, and those at each fragment's merge."""
    if not tokens or not all(0 <= count <= COUNT_MAX for count in tokens):
        raise BadEncoding("a count that is negative or absurd")
    if tokens_component(tokens[0], tokens[1:]) != part:
        raise BrokenPromise("other tokens than those of the state")


def check_changed(
    before: Sequence[bytes],
    after: Sequence[bytes],
    changed: Mapping[int, bytes],
    free: Collection[int] = (),
) -> None:
    """Raise ``BrokenPromise`` unless an event leaves every part as it was, but for those that it changes.

    ``changed``: what it makes of them; ``free``: those that its programs decide.
    """
    for part in range(COMPONENTS):
        if part not in free and after[part] != changed.get(part, before[part]):
            raise BrokenPromise(f"part {part} of a state, which such an event does not change so")
