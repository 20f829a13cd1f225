"""Compute what a run requires of the machines that train it: memory, disk, bytes on the wire, pace.

Core: arithmetic on the spec; raises ``BadConfig`` where a machine cannot hold its part.

Figures given as a minimum are counted: a run cannot take less. Approximate figures were measured, and are in
docs/spec/training.md section 10. The windows of a run stay on a solver's disk until they cannot be asked for
any more (``Retention``).
"""

from collections.abc import Collection
from dataclasses import dataclass

from swarm.config.spec import RunSpec
from swarm.config.tolerance import CONTINUOUS_CODECS, STEPS_MAX, bound_of, is_checked
from swarm.errors import BadConfig
from swarm.gossip.trade.payload import usual_wire_bytes
from swarm.ledger.transition.runs import checkpoints_kept, first_checkpoint_blocks, rounds_kept
from swarm.limits import Memory, gigabytes
from swarm.node.control.planner import guarded_stages
from swarm.placement import LARGE_BYTES_MIN
from swarm.training.averaging.payload import common_codec, residual_numel, traded_numel
from swarm.training.devices.select import is_recomputed, pass_bytes, passes_waiting
from swarm.training.messages import activation_bytes
from swarm.training.model.operators import NEWTON_SCHULZ_STEPS
from swarm.training.model.optimizer import muon_matrices, num_second_moments
from swarm.training.model.stages import StagePlan, plans_of
from swarm.training.record.checkpoint import FLOAT_BYTES
from swarm.training.record.window import STATES_EVERY, WINDOW_BYTES_MAX
from swarm.types import StageIndex

LEAST_BYTES = 20
"""Bytes of one parameter at least: weights and two moments in float32, and the sum of the gradients in 64 bits.
Muon has the updates of its matrices in the place of their second moments."""
BESIDE_BYTES = 12
"""Bytes of one parameter in the machine's own memory if a GPU computes: weights and moments while they are
hashed and saved."""
STEADY_BYTES = 21
"""Bytes of one parameter between two steps; what else it is made of lies on the disk, and is mapped."""
ABOUT_BYTES = 24
"""Bytes of one parameter at the peak, measured: with the gradient of the largest matrix, and the fragment that
is being merged."""
SPILL_BYTES = 44
"""Bytes of one parameter on the disk while a seat trains: slow weights, momentum and anchor, the slow weights
of the three segments that closed last, and of two rounds the fragments as they were and their payloads."""
RESIDUALS_KEPT = 5
"""Residuals in a run in int4 that keeps one: its own, and of two rounds those before and after a payload."""
NODE_BYTES = 600 << 20
"""Bytes of a node that holds no shard: Python, torch, the libraries."""
STATE_TENSORS = 5
"""Tensors of a shard's state, on the disk and at the start of a window: weights, two moments, slow weights,
momentum. Muon keeps no second moment of its matrices."""
FRAGMENT_BYTES = 2
"""Bytes of one value of a fragment in its longest encoding, bfloat16."""
SHOWN_BYTES = 64 << 20
"""Bytes that a round has of elements shown to checkers, and of those fetched to check others."""
CHECKED_PER_ROUND = 4
"""Windows of others that a node fetches per round, and keeps as long: twice the usual draw, and disputes."""
FLOPS_PER_PARAMETER = 6
"""Of one token: two forward, four backward."""
FROZEN_FLOPS = 4
"""The same of a weight below an adapter: its own gradient is not computed."""
POSTING_BLOCKS = 3
"""From the boundary to the checkpoint on the ledger: a block for the commit of the round that ended, one for
the checkpoint, one to be final."""
MIB = 1 << 20
MB, GB = 10**6, 10**9


@dataclass(frozen=True, slots=True)
class Sizing:
    """Size of a run, and its requirements for the peers that hold seats."""

    parameters: int
    stages: tuple[int, ...]
    """Trained parameters of each stage: with an adapter, those of the adapter."""
    frozen: tuple[int, ...]
    """Weights of each stage below the adapter, which are held and not trained; zeros without one."""
    tokens_per_step: int
    """Tokens of one optimizer step with every seat taken."""
    replica_tokens_per_step: int
    """Tokens of one optimizer step of one replica."""
    tokens: int
    """Tokens of all rounds, if no seat misses a step."""
    round_s: float
    run_s: float
    first_checkpoint_s: float
    """From the opening of the run until its first checkpoint is on the ledger, if blocks come in time."""
    replica_tokens_per_s: float
    """Tokens per second of a replica that takes every step of a round."""
    seat_flops_per_s: float
    """Floating-point operations per second at that pace, in the largest stage."""
    optimizer_cost: float
    """Products of Muon over those of forward and backward, by count, where they are the most; 0 with AdamW."""
    seat_memory_bytes: int
    """Approximate bytes of memory for a seat in the largest stage."""
    alone_memory_bytes: int
    """Approximate bytes of memory for the launcher, while it holds a seat in every stage."""
    microbatch_bytes_per_round: int
    """Bytes of activations and gradients that a seat sends if it takes every step, in the stage that sends the
    most."""
    cut_bytes_per_token: float
    """Bytes of one token over one cut between stages, in each direction."""
    trade_bytes_per_round: int
    """Bytes of fragments that it sends to partners, as zstandard usually leaves them."""
    checkpoint_bytes: int
    """Bytes of a checkpoint of the largest stage."""
    seat_blob_bytes: int
    """Bytes of text, checkpoints and windows that the holder of a seat keeps: they count for disk_quota_mb."""
    owner_blob_bytes: int
    """Bytes of the same for the launcher, which keeps every stage's."""
    shard_file_bytes: int
    """Bytes of the saved shard beside them, for its own next start."""
    spill_bytes: int
    """Bytes of the tensors that a seat of the largest stage has on the disk instead of in memory, while it
    trains."""

    @property
    def wire_bits_per_s(self) -> float:
        """Bits per second that a seat sends."""
        return 8 * (self.microbatch_bytes_per_round + self.trade_bytes_per_round) / self.round_s


def sizing_of(spec: RunSpec, block_interval_ms: int) -> Sizing:
    """Return the sizes of a run on a network with this block interval, in milliseconds."""
    numels, stages = _numels(spec), range(spec.num_stages)
    largest = max(numels)
    windows = spec.inner_steps_max * spec.microbatches_per_step * spec.microbatch_size
    round_s = spec.round_blocks * block_interval_ms / 1000
    pace = windows * spec.model.seq_len / round_s
    traded = traded_numel(spec, largest)
    frozen = tuple(_frozen(plan) for plan in _plans(spec))
    return Sizing(
        frozen=frozen,
        parameters=sum(numels),
        stages=numels,
        tokens_per_step=windows * spec.model.seq_len * spec.replicas_max // spec.inner_steps_max,
        replica_tokens_per_step=_step_tokens(spec),
        tokens=windows * spec.model.seq_len * spec.replicas_max * spec.rounds,
        round_s=round_s,
        run_s=round_s * spec.rounds,
        first_checkpoint_s=(first_checkpoint_blocks(spec) + POSTING_BLOCKS)
        * block_interval_ms
        / 1000,
        replica_tokens_per_s=pace,
        seat_flops_per_s=(FLOPS_PER_PARAMETER * largest + FROZEN_FLOPS * max(frozen)) * pace,
        optimizer_cost=max(_muon_cost(spec, plan) for plan in _plans(spec)),
        seat_memory_bytes=NODE_BYTES + max(_shard_bytes(spec, stage) for stage in stages),
        alone_memory_bytes=NODE_BYTES + sum(_shard_bytes(spec, stage) for stage in stages),
        microbatch_bytes_per_round=_sides(spec)
        * activation_bytes(spec)
        * windows
        // spec.microbatch_size,
        cut_bytes_per_token=activation_bytes(spec) / (spec.microbatch_size * spec.model.seq_len),
        trade_bytes_per_round=spec.outer.trades_per_round
        * usual_wire_bytes(common_codec(spec, 0), traded),
        checkpoint_bytes=FLOAT_BYTES * largest,
        seat_blob_bytes=_log_bytes(spec, is_owner=False)
        + max(blob_bytes(spec, followed(spec, StageIndex(stage))) for stage in stages),
        owner_blob_bytes=_log_bytes(spec, is_owner=True) + blob_bytes(spec, stages),
        shard_file_bytes=max(_state_bytes(spec, plan) for plan in _plans(spec)),
        spill_bytes=_spill_bytes(spec, largest),
    )


def followed(spec: RunSpec, stage: StageIndex) -> frozenset[int]:
    """Return the stages whose checkpoints the holder of a seat of ``stage`` keeps."""
    return frozenset({stage} | guarded_stages({stage}, spec.num_stages))


def blob_bytes(spec: RunSpec, stages: Collection[int]) -> int:
    """Return the bytes of the text, the listed checkpoints of ``stages``, and one more each on its way.

    With an adapter also those of the weights below it.
    """
    numels = _numels(spec)
    held = FLOAT_BYTES * sum(numels[stage] for stage in stages)
    text = spec.data.train_bytes + spec.data.heldout_bytes
    return text + (checkpoints_kept(spec) + 1) * held + _frozen_bytes(spec, stages)


def check_memory(
    spec: RunSpec, *, is_owner: bool, memory: Memory, devices: tuple[str, ...]
) -> None:
    """Raise ``BadConfig`` if this machine cannot hold what it would train: a seat, or one in every stage.

    Where the kernel ends a process that takes too much, the peak counts, and any seat may be the one that is
    given; elsewhere what no run can do without, since what is seldom touched can be swapped out.
    """
    plans = _plans(spec)
    if memory.is_hard and devices == ("cpu",):
        taken = [_shard_bytes(spec, stage) for stage in range(spec.num_stages)]
    else:
        taken = [_least_bytes(plan, devices) for plan in plans]
    weights = [plan.num_parameters + _frozen(plan) for plan in plans]
    one = taken.index(max(taken) if memory.is_hard else min(taken))
    needed = NODE_BYTES + (sum(taken) if is_owner else taken[one])
    if needed <= memory.num_bytes:
        return
    which = "largest" if memory.is_hard else "smallest"
    who = (
        "the launcher holds every stage until others come"
        if is_owner
        else f"the {which} stage is one seat"
    )
    numel = sum(weights) if is_owner else weights[one]
    each = max((needed - NODE_BYTES) // max(numel, 1), 1)
    fitting = max(memory.num_bytes - NODE_BYTES, 0) // each
    fits = f"{fitting / 1e6:,.0f}M parameters fit" if fitting >= 10**6 else "no model fits"
    follow = "solve = false in node.toml: serve and follow, and let others train"
    raise BadConfig(
        f"run {spec.name} needs at least {gigabytes(needed)} of memory here ({who}: {numel / 1e6:,.0f}M"
        f" parameters), and {memory.text}: {fits}",
        hint=f"{memory.remedy}; or {follow}" if memory.remedy else follow,
    )


def check_blobs(
    spec: RunSpec, *, is_owner: bool, quota_mb: int, free_bytes: int, held_bytes: int
) -> None:
    """Raise ``BadConfig`` unless quota and disk hold the text and the checkpoints of a seat in this run.

    ``free_bytes`` are free on the disk, ``held_bytes`` are in the folder of blobs already.
    """
    every = range(spec.num_stages)
    spills = [_spill_bytes(spec, numel) for numel in _numels(spec)]
    spill = sum(spills) if is_owner else min(spills)
    needed = (
        blob_bytes(spec, every)
        if is_owner
        else min(blob_bytes(spec, followed(spec, StageIndex(stage))) for stage in every)
    )
    needed_mb = needed // MIB + 1
    what = (
        f"a solver of run {spec.name} keeps its text and {checkpoints_kept(spec)} checkpoints of"
        f" {'every stage' if is_owner else 'its stage and the one behind it'}: {needed_mb} MiB,"
        f" and has {spill // MIB + 1} MiB of tensors on the disk while it trains"
    )
    _check_room(
        what,
        needed,
        spill=spill,
        fits_quota=needed_mb <= quota_mb,
        quota_mb=quota_mb,
        room_bytes=free_bytes + held_bytes,
    )


def _plans(spec: RunSpec) -> tuple[StagePlan, ...]:
    return plans_of(spec)


def _frozen(plan: StagePlan) -> int:
    """Return the number of weights below the adapter of a stage; 0 without one."""
    return 0 if plan.base is None else plan.base.num_parameters


def _frozen_bytes(spec: RunSpec, stages: Collection[int]) -> int:
    """Return the bytes of the blobs below the adapter that the holder of ``stages`` keeps.

    In a run that can be checked those of all stages: a verifier is drawn for any of them.
    """
    plans = _plans(spec)
    held = range(spec.num_stages) if keeps_windows(spec) else stages
    return FLOAT_BYTES * sum(_frozen(plans[stage]) for stage in held)


def _numels(spec: RunSpec) -> tuple[int, ...]:
    return tuple(plan.num_parameters for plan in _plans(spec))


def _least_bytes(plan: StagePlan, devices: tuple[str, ...]) -> int:
    """Return the bytes of a shard at least, in the memory of the machine."""
    if devices != ("cpu",):
        return BESIDE_BYTES * plan.num_parameters
    return LEAST_BYTES * plan.num_parameters + FLOAT_BYTES * _frozen(plan)


def _spill_bytes(spec: RunSpec, numel: int) -> int:
    """Return the bytes of a shard's tensors on the disk while it trains; those of a small one are in memory."""
    return _seldom_bytes(spec, numel) if FLOAT_BYTES * numel >= LARGE_BYTES_MIN else 0


def _seldom_bytes(spec: RunSpec, numel: int) -> int:
    return SPILL_BYTES * numel + RESIDUALS_KEPT * FLOAT_BYTES * residual_numel(spec, numel)


def _spared_bytes(spec: RunSpec, plan: StagePlan) -> int:
    """Return the bytes of second moments that Muon does not keep; 0 with AdamW."""
    return FLOAT_BYTES * (plan.num_parameters - num_second_moments(spec.optimizer, plan))


def _state_bytes(spec: RunSpec, plan: StagePlan) -> int:
    """Return the bytes of the tensors of a state."""
    numel = plan.num_parameters
    tensors = STATE_TENSORS * numel + residual_numel(spec, numel)
    return FLOAT_BYTES * tensors - _spared_bytes(spec, plan)


def _muon_cost(spec: RunSpec, plan: StagePlan) -> float:
    """Return the operations of Newton-Schulz over those of forward and backward of a step: 3.75 to 5 d / N.

    Counted as the definition has it: exact kernels, which use that G is symmetric, take fewer.
    """
    operations = 0
    for matrix in muon_matrices(spec.optimizer, plan):
        short, long = sorted((matrix.rows, matrix.columns))
        operations += NEWTON_SCHULZ_STEPS * (4 * short * short * long + 2 * short**3)
    return operations / (FLOPS_PER_PARAMETER * plan.num_parameters * _step_tokens(spec))


def _step_tokens(spec: RunSpec) -> int:
    return spec.microbatches_per_step * spec.microbatch_size * spec.model.seq_len


def _shard_bytes(spec: RunSpec, stage: int) -> int:
    """Return the approximate bytes of a shard's memory.

    The larger of its peak in a step, and its size between two steps with the passes that wait for gradients.
    """
    plan = _plans(spec)[stage]
    passes = 1 if is_recomputed(spec, plan, "auto") else max(passes_waiting(spec, plan), 1)
    waiting = passes * pass_bytes(spec, plan)
    steady = STEADY_BYTES * plan.num_parameters - _spared_bytes(spec, plan)
    peak = max(ABOUT_BYTES * plan.num_parameters, steady + waiting)
    in_memory = _seldom_bytes(spec, plan.num_parameters) - _spill_bytes(spec, plan.num_parameters)
    return peak + in_memory + FLOAT_BYTES * _frozen(plan)


def _log_bytes(spec: RunSpec, *, is_owner: bool) -> int:
    """Return the bytes of windows kept for checkers; 0 in a run whose windows cannot be replayed."""
    return log_bytes(retention_of(spec, is_owner=is_owner)) if keeps_windows(spec) else 0


def _sides(spec: RunSpec) -> int:
    """Return the number of neighbours that a middle seat sends to: activations up, gradients down."""
    return min(spec.num_stages - 1, 2)


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
    is_spotted: bool = False
    """True if others look at elements of them, and fetch none."""

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
    if kept.is_spotted:
        return kept.num_bytes + kept.rounds * SHOWN_BYTES
    return kept.num_bytes + CHECKED_PER_ROUND * kept.rounds * kept.window_bytes


def keeps_windows(spec: RunSpec) -> bool:
    """Return True if windows of this run can be replayed by others, so that they have to be kept."""
    return is_checked(spec)


def tolerance_text(spec: RunSpec) -> str:
    """Return a sentence about how a run without exact numerics is checked, or that it is not; else empty."""
    bound = bound_of(spec)
    if bound is not None:
        return f"its windows are checked within a tolerance of {bound:.0e}: who is found loses pay and seat"
    if spec.is_exact:
        return ""
    return (
        "nothing in this run is checked; what can be, within a tolerance, has native numerics, fragments in"
        f" {' or '.join(CONTINUOUS_CODECS)}, windows of {STEPS_MAX} steps at most, and short logs"
    )


def retention_of(spec: RunSpec, *, is_owner: bool) -> Retention:
    """Return the windows that a solver of this run keeps: of one seat, or for the launcher of one per stage."""
    sizes = [window_bytes(spec, stage) for stage in range(spec.num_stages)]
    rounds = rounds_kept(spec)
    windows = windows_per_round(spec) * rounds
    held = sum(sizes) if is_owner else max(sizes)
    seats = spec.num_stages if is_owner else 1
    spots = spec.checks.spots
    return Retention(windows, max(sizes), rounds, seats, windows * held, is_spotted=spots)


def windows_per_round(spec: RunSpec) -> int:
    """Return the windows of a segment that takes every step it may."""
    return -(-spec.inner_steps_max // spec.checks.window_steps)


def window_bytes(spec: RunSpec, stage: int) -> int:
    """Return the approximate bytes of an encoded window: state, signed activations, merged fragments."""
    plan = _plans(spec)[stage]
    numel, state = plan.num_parameters, _state_bytes(spec, plan) * (1 if spec.is_exact else 2)
    state = -(-state // STATES_EVERY) if spec.checks.spots else state
    steps = min(spec.checks.window_steps, spec.inner_steps_max)
    merged = spec.outer.trades_per_round * traded_numel(spec, numel)
    fragments = -(-merged * FRAGMENT_BYTES // windows_per_round(spec))
    return state + steps * _step_bytes(spec, stage) + fragments


def check_window(spec: RunSpec) -> None:
    """Raise ``BadConfig``, with the bound and the nearest key, if a window is longer than checkers accept."""
    if not spec.is_exact or spec.checks.spots:
        return  # Without exact numerics, windows that are too long are not checked; at elements, of any length.
    sizes = [window_bytes(spec, stage) for stage in range(spec.num_stages)]
    largest, agreeing = max(sizes), max(_agreeing_bytes(spec, s) for s in range(spec.num_stages))
    if agreeing > max(largest, WINDOW_BYTES_MAX):
        raise BadConfig(
            f"a window of run {spec.name} in which replicas agree, a state and a shard in float32, takes"
            f" {agreeing / MB:.0f} MB, and no peer checks more than {WINDOW_BYTES_MAX / MB:.0f}",
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
        f" {largest / MB:.0f} MB, and no peer checks more than {WINDOW_BYTES_MAX / MB:.0f}",
        hint=f"[checks] window_steps = {fitting} in the run file" if fitting > 0 else hint,
    )


def check_retention(
    spec: RunSpec, kept: Retention, *, quota_mb: int, free_bytes: int, held_bytes: int
) -> None:
    """Raise ``BadConfig`` unless quota and disk hold the windows of this run beside its text.

    ``free_bytes`` are free on the disk, ``held_bytes`` are in the folder of blobs already.
    """
    check_window(spec)
    frozen = _frozen_bytes(spec, range(spec.num_stages))
    needed = log_bytes(kept) + spec.data.train_bytes + spec.data.heldout_bytes + frozen
    needed_mb = needed // MIB + 1
    who = (
        f"a solver of run {spec.name} {kept.text}; with the text and what it checks of others that is"
        f" {needed_mb} MiB"
    )
    _check_room(
        who,
        needed,
        fits_quota=needed <= quota_mb * MIB,
        quota_mb=quota_mb,
        room_bytes=free_bytes + held_bytes,
    )


def _check_room(
    what: str, needed: int, *, fits_quota: bool, quota_mb: int, room_bytes: int, spill: int = 0
) -> None:
    """Raise ``BadConfig``, beginning with ``what``, unless quota and disk have room for ``needed`` bytes.

    ``room_bytes`` are those that are free on the disk or in the folder of blobs already; ``spill`` are bytes
    that the disk needs besides, and that do not count for the quota.
    """
    if not fits_quota:
        setting = f"disk_quota_mb = {needed // MIB + 1} in node.toml"
        raise BadConfig(
            f"{what}, and disk_quota_mb is {quota_mb}",
            hint=f"{setting}, or solve = false to follow without training",
        )
    if needed + spill > room_bytes:
        raise BadConfig(
            f"{what}, and {room_bytes // MIB} MiB are free on this disk",
            hint="df -h; or solve = false in node.toml to follow without training",
        )


def _agreeing_bytes(spec: RunSpec, stage: int) -> int:
    """Return the bytes of a final averaging window: the state, and the partner's shard in float32."""
    plan = _plans(spec)[stage]
    return _state_bytes(spec, plan) + FLOAT_BYTES * plan.num_parameters


def _step_bytes(spec: RunSpec, stage: int) -> int:
    """Return the bytes signed for one step: activations and gradients, at every side that has a neighbour."""
    sides = (stage > 0) + (stage < spec.num_stages - 1)
    return spec.microbatches_per_step * sides * activation_bytes(spec)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GB:.1f} GB" if num_bytes >= GB else f"{num_bytes / MB:.0f} MB"
