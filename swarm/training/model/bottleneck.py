"""Carry activations over a cut between stages at low rank: the trained bottleneck of a run for home lines.

Core: tensor shapes, and functions over an ``Ops`` table and views of the parameters.

    sender    z = down x                                 k values of a token, which travel
    receiver  x' = up [z; tokens[id]]                    D values again

``down`` belongs to the stage below a cut, ``tokens`` and ``up`` to the one above. They are parameters like all
others: trained, traded, committed, checkpointed. The receiver looks up the ids of a micro-batch by its samples,
as the last stage looks up its labels, so that the k values need not say which token they belong to.
``up`` starts as the transpose of ``down`` beside random columns: what it gives back at first is a projection of
x and a code of the token.

Sources: ResBM (arXiv 2604.11947), a trained bottleneck with an identity path of low rank at every cut; subspace
networks (arXiv 2506.01260), which add the token embedding on the receiving side.
docs/spec/training.md section 5a.

Legend: N rows (batch x time), B batch, T time, D hidden, K values of a token that travel, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.config.spec import ModelSpec
from swarm.training.model.llama import Block, TensorShape
from swarm.training.model.operators import Ops

BOTTLENECK_PREFIX = "bottleneck."
"""Beginning of the name of every tensor of a bottleneck."""
TOKEN_DEVIATION = 0.5
"""As the embedding's: tokens start apart."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """The parameters above a cut, as views of a flat vector."""

    tokens_VK: Tensor
    up: Tensor
    """D x 2K: columns for what travelled, then for the token."""


def signal_width(model: ModelSpec) -> int:
    """Return the values of a token that cross a cut, up or down."""
    return model.bottleneck_rank or model.hidden_size


def input_width(model: ModelSpec) -> int:
    """Return the numbers of a row that a stage above a cut takes: behind a bottleneck the id as well."""
    return signal_width(model) + (model.bottleneck_rank > 0)


def send_blocks(model: ModelSpec, cut: int) -> tuple[Block, ...]:
    """Return the blocks of the stage below cut number ``cut``, after its layers; none without a bottleneck."""
    if not model.bottleneck_rank:
        return ()
    D, K = model.hidden_size, model.bottleneck_rank
    return (Block((TensorShape(_name(cut, "down"), (K, D), D**-0.5),)),)


def receive_blocks(model: ModelSpec, cut: int) -> tuple[Block, ...]:
    """Return the blocks of the stage above cut number ``cut``, before its layers."""
    if not model.bottleneck_rank:
        return ()
    D, K, V = model.hidden_size, model.bottleneck_rank, model.vocab_size
    (below,) = send_blocks(model, cut)
    up = TensorShape(_name(cut, "up"), (D, 2 * K), K**-0.5, mirrored=below.parts[0])
    return (
        Block((TensorShape(_name(cut, "tokens"), (V, K), TOKEN_DEVIATION),)),
        Block((up,)),
    )


def is_down(part: TensorShape) -> bool:
    """Return True if a tensor is the ``down`` of a cut."""
    return part.name.startswith(BOTTLENECK_PREFIX) and part.name.endswith(".down.weight")


def narrowed(ops: Ops, down: Tensor, x_ND: Tensor) -> Tensor:
    """Return what travels of each row, float32 NK."""
    return ops.linear(x_ND, down).float()


def widened(ops: Ops, receiver: Receiver, z_NK: Tensor, ids_N: Tensor) -> Tensor:
    """Return the rows above a cut, float32 ND, from what travelled and the ids of the tokens."""
    known_NK = ops.embedding(receiver.tokens_VK, ids_N)
    return ops.linear(torch.cat((z_NK, known_NK), 1), receiver.up).float()


def with_ids(model: ModelSpec, x: Tensor, ids: Tensor) -> Tensor:
    """Return the input of a stage above a cut: activations, and behind a bottleneck each token's id as well.

    The id is the last number of its row: below 2^24 a float32 is exact.
    """
    if not model.bottleneck_rank:
        return x
    return torch.cat((x, ids.unsqueeze(-1).to(x.dtype)), -1)


def split_ids(model: ModelSpec, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Undo ``with_ids`` for rows behind a bottleneck: (z_NK, ids_N int64)."""
    K = model.bottleneck_rank
    return rows[:, :K].contiguous(), rows[:, K].detach().to(torch.int64)


def are_ids(model: ModelSpec, rows: Tensor) -> bool:
    """Return True if every row behind a bottleneck ends with the id of a token; True without one."""
    if not model.bottleneck_rank:
        return True
    last = rows[..., -1]
    least, most = torch.aminmax(last)
    # A NaN fails both comparisons.
    fits = float(least) >= 0.0 and float(most) <= model.vocab_size - 1
    return fits and torch.equal(last, last.floor())


def _name(cut: int, part: str) -> str:
    return f"{BOTTLENECK_PREFIX}{cut}.{part}.weight"
