"""Compute a micro-batch again from what was kept of it, in one go.

Core: the same arithmetic as the seat's own, on the shard it is given.
"""

from swarm.errors import BadEncoding, OutOfTurn
from swarm.training.data import TokenSource
from swarm.training.round_plan import RoundPlan
from swarm.training.shard import Shard
from swarm.training.window import ComputedMicrobatch


def replay_microbatch(
    shard: Shard, tokens: TokenSource, plan: RoundPlan, seat: int, computed: ComputedMicrobatch
) -> None:
    """Count a micro-batch in the shard's open step, as its seat did.

    Whether others signed the messages is the caller's to know. Raises ``PeerFault``, changing nothing, when
    they are not those of this stage and micro-batch, when the gradient is for other activations than this
    shard gives, or when it is not finite.
    """
    request, reply, place = computed.request, computed.reply, computed.place
    is_first, is_last = shard.stage == 0, shard.stage == shard.spec.num_stages - 1
    if (request is None) != is_first or (reply is None) != is_last:
        raise OutOfTurn("a micro-batch with the messages of another stage")
    if is_first and computed.origin != seat:
        raise OutOfTurn("a micro-batch that another seat sent on its way")
    if request is not None and (request.place, request.stage) != (place, shard.stage):
        raise OutOfTurn("activations of another micro-batch or stage")
    if reply is not None and (reply.place, reply.stage) != (place, shard.stage + 1):
        raise OutOfTurn("a gradient of another micro-batch or stage")
    if request is None:
        if reply is None:
            shard.whole_job(tokens, plan, computed.step, computed.microbatch, seat)
            return
        _, passed = shard.origin_job(tokens, plan, computed.step, computed.microbatch, seat)
        shard.backward_job(passed, reply)
        return
    if request.shape != _shape(plan):
        raise BadEncoding("activations of another shape than the run's")
    if reply is None:
        shard.loss_job(tokens, plan, request, seat)
        return
    _, passed = shard.forward_job(request)
    shard.backward_job(passed, reply)


def _shape(plan: RoundPlan) -> tuple[int, int, int]:
    spec = plan.spec
    return (spec.microbatch_size, spec.model.seq_len, spec.model.hidden_size)
