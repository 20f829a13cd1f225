"""A merge computed operator by operator has the bits of ``Shard.merge``: each codec, in pairs and alone."""

import random
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from swarm.config.spec import NANO, RunSpec
from swarm.errors import UsageError
from swarm.gossip.trade.messages import Codec, FragmentKey, Receipt, payload_digest
from swarm.gossip.trade.payload import (
    FragmentPayload,
    ReceivedFragment,
    encode_payload,
    pack,
    read_payload,
)
from swarm.primitives.codec import replace
from swarm.training.averaging.outer_step import (
    FragmentSnapshot,
    Merge,
    OuterScalars,
    SentFragment,
    outer_scalars,
)
from swarm.training.averaging.payload import (
    anchor_of,
    fragment_payload,
    read_values,
    residual_numel,
)
from swarm.training.model.exact import reference
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.training.model.stages import init_flat, plans_of
from swarm.training.record.segment import MergeRecord
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Bytes, PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.program.merge import MergeNumbers, copy_program, merge_program
from swarm.verify.program.nodes import INPUT, Program
from tests.training.pipeline import a_spec
from tests.verify.program.test_microbatch import EXACT, bits, on_wire

FRAGMENT, STAGE = 1, StageIndex(1)
SCALARS = OuterScalars(0.4, 0.7, 0.7)
ROUND = RoundIndex(3)


def a_run(codec: str, *, is_two: bool = False) -> RunSpec:
    spec = a_spec(stages=2, numerics=EXACT)
    gamma = spec.outer.beta_nano + (NANO // 5 if is_two else 0)
    return replace(spec, outer=replace(spec.outer, codec=codec, gamma_nano=gamma))


@dataclass(frozen=True)
class Trade:
    """One exchange, as a test asks for it."""

    run: str = "int8"
    codec: Codec | None = Codec.INT8
    """Of the partner's payload; None for a solo step."""
    my_codec: Codec | None = Codec.INT8
    is_two: bool = False
    weight_nano: int = NANO // 2
    moves_residual: bool = False
    is_final: bool = False
    partner: float = 1.0
    """Size of what the partner has moved by."""
    mine: float = 1.0


TRADES = {
    "int8": Trade(),
    "int8, another weight": Trade(weight_nano=270_000_001),
    "int8, weight 0": Trade(weight_nano=0),
    "int8, nothing given": Trade(my_codec=None),
    "int8, two tensors": Trade(is_two=True, weight_nano=400_000_000),
    "int8, other anchors": Trade(codec=Codec.BF16, my_codec=Codec.BF16),
    "int8, alone": Trade(codec=None),
    "int8, alone, two tensors": Trade(codec=None, is_two=True),
    "int8, alone, nothing given": Trade(codec=None, my_codec=None),
    "int4": Trade("int4", Codec.INT4, Codec.INT4, moves_residual=True),
    "int4, not acknowledged": Trade("int4", Codec.INT4, Codec.INT4),
    "int4, two tensors": Trade("int4", Codec.INT4, Codec.INT4, is_two=True, moves_residual=True),
    "int4, alone, acknowledged": Trade("int4", None, Codec.INT4, moves_residual=True),
    "int4, other anchors": Trade("int4", Codec.BF16, Codec.BF16),
    "int4, last rounds": Trade("int4", Codec.INT8, Codec.INT8),
    "int4-mean": Trade("int4-mean", Codec.INT4, Codec.INT4),
    "int4-mean, two tensors": Trade("int4-mean", Codec.INT4, Codec.INT4, is_two=True),
    "int4-mean, other anchors": Trade("int4-mean", Codec.BF16, Codec.BF16),
    "int4-mean, nothing given": Trade("int4-mean", Codec.INT4, None),
    "int4-mean, far from the anchor": Trade("int4-mean", Codec.INT4, None, mine=1e9),
    "int4-mean, declined, past bfloat16": Trade("int4-mean", Codec.BF16, None, mine=3e39),
    "int3-mean": Trade("int3-mean", Codec.INT3, Codec.INT3, weight_nano=250_000_000),
    "int3-mean, alone": Trade("int3-mean", None, Codec.INT3),
    "bf16": Trade("bf16", Codec.BF16, Codec.BF16),
    "bf16, two tensors": Trade("bf16", Codec.BF16, Codec.BF16, is_two=True),
    "bf16, declined": Trade("bf16", Codec.BF16, Codec.BF16, partner=1e12),
    "bf16, declined, two tensors": Trade("bf16", Codec.BF16, Codec.BF16, is_two=True, partner=3e38),
    "int4-mean, declined": Trade("int4-mean", Codec.BF16, Codec.BF16, partner=1e12),
    "final": Trade(codec=Codec.F32, my_codec=Codec.F32, is_final=True),
    "final, two tensors": Trade("int4", Codec.F32, Codec.F32, is_two=True, is_final=True),
    "final, of a run that keeps the mean": Trade(
        "int4-mean", Codec.F32, Codec.F32, weight_nano=333_333_333, is_final=True
    ),
    "final, theirs alone": Trade(
        codec=Codec.F32, my_codec=Codec.F32, weight_nano=NANO, is_final=True
    ),
    "final, alone": Trade(codec=None, my_codec=None, is_final=True),
    "final, declined": Trade(codec=Codec.F32, my_codec=Codec.F32, is_final=True, partner=1e38),
}


@dataclass
class Merged:
    """One merge, by a shard and by its program."""

    program: Program
    given: dict[str, Tensor]
    shard: Shard
    record: MergeRecord
    values: list[Tensor]
    payload: Bytes | None


def noise(numel: int, seed: int) -> Tensor:
    return torch.randn(numel, generator=torch.Generator().manual_seed(seed))


def a_shard(spec: RunSpec, anchor_P: Tensor, scale: float) -> Shard:
    """A shard in the middle of a segment, with slow weights of its own."""
    numel = anchor_P.numel()
    moved_P = (scale * 0.05 * noise(numel, 1)).clamp(-3.4e38, 3.4e38)
    shard = Shard(spec, STAGE, anchor_P + moved_P)
    shard.set_anchor(anchor_P, NO_DIGEST)
    phi_P = anchor_P + 0.03 * noise(numel, 2)
    residual_R = 0.004 * noise(residual_numel(spec, numel), 3)
    shard.put_slow(phi_P, 0.02 * noise(numel, 4), residual_R)
    return shard


def the_partners(trade: Trade, spec: RunSpec, mine: FragmentSnapshot) -> ReceivedFragment:
    assert trade.codec is not None
    numel = mine.theta_P.numel()
    theta = mine.anchor_P + (0.05 * noise(numel, 5)).clamp(-1, 1) * trade.partner
    phi = mine.anchor_P - (0.04 * noise(numel, 6)).clamp(-1, 1) * trade.partner
    values = torch.cat((theta, phi)) if trade.is_two and not trade.is_final else theta
    anchor = anchor_of(spec, mine, is_final_averaging=trade.is_final)
    offered = FragmentPayload(values, anchor, NO_DIGEST, 4, 100)
    key = FragmentKey(RunIndex(1), STAGE, FRAGMENT, ROUND, 1)
    payload, _ = encode_payload(offered, trade.codec)
    offer = pack(key, offered, trade.codec).offer
    return ReceivedFragment(offer, payload, read_payload(trade.codec, payload, anchor))


def a_merge(trade: Trade, spec: RunSpec, shard: Shard) -> tuple[Merge, Bytes | None]:
    """The merge that a trade ends with, and the payload that the partner was given."""
    mine = shard.snapshot(FRAGMENT)
    shard.params_P += 0.01 * noise(shard.params_P.numel(), 7)  # steps since the copy
    payload = residual = None
    if trade.my_codec is not None:
        offered = fragment_payload(spec, ROUND, mine, is_final_averaging=trade.is_final)
        payload, residual = encode_payload(offered, trade.my_codec)
    sent = None
    if trade.moves_residual:
        assert payload is not None
        assert residual is not None
        key = FragmentKey(RunIndex(1), STAGE, FRAGMENT, ROUND, 0)
        sent = SentFragment(Receipt(key, 1, payload_digest(payload), b""), residual)
    scalars = outer_scalars(spec.outer, ROUND)
    if trade.codec is None:
        return Merge.solo(mine, scalars, sent, is_final_averaging=trade.is_final), payload
    received = the_partners(trade, spec, mine)
    theta, phi = read_values(spec, received.values, is_final_averaging=trade.is_final)
    merge = Merge(
        snapshot=mine,
        theta_hat_P=theta,
        weight_nano=trade.weight_nano,
        scalars=scalars,
        partner=PeerId(bytes(32)),
        partner_seat=1,
        my_payload=NO_DIGEST if payload is None else payload_digest(payload),
        received=received,
        phi_hat_P=phi,
        sent=sent,
        is_final_averaging=trade.is_final,
    )
    return merge, payload


@cache
def merged(name: str) -> Merged:
    trade = TRADES[name]
    spec = a_run(trade.run, is_two=trade.is_two)
    anchor_P = init_flat(plans_of(spec)[STAGE], 3) + 0.1 * noise(
        plans_of(spec)[STAGE].num_parameters, 8
    )
    shard = a_shard(spec, anchor_P, trade.mine)
    merge, payload = a_merge(trade, spec, shard)
    given = {
        "theta": merge.snapshot.theta_P,
        "params": shard.params_P.clone(),
        "phi": shard.phi_P.clone(),
        "outer_m": shard.momentum_P.clone(),
        "residual": shard.residual_R.clone(),
        "anchor": anchor_P,
    }
    if merge.received is not None:
        given["payload"] = on_wire(merge.received.payload)
    record = shard.merge(merge)
    numbers = MergeNumbers(
        fragment=FRAGMENT,
        scalars=merge.scalars,
        weight_nano=merge.weight_nano,
        codec=trade.codec,
        my_codec=trade.my_codec,
        moves_residual=trade.moves_residual,
        is_final_averaging=trade.is_final,
    )
    program = merge_program(spec, STAGE, numbers)
    values = program.run(trusted_kernels().kernels, given)
    return Merged(program, given, shard, record, values, payload)


@pytest.mark.rule("V38")
@pytest.mark.parametrize("name", TRADES)
def test_a_program_has_the_bits_of_a_merge(name: str) -> None:
    case, trade = merged(name), TRADES[name]
    expected = {
        "params": case.shard.params_P,
        "phi": case.shard.phi_P,
        "outer_m": case.shard.momentum_P,
    }
    if trade.run == "int4":
        expected["residual"] = case.shard.residual_R
    if case.payload is not None:
        expected["my_payload"] = on_wire(case.payload)
    if trade.codec is not None and trade.weight_nano:
        expected["weight"] = torch.tensor([case.record.weight_nano], dtype=torch.int32)
    assert set(case.program.outputs) == set(expected)
    for output, value in expected.items():
        assert torch.equal(bits(case.values[case.program.outputs[output]]), bits(value)), output
    weight = 0 if "declined" in name or trade.codec is None else trade.weight_nano
    assert case.record.weight_nano == weight


@pytest.mark.rule("V39")
@pytest.mark.parametrize("name", TRADES)
def test_every_node_of_a_merge_can_be_computed_by_the_element(name: str) -> None:
    case, rng = merged(name), random.Random(name)
    plan = plans_of(a_run("int8"))[STAGE]
    span = plan.fragments(2)[FRAGMENT]
    for number, node in enumerate(case.program.nodes):
        if node.operator == INPUT:
            continue
        last = case.values[number].numel() - 1
        edges = {0, last, span.start - 1, span.start, *(rng.randrange(last + 1) for _ in range(8))}
        for place in sorted(at for at in edges if 0 <= at <= last):
            index = tuple(int(at) for at in torch.unravel_index(torch.tensor(place), node.shape))
            value, expected = case.program.element(number, index, case.values), case.values[number]
            assert str(value.dtype) == f"torch.{node.dtype}"
            assert torch.equal(bits(value.view(1)), bits(expected[index].view(1))), (node, index)


@pytest.mark.rule("V38")
def test_nothing_in_a_merge_depends_on_the_kernels() -> None:
    case = merged("int4, two tensors")
    slow = case.program.run(reference, case.given)
    for one, other in zip(case.values, slow, strict=True):
        assert torch.equal(one, other)


@pytest.mark.rule("V38")
def test_what_is_committed_is_a_node_of_its_own() -> None:
    """A residual that does not move is not the input: each is bound to a digest."""
    program = merged("int4, not acknowledged").program
    assert not set(program.inputs.values()) & set(program.outputs.values())
    for name in ("payload", "my_payload"):
        numbers = {**program.inputs, **program.outputs}
        assert program.nodes[numbers[name]].purpose == "payload"


@pytest.mark.rule("V38")
@pytest.mark.parametrize("fragment", [0, 1])
def test_the_copy_of_a_fragment_is_its_span(fragment: int) -> None:
    spec = a_run("int8")
    program = copy_program(spec, STAGE, fragment)
    params_P = init_flat(plans_of(spec)[STAGE], 3)
    values = program.run(trusted_kernels().kernels, {"params": params_P})
    copied = Shard(spec, STAGE, params_P).snapshot(fragment).theta_P
    at = program.outputs["theta"]
    assert torch.equal(values[at], copied)
    for place in (0, copied.numel() - 1):
        assert torch.equal(program.element(at, (place,), values), copied[place])


def test_numbers_that_no_merge_has_are_our_own_mistake() -> None:
    spec = a_run("int8")
    for numbers in (
        MergeNumbers(fragment=2, scalars=SCALARS),
        MergeNumbers(fragment=-1, scalars=SCALARS),
        MergeNumbers(fragment=0, scalars=SCALARS, weight_nano=1),
        MergeNumbers(fragment=0, scalars=SCALARS, my_codec=Codec.INT4, moves_residual=True),
    ):
        with pytest.raises(UsageError):
            merge_program(spec, STAGE, numbers)
    with pytest.raises(UsageError):
        copy_program(spec, STAGE, 2)
