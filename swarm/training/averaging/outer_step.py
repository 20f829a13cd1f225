"""Apply the outer step of NoLoCo to one fragment: two replicas move together, or one takes a solo step.

Core: arithmetic on slices; new tensors out.

    target = (1 - w) theta + w theta_hat
    m     <- alpha m + beta (target - phi)
    phi   <- phi + m
    theta <- phi + (theta_now - theta_snapshot)

This one-tensor form is gamma = beta. With the partner's phi as well (needed for another gamma):

    m     <- alpha m + beta (target - slow) + gamma (slow - phi)    with slow = (1 - w) phi + w phi_hat

The rounds of final averaging at the end of a run (gossip/pairing.py) set phi <- target and m <- 0: alpha 0,
beta 1, without the rounding of phi + (target - phi), so that all replicas end with one hash.

``FragmentSnapshot``, ``SentFragment`` and ``Merge`` hold the data of a fragment on its way into an outer step.
A partner whose fragment would make the values too large is declined.

Source: docs/spec/training.md section 3 (NoLoCo, arXiv 2506.10911).
Legend: F values of one fragment; P the same in snapshots and merges.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from swarm.config.spec import NANO, OuterSpec
from swarm.errors import PeerFault, UsageError
from swarm.gossip.trade.messages import Receipt
from swarm.gossip.trade.payload import ReceivedFragment
from swarm.placement import let_go
from swarm.training.model.operators import are_finite
from swarm.training.record.segment import NO_PARTNER
from swarm.types import NO_DIGEST, Digest, PeerId

WEIGHT_MIN_NANO = NANO // 4
WEIGHT_MAX_NANO = NANO // 2
"""A partner counts for at least a quarter, and never for more than the seat itself, before ageing."""


@dataclass(frozen=True, slots=True)
class OuterState:
    """The slow weights and the outer momentum of one fragment, always float32."""

    phi_F: Tensor
    momentum_F: Tensor


@dataclass(frozen=True, slots=True)
class Partner:
    """Tensors received from the partner and its weight; ``phi_F`` selects the two-tensor form."""

    theta_F: Tensor
    weight: float
    phi_F: Tensor | None = None


@dataclass(frozen=True, slots=True)
class OuterScalars:
    """The numbers of one outer step."""

    alpha: float
    beta: float
    gamma: float


PRESETS = {
    "noloco": OuterScalars(0.5, 0.7, 0.7),
    "diloco": OuterScalars(0.3, 0.7, 0.7),
    "gossip": OuterScalars(0.0, 1.0, 1.0),
}
"""Recommended numbers by method; those of diloco are for an all-reduce (testing/baselines.py)."""


def stability_bound(alpha: float) -> float:
    """Return the upper bound of gamma, 2 (1 - alpha^2): pairs converge iff gamma is positive and below it.

    The bound follows from the exact second moment.
    """
    return 2.0 * (1.0 - alpha * alpha)


def outer_scalars(spec: OuterSpec, round_index: int) -> OuterScalars:
    """Return the numbers of a round: alpha ramps from 0 over the first ``alpha_ramp_rounds``."""
    ramp = spec.alpha_ramp_rounds
    reached_nano = spec.alpha_nano * min(round_index, ramp) // ramp if ramp else spec.alpha_nano
    return OuterScalars(reached_nano / NANO, spec.beta_nano / NANO, spec.gamma_nano / NANO)


def weight_nano(
    my_tokens: int, partner_tokens: int, lag_rounds: int, age_weights_nano: tuple[int, ...]
) -> int:
    """Return the partner's share w in billionths: by tokens since the last trade, then by its lag.

    A lag past the table gives 0, which makes a solo step. Do not call it for a partner that only receives: its
    w is 0. Raises ``UsageError`` for a negative argument.
    """
    if min(my_tokens, partner_tokens, lag_rounds) < 0:
        raise UsageError("tokens and lags are counted from 0")
    total = my_tokens + partner_tokens
    share = NANO * partner_tokens // total if total else WEIGHT_MAX_NANO
    share = min(max(share, WEIGHT_MIN_NANO), WEIGHT_MAX_NANO)
    age = age_weights_nano[lag_rounds] if lag_rounds < len(age_weights_nano) else 0
    return share * age // NANO


def outer_step(
    state: OuterState, theta_F: Tensor, partner: Partner | None, scalars: OuterScalars
) -> OuterState:
    """Return the next slow state; ``theta_F`` is the offered snapshot. Without a partner, or w = 0, it is solo.

    Raises ``PeerFault`` if a partner's tensor has another shape or is not finite, ``UsageError`` if gamma needs
    a partner's phi that is missing.
    """
    target_F, slow_F = theta_F, state.phi_F
    if partner is not None and partner.weight > 0.0:
        target_F = _mixed(theta_F, partner.theta_F, partner.weight)
        if partner.phi_F is not None:
            slow_F = _mixed(state.phi_F, partner.phi_F, partner.weight)
        elif scalars.gamma != scalars.beta:
            raise UsageError("gamma differs from beta: the partner's slow weights are needed")
    momentum_F = state.momentum_F * scalars.alpha + (target_F - slow_F) * scalars.beta
    if slow_F is not state.phi_F:
        momentum_F = momentum_F + (slow_F - state.phi_F) * scalars.gamma
    return OuterState(state.phi_F + momentum_F, momentum_F)


def final_averaging_step(theta_F: Tensor, partner: Partner | None) -> OuterState:
    """Compute one round of final averaging: the weighted mean is the new phi, and the momentum is zero.

    Partners whose weights add up to one get the same bits. Raises ``PeerFault`` like ``outer_step``.
    """
    target_F = theta_F
    if partner is not None and partner.weight > 0.0:
        _check(theta_F, partner.theta_F)
        theirs = round(partner.weight * NANO)
        # Each share from its own integer: 1 - w, rounded, is not the weight of the other side.
        target_F = theta_F * ((NANO - theirs) / NANO) + partner.theta_F * (theirs / NANO)
        target_F = partner.theta_F.clone() if theirs == NANO else target_F
    return OuterState(target_F, torch.zeros_like(target_F))


def advanced(phi_F: Tensor, theta_now_F: Tensor, theta_snapshot_F: Tensor) -> Tensor:
    """Return the fast weights after an outer step, keeping the progress of inner steps since the snapshot."""
    return phi_F + (theta_now_F - theta_snapshot_F)


def _mixed(mine_F: Tensor, theirs_F: Tensor, weight: float) -> Tensor:
    _check(mine_F, theirs_F)
    # Not lerp: its rounding differs between SIMD widths.
    return mine_F * (1.0 - weight) + theirs_F * weight


def _check(mine_F: Tensor, theirs_F: Tensor) -> None:
    if theirs_F.shape != mine_F.shape or not bool(torch.isfinite(theirs_F).all()):
        raise PeerFault("a fragment of another shape, or not finite")


@dataclass(frozen=True, slots=True)
class FragmentSnapshot:
    """A fragment as it was between two steps: it is offered to the partner, and the merge starts from it."""

    exchange: int
    """Number of the exchange in its round, for which it was copied."""
    fragment: int
    theta_P: Tensor
    anchor_P: Tensor
    anchor_root: Digest
    tokens: int
    step: int
    phi_P: Tensor
    """The slow weights, which change only when this fragment is merged."""
    residual_P: Tensor
    """Quantization error of int4 not sent yet, of all that travels; empty in a run that never uses int4."""
    window: int = 0
    """Number of the window in which it was copied."""


@dataclass(frozen=True, slots=True)
class SentFragment:
    """An int4 payload of this seat that its receiver has acknowledged; only then the residual moves."""

    receipt: Receipt
    """Signed by the partner; it names ``Merge.my_payload``."""
    residual_P: Tensor
    """Quantization error that the payload leaves."""


@dataclass(frozen=True, slots=True)
class Merge:
    """One outer step of one fragment; ``theta_hat_P`` is None for a solo step."""

    snapshot: FragmentSnapshot
    theta_hat_P: Tensor | None
    weight_nano: int
    scalars: OuterScalars
    partner: PeerId | None
    partner_seat: int
    my_payload: Digest
    received: ReceivedFragment | None = None
    """None in a solo step."""
    phi_hat_P: Tensor | None = None
    """The partner's slow weights, in a run that trades them."""
    sent: SentFragment | None = None
    """None if the residual is unchanged: no int4, or no receipt. A solo step may have it."""
    is_final_averaging: bool = False
    """True in a round of final averaging: phi becomes the mean, and no momentum is kept."""

    @property
    def partner_payload(self) -> Digest:
        """Digest of the partner's payload; ``NO_DIGEST`` in a solo step."""
        return NO_DIGEST if self.received is None else self.received.offer.payload_hash

    @classmethod
    def solo(
        cls,
        snapshot: FragmentSnapshot,
        scalars: OuterScalars,
        sent: SentFragment | None = None,
        *,
        is_final_averaging: bool = False,
    ) -> "Merge":
        """Return the step without a partner; a payload of this seat that one acknowledged still counts."""
        mine = NO_DIGEST if sent is None else sent.receipt.payload_hash
        return cls(
            snapshot,
            None,
            0,
            scalars,
            None,
            NO_PARTNER,
            mine,
            sent=sent,
            is_final_averaging=is_final_averaging,
        )


MERGE_SLICE = 1 << 18
"""Values of a fragment that are merged at once: about ten temporaries of 1 MiB."""
MERGED_MAX = 2.0**30
"""Bound on merged values, far above any weight of a model that learns; a partner beyond it is declined."""


def apply_merge(
    merge: Merge, slow: OuterState, theta_now_F: Tensor
) -> tuple[OuterState, Tensor, int]:
    """Apply the outer step of docs/spec/training.md section 3, between two optimizer steps.

    Returns the next slow state, the next fast weights, and the weight of the partner in billionths: 0 if it was
    declined.

    A partner that would take a value past ``MERGED_MAX`` is declined: its weight is 0. Raises ``PeerFault``
    for a received fragment of another shape or with non-finite values.
    """
    partner, weight_nano = None, merge.weight_nano
    if merge.theta_hat_P is not None:
        partner = Partner(merge.theta_hat_P, weight_nano / NANO, merge.phi_hat_P)
    after, theta_F = _stepped(merge, slow, theta_now_F, partner)
    tensors = (after.phi_F, after.momentum_F, theta_F)
    if partner is not None and not are_finite(*tensors, bound=MERGED_MAX):
        return *_stepped(merge, slow, theta_now_F, None), 0
    return after, theta_F, weight_nano


def merge_in_place(merge: Merge, slow: OuterState, theta_now_F: Tensor) -> int:
    """Apply ``apply_merge`` to the slow state and the fast weights themselves; return the partner's weight.

    Temporaries are those of a slice. All slices are computed before the first is written, so that a partner is
    declined, or refused by ``PeerFault``, as a whole.
    """
    parts = [
        slice(start, start + MERGE_SLICE) for start in range(0, theta_now_F.numel(), MERGE_SLICE)
    ]
    weight_nano = merge.weight_nano
    if len(parts) > 1 and merge.theta_hat_P is not None:
        for part in parts:
            weight_nano = min(weight_nano, _apply_part(merge, slow, theta_now_F, part)[2])
            let_go()
        if weight_nano != merge.weight_nano:
            merge = replace(merge, theta_hat_P=None, phi_hat_P=None)
    for part in parts:
        after, theta_C, taken_nano = _apply_part(merge, slow, theta_now_F, part)
        slow.phi_F[part], slow.momentum_F[part] = after.phi_F, after.momentum_F
        theta_now_F[part] = theta_C
        let_go()
        weight_nano = min(weight_nano, taken_nano)
    return weight_nano


def _apply_part(
    merge: Merge, slow: OuterState, theta_now_F: Tensor, part: slice
) -> tuple[OuterState, Tensor, int]:
    snapshot = replace(merge.snapshot, theta_P=merge.snapshot.theta_P[part])
    theta_hat_P = None if merge.theta_hat_P is None else merge.theta_hat_P[part]
    phi_hat_P = None if merge.phi_hat_P is None else merge.phi_hat_P[part]
    return apply_merge(
        replace(merge, snapshot=snapshot, theta_hat_P=theta_hat_P, phi_hat_P=phi_hat_P),
        OuterState(slow.phi_F[part], slow.momentum_F[part]),
        theta_now_F[part].cpu(),
    )


def _stepped(
    merge: Merge, slow: OuterState, now_F: Tensor, partner: Partner | None
) -> tuple[OuterState, Tensor]:
    if merge.is_final_averaging:
        slow = final_averaging_step(merge.snapshot.theta_P, partner)
    else:
        slow = outer_step(slow, merge.snapshot.theta_P, partner, merge.scalars)
    return slow, advanced(slow.phi_F, now_F, merge.snapshot.theta_P)
