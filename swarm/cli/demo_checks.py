"""What the checks of the demo came to, out of what ``swarm ledger verify --json`` says.

Core: a row in, counts out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from swarm.cli.picture import Picture, items, part, parts, whole

VERDICT_ROUNDS = 6
"""From a commit to its verdict, with time to spare: dice, blind answers, reveals, votes take one to three."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Counts; None where there is nothing to count, or the ledger could not be verified."""

    commits_old: int | None = None
    """Commits older than two rounds."""
    commits_verified: int | None = None
    """Of those: another peer has replayed a window of it and found it true."""
    lies_planted: int | None = None
    """Segments of the liar: it leaves out every second step, so each is false."""
    lies_caught: int | None = None
    """Of those: proven false."""
    lies_late: int | None = None
    """Of those: so young that they wait for their verdict."""
    honest_slashed: int | None = None
    """Peers that lost stake or were found guilty, the liar apart."""


def count_checks(row: Picture | None, honest: Mapping[str, int], liar: str | None) -> Checked:
    """``honest`` are the stakes by PeerID that should still be there."""
    runs = parts(row, "runs") if row else []
    if not row or not runs:
        return Checked()
    run, stakes = runs[-1], part(row, "stakes")
    works = part(run, "peers")
    slashed = sum(
        whole(stakes, peer) < stake or whole(part(works, peer), "failed") > 0
        for peer, stake in honest.items()
    )
    if liar is None:
        planted = caught = late = None
    else:
        work = part(works, liar)
        planted, caught = whole(work, "segments"), whole(work, "failed")
        patience = VERDICT_ROUNDS * whole(run, "round_blocks")
        ages = items(work, "waiting_blocks")
        late = sum(isinstance(age, int) and age < patience for age in ages)
    return Checked(
        commits_old=whole(run, "old_segments"),
        commits_verified=whole(run, "old_verified"),
        lies_planted=planted,
        lies_caught=caught,
        lies_late=late,
        honest_slashed=slashed,
    )
