"""Tell which runs are checked within a tolerance, and how far from its solver a replay may end there.

Core: pure functions of a run.

In a run without exact numerics two honest machines differ in the last bits. Where they end closer to each other
than to the smallest lie, a bound lies between. Everybody must draw the same line: where honest nodes check
nothing, nobody else may reject anything.

The bounds are measured by ``benchmarks/tolerance.py``. Source: docs/spec/verification.md section 3.
"""

from functools import lru_cache

from swarm.config.bounds import num_parameters
from swarm.config.spec import MUON, RunSpec

ADAMW_BOUND = 5e-4
COLD_BOUND = 5e-3
"""AdamW's first step moves a weight by the whole rate whichever way its gradient points, even if that is all
rounding. Lies in the first window are larger in the same proportion."""
MUON_BOUND = 1e-3
"""Muon's matrices are made orthogonal by five steps of products, which carry the last bits further."""
STEPS_MAX = 20
"""Steps of a window for which the bounds were measured: drift grows with the steps, and so does the way."""
CONTINUOUS_CODECS = ("int8", "bf16")
"""Encodings of fragments in which a seat's own payload moves nothing of its own state. In the others a value
on the edge of a level goes to the one side here and to the other there, a whole level apart."""
LOG_BYTES_MAX = 256 << 20
"""Longest log of a window (training/record/window.py)."""
SPOT_ITEMS = 1024
"""Runs of elements that a check looks at, where checks look at elements: the same at every node."""
STATE_BYTES = 20
"""Bytes of a parameter in a state: weights, two moments, slow weights and momentum in float32."""
VALUE_BYTES = 2
"""Bytes of a value that travels, in its longest encoding, bfloat16."""
SPARE_BYTES = 1 << 20
"""Bytes of a log beside its states and payloads: its header has some hundreds for each message."""


@lru_cache(maxsize=64)
def bound_of(spec: RunSpec) -> float | None:
    """Return the greatest distance that is accepted in a run; None if its windows are not checked so.

    That is a run with exact numerics, whose bits are compared; one in which honest machines end as far apart
    as the smallest lie (products in bfloat16, fragments in four bits or fewer), or for whose long windows
    nothing was measured; and one whose logs, with a state at both ends, are longer than a log may be.
    """
    is_measured = (
        spec.numerics == "native"
        and spec.outer.codec in CONTINUOUS_CODECS
        and spec.checks.window_steps <= STEPS_MAX
    )
    if not is_measured or log_bytes(spec) > LOG_BYTES_MAX:
        return None
    return MUON_BOUND if spec.optimizer.name == MUON else ADAMW_BOUND


def bound_at(spec: RunSpec, step: int) -> float:
    """Return the bound of a window of a run that is checked so.

    ``step`` is the number of steps that the moments have seen before the window.
    """
    bound = bound_of(spec)
    assert bound is not None, "the caller asks for a run that is checked so"
    return COLD_BOUND if bound == ADAMW_BOUND and not step else bound


def is_checked(spec: RunSpec) -> bool:
    """Return True if windows of a run can be replayed by others: bit by bit, or within a tolerance."""
    return spec.is_exact or bound_of(spec) is not None


def needs_spots(spec: RunSpec) -> bool:
    """Return True if a run with exact numerics has logs that are longer than a checker takes."""
    return spec.is_exact and log_bytes(spec) > LOG_BYTES_MAX


def log_bytes(spec: RunSpec) -> int:
    """Return the most bytes of the log of a window, with the states that it has, if every micro-batch counts.

    An adapter counts as the whole model.
    """
    model, stages = spec.model, spec.num_stages
    layers, ends = -(-model.num_layers // stages), 2 if stages == 1 else 1
    numel = num_parameters(model, 0, layers) + (ends * model.vocab_size + 1) * model.hidden_size
    if model.bottleneck_rank:
        numel += (2 * model.bottleneck_rank + model.vocab_size) * model.hidden_size
    sides = min(stages - 1, 2)
    messages = spec.checks.window_steps * spec.microbatches_per_step * sides
    values = messages * spec.microbatch_size * model.seq_len * model.hidden_size
    traded = 2 * max(spec.outer.trades_per_round, 1) * numel
    states = 1 if spec.is_exact else 2
    return states * STATE_BYTES * numel + VALUE_BYTES * (values + traded) + SPARE_BYTES
