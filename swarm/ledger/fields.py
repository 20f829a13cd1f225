"""Bounds of the fields that statements share.

Core: numbers, and checks that raise ``BadEncoding``.
"""

from swarm.errors import BadEncoding

AMOUNT_MAX = 1 << 62
"""Sums of two amounts still fit the 64-bit integers of the encoding."""

HEIGHT_MAX = 1 << 48
SHORT_MAX = (1 << 16) - 1
"""Runs, rounds, seats, steps and incarnations take three bytes: the commit stays within 300."""

STAGE_MAX = 255
TOKENS_MAX = (1 << 32) - 1
PHI_BYTES_MAX = 1 << 40
STATE_COMPONENTS = 10
"""Components of a shard's state, in the order of docs/spec/protocol.md section 5."""

PHI_COMPONENT = 4
TOKENS_COMPONENT = 8
COMPONENT_PROOF_DEPTH = (STATE_COMPONENTS - 1).bit_length()
TOKENS_TOTAL_MAX = (1 << 53) - 1
"""A seat's tokens since it began: exact in every language's numbers, and never reached."""


def check_seat(run: int, round_: int, stage: int, seat: int) -> None:
    """Raise ``BadEncoding`` unless these could name a seat in a round."""
    within("run", run, 1, SHORT_MAX)
    within("round", round_, 0, SHORT_MAX)
    within("stage", stage, 0, STAGE_MAX)
    within("seat", seat, 0, SHORT_MAX)


def within(what: str, value: int, low: int, high: int) -> None:
    """Raise ``BadEncoding`` unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise BadEncoding(f"{what} {value} is not between {low} and {high}")
