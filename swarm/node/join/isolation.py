"""Tell that a node is isolated from its network, for which cause, and what mends it.

Core: a machine. Its links and ``now`` in, a finding out.

    CONNECTED --nobody for 5 s, or the ledger stands still and all links lead to one network--> ISOLATED
    ISOLATED --connected, and the ledger rises--> CONNECTED
"""

from collections.abc import Sequence
from dataclasses import dataclass

ALONE_S = 5.0
"""Seconds without any peer until a node is isolated: a peer that starts again is back within that time."""
HEMMED_S = 30.0
"""Seconds for which the ledger stands still until links into one network are suspicious: a slow leader, and the
views after it, take less."""
BLOCKS_MISSED = 6
"""Blocks that failed to come until then, where blocks are far apart."""
AGAIN_S = 600.0
"""Seconds after which a finding that lasts is reported again."""

JOIN = "swarm join TICKET"
DOCTOR = "swarm doctor"
NO_ROUTE = ("(no route)", "(name not found)")
"""Outcomes of a dial that this machine is to blame for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Links of a node at one time."""

    networks: Sequence[str]
    """Network of each connected peer; "" for one that is not public."""
    num_known: int
    """Other peers whose addresses are known."""
    needs_others: bool
    """False for the one validator of a network, which makes blocks by itself."""
    has_validator: bool
    """True if another validator is connected."""
    ledger_age_s: float
    """Seconds since the ledger last rose."""
    pace_s: float = 0.0
    """Seconds between two blocks of the network."""
    failure: str = ""
    """Reason of the last dial that failed."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """Finding that a node is isolated."""

    cause: str
    """Clause that follows "this node"."""
    command: str
    since: float
    """Time at which its last good link ended; ``now`` of this process."""
    is_alone: bool
    """True if nobody is connected; else those who are may keep the others from it."""


class IsolationWatch:
    """Remembers since when a node has nobody, and what was said of it."""

    def __init__(self, now: float) -> None:
        self.found: Isolation | None = None
        self._good_at = now
        self._told_at = float("-inf")

    def judge(self, links: Links, now: float) -> str:
        """Update ``found``; return a sentence to report, or "" for none."""
        before, cause = self.found, self._cause(links)
        if not cause:
            self.found, self._good_at = None, now
            if before is None:
                return ""
            self._told_at = float("-inf")
            return (
                f"connected again after {now - before.since:.0f} s: {_peers(len(links.networks))}"
            )
        is_alone = not links.networks
        if is_alone and now - self._good_at < ALONE_S:
            return ""
        has_no_way_out = any(outcome in links.failure for outcome in NO_ROUTE)
        command = DOCTOR if is_alone and has_no_way_out else JOIN
        last = f" (the last: {links.failure})" if is_alone and links.failure else ""
        self.found = Isolation(cause + last, command, self._good_at, is_alone)
        is_news = before is None or before.is_alone != is_alone
        if not is_news and now < self._told_at + AGAIN_S:
            return ""
        self._told_at = now
        return f"this node {cause}; try: {command}"

    def _cause(self, links: Links) -> str:
        if not links.needs_others:
            return ""
        if not links.networks:
            if not links.num_known:
                return "is isolated: no peer is connected, and it knows none to call"
            known = _peers(links.num_known)
            return f"is isolated: none of the {known} that it knows answers; it goes on trying"
        if links.ledger_age_s < max(HEMMED_S, BLOCKS_MISSED * links.pace_s) or links.has_validator:
            return ""
        if len(set(links.networks)) > 1 or "" in links.networks:
            return ""
        return (
            "may be isolated: the ledger stands still, no validator is connected, and all"
            f" {len(links.networks)} of its links lead to one network; it dials others"
        )


def _peers(count: int) -> str:
    return f"{count} peer{'s' * (count != 1)}"
