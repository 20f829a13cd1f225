"""The ledger's own defence against hostile run specs.

Core: the bounds that everybody checks, and those that only the ledger's fields need.
"""

from swarm.bounds import check_spec
from swarm.errors import BadConfig, InvalidStatement, Reason
from swarm.ledger.check_statements import LEAVES_MAX, REVEAL_BYTES_MAX
from swarm.ledger.fields import SHORT_MAX, TOKENS_MAX
from swarm.ledger.sampling import num_windows
from swarm.spec import RunSpec

NAME_LENGTH_MAX = 64
"""Letters of a name shown to people, whatever a stranger wrote."""
SEATS_MAX = 1024
"""Stages times replicas: a run's entry stays under half a megabyte with four rosters."""

HASH_BYTES = 34
"""A hash as it is encoded."""

OPENING_BYTES = 80
"""An opening whose step dropped nothing."""

REVEAL_SPARE_BYTES = 4 << 10
"""For the envelope, and for micro-batches that were dropped."""

ROUNDS_MAX = SHORT_MAX - 16
"""Leaves room for the boundaries after the last round in a 16-bit field."""


def check_run_spec(spec: RunSpec) -> None:
    """Raise ``InvalidStatement`` naming the first field that is out of bounds."""
    try:
        check_spec(spec)
    except BadConfig as error:
        raise InvalidStatement(Reason.BAD_FIELD, str(error)) from None
    faults = (
        (
            spec.num_stages * spec.replicas_max > SEATS_MAX,
            f"{spec.num_stages} stages of {spec.replicas_max} are more than {SEATS_MAX} seats",
        ),
        (spec.rounds > ROUNDS_MAX, f"rounds {spec.rounds} is above {ROUNDS_MAX}"),
        (
            segment_tokens_max(spec, spec.replicas_max) > TOKENS_MAX,
            "a segment could hold more tokens than its commit can count",
        ),
        (
            leaves_max(spec) > LEAVES_MAX,
            f"a segment of {leaves_max(spec)} steps and merges cannot show more than {LEAVES_MAX}",
        ),
        (
            reveal_bytes_max(spec) > REVEAL_BYTES_MAX,
            f"a segment would need {reveal_bytes_max(spec)} bytes to show its windows; use longer ones",
        ),
    )
    for is_wrong, fault in faults:
        if is_wrong:
            raise InvalidStatement(Reason.BAD_FIELD, fault)


def leaves_max(spec: RunSpec) -> int:
    """The most leaves of one segment: its steps, and a merge per fragment."""
    return spec.inner_steps_max + spec.outer.fragments


def reveal_bytes_max(spec: RunSpec) -> int:
    """Bytes with which a segment shows its leaves, and where its windows begin."""
    windows = num_windows(spec.inner_steps_max, spec.checks.window_steps)
    return REVEAL_SPARE_BYTES + HASH_BYTES * leaves_max(spec) + OPENING_BYTES * windows


def segment_tokens_max(spec: RunSpec, num_origins: int) -> int:
    """The most tokens one seat can have seen in a segment that ``num_origins`` seats feed."""
    step = spec.microbatches_per_step * spec.microbatch_size * spec.model.seq_len
    return spec.inner_steps_max * step * max(num_origins, 1)
