"""Operators of the model: norms, products, attention, tokens, loss, forward and backward.

Core: pure functions of tensors, with the bits of ``seq-f32/1``.

What a row function of the reference takes from a whole row, such as the sum of a softmax over the vocabulary,
is folded here where the row is longer than a block has room for, and so is the depth of a product.

Legend: N rows (batch x time), D columns, O outputs, V vocabulary, B batch, H heads, K key-value heads, T time,
E features of a head.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from swarm.training.model.exact import reference
from swarm.training.model.exact.operators import Kernels
from swarm.verify.program.operators import (
    Attributes,
    Operator,
    Read,
    Shape,
    flat_index,
    one,
    pointwise,
    row_start,
    rowwise,
)


def _swiglu(_: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    return reference.swiglu(inputs[0], inputs[1])


def _swiglu_gate(_: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    return reference.swiglu_backward(*inputs)[0]


def _swiglu_up(_: Attributes, inputs: Sequence[Tensor]) -> Tensor:
    return reference.swiglu_backward(*inputs)[1]


def _rms_scale(attributes: Attributes, _: tuple[int, ...], inputs: Sequence[Tensor]) -> Tensor:
    (x_ND,) = inputs
    mean_N = reference.tree_sum(x_ND * x_ND) / x_ND.shape[1]
    return (1.0 / reference.root(mean_N + float(attributes[0]))).unsqueeze(1)


def _rms_norm(_: Attributes, __: tuple[int, ...], inputs: Sequence[Tensor]) -> Tensor:
    x_ND, scale_N1, weight_D = inputs
    return (x_ND * scale_N1) * weight_D


def _rms_pull(_: Attributes, __: tuple[int, ...], inputs: Sequence[Tensor]) -> Tensor:
    grad_ND, x_ND, scale_N1 = inputs
    return grad_ND * (x_ND * scale_N1)


def _rms_backward(_: Attributes, __: tuple[int, ...], inputs: Sequence[Tensor]) -> Tensor:
    grad_ND, x_ND, scale_N1, weight_D = inputs
    return reference.rms_norm_backward(grad_ND, x_ND, scale_N1.squeeze(1), weight_D)[0]


def _row_sum(_: Attributes, __: tuple[int, ...], inputs: Sequence[Tensor]) -> Tensor:
    return reference.tree_sum(inputs[0]).unsqueeze(1)


# --- softmax of attention: a row sees the positions up to its own ---


def _weights(_: Kernels, attributes: Attributes, __: Shape, inputs: Sequence[Tensor]) -> Tensor:
    return reference.causal_weights(inputs[0], int(attributes[0]))


def _weights_element(
    attributes: Attributes, shape: Shape, _: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    scores = read(0, row_start(shape, index), shape[3]).view(1, 1, 1, -1)
    weights = reference.causal_weights(scores, int(attributes[0]), _seen(shape, index))
    return one(weights[0, 0, 0, index[3]])


def _bent(_: Kernels, attributes: Attributes, __: Shape, inputs: Sequence[Tensor]) -> Tensor:
    return reference.causal_weights_backward(inputs[0], inputs[1], int(attributes[0]))


def _bent_element(
    attributes: Attributes, shape: Shape, _: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    start, scale = row_start(shape, index), int(attributes[0])
    weights, slope = (read(number, start, shape[3]).view(1, 1, 1, -1) for number in (0, 1))
    bent = reference.causal_weights_backward(weights, slope, scale, _seen(shape, index))
    return one(bent[0, 0, 0, index[3]])


def _seen(shape: Shape, index: tuple[int, ...]) -> Tensor:
    """Return the mask of the positions that the row of an element sees: those up to its own."""
    return (torch.arange(shape[3]) <= index[2]).view(1, -1)


# --- products: rows of the one with rows of the other ---


def _product(
    kernels: Kernels, attributes: Attributes, _: Shape, inputs: Sequence[Tensor]
) -> Tensor:
    copies, is_positive, _start, stop = map(int, attributes)
    left, right = inputs[0][..., :stop], inputs[1][..., :stop]
    if copies > 1:
        right = right.repeat_interleave(copies, 1)
    out = kernels.matmul(left, right.transpose(-1, -2))
    return reference.plus_zero(out) if is_positive else out


def product_element(
    attributes: Attributes,
    shape: Shape,
    shapes: Sequence[Shape],
    index: tuple[int, ...],
    read: Read,
) -> Tensor:
    """Go on from the product of the depth before ``start``, the third input, where there is one."""
    copies, is_positive, start, stop = map(int, attributes)
    *heads, _row, column = index
    theirs = [*heads[:-1], heads[-1] // copies] if heads else []
    left = read(0, flat_index(shapes[0], (*index[:-1], start)), stop - start)
    right = read(1, flat_index(shapes[1], (*theirs, column, start)), stop - start)
    before = float(read(2, flat_index(shape, index), 1)) if start else 0.0
    total = torch.tensor(reference.chain(left, right, before))
    return one(reference.plus_zero(total) if is_positive else total)


def _weight_gradient(
    kernels: Kernels, _: Attributes, __: Shape, inputs: Sequence[Tensor]
) -> Tensor:
    grad_ON, x_DN = inputs
    return kernels.weight_gradient(grad_ON.t().contiguous(), x_DN.t().contiguous())


def _weight_gradient_element(
    _: Attributes, __: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    rows = shapes[0][1]
    sides = (read(number, index[number] * rows, rows) for number in (0, 1))
    pairs = zip(*(torch.split(side, reference.GRADIENT_ROWS) for side in sides), strict=True)
    return one(reference.tree_sum(torch.tensor([reference.chain(*pair) for pair in pairs])))


# --- attention: rotary positions and heads ---


def _rotated(kernels: Kernels, _: Attributes, __: Shape, inputs: Sequence[Tensor]) -> Tensor:
    return kernels.rotate(*inputs)


def _rotated_element(
    _: Attributes, shape: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    width = shape[3]
    x_11E = read(0, row_start(shape, index), width).view(1, 1, 1, width)
    turns = [read(n, flat_index(shapes[n], (index[1], 0)), width).view(1, width) for n in (1, 2)]
    return one(reference.rotate(x_11E, *turns)[0, 0, 0, index[3]])


def _over_copies(_: Kernels, __: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
    batch, groups, times, width = shape
    return reference.tree_sum(inputs[0].view(batch, groups, -1, times, width), 2).contiguous()


def _over_copies_element(
    _: Attributes, shape: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    copies = shapes[0][1] // shape[1]
    batch, group, time, feature = index
    heads = range(group * copies, (group + 1) * copies)
    values = [read(0, flat_index(shapes[0], (batch, h, time, feature)), 1) for h in heads]
    return one(reference.tree_sum(torch.cat(values)))


# --- tokens ---


def _embedded(_: Kernels, __: Attributes, ___: Shape, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].index_select(0, inputs[1])


def _embedded_element(
    _: Attributes, __: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    token = int(read(1, index[0], 1))
    return one(read(0, flat_index(shapes[0], (token, index[1])), 1))


def _gathered(kernels: Kernels, _: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
    grad_DN, ids_N = inputs
    return kernels.gather_rows(grad_DN.t().contiguous(), ids_N.long(), shape[0])


def _gathered_element(
    _: Attributes, __: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    rows = shapes[0][1]
    grad_N1 = read(0, index[1] * rows, rows).view(rows, 1)
    is_here_N = (read(1, 0, rows) == index[0]).to(torch.int64)
    # Token 1 is this one, token 0 any other.
    return one(reference.gather_rows(grad_N1, is_here_N, 2)[1])


# --- loss: a softmax over the vocabulary, by value and by fold ---


def _peaks(_: Kernels, __: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
    """Return the largest of every ``width``-th value of a row, as sums are folded."""
    rows, width = shape
    length = inputs[0].shape[1]
    padded = -(-length // width) * width
    x = inputs[0]
    if padded != length:
        x = torch.cat((x, x.new_full((rows, padded - length), float("-inf"))), 1)
    return x.view(rows, -1, width).amax(1)


def _peaks_element(
    _: Attributes, shape: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    start, length = index[0] * shapes[0][1], shapes[0][1]
    places = range(index[1], length, shape[1])
    if not places:
        return torch.tensor(float("-inf"))
    return one(torch.cat([read(0, start + at, 1) for at in places]).amax())


def _raised(inputs: Sequence[Tensor]) -> Tensor:
    logits_NV, peak_N1 = inputs
    raised_NV = reference.exp(logits_NV - peak_N1)
    # A row with a value that is not finite is to have a sum that is none.
    return torch.where(logits_NV.isfinite(), raised_NV, float("nan"))


def _shares(inputs: Sequence[Tensor]) -> Tensor:
    raised_NV, total_N1 = inputs
    return raised_NV / total_N1


def _by_row(function: Callable[[Sequence[Tensor]], Tensor]) -> Operator:
    """Return the operator of a value of a row and one number of that row."""

    def whole(_: Kernels, __: Attributes, ___: Shape, inputs: Sequence[Tensor]) -> Tensor:
        return function(inputs)

    def element(
        _: Attributes, shape: Shape, __: Sequence[Shape], index: tuple[int, ...], read: Read
    ) -> Tensor:
        return one(function((read(0, flat_index(shape, index), 1), read(1, index[0], 1))))

    return Operator(whole, element)


def _loss_rows(_: Kernels, __: Attributes, shape: Shape, inputs: Sequence[Tensor]) -> Tensor:
    logits_NV, peak_N1, total_N1, labels_N = inputs
    reached_N1 = logits_NV.gather(1, labels_N.long().unsqueeze(1)) - peak_N1
    return (reference.log(total_N1.double()).float() - reached_N1).view(shape)


def _loss_rows_element(
    _: Attributes, __: Shape, shapes: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    label = int(read(3, index[0], 1))
    logit = read(0, index[0] * shapes[0][1] + label, 1)
    total = read(2, index[0], 1)
    return one(reference.log(total.double()).float() - (logit - read(1, index[0], 1)))


def _loss_gradient(
    kernels: Kernels, attributes: Attributes, _: Shape, inputs: Sequence[Tensor]
) -> Tensor:
    shares_NV, labels_N = inputs
    return kernels.cross_entropy_backward(shares_NV, labels_N.long(), 1.0 / int(attributes[0]))


def _loss_gradient_element(
    attributes: Attributes, shape: Shape, _: Sequence[Shape], index: tuple[int, ...], read: Read
) -> Tensor:
    share, label = read(0, flat_index(shape, index), 1), int(read(1, index[0], 1))
    factor = 1.0 / int(attributes[0])
    return one((share - 1.0) * factor if label == index[1] else share * factor)


def _mean_loss(_: Kernels, attributes: Attributes, __: Shape, inputs: Sequence[Tensor]) -> Tensor:
    return (inputs[0] / int(attributes[0])).reshape(1)


def _mean_loss_element(
    attributes: Attributes, _: Shape, __: Sequence[Shape], ___: tuple[int, ...], read: Read
) -> Tensor:
    return one(read(0, 0, 1) / int(attributes[0]))


MODEL: dict[str, Operator] = {
    "swiglu": pointwise(_swiglu),
    "swiglu_gate": pointwise(_swiglu_gate),
    "swiglu_up": pointwise(_swiglu_up),
    "rms_scale": rowwise(_rms_scale),
    "rms_norm": rowwise(_rms_norm, shared=(2,)),
    "rms_pull": rowwise(_rms_pull),
    "rms_backward": rowwise(_rms_backward, shared=(3,)),
    "row_sum": rowwise(_row_sum),
    "weights": Operator(_weights, _weights_element),
    "bent": Operator(_bent, _bent_element),
    "product": Operator(_product, product_element),
    "weight_gradient": Operator(_weight_gradient, _weight_gradient_element),
    "rotated": Operator(_rotated, _rotated_element),
    "over_copies": Operator(_over_copies, _over_copies_element),
    "embedded": Operator(_embedded, _embedded_element),
    "gathered": Operator(_gathered, _gathered_element),
    "peaks": Operator(_peaks, _peaks_element),
    "raised": _by_row(_raised),
    "shares": _by_row(_shares),
    "loss_rows": Operator(_loss_rows, _loss_rows_element),
    "loss_gradient": Operator(_loss_gradient, _loss_gradient_element),
    "mean_loss": Operator(_mean_loss, _mean_loss_element),
}
"""Operators of a micro-batch."""
