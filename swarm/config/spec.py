"""Hashed specs that peers must agree on: the genesis of a network and the spec of a run.

Core: frozen, integers only. Fractions are counted in billionths (``_nano``) so that every machine reads the
same number; a real learning-rate schedule is a table of integers, never a live cosine. Files that people write
are read by ``config/load.py``, which builds these.
"""

from typing import Literal

from swarm.primitives.codec import Message, encode
from swarm.primitives.crypto import digest
from swarm.types import NO_DIGEST, Amount, Digest, PeerId

NANO = 1_000_000_000
EXACT_NUMERICS = "seq-f32/1"
"""Profile that gives the same bits on every machine; the native profiles do not."""
ADAMW, MUON = "adamw", "muon"
"""Optimizers of a run."""


ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3 = "default", "linear", "llama3"
"""Rules by which the frequencies of rotary positions follow from their base."""
Recompute = Literal["auto", "always", "never"]
"""Setting of a node: forward passes that wait for their gradient are computed again when it arrives."""
Target = Literal["q", "k", "v", "o", "gate", "up", "down"]
ADAPTER_TARGETS: tuple[Target, ...] = ("q", "k", "v", "o", "gate", "up", "down")
"""Projections of a decoder layer that an adapter can correct, in the order of the flat vector."""


class RopeSpec(Message, frozen=True):
    """Stretching of the rotary positions, as transformers' ``rope_parameters`` has it."""

    kind: str = ROPE_DEFAULT
    """``default``, ``linear`` or ``llama3``."""
    factor_nano: int = NANO
    """Times that slow frequencies (linear: all) are divided by."""
    low_freq_nano: int = NANO
    """llama3: turns within the original context below which a frequency is divided by the whole factor."""
    high_freq_nano: int = 4 * NANO
    """llama3: turns above which a frequency stays as it is."""
    original_positions: int = 8192
    """llama3: context that the model was made for before it was stretched."""


class ModelSpec(Message, frozen=True):
    """Shape of a Llama-style decoder: RMSNorm, rotary positions, SwiGLU, untied embeddings."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    seq_len: int
    rope_theta: int
    norm_eps_nano: int
    bottleneck_rank: int = 0
    """Values of a token that cross a cut between stages; 0: all ``hidden_size``, without a bottleneck."""
    bottleneck_stages: int = 1
    """Stages between which the bottlenecks lie, which are a part of the model; 1 without any."""
    rope: RopeSpec = RopeSpec()


class OptimizerSpec(Message, frozen=True):
    """AdamW, or Muon beside it, with a clip on the norm of each shard's gradient."""

    beta1_nano: int
    beta2_nano: int
    eps_nano: int
    """Epsilon in units of 1e-9 (10 is the usual 1e-8)."""
    weight_decay_nano: int
    clip_norm_nano: int
    learning_rates_nano: tuple[int, ...]
    """Entry i serves steps [i * stride, (i + 1) * stride); the last entry serves all that follow."""
    learning_rate_stride: int
    name: str = ADAMW
    """``adamw``, or ``muon``: Muon for the matrices of the decoder layers, AdamW for the rest."""
    momentum_nano: int = 950_000_000
    """Momentum of Muon, as Nesterov has it."""
    adamw_rate_nano: int = 300_000_000
    """Rate of what AdamW rules in a run with Muon, as a fraction of the rate of Muon."""


class OuterSpec(Message, frozen=True):
    """Outer step of docs/spec/training.md section 3."""

    alpha_nano: int
    beta_nano: int
    gamma_nano: int
    alpha_ramp_rounds: int
    age_weights_nano: tuple[int, ...]
    """Factor on the partner's weight by its lag in rounds; a lag past the end gives 0."""
    fragments: int
    pull_only_rounds: int
    num_retries: int
    codec: str
    """``int8``, ``int4``, ``int4-mean``, ``int3-mean`` or ``bf16``: encoding where both anchors are equal."""
    distance_max_nano: int = 0
    """Multiple of the distance expected of a partner past which it gets less than its weight; 0: never."""
    loss_margin_nano: int = 0
    """Nats by which a partner may raise the loss before it is declined; 0: not measured."""
    trades_per_round: int = 1
    """Trades of each fragment in a round of training, each with a partner of its own."""

    @property
    def exchanges(self) -> int:
        """Exchanges of a round of training: number ``trade * fragments + fragment`` names one."""
        return self.fragments * self.trades_per_round

    def fragment_of(self, exchange: int) -> int:
        """Return the fragment that an exchange trades."""
        return exchange % self.fragments

    def trade_of(self, exchange: int) -> int:
        """Return which trade of its fragment in the round an exchange is, from 0."""
        return exchange // self.fragments


class WireSpec(Message, frozen=True):
    """Encoding of what crosses a stage boundary (docs/spec/training.md section 5)."""

    activations: str
    """``bf16``, ``int8`` or ``int4``: activations on their way up, and gradients on their way down."""


FIRST_TRADE_BLOCKS = 1
"""Blocks after the boundary before the first fragment is traded: late seats catch up meanwhile."""
LAST_TRADE_BLOCKS = 2
"""Last blocks of a round in which no trade starts, so that none is open when the segment closes."""


def trade_blocks(round_blocks: int) -> int:
    """Return the blocks of a round over which its exchanges are spread; at least 1."""
    return max(round_blocks - FIRST_TRADE_BLOCKS - LAST_TRADE_BLOCKS, 1)


def trade_ms(round_blocks: int, block_interval_ms: int, trades: int) -> int:
    """Return the milliseconds that each of a fragment's trades in a round has: they follow each other."""
    return trade_blocks(round_blocks) * block_interval_ms // trades


class DataSpec(Message, frozen=True):
    """Token file and its held-out twin, named by the Merkle roots of their chunks."""

    tokenizer: str
    """``bytes``, or ``file`` for the tokenizer of ``tokenizer_root``."""
    train_root: Digest
    train_bytes: int
    heldout_root: Digest
    heldout_bytes: int
    dtype: str = "uint8"
    """Type of one token, little-endian: the narrowest of uint8, uint16 and uint32 that holds every id."""
    num_token_ids: int = 256
    """Bound that every token id of both files is below; at most the model's ``vocab_size``."""
    tokenizer_root: Digest = NO_DIGEST
    """Root of the blob that holds the ``tokenizers`` file; ``NO_DIGEST`` for bytes."""


class DeadlineSpec(Message, frozen=True):
    """Deadlines of a peer, in milliseconds."""

    step_ms: int
    hop_ms: int
    exchange_ms: int


SPOTS = "spots"
"""Way of checks that look at drawn elements."""


class CheckSpec(Message, frozen=True):
    """Rules by which segments are checked (docs/spec/protocol.md section 6)."""

    probability_nano: int
    window_steps: int
    challenge_window_blocks: int
    on_fraud: str = "evict"
    """``evict``, or ``rollback``: the stage of a proven fraud restarts from the checkpoint before it."""
    way: str = "replay"
    """``replay``: a check computes a window again; ``spots``: it looks at drawn elements of one step
    (swarm/verify/spots)."""
    forced_nano: int = 0
    """Part of the checks, in billionths, in which the solver states something false on purpose; only where
    checks look at elements."""

    @property
    def spots(self) -> bool:
        """True if checks look at drawn elements."""
        return self.way == SPOTS


class AdapterSpec(Message, frozen=True):
    """Low-rank adapter (LoRA, arXiv 2106.09685) that is trained on weights that stay as they are."""

    rank: int = 0
    """Rows of every A and columns of every B; 0: no adapter, all weights are trained."""
    lora_alpha_nano: int = 0
    """Numerator of the scale alpha / rank of a correction B A x."""
    targets: tuple[str, ...] = ()
    """Projections of every layer that are corrected, in the order of ``ADAPTER_TARGETS``."""
    base_roots: tuple[Digest, ...] = ()
    """Roots of the weights of every stage that the adapter rests on: blobs that peers fetch from each other."""

    @property
    def scale(self) -> float:
        """Factor of every correction."""
        return self.lora_alpha_nano / NANO / self.rank


class StageStart(Message, frozen=True):
    """State that the first segments of a stage begin with: these weights, and zeros beside them."""

    weights: Digest
    """Hash of the initial weights."""
    num_parameters: int
    """Values of the weights, and of the first moments and the outer momentum."""
    num_seconds: int
    """Second moments that the optimizer keeps."""
    num_residuals: int
    """Values of the residual of four-bit fragments; 0 in a run that keeps none."""


class RunSpec(Message, frozen=True):
    """Everything that decides what a run computes; its digest identifies the run."""

    name: str
    model: ModelSpec
    num_stages: int
    replicas_max: int
    microbatch_size: int
    microbatches_per_step: int
    inner_steps_max: int
    round_blocks: int
    rounds: int
    checkpoint_rounds: int
    optimizer: OptimizerSpec
    outer: OuterSpec
    wire: WireSpec
    data: DataSpec
    deadlines: DeadlineSpec
    checks: CheckSpec
    numerics: str
    """``native``, ``native-bf16`` or ``seq-f32/1``."""
    seed: int
    starts: tuple[StageStart, ...] = ()
    """State that each stage begins with; empty in a plan of a run that nothing was computed for yet."""
    is_pretrained: bool = False
    """True if the initial weights are blobs that peers fetch from each other; else they are initialised from
    ``seed``, as those of an adapter always are."""
    adapter: AdapterSpec = AdapterSpec()
    price_max: int = 1
    """Most that the run pays for 1,000 verified tokens, in units of money; solvers may ask for less."""

    @property
    def is_exact(self) -> bool:
        """True if honest machines agree on every bit of this run."""
        return self.numerics == EXACT_NUMERICS

    @property
    def digest(self) -> Digest:
        """Digest that identifies this run; its first 16 bytes go into tickets."""
        return digest("run-spec", encode(self))


class GenesisAccount(Message, frozen=True):
    """Account that exists before the first block."""

    peer: PeerId
    balance: Amount
    stake: Amount


class Genesis(Message, frozen=True):
    """Block 0 of a network; its digest is the chain id that every signature covers."""

    name: str
    accounts: tuple[GenesisAccount, ...]
    """Sorted by peer, no duplicates."""
    validators: tuple[PeerId, ...]
    """Sorted; each has an account, and its stake is its voting power."""
    block_interval_ms: int
    epoch_blocks: int
    beacon_delay: int
    unbonding_epochs: int
    stake_segments: int
    validator_stake: Amount
    """Least stake of a validator."""
    fee_min: Amount
    fee_per_byte_nano: int
    seed: bytes
    """32 random bytes: the beacon of height 0."""

    @property
    def chain(self) -> Digest:
        """Chain id: the digest of this genesis."""
        return digest("genesis", encode(self))
