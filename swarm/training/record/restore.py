"""Save a shard; restore it from bytes, a replica's state or a window's start; replay micro-batches.

Core: values and bytes in, a shard out, and back.

The bytes are those that this node saved, the state is that of another replica of the stage, and a replayed
micro-batch is one that a window recorded.

Legend: P parameters.
"""

from collections.abc import Callable

from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import BadEncoding, Corrupt, OutOfTurn
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.merkle import merkle_root
from swarm.primitives.state_parts import number_component, tokens_component
from swarm.training.averaging.adoption import AdoptedState
from swarm.training.averaging.payload import residual_numel
from swarm.training.data.dataset import TokenSource
from swarm.training.devices.engine import Engine, LocalEngine
from swarm.training.messages import MicroBatch
from swarm.training.model.bottleneck import signal_width
from swarm.training.model.optimizer import OptimizerState
from swarm.training.model.stages import stage_of
from swarm.training.plan import RoundPlan
from swarm.training.record.checkpoint import RESTART_HINT, SavedShard, encode_shard
from swarm.training.record.segment import MicrobatchRecord, ShardState, Source, snapshots_component
from swarm.training.record.window import ComputedMicrobatch
from swarm.training.shard import Shard
from swarm.types import Digest, RoundIndex, StageIndex


def save_shard(shard: Shard, run_digest: Digest, seat: int, round_index: RoundIndex) -> bytes:
    """Return the bytes of the whole state between two segments, when no fragment is in flight."""
    return b"".join(encode_shard(saved_of(shard, run_digest, seat, round_index)))


def saved_of(shard: Shard, run_digest: Digest, seat: int, round_index: RoundIndex) -> SavedShard:
    """Return the whole state between two segments: the tensors themselves, valid until they change."""
    return SavedShard(
        run_digest=run_digest,
        stage=shard.stage,
        seat=seat,
        round=round_index,
        step=shard.optimizer.step,
        tokens=shard.tokens_total,
        tokens_at_sync=tuple(shard.tokens_at_sync),
        anchor_root=shard.anchor_root,
        params_P=shard.params_P.cpu(),
        m_P=shard.optimizer.m_P.cpu(),
        v_A=shard.optimizer.v_A.cpu(),
        phi_P=shard.phi_P,
        momentum_P=shard.momentum_P,
        residual_P=shard.residual_R,
    )


def resume_shard(
    spec: RunSpec,
    saved: SavedShard,
    anchor_P: Tensor,
    clock: Callable[[], float],
    engine: Engine | None = None,
) -> Shard:
    """Return a shard as it was saved; ``anchor_P`` is the tensor that ``saved.anchor_root`` names.

    Raises ``Corrupt`` if the run has another number of fragments, or another residual.
    """
    residual = residual_numel(spec, saved.params_P.numel())
    if (len(saved.tokens_at_sync), saved.residual_P.numel()) != (spec.outer.fragments, residual):
        raise Corrupt("a saved shard of another run", hint=RESTART_HINT)
    shard = Shard(spec, StageIndex(saved.stage), saved.params_P, clock, engine)
    home = shard.engine.home
    # Copied: what was saved is mapped, and moments are for the memory.
    moments = (saved.m_P.to(home, copy=True), saved.v_A.to(home, copy=True))
    shard.optimizer = OptimizerState(*moments, saved.step)
    shard.put_slow(saved.phi_P, saved.momentum_P, saved.residual_P)
    shard.set_anchor(anchor_P, saved.anchor_root)
    shard.tokens_total, shard.tokens_at_sync = saved.tokens, list(saved.tokens_at_sync)
    return shard


def saved_components(saved: SavedShard) -> tuple[Digest, ...]:
    """Return the hashes of the ten parts of a state saved between two segments (``Shard.components``)."""
    return (
        hash_of(saved.params_P),
        hash_of(saved.m_P),
        hash_of(saved.v_A),
        number_component(saved.step),
        hash_of(saved.phi_P),
        hash_of(saved.momentum_P),
        hash_of(saved.residual_P),
        saved.anchor_root,
        tokens_component(saved.tokens, saved.tokens_at_sync),
        snapshots_component(()),
    )


def adopted_shard(
    spec: RunSpec,
    stage: StageIndex,
    adopted: AdoptedState,
    anchor: tuple[Tensor, Digest],
    clock: Callable[[], float],
    engine: Engine | None = None,
) -> Shard:
    """Return a shard that starts from another replica's state and trades against the canonical ``anchor``."""
    shard = Shard(spec, stage, adopted.phi_P, clock, engine)
    home = shard.engine.home
    moments = adopted.optimizer
    shard.optimizer = OptimizerState(moments.m_P.to(home), moments.v_A.to(home), moments.step)
    shard.put_slow(shard.phi_P, adopted.momentum_P, shard.residual_R)
    shard.set_anchor(*anchor)
    shard.source = Source(merkle_root(adopted.parts), adopted.parts)
    return shard


def restored(
    spec: RunSpec,
    stage: StageIndex,
    state: ShardState,
    anchor_P: Tensor,
    base_W: Tensor | None = None,
    engine: Engine | None = None,
) -> Shard:
    """Return a shard as it was at a window's start, with the fragments that were in flight.

    ``anchor_P`` is the tensor that ``state.anchor_root`` names, ``base_W`` the weights below the run's adapter,
    if it has one; ``state`` is not modified. Without an ``engine`` this machine's CPU computes.
    """
    engine = engine or LocalEngine(stage_of(spec, stage, base_W))
    shard = Shard(spec, stage, state.params_P, engine=engine)
    shard.optimizer = OptimizerState(state.m_P.clone(), state.v_A.clone(), state.step)
    shard.put_slow(state.phi_P, state.momentum_P, state.residual_R)
    shard.set_anchor(anchor_P, state.anchor_root)
    shard.tokens_total, shard.tokens_at_sync = state.tokens_total, list(state.tokens_at_sync)
    shard.snapshots = {spec.outer.fragment_of(held[0]): held for held in state.snapshots}
    shard.trades_over = list(state.trades_over)
    return shard


def replay_microbatch(
    shard: Shard,
    tokens: TokenSource,
    plan: RoundPlan,
    seat: int,
    computed: ComputedMicrobatch,
    *,
    is_forced: bool = False,
) -> MicrobatchRecord:
    """Count a micro-batch in the shard's open step, as its seat did, and return its record.

    If ``is_forced``, a gradient counts whatever activations it was for: another machine's differ in their last
    bits. The caller must verify the signatures of the messages. Raises ``PeerFault``, changing nothing, if the
    messages are not those of this stage and micro-batch, if the gradient is for other activations than this
    shard computes, or if it is not finite.
    """
    request, reply, microbatch_id = computed.request, computed.reply, computed.microbatch_id
    is_first, is_last = shard.stage == 0, shard.stage == shard.spec.num_stages - 1
    if (request is None) != is_first or (reply is None) != is_last:
        raise OutOfTurn("a micro-batch with the messages of another stage")
    if is_first and computed.origin != seat:
        raise OutOfTurn("a micro-batch that another seat sent on its way")
    if request is not None:
        _check_request(shard, plan, computed, request)
    if reply is not None and (reply.microbatch_id, reply.stage) != (microbatch_id, shard.stage + 1):
        raise OutOfTurn("a gradient of another micro-batch or stage")
    if request is None:
        if reply is None:
            return shard.loss_tokens(tokens, plan, computed.step, computed.microbatch, seat)[1]
        _, passed = shard.forward_tokens(tokens, plan, computed.step, computed.microbatch, seat)
    elif reply is None:
        return shard.loss(tokens, plan, request, seat)[2]
    else:
        _, passed = shard.forward(tokens, plan, request)
    if is_forced:
        reply = replace(reply, activations=passed.record.out_activation)
    return shard.backward(passed, reply)[1]


def replay_uncounted(
    shard: Shard, tokens: TokenSource, plan: RoundPlan, seat: int, computed: ComputedMicrobatch
) -> MicrobatchRecord:
    """Compute what a seat sent of a micro-batch that no step counts, and return its record.

    As ``replay_microbatch``; without a gradient from above only what went up is computed.
    """
    if computed.reply is not None or shard.stage == shard.spec.num_stages - 1:
        record = replay_microbatch(shard, tokens, plan, seat, computed)
        shard.forget_gradients()
        return record
    request = computed.request
    if request is not None:
        _check_request(shard, plan, computed, request)
        _, passed = shard.forward(tokens, plan, request)
    else:
        _, passed = shard.forward_tokens(tokens, plan, computed.step, computed.microbatch, seat)
    return passed.record


def _check_request(
    shard: Shard, plan: RoundPlan, computed: ComputedMicrobatch, request: MicroBatch
) -> None:
    if (request.microbatch_id, request.stage) != (computed.microbatch_id, shard.stage):
        raise OutOfTurn("activations of another micro-batch or stage")
    if request.shape != _shape(plan):
        raise BadEncoding("activations of another shape than the run's")


def _shape(plan: RoundPlan) -> tuple[int, int, int]:
    spec = plan.spec
    return (spec.microbatch_size, spec.model.seq_len, signal_width(spec.model))
