"""Say whose clock is wrong, from the hellos of connected peers.

Core: a pure function. Nothing of the protocol depends on clocks that agree; tickets, logs and TLS do.
"""

from collections.abc import Mapping
from statistics import median_low

SKEW_MAX_S = 60
"""Seconds by which clocks may differ without a word: hellos travel, and nothing here needs them closer."""
REMEDY = "timedatectl set-ntp true"


def clock_warning(skews_s: Mapping[str, int]) -> str:
    """Return a sentence about a clock that is off; empty if there is none, or nobody to compare with.

    Args:
        skews_s: Seconds by which the clock of each connected peer, by name, is ahead of ours.

    Where most of the others agree, this machine is told that its clock is wrong; where there is one other, that
    one of the two is. Who is off among others is told by them.
    """
    if not skews_s:
        return ""
    middle = median_low(sorted(skews_s.values()))
    if abs(middle) <= SKEW_MAX_S:
        return ""
    agree = [name for name, skew in skews_s.items() if abs(skew - middle) <= SKEW_MAX_S]
    if len(skews_s) == 1:
        return (
            f"the clock of {agree[0]} is {lasting(abs(middle))} {'ahead of' if middle > 0 else 'behind'} this"
            f" machine's: one of the two is wrong; on the machine that is: {REMEDY}"
        )
    if 2 * len(agree) <= len(skews_s):
        return ""
    where = "behind" if middle > 0 else "ahead of"
    return (
        f"the clock of this machine is {lasting(abs(middle))} {where} that of {len(agree)} of"
        f" {len(skews_s)} peers; try: {REMEDY}"
    )


def lasting(seconds: int) -> str:
    """Return a time in words: ``3 hours``."""
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} seconds"
