"""Build the payload of a fragment, choose its codec, and read the payload of a partner.

Core: pure functions of the run and the round: nothing here is negotiated.

    gamma = beta     theta travels                                  (one tensor)
    gamma other      theta, and phi behind it, in one payload       (two tensors)

In a round of final averaging theta travels alone, in float32. Otherwise the codec of a round is the run's, but
int4 is replaced by int8 in the last tenth of the rounds; if the two sides have different anchors it is bfloat16
(``choose_codec`` of gossip/trade/payload.py). int4-mean and int3-mean are not replaced: the distance that their
errors leave between replicas has the mean 0, and the final averaging removes it. A run in int4 keeps a residual
for everything that travels, as part of its state; any other run keeps none.

    int4         the partner's values are merged as they are, and the error of a payload goes into the next
    int4-mean    what is merged is the difference of the two payloads (``mean_kept``), and errors are forgotten
    int3-mean    the same, with seven levels instead of fifteen
Source: docs/spec/training.md sections 3 and 5. Legend: P parameters of the shard, F values of one fragment, R
values of a residual: 0, P or 2 P.
"""

from dataclasses import replace

import torch
from torch import Tensor

from swarm.config.spec import OuterSpec, RunSpec
from swarm.errors import UsageError
from swarm.gossip.codecs.int4 import is_coarse
from swarm.gossip.trade.messages import Codec
from swarm.gossip.trade.payload import FragmentPayload, encode_payload, read_payload
from swarm.placement import moved
from swarm.training.averaging.outer_step import FragmentSnapshot, Merge
from swarm.training.model.operators import are_finite
from swarm.training.model.stages import Span

MEAN_CODECS = {"int4-mean": Codec.INT4, "int3-mean": Codec.INT3}
"""Encodings under which a merge keeps the mean of a pair (``mean_kept``), and the codec of their payloads."""


def common_codec(spec: RunSpec, round_index: int, *, is_final_averaging: bool = False) -> Codec:
    """Return the codec of a round in which both sides have the same anchor."""
    if is_final_averaging:
        return Codec.F32
    match spec.outer.codec:
        case name if name in MEAN_CODECS:
            return MEAN_CODECS[name]
        case "int4" if is_coarse(round_index, spec.rounds):
            return Codec.INT4
        case "bf16":
            return Codec.BF16
        case _:
            return Codec.INT8


def trades_slow(outer: OuterSpec) -> bool:
    """Return True if the slow weights travel too: gamma other than beta needs the partner's."""
    return outer.gamma_nano != outer.beta_nano


def traded_numel(spec: RunSpec, numel: int, *, is_final_averaging: bool = False) -> int:
    """Return the number of values that travel for a fragment of ``numel``."""
    return 2 * numel if trades_slow(spec.outer) and not is_final_averaging else numel


def residual_numel(spec: RunSpec, num_parameters: int) -> int:
    """Return R, the values of a shard's residual; 0 unless the run trades in int4 with error feedback."""
    return traded_numel(spec, num_parameters) if spec.outer.codec == "int4" else 0


def residual_of(residual_R: Tensor, span: Span, num_parameters: int) -> Tensor:
    """Return the residual of one fragment: of theta, then of phi if it travels. It must not be written to."""
    parts = [residual_R[part] for part in _parts(residual_R, span, num_parameters)]
    return parts[0] if len(parts) == 1 else torch.cat([residual_R[:0], *parts])


def move_residual(residual_R: Tensor, span: Span, num_parameters: int, reported_F: Tensor) -> None:
    """Write one fragment's residual, ``reported_F``, into that of the shard."""
    at = 0
    for part in _parts(residual_R, span, num_parameters):
        residual_R[part] = reported_F[at : at + span.numel]
        at += span.numel


def anchor_of(
    spec: RunSpec, snapshot: FragmentSnapshot, *, is_final_averaging: bool = False
) -> Tensor:
    """Return the anchor of the values that travel, to which int8 and int4 are relative."""
    anchor = snapshot.anchor_P
    return (
        torch.cat((anchor, anchor))
        if trades_slow(spec.outer) and not is_final_averaging
        else anchor
    )


def fragment_payload(
    spec: RunSpec, round_index: int, snapshot: FragmentSnapshot, *, is_final_averaging: bool = False
) -> FragmentPayload:
    """Return the content of a fragment to be offered to a partner."""
    theta, is_theta_only = snapshot.theta_P, is_final_averaging or not trades_slow(spec.outer)
    return FragmentPayload(
        theta=theta if is_theta_only else torch.cat((theta, snapshot.phi_P)),
        anchor=anchor_of(spec, snapshot, is_final_averaging=is_final_averaging),
        anchor_root=snapshot.anchor_root,
        step=snapshot.step,
        tokens=snapshot.tokens,
        codec=common_codec(spec, round_index, is_final_averaging=is_final_averaging),
        residual=snapshot.residual_P
        if snapshot.residual_P.numel() and not is_final_averaging
        else None,
    )


def read_values(
    spec: RunSpec, values: Tensor, *, is_final_averaging: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return the partner's theta_F, and its phi_F if both travel, from the received values."""
    if is_final_averaging or not trades_slow(spec.outer):
        return values, None
    half = values.numel() // 2
    return values[:half], values[half:]


def keeps_mean(spec: RunSpec) -> bool:
    """Return True if a merge takes the difference of two payloads, so that the mean of a pair stays."""
    return spec.outer.codec in MEAN_CODECS


def mean_kept(spec: RunSpec, merge: Merge) -> Merge:
    """Return the merge with theta + (Q(theta_hat) - Q(theta)) for theta_hat in a run that keeps the mean. Slow.

    Q(theta) are the values that our own payload encodes, in the codec of the partner's: both sides quantize, so
    with weights of one half both move by the same amount, and what quantization rounds off moves neither mean.
    The merge is unchanged in other runs, in rounds of final averaging, without a partner, if our payload cannot
    be encoded (then it was never sent either), and if the sum is not finite.
    """
    received = merge.received
    if not keeps_mean(spec) or merge.is_final_averaging or received is None:
        return merge
    snapshot, codec = merge.snapshot, received.offer.codec
    mine = fragment_payload(spec, 0, snapshot)  # the round would choose the codec only
    try:
        payload, _ = encode_payload(mine, codec)
    except UsageError:
        return merge
    said = read_payload(codec, payload, mine.anchor)
    values = torch.sub(received.values, said, out=said).add_(mine.theta)
    if not are_finite(values):
        return merge
    theta_hat_P, phi_hat_P = read_values(spec, moved(values))
    return replace(merge, theta_hat_P=theta_hat_P, phi_hat_P=phi_hat_P)


def _parts(residual_R: Tensor, span: Span, num_parameters: int) -> list[slice]:
    starts = range(0, residual_R.numel(), num_parameters)
    return [slice(start + span.start, start + span.start + span.numel) for start in starts]
