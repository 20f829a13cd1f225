"""Carry activations over a cut between stages at low rank: the trained bottleneck of a run for home lines.

Core: tensor shapes, and functions over an ``Ops`` table and views of the parameters.

    sender    z = norm(down (x - e))                     K values of a token, which travel
    receiver  e' = tokens[id],  x' = e' + up z           D values again

``e`` is what the sender itself began with for the token: its row of the embedding, or of the ``tokens`` of the
cut below. So what travels is what the layers added, and the receiver puts it on a row of its own. The norm
(RMSNorm) makes all tokens equally large: one scale for a block is then enough, and without the norm rounding to
four bits spoils the training (docs/spec/training.md section 5a). The receiver looks up the ids of a micro-batch
by its samples, as the last stage looks up its labels. ``down`` and ``norm`` belong to the stage below a cut,
``tokens`` and ``up`` to the one above. They are parameters like all others: trained, traded, committed,
checkpointed. ``up`` starts as the transpose of ``down``.

Sources: ResBM (arXiv 2604.11947), a trained bottleneck with an identity path of low rank at every cut; subspace
networks (arXiv 2506.01260), which add the token embedding on the receiving side.
docs/spec/training.md section 5a.

Legend: N rows (batch x time), B batch, T time, D hidden, K values of a token that travel, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from swarm.config.spec import NANO, ModelSpec
from swarm.training.model.llama import EMBEDDING_DEVIATION, Block, TensorShape
from swarm.training.model.operators import Ops

BOTTLENECK_PREFIX = "bottleneck."
"""Beginning of the name of every tensor of a bottleneck."""


@dataclass(frozen=True, slots=True)
class Sender:
    """The parameters below a cut, as views of a flat vector."""

    down_KD: Tensor
    norm_K: Tensor


@dataclass(frozen=True, slots=True)
class Receiver:
    """The parameters above a cut, as views of a flat vector."""

    tokens_VD: Tensor
    up_DK: Tensor


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
    return (
        Block((TensorShape(_name(cut, "down"), (K, D), D**-0.5),)),
        Block((TensorShape(_name(cut, "norm"), (K,), 0.0),)),
    )


def receive_blocks(model: ModelSpec, cut: int) -> tuple[Block, ...]:
    """Return the blocks of the stage above cut number ``cut``, before its layers."""
    if not model.bottleneck_rank:
        return ()
    D, K, V = model.hidden_size, model.bottleneck_rank, model.vocab_size
    down = send_blocks(model, cut)[0].parts[0]
    up = TensorShape(_name(cut, "up"), (D, K), K**-0.5, mirrored=down)
    return (
        Block((TensorShape(_name(cut, "tokens"), (V, D), EMBEDDING_DEVIATION),)),
        Block((up,)),
    )


def narrowed(
    ops: Ops, model: ModelSpec, sender: Sender, x_ND: Tensor, table_VD: Tensor, ids_N: Tensor
) -> Tensor:
    """Return what travels of each row, float32 NK; ``table_VD`` has what the sender began with for a token."""
    # Looked up again: a row used a third time would leave autograd a sum of three, whose order would matter.
    known_ND = ops.embedding(table_VD, ids_N)
    z_NK = ops.linear(ops.add(x_ND, known_ND.neg()), sender.down_KD).float()
    return ops.rms_norm(z_NK, sender.norm_K, model.norm_eps_nano / NANO)


def widened(ops: Ops, receiver: Receiver, z_NK: Tensor, ids_N: Tensor) -> Tensor:
    """Return the rows above a cut, float32 ND."""
    known_ND = ops.embedding(receiver.tokens_VD, ids_N)
    return ops.add(known_ND, ops.linear(z_NK, receiver.up_DK))


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
