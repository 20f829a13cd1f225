"""Derive the programs of a fragment: its copy, and its merge with a partner's or alone.

Core: functions of the run spec and the numbers of the exchange.

The arithmetic is that of ``Shard.merge``: the partner's payload is decoded, in a run that keeps the mean of a
pair our own is taken from it, and the outer step moves phi, its momentum and the fast weights. Two things
depend on all values of a fragment at once: whether a difference of payloads is finite, and whether a partner
takes some value past ``MERGED_MAX`` and is declined. Each is one value, the largest magnitude, folded a few at
a time.

    theta, phi ---> my payload ------(keeps the mean)--+
    payload ---> received values ----------------------+--> target, slow --> momentum --> phi --> params
                                                            largest magnitude --> weight ---^

Legend: P parameters of the shard, F values of one fragment, N values that travel of it: F, or 2 F with phi
behind theta, R values of the residual: 0, P or 2 P.
"""

from dataclasses import dataclass
from functools import cached_property

from swarm.config.spec import NANO, RunSpec
from swarm.errors import UsageError
from swarm.gossip.trade.messages import Codec
from swarm.training.averaging.outer_step import OuterScalars
from swarm.training.averaging.payload import keeps_mean, residual_numel, trades_slow
from swarm.training.model.stages import Span, StagePlan, plans_of
from swarm.types import StageIndex
from swarm.verify.program.nodes import Builder, Node, Program, Value
from swarm.verify.program.wire import CODECS, bytes_of, given_bytes, peaks_of, values_in

PAYLOAD_PURPOSE = "payload"
"""Purpose of ``gossip.trade.messages.payload_digest``."""


@dataclass(frozen=True, slots=True)
class MergeNumbers:
    """Numbers of an exchange that the arithmetic of its merge depends on."""

    fragment: int
    scalars: OuterScalars
    weight_nano: int = 0
    """Weight of the partner, if it is not declined; 0 in a solo step."""
    codec: Codec | None = None
    """Codec of the partner's payload; None in a solo step."""
    my_codec: Codec | None = None
    """Codec of the payload that the partner was given; None if it was given none."""
    moves_residual: bool = False
    """True if the residual moves to what our payload in int4 leaves unsaid: the partner acknowledged it."""
    is_final_averaging: bool = False


def copy_program(spec: RunSpec, stage: StageIndex, fragment: int) -> Program:
    """Return the program of the copy of a fragment.

    Input: ``params`` P. Output: ``theta`` F. Raises ``UsageError`` for a fragment that a stage does not have.
    """
    plan, b = plans_of(spec)[stage], Builder()
    span = _span(spec, plan, fragment)
    params = b.given("params", plan.num_parameters)
    return b.program(theta=b.put("slice", (span.numel,), params, start=span.start))


def merge_program(spec: RunSpec, stage: StageIndex, numbers: MergeNumbers) -> Program:
    """Return the program of one merge.

    Inputs: ``theta`` F, the copy; ``params``, ``phi`` and ``outer_m`` P; ``residual`` R in a run with one;
    ``anchor`` P, the canonical checkpoint, where a codec is relative to it; ``payload``, the partner's bytes,
    where its weight is above 0. Outputs: ``params``, ``phi``, ``outer_m`` and ``residual`` after the merge;
    ``my_payload``, where one was given; ``weight``, int32, the partner's in billionths or 0 if it is declined,
    where it was above 0.

    Raises ``UsageError`` for numbers that no merge of the run has.
    """
    return _Merge(spec, stage, numbers).program()


def _span(spec: RunSpec, plan: StagePlan, fragment: int) -> Span:
    if not 0 <= fragment < spec.outer.fragments:
        raise UsageError(f"fragment {fragment} of {spec.outer.fragments}")
    return plan.fragments(spec.outer.fragments)[fragment]


@dataclass(frozen=True, slots=True)
class _Sent:
    """Our own payload."""

    values: Value
    """Values that it encodes."""
    peaks: Value | None
    """Of its blocks, if it has some."""
    data: Value


class _Merge:
    """The derivation of one merge."""

    def __init__(self, spec: RunSpec, stage: StageIndex, numbers: MergeNumbers) -> None:
        plan = plans_of(spec)[stage]
        self._spec, self._numbers, self._numel = spec, numbers, plan.num_parameters
        self._span = _span(spec, plan, numbers.fragment)
        self._is_two = trades_slow(spec.outer) and not numbers.is_final_averaging
        num_residual = residual_numel(spec, self._numel)
        if numbers.weight_nano and numbers.codec is None:
            raise UsageError("a partner has a weight, and no payload")
        if numbers.moves_residual and not (num_residual and numbers.my_codec is Codec.INT4):
            raise UsageError("a residual moves with a payload in int4, in a run that keeps one")
        b = self._builder = Builder()
        self._theta = b.given("theta", self._span.numel)
        self._params = b.given("params", self._numel)
        self._phi = b.given("phi", self._numel)
        self._outer_m = b.given("outer_m", self._numel)
        self._residual = b.given("residual", num_residual) if num_residual else None
        self._slow, self._now = self._cut(self._phi), self._cut(self._params)
        self._sent: dict[Codec, _Sent] = {}

    def program(self) -> Program:
        """Derive the program."""
        b, start = self._builder, self._span.start
        phi_F, momentum_F, weight = self._outer_step()
        theta_F = b.same("advanced", phi_F, self._now, self._theta)
        pairs = ((self._params, theta_F), (self._phi, phi_F), (self._outer_m, momentum_F))
        params, phi, outer_m = (b.same("spliced", *pair, start=start) for pair in pairs)
        codec = self._numbers.my_codec
        return b.program(
            params=params,
            phi=phi,
            outer_m=outer_m,
            residual=self._moved_residual(),
            my_payload=None if codec is None else self._payload(codec).data,
            weight=weight,
        )

    def _cut(self, flat: Value, at: int = 0) -> Value:
        """Return the values of the fragment in a vector that begins at ``at``."""
        span = self._span
        return self._builder.put("slice", (span.numel,), flat, start=at + span.start)

    def _largest(self, *values: Value) -> Value:
        """Return the largest magnitude of all values: one."""
        return self._builder.total(self._builder.same("largest", *values), "peaks")

    # --- payloads ---

    def _travels(self, theta: Value, phi: Value) -> Value:
        """Return what travels of two values: both, or the first."""
        numel = 2 * self._span.numel
        return self._builder.put("stacked", (numel,), theta, phi) if self._is_two else theta

    @cached_property
    def _mine(self) -> Value:
        return self._travels(self._theta, self._slow)

    @cached_property
    def _anchor(self) -> Value:
        anchor_F = self._cut(self._builder.given("anchor", self._numel))
        return self._travels(anchor_F, anchor_F)

    def _payload(self, codec: Codec) -> _Sent:
        """Return our payload in a codec: in blocks what is above the anchor, in int4 with the residual."""
        if codec not in self._sent:
            b, form, values, peaks = self._builder, CODECS[codec], self._mine, None
            if form.is_blocks:
                values = b.same("difference", values, self._anchor)
                if codec is Codec.INT4 and self._residual is not None:
                    values = b.same("add", values, self._unsaid_before(self._residual))
                peaks = peaks_of(b, values, form)
            data = bytes_of(b, values, form, PAYLOAD_PURPOSE, peaks)
            self._sent[codec] = _Sent(values, peaks, data)
        return self._sent[codec]

    def _unsaid_before(self, residual_R: Value) -> Value:
        parts = [self._cut(residual_R, at) for at in range(0, residual_R.shape[0], self._numel)]
        return self._travels(parts[0], parts[-1])

    def _said(self, data: Value, codec: Codec) -> Value:
        """Return the values that a payload encodes."""
        b, form = self._builder, CODECS[codec]
        values_N = values_in(b, data, form, *self._mine.shape)
        return b.same("add", values_N, self._anchor) if form.is_blocks else values_N

    def _received(self, codec: Codec) -> Value:
        """Return the partner's values as they are merged."""
        b, (numel,) = self._builder, self._mine.shape
        data = given_bytes(b, "payload", CODECS[codec], numel, PAYLOAD_PURPOSE)
        received_N = self._said(data, codec)
        if not keeps_mean(self._spec) or self._numbers.is_final_averaging:
            return received_N
        said_N = self._said(self._payload(codec).data, codec)
        kept_N = b.same("kept_mean", received_N, said_N, self._mine)
        # No number, either, where no payload of ours can be encoded: then it is merged as it is.
        return b.same("finite_or", kept_N, received_N, self._largest(kept_N))

    def _moved_residual(self) -> Value | None:
        residual, b = self._residual, self._builder
        if residual is None:
            return None
        if not self._numbers.moves_residual:
            # A node of its own: what goes in and what comes out are bound to one digest each.
            return b.reshaped(residual, *residual.shape)
        sent = self._payload(Codec.INT4)
        assert sent.peaks is not None, "int4 has blocks"
        left_N = b.same("unsaid", sent.values, sent.peaks, most=CODECS[Codec.INT4].most)
        for part, at in enumerate(range(0, residual.shape[0], self._numel)):
            left_F = self._half(left_N, part) if self._is_two else left_N
            residual = b.same("spliced", residual, left_F, start=at + self._span.start)
        return residual

    def _half(self, values_2F: Value, number: int) -> Value:
        numel = self._span.numel
        return self._builder.put("slice", (numel,), values_2F, start=number * numel)

    # --- the outer step ---

    def _outer_step(self) -> tuple[Value, Value, Value | None]:
        """Return (phi, momentum, weight) after the step; no weight in a solo step."""
        b, numbers = self._builder, self._numbers
        if not numbers.weight_nano or numbers.codec is None:
            return *self._moved(self._theta, self._slow), None
        theirs_N = self._received(numbers.codec)
        if self._is_two:
            target = self._mixed(self._theta, self._half(theirs_N, 0))
            slow = self._mixed(self._slow, self._half(theirs_N, 1))
        else:
            target, slow = self._mixed(self._theta, theirs_N), self._slow
        moved = self._moved(target, slow)
        theta = b.same("advanced", moved[0], self._now, self._theta)
        largest = self._largest(*moved, theta)
        attributes = (numbers.weight_nano,)
        weight = b.append(Node("taken", (largest.number,), (1,), attributes, dtype="int32"))
        alone = self._moved(self._theta, self._slow)
        phi, momentum = (
            b.same("by_weight", *pair, weight) for pair in zip(moved, alone, strict=True)
        )
        return phi, momentum, weight

    def _mixed(self, mine: Value, theirs: Value) -> Value:
        """Return the weighted mean of our values and the partner's."""
        weight = self._numbers.weight_nano / NANO
        keep = 1.0 - weight
        if self._numbers.is_final_averaging:
            if self._numbers.weight_nano == NANO:
                return theirs
            # Each share from its own integer, as final averaging has it.
            keep = (NANO - self._numbers.weight_nano) / NANO
        return self._builder.same("kept", mine, theirs, keep=keep, new=weight)

    def _moved(self, target: Value, slow: Value) -> tuple[Value, Value]:
        """Return phi and momentum after a step to a target; ``slow`` is phi, or what a partner makes of it."""
        b, s = self._builder, self._numbers.scalars
        if self._numbers.is_final_averaging:
            return target, b.put("zeros", target.shape)
        pulls = () if slow == self._slow else (self._slow,)
        scalars = {"alpha": s.alpha, "beta": s.beta, "gamma": s.gamma}
        momentum = b.same("momentum", self._momentum, target, slow, *pulls, **scalars)
        return b.same("add", self._slow, momentum), momentum

    @cached_property
    def _momentum(self) -> Value:
        return self._cut(self._outer_m)
