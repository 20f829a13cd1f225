"""The baseline: the same model in one plain torch process, with everything torch offers for speed.

Fused attention, fused AdamW, all cores. It trains on the same token file and is measured on the same
held-out windows. Run as a program: prints one JSON object.

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

from swarm.codec import decode
from swarm.spec import NANO, RunSpec
from swarm.training.data import TokenSource, windows
from swarm.training.evaluate import heldout_starts


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
        """One layer."""
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


def train(
    spec: RunSpec, tokens: TokenSource, heldout: TokenSource, *, num_tokens: int, batch: int
) -> dict[str, float]:
    """Train for ``num_tokens`` and measure; the schedule is warm-up and cosine over exactly that long."""
    torch.manual_seed(spec.seed)
    model, optimizer_spec = Plain(spec), spec.optimizer
    steps = max(num_tokens // (batch * spec.model.seq_len), 1)
    peak = max(optimizer_spec.learning_rates_nano) / NANO
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=peak,
        betas=(optimizer_spec.beta1_nano / NANO, optimizer_spec.beta2_nano / NANO),
        eps=optimizer_spec.eps_nano / NANO,
        weight_decay=optimizer_spec.weight_decay_nano / NANO,
        fused=True,
    )
    dice = np.random.default_rng(spec.seed)
    began = time.perf_counter()
    for step in range(steps):
        share = min((step + 1) / 50, 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = peak * share
        starts = dice.integers(0, len(tokens) - spec.model.seq_len - 1, batch)
        loss = model(*windows(tokens, [int(start) for start in starts], spec.model.seq_len))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), optimizer_spec.clip_norm_nano / NANO)
        optimizer.step()
    seconds = time.perf_counter() - began
    trained = steps * batch * spec.model.seq_len
    return {
        "tokens": trained,
        "seconds": seconds,
        "tokens_per_s": trained / seconds,
        "nats": evaluate(model, spec, heldout),
        "steps": steps,
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
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    spec = decode(RunSpec, words.spec.read_bytes(), limit=1 << 20)
    found = train(
        spec,
        np.memmap(words.train, dtype=np.uint8, mode="r"),
        np.memmap(words.heldout, dtype=np.uint8, mode="r"),
        num_tokens=words.tokens,
        batch=words.batch,
    )
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
