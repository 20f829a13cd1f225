"""The baseline: the same model in one plain torch process, with everything torch offers for speed.

Fused attention, fused AdamW, all cores, and a batch computed at once or in pieces, whatever is fastest here. It
trains on the same token file and is measured on the same held-out windows. ``python -m benchmarks.plain``
prints one JSON object.

Legend: B sequences, T positions, H heads, E features of a head, D width.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.common import busy_s
from swarm.config.spec import NANO, RunSpec
from swarm.primitives.codec import decode
from swarm.training.data.dataset import TokenSource
from swarm.training.data.samples import windows
from swarm.training.inference.evaluate import heldout_starts

TRIALS = 4
"""Steps of each way to cut a batch, before one of them is chosen."""


class Layer(nn.Module):
    """Attention and SwiGLU, each behind an RMSNorm."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        model = spec.model
        width, self.heads = model.hidden_size, model.num_heads
        self.kv_heads, self.eps = model.num_kv_heads, model.norm_eps_nano / NANO
        keys = width // self.heads * self.kv_heads
        self.norm1, self.norm2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.query, self.out = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(width, keys, bias=False) for _ in range(2))
        self.gate, self.up = (
            nn.Linear(width, model.intermediate_size, bias=False) for _ in range(2)
        )
        self.down = nn.Linear(model.intermediate_size, width, bias=False)

    def forward(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        """Compute one layer."""
        count, length, width = x_BTD.shape
        y = functional.rms_norm(x_BTD, (width,), self.norm1, self.eps)
        q, k, v = (
            linear(y).view(count, length, heads, -1).transpose(1, 2)
            for linear, heads in (
                (self.query, self.heads),
                (self.key, self.kv_heads),
                (self.value, self.kv_heads),
            )
        )
        q, k = _turned(q, cos_TE, sin_TE), _turned(k, cos_TE, sin_TE)
        mixed = functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads
        )
        x_BTD = x_BTD + self.out(mixed.transpose(1, 2).reshape(count, length, width))
        y = functional.rms_norm(x_BTD, (width,), self.norm2, self.eps)
        fed: Tensor = self.down(functional.silu(self.gate(y)) * self.up(y))
        return x_BTD + fed


class Plain(nn.Module):
    """The whole decoder."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        model = spec.model
        self.embedding = nn.Embedding(model.vocab_size, model.hidden_size)
        self.layers = nn.ModuleList(Layer(spec) for _ in range(model.num_layers))
        self.norm = nn.Parameter(torch.ones(model.hidden_size))
        self.head = nn.Linear(model.hidden_size, model.vocab_size, bias=False)
        self.eps = model.norm_eps_nano / NANO
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        width = model.hidden_size // model.num_heads
        powers = torch.arange(0, width, 2, dtype=torch.float64) / width
        angles = torch.outer(torch.arange(model.seq_len), model.rope_theta**-powers)
        both = torch.cat((angles, angles), 1)
        self.cos, self.sin = both.cos().float(), both.sin().float()

    def forward(self, inputs_BT: Tensor, labels_BT: Tensor) -> Tensor:
        """Mean loss in nats."""
        x = self.embedding(inputs_BT)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        x = functional.rms_norm(x, (x.shape[-1],), self.norm, self.eps)
        logits: Tensor = self.head(x)
        return functional.cross_entropy(logits.flatten(0, 1), labels_BT.flatten())


def _turned(x_BHTE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    left, right = x_BHTE.chunk(2, -1)
    return x_BHTE * cos_TE + torch.cat((-right, left), -1) * sin_TE


class Trainer:
    """A model, its optimizer and the random numbers that draw its windows."""

    def __init__(self, spec: RunSpec, tokens: TokenSource) -> None:
        torch.manual_seed(spec.seed)
        self.model = Plain(spec)
        self._spec, self._tokens = spec, tokens
        self._rng = np.random.default_rng(spec.seed)
        chosen = spec.optimizer
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(),
            betas=(chosen.beta1_nano / NANO, chosen.beta2_nano / NANO),
            eps=chosen.eps_nano / NANO,
            weight_decay=chosen.weight_decay_nano / NANO,
            fused=True,
        )

    def step(self, batch: int, piece: int, rate: float) -> None:
        """Take one step on ``batch`` sequences, ``piece`` of them at a time."""
        length = self._spec.model.seq_len
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        offsets = self._rng.integers(0, len(self._tokens) - length - 1, batch)
        starts = [int(start) for start in offsets]
        self._optimizer.zero_grad(set_to_none=True)
        for at in range(0, batch, piece):
            part = starts[at : at + piece]
            loss = self.model(*windows(self._tokens, part, length))
            (loss if piece == batch else loss * (len(part) / batch)).backward()
        clip = self._spec.optimizer.clip_norm_nano / NANO
        nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self._optimizer.step()


def fastest_piece(spec: RunSpec, tokens: TokenSource, batch: int) -> int:
    """Return the number of sequences that is fastest on this machine: all, a quarter, or a micro-batch.

    A piece that stays in the cache may beat a batch that does not; each has its best of some steps.
    """
    trainer, best = Trainer(spec, tokens), dict[int, float]()
    for _ in range(TRIALS):
        for piece in {batch, max(batch // 4, 1), spec.microbatch_size}:
            began = time.perf_counter()
            trainer.step(batch, piece, 1e-6)
            took_s = time.perf_counter() - began
            best[piece] = min(took_s, best.get(piece, took_s))
    return min(best, key=lambda piece: best[piece])


def train(
    spec: RunSpec,
    tokens: TokenSource,
    heldout: TokenSource,
    *,
    num_tokens: int,
    batch: int,
    piece: int,
) -> dict[str, float]:
    """Train for ``num_tokens`` and measure; the schedule is warm-up and cosine over exactly that long."""
    trainer = Trainer(spec, tokens)
    steps = max(num_tokens // (batch * spec.model.seq_len), 1)
    peak = max(spec.optimizer.learning_rates_nano) / NANO
    began, began_cpu_s, began_busy_s = time.perf_counter(), time.process_time(), busy_s()
    for step in range(steps):
        share = min((step + 1) / 50, 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
        trainer.step(batch, piece, peak * share)
    seconds = time.perf_counter() - began
    cpu_s, all_s = time.process_time() - began_cpu_s, busy_s() - began_busy_s
    trained = steps * batch * spec.model.seq_len
    return {
        "tokens": trained,
        "seconds": seconds,
        "tokens_per_s": trained / seconds,
        "nats": evaluate(trainer.model, spec, heldout),
        "steps": steps,
        "piece": piece,
        "cpu_s": cpu_s,
        "busy_s": all_s,
    }


def evaluate(model: Plain, spec: RunSpec, heldout: TokenSource) -> float:
    """Held-out loss over the windows that `swarm eval` takes."""
    starts = heldout_starts(len(heldout), spec.model.seq_len, 512)
    total = 0.0
    with torch.no_grad():
        for at in range(0, len(starts), 16):
            group = starts[at : at + 16]
            total += float(model(*windows(heldout, group, spec.model.seq_len))) * len(group)
    return total / len(starts)


def main() -> int:
    """Train as the command line says; print one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--piece", type=int, default=0, help="0: whatever is fastest here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    spec = decode(RunSpec, args.spec.read_bytes(), limit=1 << 20)
    tokens = np.memmap(args.train, dtype=np.uint8, mode="r")
    found = train(
        spec,
        tokens,
        np.memmap(args.heldout, dtype=np.uint8, mode="r"),
        num_tokens=args.tokens,
        batch=args.batch,
        piece=args.piece or fastest_piece(spec, tokens, args.batch),
    )
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
