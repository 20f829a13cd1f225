"""Cut the model into pipeline stages: their layout in a flat vector, initial weights, and passes.

Core: pure functions over the flat vector; nothing here holds parameters.

The layers are cut into ``num_stages`` contiguous runs. Stage 0 also holds the embedding, the last stage the
norm, the head and the loss. A shard is converted exactly between tensors and one flat float32 vector;
concatenated, the shards of all stages are the shard of a one-stage run. Initial parameters come from a PRF of
(seed, tensor name): they do not depend on the cut.

With a bottleneck (``model/bottleneck.py``) a stage sends S = K values of a token instead of all D, and the one
behind it takes rows of J = K + 1 numbers, those and the token's id; without, S = J = D. The bottlenecks are a
part of the model: one stage of all layers has them too, between its layers.

In a run with an adapter the flat vector is the adapter's, and nothing else is trained; the weights that it
rests on are a second flat vector, which the stage holds (``Stage.base_W``) and nothing changes.

Legend: B batch, T time, N = B x T rows, D hidden, S values that a stage sends of a token, J numbers that it
takes, P parameters of the shard, W weights below an adapter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from swarm.config.spec import AdapterSpec, ModelSpec, RunSpec
from swarm.errors import BadConfig, UsageError
from swarm.primitives.crypto import expand, framed
from swarm.training.model.adapter import merge_into, read_adapter
from swarm.training.model.bottleneck import (
    Receiver,
    Sender,
    input_width,
    narrowed,
    receive_blocks,
    send_blocks,
    signal_width,
    split_ids,
    widened,
)
from swarm.training.model.llama import (
    LAYER_BLOCKS,
    LAYER_PREFIX,
    Block,
    Layer,
    TensorShape,
    adapter_blocks,
    embedding_blocks,
    head_blocks,
    head_logits,
    layer_blocks,
    layer_forward,
)
from swarm.training.model.operators import root_of
from swarm.training.model.profiles import Ops, table

FRAGMENT_ALIGNMENT = 128
"""Fragments start at multiples of the quantizer's block, so that no block has two partners."""
Params = Tensor | Sequence[Tensor]
"""The parameters of a stage: the flat vector, or its blocks."""
_INIT_BITS = 24
"""Initial values are integers of this many bits, scaled: exact in float32 on every machine."""


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open slice [start, stop) of the flat vector, in elements."""

    start: int
    stop: int

    @property
    def slice(self) -> slice:
        """The span as an index."""
        return slice(self.start, self.stop)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix of rows x columns in the flat vector."""

    span: Span
    rows: int
    columns: int


@dataclass(frozen=True)
class StagePlan:
    """Tensors of one stage that are trained and their layout in the stage's flat vector."""

    model: ModelSpec
    stage: int
    num_stages: int
    first_layer: int
    num_layers: int
    blocks: tuple[Block, ...]
    adapter: AdapterSpec | None = None
    base: "StagePlan | None" = None
    """With an adapter, the plan of the weights that it rests on."""

    @property
    def is_first(self) -> bool:
        """True if this stage takes tokens."""
        return self.stage == 0

    @property
    def is_last(self) -> bool:
        """True if this stage holds the head and the loss."""
        return self.stage == self.num_stages - 1

    @property
    def input_width(self) -> int:
        """J, the numbers of a row that a stage above a cut takes."""
        return input_width(self.model)

    @property
    def signal_width(self) -> int:
        """S, the values of a token that a stage below a cut sends, and those of the gradient by them."""
        return signal_width(self.model)

    @cached_property
    def inner_cuts(self) -> tuple[int, ...]:
        """Layers of this stage, counted from its first, that a bottleneck lies before."""
        cuts = _cuts(self.model, self.model.bottleneck_stages)
        stop = self.first_layer + self.num_layers
        return tuple(cut - self.first_layer for cut in cuts if self.first_layer < cut < stop)

    @cached_property
    def tensors(self) -> tuple[TensorShape, ...]:
        """Every tensor by name, in the order of the flat vector."""
        return tuple(part for block in self.blocks for part in block.parts)

    @cached_property
    def block_sizes(self) -> tuple[int, ...]:
        """Elements of each block, by which the flat vector is split."""
        return tuple(sum(_count(part.shape) for part in block.parts) for block in self.blocks)

    @cached_property
    def num_parameters(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.block_sizes)

    @cached_property
    def decayed(self) -> tuple[Span, ...]:
        """Spans with weight decay: everything but the norms."""
        spans, at = list[Span](), 0
        for part in self.tensors:
            end = at + _count(part.shape)
            if len(part.shape) > 1:
                if spans and spans[-1].stop == at:
                    spans[-1] = Span(spans[-1].start, end)
                else:
                    spans.append(Span(at, end))
            at = end
        return tuple(spans)

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """Matrices of the decoder layers, which Muon rules: each by itself, q, k and v too."""
        found, at = list[Matrix](), 0
        for part in self.tensors:
            end = at + _count(part.shape)
            if len(part.shape) == 2 and part.name.startswith(LAYER_PREFIX):
                found.append(Matrix(Span(at, end), *part.shape))
            at = end
        return tuple(found)

    def fragments(self, count: int) -> tuple[Span, ...]:
        """Return ``count`` contiguous slices that cover the vector, of equal size except for the alignment."""
        ends = [
            self.num_parameters * i // count // FRAGMENT_ALIGNMENT * FRAGMENT_ALIGNMENT
            for i in range(count)
        ] + [self.num_parameters]
        return tuple(Span(ends[i], ends[i + 1]) for i in range(count))

    def named(self, flat_P: Tensor) -> dict[str, Tensor]:
        """Return each tensor by name, as views of the flat vector."""
        pieces = torch.split(flat_P, [_count(part.shape) for part in self.tensors])
        return {p.name: x.view(p.shape) for p, x in zip(self.tensors, pieces, strict=True)}

    def flat(self, named: dict[str, Tensor]) -> Tensor:
        """Return the flat vector of named tensors; raise ``UsageError`` if one is missing or misshapen."""
        for part in self.tensors:
            if part.name not in named or tuple(named[part.name].shape) != part.shape:
                raise UsageError(f"{part.name} is missing or not of shape {part.shape}")
        return torch.cat([named[part.name].reshape(-1).float() for part in self.tensors])


@dataclass(frozen=True, slots=True)
class StageParts:
    """The parameters of a stage by their use, as views of its flat vector."""

    embedding: Tensor | None
    """First stage."""
    receiver: Receiver | None
    """Stage above a cut with a bottleneck."""
    layers: tuple[Layer, ...]
    bridges: dict[int, tuple[Sender, Receiver]]
    """Bottlenecks between the layers of this stage, by the layer that they lie before."""
    sender: Sender | None
    """Stage below a cut with a bottleneck."""
    head: tuple[Tensor, ...]
    """Norm and head, in the last stage."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage with the operators it computes with."""

    plan: StagePlan
    ops: Ops
    base_W: Tensor | None = None
    """With an adapter, the weights that it rests on: read, and never written to."""

    def forward(self, params_P: Params, inputs: Tensor) -> Tensor:
        """Compute tokens BT (int64, first stage) or rows BTJ (float32) -> activations BTS.

        The last stage returns logits BTV. ``params_P`` is the flat vector, or its ``blocks``.
        """
        plan, ops = self.plan, self.ops
        self.check(inputs)
        batch, times = inputs.shape[:2]
        parts = self.parts(params_P)
        rows = inputs.reshape(-1) if plan.is_first else inputs.reshape(batch * times, -1)

        def layer(_: int, views: Layer, x_ND: Tensor) -> Tensor:
            return layer_forward(ops, plan.model, views, x_ND, batch)

        x = self.through(parts, rows, layer)
        if plan.is_last:
            x = head_logits(ops, plan.model, parts.head[0], parts.head[1], x)
        return x.view(batch, times, -1)

    def through(
        self, parts: StageParts, rows: Tensor, layer: Callable[[int, Layer, Tensor], Tensor]
    ) -> Tensor:
        """Compute ids N or rows NJ -> what this stage sends, NS; in the last stage what its head takes, ND.

        ``layer`` computes one layer, given its number in this stage, its parameters and its rows ND.
        """
        ops, model = self.ops, self.plan.model
        x_ND = ids_N = rows
        table_VD = parts.embedding
        if parts.embedding is not None:
            x_ND = ops.embedding(parts.embedding, ids_N)
        elif parts.receiver is not None:
            z_NK, ids_N = split_ids(model, rows)
            x_ND, table_VD = widened(ops, parts.receiver, z_NK, ids_N), parts.receiver.tokens_VD
        for number, views in enumerate(parts.layers):
            if number in parts.bridges:
                assert table_VD is not None, "a stage with bottlenecks begins with rows of tokens"
                sender, receiver = parts.bridges[number]
                z_NK = narrowed(ops, model, sender, x_ND, table_VD, ids_N)
                x_ND, table_VD = widened(ops, receiver, z_NK, ids_N), receiver.tokens_VD
            x_ND = layer(number, views, x_ND)
        if parts.sender is None:
            return x_ND
        assert table_VD is not None, "a stage with bottlenecks begins with rows of tokens"
        return narrowed(ops, model, parts.sender, x_ND, table_VD, ids_N)

    def loss(self, params_P: Params, inputs: Tensor, labels_BT: Tensor) -> Tensor:
        """Return the mean loss over B x T, in nats; raise ``UsageError`` in other stages than the last."""
        if not self.plan.is_last or labels_BT.shape != inputs.shape[:2]:
            raise UsageError("labels belong to the last stage, one for each position")
        logits_BTV = self.forward(params_P, inputs)
        return self.ops.cross_entropy(
            logits_BTV.view(-1, logits_BTV.shape[-1]), labels_BT.reshape(-1)
        )

    def blocks(self, params_P: Tensor) -> list[Tensor]:
        """Return what is trained, block by block, as views of the flat vector."""
        return _views(self.plan, params_P)

    def parts(self, params_P: Params) -> StageParts:
        """Return the parameters by their use, from views in the order in which ``plan_stages`` lays them.

        With an adapter the views are those of the weights below it. Raises ``UsageError`` if they are missing.
        """
        plan = self.plan
        trained = self.blocks(params_P) if isinstance(params_P, Tensor) else params_P
        views = iter(trained)
        if plan.base is not None:
            if self.base_W is None:
                raise UsageError("a stage with an adapter needs the weights below it")
            views = iter(_views(plan.base, self.base_W))
        has_bottleneck = plan.model.bottleneck_rank > 0
        embedding = next(views) if plan.is_first else None
        receiver = (
            Receiver(next(views), next(views)) if has_bottleneck and not plan.is_first else None
        )
        layers, bridges = list[Layer](), dict[int, tuple[Sender, Receiver]]()
        for number in range(plan.num_layers):
            if number in plan.inner_cuts:
                sender = Sender(next(views), next(views))
                bridges[number] = (sender, Receiver(next(views), next(views)))
            layers.append(Layer(*(next(views) for _ in range(LAYER_BLOCKS))))
        last = Sender(next(views), next(views)) if has_bottleneck and not plan.is_last else None
        return StageParts(
            embedding=embedding,
            receiver=receiver,
            layers=_adapted(plan, layers, trained),
            bridges=bridges,
            sender=last,
            head=tuple(views),
        )

    def check(self, inputs: Tensor) -> None:
        """Raise ``UsageError`` unless this stage can take ``inputs``."""
        if self.plan.is_first:
            fits = inputs.dtype == torch.int64 and inputs.dim() == 2
        else:
            width = self.plan.input_width
            fits = inputs.dtype == torch.float32 and inputs.dim() == 3 and inputs.shape[2] == width
        if not fits or inputs.shape[1] > self.plan.model.seq_len:
            raise UsageError(f"stage {self.plan.stage} cannot take a {tuple(inputs.shape)} input")


def _views(plan: StagePlan, flat_P: Tensor) -> list[Tensor]:
    """Split the flat vector once: per-slice views make the backward pass three times slower."""
    if flat_P.shape != (plan.num_parameters,):
        raise UsageError(f"a shard of {plan.num_parameters} parameters is one flat vector")
    pieces = torch.split(flat_P, list(plan.block_sizes))
    return [x.view(b.shape) for b, x in zip(plan.blocks, pieces, strict=True)]


@dataclass(slots=True)
class Forward:
    """A forward pass that waits for its gradient; ``output`` was sent to the next stage.

    It refers to the parameters of the pass: run the backward pass before they are stepped.
    """

    stage: Stage
    params_P: Tensor
    inputs: Tensor
    output: Tensor
    graph: Tensor | None
    leaves: Sequence[Tensor] = ()
    """The blocks of the parameters as the graph knows them."""


Sink = Callable[[int, Tensor], None]
"""Taker of one block's gradient as soon as it is computed: (start in the flat vector, gradient)."""


def plan_stages(model: ModelSpec, num_stages: int) -> tuple[StagePlan, ...]:
    """Cut the model; raise ``BadConfig`` if there are fewer layers than stages.

    A model with bottlenecks is cut where they lie, or not at all.
    """
    if not 1 <= num_stages <= model.num_layers:
        raise BadConfig(f"{model.num_layers} layers cannot be cut into {num_stages} stages")
    if model.bottleneck_rank and num_stages not in {1, model.bottleneck_stages}:
        raise BadConfig(
            f"a model with bottlenecks between {model.bottleneck_stages} stages cannot be cut into {num_stages}"
        )
    bottlenecks = _cuts(model, model.bottleneck_stages)
    plans = list[StagePlan]()
    for stage in range(num_stages):
        first = model.num_layers * stage // num_stages
        stop = model.num_layers * (stage + 1) // num_stages
        blocks = embedding_blocks(model) if stage == 0 else ()
        for layer in range(first, stop):
            if layer in bottlenecks:
                cut = bottlenecks.index(layer)
                blocks += send_blocks(model, cut) if layer > first else ()
                blocks += receive_blocks(model, cut)
            blocks += layer_blocks(model, layer)
        if stop in bottlenecks:
            blocks += send_blocks(model, bottlenecks.index(stop))
        if stage == num_stages - 1:
            blocks += head_blocks(model)
        plans.append(
            StagePlan(
                model=model,
                stage=stage,
                num_stages=num_stages,
                first_layer=first,
                num_layers=stop - first,
                blocks=blocks,
            )
        )
    return tuple(plans)


def _cuts(model: ModelSpec, num_stages: int) -> tuple[int, ...]:
    """Return the layers that a stage begins with, but for the first."""
    return tuple(model.num_layers * stage // num_stages for stage in range(1, num_stages))


def _adapted(
    plan: StagePlan, layers: Sequence[Layer], trained: Sequence[Tensor]
) -> tuple[Layer, ...]:
    """Return the layers with what an adapter trains of each; as they are without one."""
    if plan.adapter is None:
        return tuple(layers)
    count = len(trained) // plan.num_layers
    return tuple(
        replace(layer, adapter=read_adapter(plan.adapter, trained[at : at + count]))
        for layer, at in zip(layers, range(0, len(trained), count), strict=True)
    )


def adapter_plan(base: StagePlan, adapter: AdapterSpec) -> StagePlan:
    """Return the plan of an adapter on a stage."""
    layers = range(base.first_layer, base.first_layer + base.num_layers)
    blocks = tuple(
        block for layer in layers for block in adapter_blocks(base.model, adapter, layer)
    )
    return replace(base, blocks=blocks, adapter=adapter, base=base)


def plans_of(spec: RunSpec) -> tuple[StagePlan, ...]:
    """Return what every stage of a run trains: all of its weights, or an adapter on them."""
    plans = plan_stages(spec.model, spec.num_stages)
    if not spec.adapter.rank:
        return plans
    return tuple(adapter_plan(plan, spec.adapter) for plan in plans)


def stage_of(spec: RunSpec, stage: int, base_W: Tensor | None = None) -> Stage:
    """Return the stage of a run with the operators of its numerics profile.

    ``base_W`` are the weights below the adapter of the run, if it has one.
    """
    return Stage(plans_of(spec)[stage], table(spec.numerics), base_W)


def merged(plan: StagePlan, params_P: Tensor, base_W: Tensor | None) -> Tensor:
    """Return the weights of a stage as one flat vector of plain Llama: with an adapter, added to its base."""
    if plan.base is None or plan.adapter is None:
        return params_P
    if base_W is None:
        raise UsageError("an adapter is merged into the weights below it")
    whole_W = base_W.clone()
    merge_into(plan.base.named(whole_W), plan.named(params_P), plan.adapter.scale)
    return whole_W


def init_flat(plan: StagePlan, seed: int) -> Tensor:
    """Return the initial shard of a run: uniform values by a PRF of (seed, tensor name), norms at one."""
    return torch.cat([_init_tensor(part, seed) for part in plan.tensors])


def run_forward(
    stage: Stage, params_P: Tensor, inputs: Tensor, *, keep_graph: bool = True
) -> Forward:
    """Compute a micro-batch forward: tokens BT or rows BTJ -> ``Forward.output`` (detached BTS).

    Without ``keep_graph`` the pass is computed again when its gradient arrives: less memory, same bits.
    """
    if not keep_graph:
        with torch.no_grad():
            output = stage.forward(params_P, inputs)
            return Forward(stage=stage, params_P=params_P, inputs=inputs, output=output, graph=None)
    leaves, entry = _leaves(stage, params_P, inputs)
    graph = stage.forward(leaves, entry)
    return Forward(
        stage=stage,
        params_P=params_P,
        inputs=entry,
        output=graph.detach(),
        graph=graph,
        leaves=leaves,
    )


def run_backward(
    passed: Forward, grad_BTD: Tensor, sink: Sink | None = None
) -> tuple[Tensor | None, Tensor]:
    """Return (gradient BTS of what was received or None on stage 0, gradient_P) of a micro-batch.

    With a ``sink`` the blocks of the gradient go there one by one, and none is returned: no more of it than a
    block is in memory. Raises ``UsageError`` if the gradient has another shape than the output, and what
    ``sink`` raises; the graph is consumed, and a second call computes the pass again.
    """
    if grad_BTD.shape != passed.output.shape:
        raise UsageError(f"a gradient of shape {tuple(grad_BTD.shape)} for another output")
    stage, leaves, entry, graph = passed.stage, passed.leaves, passed.inputs, passed.graph
    if graph is None:
        leaves, entry = _leaves(stage, passed.params_P, entry)
        graph = stage.forward(leaves, entry)
    passed.graph, passed.leaves = None, ()
    return _gradients(stage, graph, leaves, entry, grad_BTD, sink)


def run_loss(
    stage: Stage, params_P: Tensor, inputs: Tensor, labels_BT: Tensor, sink: Sink | None = None
) -> tuple[float, Tensor | None, Tensor]:
    """Compute the last stage, forward and backward: (loss in nats, gradient of the inputs, gradient_P).

    ``sink`` is that of ``run_backward``.
    """
    leaves, entry = _leaves(stage, params_P, inputs)
    loss = stage.loss(leaves, entry, labels_BT)
    grad_inputs, grad_P = _gradients(stage, loss, leaves, entry, None, sink)
    return float(loss.detach()), grad_inputs, grad_P


def _leaves(stage: Stage, params_P: Tensor, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    stage.check(inputs)
    entry = inputs if stage.plan.is_first else inputs.detach().requires_grad_()
    # A leaf for each block: a flat one would get a flat gradient beside those of all blocks.
    return [block.detach().requires_grad_() for block in stage.blocks(params_P)], entry


def _gradients(
    stage: Stage,
    graph: Tensor,
    leaves: Sequence[Tensor],
    entry: Tensor,
    grad: Tensor | None,
    sink: Sink | None,
) -> tuple[Tensor | None, Tensor]:
    found = dict[int, Tensor]()
    starts = [0, *accumulate(stage.plan.block_sizes)]
    taken = found.__setitem__ if sink is None else sink
    hooks = [
        leaf.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
            partial(_hand_over, taken, start)
        )
        for leaf, start in zip(leaves, starts, strict=False)
    ]
    inputs = list(leaves) if stage.plan.is_first else [*leaves, entry]
    try:
        torch.autograd.backward(graph if grad is None else root_of(graph, grad), inputs=inputs)
    finally:
        for hook in hooks:
            hook.remove()
    grad_inputs, entry.grad = entry.grad, None
    if grad_inputs is not None:
        # Not that of the ids behind a bottleneck.
        grad_inputs = grad_inputs[..., : stage.plan.signal_width].contiguous()
    if sink is not None:
        return grad_inputs, graph.new_empty(0)
    return grad_inputs, torch.cat([found[start] for start in starts[:-1]])


def _hand_over(taken: Sink, start: int, leaf: Tensor) -> None:
    assert leaf.grad is not None, "the hook of a gradient that was computed"
    gradient, leaf.grad = leaf.grad.reshape(-1), None
    taken(start, gradient)


def _init_tensor(part: TensorShape, seed: int) -> Tensor:
    if part.mirrored is None:
        return _drawn(part, seed)
    return _drawn(part.mirrored, seed).view(part.mirrored.shape).t().reshape(-1)


def _drawn(part: TensorShape, seed: int) -> Tensor:
    count = _count(part.shape)
    if part.deviation == 0.0:
        return torch.full((count,), part.fill)
    key = framed("init", (seed.to_bytes(8, "big"), part.name.encode("ascii")))
    raw = np.frombuffer(expand(key, "training.init", 4 * count), dtype="<u4") >> (32 - _INIT_BITS)
    centred = raw.astype(np.int64) * 2 - ((1 << _INIT_BITS) - 1)  # odd integers around zero
    # Uniform on (-w, w) has deviation w / sqrt(3); the products below are rounded once.
    width = np.float32(part.deviation * sqrt(3.0) / (1 << _INIT_BITS))
    return torch.from_numpy(centred.astype(np.float32) * width)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count
