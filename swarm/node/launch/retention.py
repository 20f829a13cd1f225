"""Compute the disk space to keep a run's windows until they cannot be asked for any more.

Core: arithmetic on the spec; raises ``BadConfig`` where the disk cannot hold it.
"""

from dataclasses import dataclass

from swarm.config.spec import RunSpec
from swarm.errors import BadConfig
from swarm.ledger.transition.spec_check import rounds_kept
from swarm.training.averaging.payload import residual_numel, traded_numel
from swarm.training.messages import activation_bytes
from swarm.training.model.stages import plan_stages
from swarm.training.record.window import WINDOW_BYTES_MAX

STATE_TENSORS = 5
"""Tensors of the state that a window begins with: weights, two moments, slow weights, momentum."""
FLOAT_BYTES = 4
FRAGMENT_BYTES = 2
"""Bytes of one value of a fragment in its longest encoding, bfloat16."""
CHECKED_PER_ROUND = 4
"""Windows of others that a node fetches per round, and keeps as long: twice the usual draw, and disputes."""
MB, GB = 10**6, 10**9


@dataclass(frozen=True, slots=True)
class Retention:
    """Upper bounds of the windows that one node keeps of its own segments."""

    windows: int
    window_bytes: int
    """Bytes of the largest window."""
    rounds: int
    seats: int
    num_bytes: int
    """Bytes of all windows."""

    @property
    def text(self) -> str:
        """Summary in one sentence."""
        per = f" for each of {self.seats} seats" if self.seats > 1 else ""
        return (
            f"keeps {self.windows} windows of {self.window_bytes / MB:.1f} MB for {self.rounds} rounds{per}:"
            f" {_size(self.num_bytes)} at most"
        )


def log_bytes(kept: Retention) -> int:
    """Return the bytes of a node's own windows and of those of others that it checks."""
    return kept.num_bytes + CHECKED_PER_ROUND * kept.rounds * kept.window_bytes


def keeps_windows(spec: RunSpec) -> bool:
    """Return True if windows of this run can be replayed by others, so that they have to be kept."""
    return spec.is_exact


def retention_of(spec: RunSpec, *, is_owner: bool) -> Retention:
    """Return the windows that a solver of this run keeps: of one seat, or for the launcher of one per stage."""
    sizes = [window_bytes(spec, stage) for stage in range(spec.num_stages)]
    rounds = rounds_kept(spec)
    windows = windows_per_round(spec) * rounds
    held = sum(sizes) if is_owner else max(sizes)
    seats = spec.num_stages if is_owner else 1
    return Retention(windows, max(sizes), rounds, seats, windows * held)


def windows_per_round(spec: RunSpec) -> int:
    """Return the windows of a segment that takes every step it may."""
    return -(-spec.inner_steps_max // spec.checks.window_steps)


def window_bytes(spec: RunSpec, stage: int) -> int:
    """Return the approximate bytes of an encoded window: state, signed activations, merged fragments."""
    numel = plan_stages(spec.model, spec.num_stages)[stage].num_parameters
    state = FLOAT_BYTES * (STATE_TENSORS * numel + residual_numel(spec, numel))
    steps = min(spec.checks.window_steps, spec.inner_steps_max)
    fragments = -(-traded_numel(spec, numel) * FRAGMENT_BYTES // windows_per_round(spec))
    return state + steps * _step_bytes(spec, stage) + fragments


def check_window(spec: RunSpec) -> None:
    """Raise ``BadConfig``, with the bound and the nearest key, if a window is longer than checkers accept."""
    if not keeps_windows(spec):
        return
    sizes = [window_bytes(spec, stage) for stage in range(spec.num_stages)]
    largest, agreeing = max(sizes), max(_agreeing_bytes(spec, s) for s in range(spec.num_stages))
    if agreeing > max(largest, WINDOW_BYTES_MAX):
        raise BadConfig(
            f"a window of run {spec.name} in which replicas agree, a state and a shard in float32, takes"
            f" {agreeing / MB:.0f} MB, and nobody checks more than {WINDOW_BYTES_MAX / MB:.0f}",
            hint="more [training] num_stages, a smaller [model], or numerics = native in the run file",
        )
    if largest <= WINDOW_BYTES_MAX:
        return
    stage = sizes.index(largest)
    steps = min(spec.checks.window_steps, spec.inner_steps_max)
    spare = WINDOW_BYTES_MAX - (largest - steps * _step_bytes(spec, stage))
    fitting = spare // max(_step_bytes(spec, stage), 1)
    hint = "more [training] num_stages, a smaller [model], or numerics = native in the run file"
    raise BadConfig(
        f"a window of run {spec.name}, the state of stage {stage} and {steps} steps, takes"
        f" {largest / MB:.0f} MB, and nobody checks more than {WINDOW_BYTES_MAX / MB:.0f}",
        hint=f"[checks] window_steps = {fitting} in the run file" if fitting > 0 else hint,
    )


def check_retention(
    spec: RunSpec, kept: Retention, *, quota_mb: int, free_bytes: int, held_bytes: int
) -> None:
    """Raise ``BadConfig`` unless quota and disk hold the windows of this run beside its text.

    ``free_bytes`` are free on the disk, ``held_bytes`` are in the folder of blobs already.
    """
    check_window(spec)
    needed = log_bytes(kept) + spec.data.train_bytes + spec.data.heldout_bytes
    needed_mb = (needed >> 20) + 1
    who = (
        f"who trains in run {spec.name} {kept.text}; with the text and what it checks of others that is"
        f" {needed_mb} MiB"
    )
    if needed > quota_mb << 20:
        raise BadConfig(
            f"{who}, and disk_quota_mb is {quota_mb}",
            hint=f"disk_quota_mb = {needed_mb} in node.toml, or solve = false to follow without training",
        )
    if needed > free_bytes + held_bytes:
        raise BadConfig(
            f"{who}, and {(free_bytes + held_bytes) >> 20} MiB are free on this disk",
            hint="df -h; or solve = false in node.toml to follow without training",
        )


def _agreeing_bytes(spec: RunSpec, stage: int) -> int:
    """Return the bytes of a final averaging window: the state, and the partner's shard in float32."""
    numel = plan_stages(spec.model, spec.num_stages)[stage].num_parameters
    return FLOAT_BYTES * ((STATE_TENSORS + 1) * numel + residual_numel(spec, numel))


def _step_bytes(spec: RunSpec, stage: int) -> int:
    """Return the bytes signed for one step: activations and gradients, at every side that has a neighbour."""
    sides = (stage > 0) + (stage < spec.num_stages - 1)
    return spec.microbatches_per_step * sides * activation_bytes(spec)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GB:.1f} GB" if num_bytes >= GB else f"{num_bytes / MB:.0f} MB"
