"""Who gets one of the few places for windows that we have promised to replay.

Core: pure functions.

A solver that serves nothing holds its place until the deadline, and that costs it no more than the pay of its
segment. So nobody has two places, and one place is never given to who is silent rather often: a mute peer, or
many, cannot keep a verifier from the work of the others.
"""

from collections.abc import Callable, Sequence

from swarm.ledger.records import Contribution, SegmentRecord

SILENT_SHARE = 8
"""A solver is silent rather often with one silent segment for so many verified ones."""


def is_often_silent(done: Contribution) -> bool:
    """Whether a solver has served nothing too often for what stood of its segments in this run."""
    return done.silent * SILENT_SHARE > done.verified


def has_place(
    record: SegmentRecord,
    taken: Sequence[SegmentRecord],
    places: int,
    is_silent: Callable[[SegmentRecord], bool],
) -> bool:
    """Whether there is a place for a window of ``record`` besides those that are ``taken``."""
    if len(taken) >= places or any(other.peer == record.peer for other in taken):
        return False
    num_silent = sum(map(is_silent, taken))
    return not is_silent(record) or num_silent < max(places - 1, 1)
