"""The bytes of a window, and the parts of a state that are not plain tensors."""

import torch

from swarm.config.spec import MUON
from swarm.gossip.codecs.int8 import decompress
from swarm.gossip.trade.messages import Codec, FragmentKey, Receipt, sign_offer, sign_receipt
from swarm.gossip.trade.payload import FragmentPayload, pack
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.primitives.crypto import SecretKey, fast_digest
from swarm.primitives.state_parts import number_component, tokens_component
from swarm.training.messages import (
    NO_LOSS,
    MicroBatch,
    MicroBatchGrad,
    sign_grad,
    sign_microbatch,
    wire_digest,
)
from swarm.training.model.optimizer import (
    OptimizerState,
    muon_matrices,
    num_second_moments,
    optimizer_step,
)
from swarm.training.model.profiles import EXACT_NAME, table
from swarm.training.model.stages import init_flat, plan_stages
from swarm.training.record.segment import ShardState, snapshots_component
from swarm.training.record.window import (
    AnchorSet,
    ComputedMicrobatch,
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    WindowData,
    WindowKey,
)
from swarm.training.record.window_bytes import (
    encode_window,
)
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex
from tests.training.pipeline import a_spec

ALICE = SecretKey.from_seed(b"\x01" * 32)
BOB = SecretKey.from_seed(b"\x02" * 32)
CHAIN = Digest(b"\x0c" * 32)
ROOT = Digest(b"\x0a" * 32)
INT8_SPEC = a_spec(stages=3)
SPEC = replace(INT8_SPEC, outer=replace(INT8_SPEC.outer, codec="int4"))
RUN, ROUND, STAGE = RunIndex(1), RoundIndex(7), StageIndex(1)


MUON_SPEC = replace(SPEC, optimizer=replace(SPEC.optimizer, name=MUON))


def a_state(num_parameters: int, fragment: int, second: int | None = None) -> ShardState:
    """Tensors that count up in eighths, with one fragment on its way and something unsaid.

    ``second``: the second moments, where there are fewer than parameters.
    """
    params_P, m_P, v_A, phi_P, momentum_P = (
        (torch.arange(num_parameters) % 64 + number) / 8 for number in range(5)
    )
    v_A = v_A[:second]
    offered = ((0, 300, torch.arange(float(fragment)) / 4),)
    five, counts = (params_P, m_P, v_A, phi_P, momentum_P), (2000, 1500)
    return ShardState(*five, 40, ROOT, 2560, counts, offered, torch.arange(num_parameters) % 8 / 16)


def a_microbatch() -> ComputedMicrobatch:
    """What a middle stage keeps of one."""
    shape = (SPEC.microbatch_size, SPEC.model.seq_len, SPEC.model.hidden_size)
    payload = bytes([0, 0x3F]) * (shape[0] * shape[1] * shape[2])
    request = MicroBatch(RUN, ROUND, 5, 1, 0, STAGE, 2, 3, 1, 12, 1500, *shape, payload, b"")
    above = MicroBatch(
        RUN, ROUND, 5, 1, 0, StageIndex(2), 3, 0, 1, 9, 1500, *shape, payload, b""
    )  # fmt: skip
    reply = MicroBatchGrad.reply_to(above, 4, wire_digest(payload), NO_LOSS, payload)
    return ComputedMicrobatch(
        0,
        5,
        1,
        sign_microbatch(ALICE, CHAIN, SPEC.digest, request),
        sign_grad(BOB, CHAIN, SPEC.digest, reply),
    )


def a_merge(numel: int) -> FragmentMerged:
    """A fragment taken from a partner in int4, which acknowledged ours."""
    anchor = torch.zeros(numel)
    theta, residual = torch.arange(float(numel)) / 16, torch.zeros(numel)
    offered = FragmentPayload(
        theta=theta,
        anchor=anchor,
        anchor_root=ROOT,
        step=40,
        tokens=512,
        codec=Codec.INT4,
        residual=residual,
    )
    key = FragmentKey(RUN, STAGE, 0, ROUND, 2)
    packed = pack(key, offered, Codec.INT4)
    payload = bytes(decompress(packed.wire, packed.offer.num_bytes))
    # What zstandard makes of the payload may differ between its versions: nothing here depends on it.
    plain = replace(packed.offer, wire_bytes=packed.offer.num_bytes, chunk_root=ROOT)
    ours = replace(key, seat=3)
    receipt = sign_receipt(BOB, CHAIN, Receipt(ours, 2, ROOT, b""))
    return FragmentMerged(
        0, 2, 400_000_000, ROOT, sign_offer(BOB, CHAIN, plain), receipt, payload=payload
    )


def muon_cases() -> list[dict[str, object]]:
    """The same window in a run with Muon, and two exact steps of the stage's optimizer."""
    plan = plan_stages(MUON_SPEC.model, MUON_SPEC.num_stages)[STAGE]
    spec, matrices = MUON_SPEC.optimizer, muon_matrices(MUON_SPEC.optimizer, plan)
    numel = plan.fragments(MUON_SPEC.outer.fragments)[0].numel
    second = num_second_moments(spec, plan)
    data = WindowData(
        WindowKey(RUN, ROUND, STAGE, 3, 0),
        True,
        a_state(plan.num_parameters, numel, second),
        (StepTaken(0, (a_microbatch(),), ()),),
    )
    head, *bulk = encode_window(data)
    params_P = init_flat(plan, 1)
    optimizer = OptimizerState.zeros(plan.num_parameters, matrices)
    exact = table(EXACT_NAME)
    for seed in (2, 3):
        grad_P = init_flat(plan, seed) * 0.0078125
        optimizer_step(exact, params_P, grad_P, optimizer, 0.03, spec, plan.decayed, matrices)
    after = {"params": params_P, "adam_m": optimizer.m_P, "adam_v": optimizer.v_A}
    return [
        {"kind": "window with muon", "parameters": plan.num_parameters, "second_moments": second,
         "matrices": [[m.span.start, m.rows, m.columns] for m in matrices],
         "pieces": [len(piece) for piece in bulk],
         "digest_of_all": fast_digest("vector", b"".join((head, *bulk))).hex()},
        {"kind": "two steps with muon", "numerics": EXACT_NAME, "steps": optimizer.step,
         **{name: hash_of(tensor).hex() for name, tensor in after.items()}},
    ]  # fmt: skip


def windows() -> list[dict[str, object]]:
    """A window of a middle stage with every event, and the components of its start."""
    plan = plan_stages(SPEC.model, SPEC.num_stages)[STAGE]
    numel = plan.fragments(SPEC.outer.fragments)[0].numel
    state = a_state(plan.num_parameters, numel)
    step = StepTaken(0, (a_microbatch(),), ((0, 4, 1),))
    events = (AnchorSet(ROOT), step, SnapshotTaken(1), a_merge(numel))
    data = WindowData(WindowKey(RUN, ROUND, STAGE, 3, 0), True, state, events)
    head, *bulk = encode_window(data)
    raw = b"".join((head, *bulk))
    ended = replace(data, end=replace(state, step=41, snapshots=()))
    tolerated = b"".join(encode_window(ended))
    return [
        {"kind": "state counters", "step": state.step, "tokens": [state.tokens_total, *state.tokens_at_sync],
         "step_component": number_component(state.step).hex(),
         "tokens_component": tokens_component(state.tokens_total, state.tokens_at_sync).hex(),
         "no_snapshots": snapshots_component(()).hex(),
         "snapshots": [[f, tokens, hash_of(theta).hex()] for f, tokens, theta in state.snapshots],
         "snapshots_component": snapshots_component(state.snapshots).hex()},
        {"kind": "window", "parameters": plan.num_parameters, "head": bytes(head).hex(),
         "pieces": [len(piece) for piece in bulk], "num_bytes": len(raw),
         "digest_of_all": fast_digest("vector", raw).hex()},
        {"kind": "window with the state at its end", "head": bytes(encode_window(ended)[0]).hex(),
         "num_bytes": len(tolerated), "digest_of_all": fast_digest("vector", tolerated).hex()},
        *muon_cases(),
    ]  # fmt: skip
