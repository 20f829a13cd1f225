"""Derive the program of a micro-batch in one stage: forward, loss or gradient from above, backward.

Core: a function of the run spec.

The arithmetic is that of ``training/model`` over ``exact_ops``, operator by operator: a test holds both to the
same bits, for every kind of stage. There autograd derives the backward pass; here it is written down, since a
dispute needs every value in it by number. No value is used more than twice, so no sum of gradients has an order
that could matter.

Legend: N rows (batch x time), B batch, T time, D hidden, S values that a stage sends of a token, H heads, K
key-value heads, E features of a head, I intermediate, V vocabulary, P parameters of the shard.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

from swarm.config.spec import NANO, RunSpec
from swarm.training.model.adapter import GROUPS
from swarm.training.model.llama import LAYER_BLOCKS, head_width
from swarm.training.model.stages import StagePlan, plans_of
from swarm.types import StageIndex
from swarm.verify.program.nodes import Builder, Program, Value
from swarm.verify.program.wire import WIRES, bytes_of, given_bytes, values_in

WIRE_PURPOSE = "wire"
"""Purpose of ``training.messages.wire_digest``."""


def microbatch_program(spec: RunSpec, stage: StageIndex) -> Program:
    """Return the program of one micro-batch of a run with exact numerics.

    Inputs: ``params`` P; ``base`` with an adapter; ``entry_wire`` but in stage 0; ``ids`` N where tokens are
    looked up; ``labels`` N in the last stage, both int32; ``pull_wire`` in the others, the gradient by what was
    sent; ``cos`` and ``sin`` TE. Outputs: ``activations`` NS and ``activations_wire``, or ``loss``;
    ``gradient`` P; ``gradient_down`` NS and ``gradient_down_wire`` but in stage 0. What ends in ``_wire`` is
    uint8, the bytes of NS values in the format of the run.
    """
    plan = plans_of(spec)[stage]
    return _Derivation(spec, plan).program()


@dataclass(frozen=True, slots=True)
class _LowRank:
    """An adapter of the projections that read one input."""

    into: Value
    back: tuple[Value | None, ...]


@dataclass(slots=True)
class _Layer:
    """Parameters of a decoder layer."""

    input_norm: Value
    qkv: Value
    output: Value
    middle_norm: Value
    gate: Value
    up: Value
    down: Value
    low: list[_LowRank | None] = field(default_factory=lambda: [None] * len(GROUPS), kw_only=True)


class _Tape:
    """Operators with their backward halves; ``unwind`` runs these from the last to the first."""

    def __init__(self) -> None:
        self.builder = Builder()
        self._gradients: dict[int, Value] = {}
        self._needed = set[int]()
        self._halves: list[tuple[Value, Callable[[Value], None]]] = []

    def need(self, value: Value) -> None:
        """Ask for the gradient by a value."""
        self._needed.add(value.number)

    def gradient(self, value: Value) -> Value | None:
        """Return the gradient by a value; None if nothing depends on it."""
        return self._gradients.get(value.number)

    def give(self, value: Value, gradient: Callable[[], Value]) -> None:
        """Add to the gradient by a value, if it is needed."""
        if value.number in self._needed:
            total = self.builder.add(self._gradients.get(value.number), gradient())
            assert total is not None, "a sum of something"
            self._gradients[value.number] = total

    def unwind(self, last: Value, gradient: Value) -> None:
        """Run the backward halves, from the gradient by the last value on."""
        self._gradients[last.number] = gradient
        for out, half in reversed(self._halves):
            pull = self._gradients.get(out.number)
            if pull is not None:
                half(pull)

    def _record(
        self, out: Value, operands: Sequence[Value], half: Callable[[Value], None]
    ) -> Value:
        if any(operand.number in self._needed for operand in operands):
            self._needed.add(out.number)
            self._halves.append((out, half))
        return out

    def linear(self, x_ND: Value, weight_OD: Value) -> Value:
        """Return x W^T."""
        b = self.builder

        def half(pull_NO: Value) -> None:
            self.give(x_ND, lambda: b.product(pull_NO, b.transposed(weight_OD)))
            turned = (pull_NO, x_ND)
            self.give(
                weight_OD,
                lambda: b.put(
                    "weight_gradient", weight_OD.shape, *(b.transposed(value) for value in turned)
                ),
            )

        return self._record(b.product(x_ND, weight_OD), (x_ND, weight_OD), half)

    def add(self, left: Value, right: Value) -> Value:
        """Return the sum of two values."""

        def half(pull: Value) -> None:
            self.give(left, lambda: pull)
            self.give(right, lambda: pull)

        return self._record(self.builder.same("add", left, right), (left, right), half)

    def scaled(self, x: Value, factor: float) -> Value:
        """Return a value times a constant."""

        def half(pull: Value) -> None:
            self.give(x, lambda: self.builder.same("scaled", pull, factor=factor))

        return self._record(self.builder.same("scaled", x, factor=factor), (x,), half)

    def renamed(self, x: Value, *shape: int) -> Value:
        """Return the same values in another shape, or as a value of its own."""

        def half(pull: Value) -> None:
            self.give(x, lambda: self.builder.reshaped(pull, *x.shape))

        return self._record(self.builder.reshaped(x, *(shape or x.shape)), (x,), half)

    def split(self, x: Value, widths: Sequence[int]) -> list[Value]:
        """Cut the last axis of a value into pieces, each of which must be used."""
        b, pieces, first = self.builder, list[Value](), 0
        for width in widths:
            pieces.append(b.put("columns", (*x.shape[:-1], width), x, first=first))
            first += width

        def half(_: Value) -> None:
            pulls = [self._gradients[piece.number] for piece in pieces]
            self.give(x, lambda: b.put("joined", x.shape, *pulls))

        # Recorded once, with the first piece: all come before it on the way back.
        self._record(pieces[0], (x,), half)
        if pieces[0].number in self._needed:
            self._needed.update(piece.number for piece in pieces)
        return pieces

    def joined(self, pieces: Sequence[Value]) -> Value:
        """Join values along their last axis."""
        b = self.builder
        out = b.put("joined", (*pieces[0].shape[:-1], sum(p.shape[-1] for p in pieces)), *pieces)

        def cut(pull: Value, piece: Value, first: int) -> Value:
            return b.put("columns", piece.shape, pull, first=first)

        def half(pull: Value) -> None:
            first = 0
            for piece in pieces:
                self.give(piece, partial(cut, pull, piece, first))
                first += piece.shape[-1]

        return self._record(out, pieces, half)

    def rms_norm(self, x_ND: Value, weight_D: Value, eps: float) -> Value:
        """Return RMSNorm of each row."""
        b, rows = self.builder, x_ND.shape[0]
        scale_N1 = b.put("rms_scale", (rows, 1), x_ND, eps=eps)

        def by_weight(pull_ND: Value) -> Value:
            bent_DN = b.transposed(b.same("rms_pull", pull_ND, x_ND, scale_N1))
            sum_D1 = b.put("row_sum", (weight_D.shape[0], 1), bent_DN)
            return b.reshaped(sum_D1, *weight_D.shape)

        def half(pull_ND: Value) -> None:
            operands = (pull_ND, x_ND, scale_N1, weight_D)
            self.give(x_ND, lambda: b.same("rms_backward", *operands))
            self.give(weight_D, lambda: by_weight(pull_ND))

        out = b.same("rms_norm", x_ND, scale_N1, weight_D)
        return self._record(out, (x_ND, weight_D), half)

    def swiglu(self, gate_NI: Value, up_NI: Value) -> Value:
        """Return silu(gate) * up."""
        b = self.builder

        def half(pull_NI: Value) -> None:
            self.give(gate_NI, lambda: b.same("swiglu_gate", pull_NI, gate_NI, up_NI))
            self.give(up_NI, lambda: b.same("swiglu_up", pull_NI, gate_NI, up_NI))

        return self._record(b.same("swiglu", gate_NI, up_NI), (gate_NI, up_NI), half)

    def rope(self, x_BTHE: Value, cos_TE: Value, sin_TE: Value) -> Value:
        """Turn rows by their positions."""
        b = self.builder

        def half(pull: Value) -> None:
            back_TE = b.same("scaled", sin_TE, factor=-1.0)
            self.give(x_BTHE, lambda: b.same("rotated", pull, cos_TE, back_TE))

        return self._record(b.same("rotated", x_BTHE, cos_TE, sin_TE), (x_BTHE,), half)

    def attention(self, q_BTHE: Value, k_BTKE: Value, v_BTKE: Value) -> Value:
        """Return causal attention, mixed_BTHE."""
        b, width = self.builder, q_BTHE.shape[3]
        by_head, turned = (0, 2, 1, 3), (0, 1, 3, 2)
        q, k, v = (b.transposed(x, *by_head) for x in (q_BTHE, k_BTKE, v_BTKE))
        weights = b.same("weights", b.product(q, k), width=width)
        mixed = b.product(weights, b.transposed(v, *turned), is_positive=True)

        def over_copies(x: Value, like: Value) -> Value:
            return b.transposed(b.put("over_copies", like.shape, x), *by_head)

        def half(pull_BTHE: Value) -> None:
            pull = b.transposed(pull_BTHE, *by_head)
            slope = b.product(pull, v)
            bent = b.same("bent", weights, slope, width=width)
            sides = (b.transposed(x, *turned) for x in (weights, pull, bent, q, k))
            weights_t, pull_t, bent_t, q_t, k_t = sides
            self.give(
                q_BTHE,
                lambda: b.transposed(b.product(bent, k_t, is_positive=True), *by_head),
            )
            self.give(k_BTKE, lambda: over_copies(b.product(bent_t, q_t, is_positive=True), k))
            self.give(
                v_BTKE, lambda: over_copies(b.product(weights_t, pull_t, is_positive=True), v)
            )

        out = b.transposed(mixed, *by_head)
        return self._record(out, (q_BTHE, k_BTKE, v_BTKE), half)

    def embedding(self, table_VD: Value, ids_N: Value) -> Value:
        """Look rows up."""
        b = self.builder

        def half(pull_ND: Value) -> None:
            self.give(
                table_VD,
                lambda: b.put("gathered", table_VD.shape, b.transposed(pull_ND), ids_N),
            )

        out = b.put("embedded", (ids_N.shape[0], table_VD.shape[1]), table_VD, ids_N)
        return self._record(out, (table_VD,), half)


class _Derivation:
    """The derivation of one stage."""

    def __init__(self, spec: RunSpec, plan: StagePlan) -> None:
        self._spec, self._plan, self._model = spec, plan, spec.model
        self._tape = _Tape()
        self._batch, self._times = spec.microbatch_size, spec.model.seq_len
        self._rows = self._batch * self._times
        self._form = WIRES[spec.wire.activations]
        self._eps = spec.model.norm_eps_nano / NANO

    def program(self) -> Program:
        """Derive the program."""
        tape, plan, b = self._tape, self._plan, self._tape.builder
        trained = self._blocks("params", plan)
        for value in trained:
            tape.need(value)
        weights = trained if plan.base is None else self._blocks("base", plan.base)
        entry = None if plan.is_first else self._received("entry_wire", plan.signal_width)
        if entry is not None:
            tape.need(entry)
        looks_up = plan.is_first or self._model.bottleneck_rank > 0
        ids = b.given("ids", self._rows, dtype="int32") if looks_up else None
        width = head_width(self._model)
        turns = (b.given("cos", self._times, width), b.given("sin", self._times, width))
        x, head = self._through(weights, trained, entry, ids, turns)
        loss = sent = None
        if plan.is_last:
            last, pull, loss = self._loss(x, head)
        else:
            last = sent = x
            pull = self._received("pull_wire", x.shape[1])
        tape.unwind(last, pull)
        gradients = [tape.gradient(value) for value in trained]
        whole = b.put("stacked", (plan.num_parameters,), *(g for g in gradients if g is not None))
        assert None not in gradients, "all that is trained has a gradient"
        down = None if entry is None else tape.gradient(entry)
        return b.program(
            activations=sent,
            activations_wire=self._sent(sent),
            loss=loss,
            gradient=whole,
            gradient_down=down,
            gradient_down_wire=self._sent(down),
        )

    def _received(self, name: str, width: int) -> Value:
        """Return the values in the bytes of a neighbour, which are an input."""
        data = given_bytes(self._tape.builder, name, self._form, self._rows * width, WIRE_PURPOSE)
        return values_in(self._tape.builder, data, self._form, self._rows, width)

    def _sent(self, x: Value | None) -> Value | None:
        """Return the bytes of values for a neighbour, if there are some."""
        return None if x is None else bytes_of(self._tape.builder, x, self._form, WIRE_PURPOSE)

    def _blocks(self, name: str, plan: StagePlan) -> list[Value]:
        """Return the blocks of a flat vector, which is an input."""
        b = self._tape.builder
        flat, at, blocks = b.given(name, plan.num_parameters), 0, list[Value]()
        for block in plan.blocks:
            blocks.append(b.put("slice", block.shape, flat, start=at))
            at += prod(block.shape)
        return blocks

    def _through(
        self,
        weights: Sequence[Value],
        trained: Sequence[Value],
        entry: Value | None,
        ids: Value | None,
        turns: tuple[Value, Value],
    ) -> tuple[Value, list[Value]]:
        """Compute what a stage sends, or its head takes; return that and the parameters of the head."""
        tape, plan, views = self._tape, self._plan, iter(weights)
        has_bottleneck = self._model.bottleneck_rank > 0
        x = table = entry
        if plan.is_first:
            assert ids is not None, "the first stage takes tokens"
            table = next(views)
            x = tape.embedding(table, ids)
        elif has_bottleneck:
            x, table = self._widened(next(views), next(views), x, ids)
        per_layer = 0 if plan.adapter is None else len(trained) // plan.num_layers
        for number in range(plan.num_layers):
            if number in plan.inner_cuts:
                z = self._narrowed(next(views), next(views), x, table, ids)
                x, table = self._widened(next(views), next(views), z, ids)
            layer = _Layer(*(next(views) for _ in range(LAYER_BLOCKS)))
            self._adapt(layer, trained[number * per_layer : (number + 1) * per_layer])
            assert x is not None, "a stage has rows"
            x = self._layer(layer, x, turns)
        if has_bottleneck and not plan.is_last:
            x = self._narrowed(next(views), next(views), x, table, ids)
        assert x is not None, "a stage has rows"
        return x, list(views)

    def _widened(
        self, tokens_VD: Value, up_DK: Value, z_NK: Value | None, ids_N: Value | None
    ) -> tuple[Value, Value]:
        tape = self._tape
        assert z_NK is not None, "a stage behind a cut takes rows"
        assert ids_N is not None, "behind a bottleneck tokens are looked up"
        known_ND = tape.embedding(tokens_VD, ids_N)
        return tape.add(known_ND, tape.linear(z_NK, up_DK)), tokens_VD

    def _narrowed(
        self,
        down_KD: Value,
        norm_K: Value,
        x_ND: Value | None,
        table_VD: Value | None,
        ids_N: Value | None,
    ) -> Value:
        tape = self._tape
        assert x_ND is not None, "a stage before a cut has rows"
        assert table_VD is not None, "it began with rows of tokens"
        assert ids_N is not None, "which were looked up"
        known_ND = tape.scaled(tape.embedding(table_VD, ids_N), -1.0)
        z_NK = tape.linear(tape.add(x_ND, known_ND), down_KD)
        return tape.rms_norm(z_NK, norm_K, self._eps)

    def _adapt(self, layer: _Layer, blocks: Sequence[Value]) -> None:
        """Give a layer its adapter, from the blocks in the order of ``adapter.read_adapter``."""
        adapter, left = self._plan.adapter, iter(blocks)
        if adapter is None:
            return
        for number, group in enumerate(GROUPS):
            chosen = [name in adapter.targets for name in group]
            if any(chosen):
                into = next(left)
                back = tuple(next(left) if is_chosen else None for is_chosen in chosen)
                layer.low[number] = _LowRank(into, back)

    def _layer(self, layer: _Layer, x_ND: Value, turns: tuple[Value, Value]) -> Value:
        tape, (qkv, output, gate_up, down) = self._tape, layer.low
        normed_ND = tape.rms_norm(x_ND, layer.input_norm, self._eps)
        mixed_ND = self._attention(layer, qkv, normed_ND, turns)
        x_ND = tape.add(x_ND, self._corrected(output, mixed_ND, layer.output))
        normed_ND = tape.rms_norm(x_ND, layer.middle_norm, self._eps)
        gate, up = self._pair(gate_up, normed_ND, layer.gate, layer.up)
        return tape.add(x_ND, self._corrected(down, tape.swiglu(gate, up), layer.down))

    def _attention(
        self, layer: _Layer, low: _LowRank | None, x_ND: Value, turns: tuple[Value, Value]
    ) -> Value:
        tape, model = self._tape, self._model
        E, H, K = head_width(model), model.num_heads, model.num_kv_heads
        B, T, N = self._batch, self._times, self._rows
        qkv_NO = self._stack(low, x_ND, layer.qkv, (H * E, K * E, K * E))
        turning, value = tape.split(qkv_NO, [(H + K) * E, K * E])
        turned = tape.rope(tape.renamed(turning, B, T, H + K, E), *turns)
        query, key = tape.split(tape.renamed(turned, N, (H + K) * E), [H * E, K * E])
        heads = ((query, H), (key, K), (value, K))
        mixed = tape.attention(*(tape.renamed(x, B, T, number, E) for x, number in heads))
        return tape.renamed(mixed, N, H * E)

    def _loss(self, x_ND: Value, head: Sequence[Value]) -> tuple[Value, Value, Value]:
        """Return the logits, the gradient by them, and the loss in nats."""
        tape, b, rows = self._tape, self._tape.builder, self._rows
        norm_D, head_VD = head
        logits_NV = tape.linear(tape.rms_norm(x_ND, norm_D, self._eps), head_VD)
        labels_N = b.given("labels", rows, dtype="int32")
        peak_N1 = b.row_totals(logits_NV, "peaks")
        raised_NV = b.same("raised", logits_NV, peak_N1)
        total_N1 = b.row_totals(raised_NV)
        shares_NV = b.same("shares", raised_NV, total_N1)
        losses_N = b.put("loss_rows", (rows,), logits_NV, peak_N1, total_N1, labels_N)
        loss = b.put("mean_loss", (1,), b.total(losses_N), rows=rows)
        return logits_NV, b.same("loss_gradient", shares_NV, labels_N, rows=rows), loss

    # --- projections, with what an adapter adds ---

    def _corrections(self, low: _LowRank, x_ND: Value) -> list[Value | None]:
        tape, adapter = self._tape, self._plan.adapter
        assert adapter is not None, "a correction is an adapter's"
        inner = tape.scaled(tape.linear(x_ND, low.into), adapter.scale)
        targets = sum(back is not None for back in low.back)
        pieces = iter(tape.split(inner, [low.into.shape[0] // targets] * targets))
        return [None if back is None else tape.linear(next(pieces), back) for back in low.back]

    def _corrected(self, low: _LowRank | None, x_ND: Value, weight: Value) -> Value:
        out_NO = self._tape.linear(x_ND, weight)
        if low is None:
            return out_NO
        (more_NO,) = self._corrections(low, x_ND)
        return out_NO if more_NO is None else self._tape.add(out_NO, more_NO)

    def _stack(
        self, low: _LowRank | None, x_ND: Value, weight: Value, widths: Sequence[int]
    ) -> Value:
        out_NO = self._tape.linear(x_ND, weight)
        if low is None:
            return out_NO
        parts = zip(self._tape.split(out_NO, widths), self._corrections(low, x_ND), strict=True)
        return self._tape.joined(
            [part if more is None else self._tape.add(part, more) for part, more in parts]
        )

    def _pair(
        self, low: _LowRank | None, x_ND: Value, gate: Value, up: Value
    ) -> tuple[Value, Value]:
        tape = self._tape
        if low is None:
            return tape.linear(x_ND, gate), tape.linear(x_ND, up)
        wide_ND = tape.renamed(x_ND)
        outs = (tape.linear(wide_ND, gate), tape.linear(wide_ND, up))
        parts = zip(outs, self._corrections(low, x_ND), strict=True)
        first, second = (out if more is None else tape.add(out, more) for out, more in parts)
        return first, second
