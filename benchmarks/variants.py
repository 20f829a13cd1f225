"""The variants of training that `scripts/bench train` compares, as data.

The model is the S config of docs/spec/training.md: a byte-level decoder of 0.18 million parameters, 8 replicas.
Where the specification leaves a number open it is chosen here, once, for all variants.
"""

from dataclasses import dataclass, replace
from typing import Literal

from swarm.config.load import parse_run_file, run_spec
from swarm.config.spec import DataSpec, RunSpec
from swarm.training.averaging.outer_step import PRESETS, OuterScalars
from swarm.types import Digest

REPLICAS = 8
BATCH = 4
"""Windows of a micro-batch; a step of one replica is one micro-batch."""
SEQ_LEN = 64
STEPS = 300
LONG_STEPS, LONGEST_STEPS = 1_200, 2_400
INNER_STEPS = 10
"""H of NoLoCo; DiLoCo takes twice as many, as in the NoLoCo paper."""
LEARNING_RATE = 3e-3
CHECKPOINT_ROUNDS = 4
PULL_ONLY_ROUNDS = 1
"""Both as in configs/demo.toml, whose rounds are short, too."""

Method = Literal["sync", "diloco", "pairs", "gasloc", "isolated"]
Codec = Literal["float32", "int8", "int4", "int4-mean", "int3-mean", "top2"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to train; the defaults are plain NoLoCo with float32 trades."""

    name: str
    method: Method = "pairs"
    preset: str = "noloco"
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = LEARNING_RATE
    adamw_rate: float = 0.3
    """With Muon: rate of embedding, head and norms over that of the matrices."""
    alpha: float | None = None
    beta: float | None = None
    """Other outer numbers than the preset's; gamma follows beta."""
    gamma: float | None = None
    """Another gamma than beta, which takes two tensors; of GASLoC: its momentum."""
    nesterov: bool = False
    """True if the outer momentum looks ahead, as in DiLoCo."""
    tensors: int = 1
    """2: the partner's slow weights travel as well."""
    inner_steps: int = INNER_STEPS
    """Steps of a round."""
    trades: int = 1
    """Trades of a fragment in a round: H is the steps of a round over them."""
    trades_late: int = 0
    """The same in the second half of the run; 0: as in the first."""
    partners: int = 1
    """Partners of a trade, one after the other."""
    moments_every: int = 0
    """Pairs average their first moments too, in every n-th round, as float32; 0: never."""
    fragments: int = 1
    codec: Codec = "float32"
    """top2: a quarter of the values, those that moved the most, in 2 bits."""
    lost_percent: int = 0
    """Percentage of pulls that never arrive, each drawn by itself."""
    num_retries: int = 1
    """Number of standby partners for a partner that was not heard, as in configs/demo.toml."""
    slow_from: int = REPLICAS
    """Replicas from this number on take every second step only."""
    churn: int = 0
    """Replicas that vanish at every round boundary, each replaced by a newcomer."""
    newcomers: Literal["adopt", "checkpoint"] = "adopt"
    """True if a new replica copies another one, as section 6 says; False: the newest checkpoint."""
    checkpoint_rounds: int = CHECKPOINT_ROUNDS
    """Rounds between two checkpoints: how old they are at most."""
    steps_ratio: tuple[int, int] = (1, 1)
    """More steps than the others, where it takes more for as many tokens."""
    late_steps: int = 0
    """Inner steps between a snapshot and its merge."""
    stages: int = 1
    random_paths: bool = False
    """True if micro-batches are routed; False: they stay with one replica of each stage."""
    wire: Literal["", "bf16", "int8", "int4"] = ""
    """Encoding of what crosses a cut; empty: float32, as computed."""
    rank: int = 0
    """Values of a token that cross a cut, through a trained bottleneck; 0: all."""


FIGURES = (
    Variant("sync", "sync"),
    Variant("diloco", "diloco", "diloco", inner_steps=2 * INNER_STEPS),
    Variant("noloco"),
    Variant("gossip", preset="gossip"),
    Variant("isolated", "isolated"),
    Variant("noloco_int8", codec="int8"),
    Variant("noloco_int4", codec="int4"),
    Variant("noloco_lost30", lost_percent=30),
    Variant("noloco_halfspeed", slow_from=REPLICAS // 2),
    Variant("noloco_churn25", churn=REPLICAS // 4),
    Variant("noloco_fragments5", fragments=5),
    Variant("two_tensor", tensors=2),
    Variant("gamma0", gamma=0.0, tensors=2),
)
"""Variants that the keys of docs/spec/figures.md need."""
EXTRAS = (
    Variant("lost30_alone", lost_percent=30, num_retries=0),
    Variant("halfspeed_same_tokens", slow_from=REPLICAS // 2, steps_ratio=(4, 3)),
    Variant("fewer_steps", steps_ratio=(3, 4)),
    Variant("churn25_checkpoints", churn=REPLICAS // 4, newcomers="checkpoint"),
    Variant(
        "churn25_new_checkpoints",
        churn=REPLICAS // 4,
        newcomers="checkpoint",
        checkpoint_rounds=1,
    ),
    Variant("diloco_same_h", "diloco", "diloco"),
    Variant("noloco_late10", late_steps=INNER_STEPS // 10),
    Variant("fixed_paths", "isolated", stages=2),
    Variant("random_paths", "isolated", stages=2, random_paths=True),
)
"""Further variants of section 7 of docs/spec/training.md; reported in "detail"."""
_CUT = Variant("cut_bf16", "sync", stages=2, wire="bf16", learning_rate=1.2e-2)
ACTIVATIONS = (
    _CUT,
    replace(_CUT, name="cut_d8", wire="int4", rank=15),
    replace(_CUT, name="cut_d32", wire="int4", rank=3),
)
"""Two stages, and what crosses the cut: everything in bfloat16, then at most d/8 and d/32 bytes of a token.

Synchronous, at the rate that is best for it: nothing but the cut differs, and the plain model is a strong one.
"""
VARIANTS = {variant.name: variant for variant in (*FIGURES, *EXTRAS, *ACTIVATIONS)}


def steps_of(variant: Variant, steps: int) -> int:
    """Return the steps of a variant, in whole rounds, when the others take ``steps``."""
    more, than = variant.steps_ratio
    return max(steps * more // than // variant.inner_steps, 1) * variant.inner_steps


def scalars_of(variant: Variant) -> OuterScalars:
    """Return the outer numbers of a variant: its preset's, where it has none of its own."""
    preset = PRESETS[variant.preset]
    alpha = preset.alpha if variant.alpha is None else variant.alpha
    beta = preset.beta if variant.beta is None else variant.beta
    return OuterScalars(alpha, beta, beta)


def spec_of(variant: Variant, seed: int, steps: int) -> RunSpec:
    """Return the run of a variant, through the same reader and the same bounds as any run file."""
    scalars = scalars_of(variant)
    text = f"""
        [run]
        name = "bench-train"
        recipe = "noloco"
        rounds = {steps // variant.inner_steps}
        seed = {seed}
        numerics = "native"
        [model]
        hidden_size = 64
        num_layers = 3
        num_heads = 4
        num_kv_heads = 4
        intermediate_size = 168
        seq_len = {SEQ_LEN}
        [training]
        num_stages = {variant.stages}
        replicas_max = {REPLICAS}
        microbatch_size = {BATCH}
        microbatches_per_step = 1
        inner_steps_max = {variant.inner_steps}
        checkpoint_rounds = {variant.checkpoint_rounds}
        [wire]
        activations = "{variant.wire or "bf16"}"
        rank = {variant.rank}
        [optimizer]
        name = "{variant.optimizer}"
        learning_rate = {variant.learning_rate}
        adamw_rate = {variant.adamw_rate}
        warmup_steps = {max(steps // 20, 1)}
        weight_decay = 0.0
        [outer]
        alpha = {scalars.alpha}
        beta = {scalars.beta}
        gamma = {scalars.beta}
        fragments = {variant.fragments}
        pull_only_rounds = {PULL_ONLY_ROUNDS}
        [checks]
        window_steps = {min(variant.inner_steps, 10)}
    """
    none = Digest(bytes(32))
    return run_spec(
        parse_run_file(text, variant.name),
        data=DataSpec("bytes", none, 1, none, 1),
    )
