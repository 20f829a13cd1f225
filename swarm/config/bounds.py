"""Bound every field of a run spec and of a genesis, so that any machine that joins can work with them.

Core: integers only, so that every peer and every version of a library gives the same verdict.

A spec arrives in a file from a friend or in a block from a stranger; both are checked here, before anything is
allocated or computed from it. ``config/load.py`` reports the same errors in the terms of the file.
"""

import re
from itertools import pairwise

from swarm.config.spec import (
    ADAMW,
    ADAPTER_TARGETS,
    EXACT_NUMERICS,
    MUON,
    NANO,
    ROPE_DEFAULT,
    ROPE_LINEAR,
    ROPE_LLAMA3,
    SPOTS,
    AdapterSpec,
    DataSpec,
    Genesis,
    ModelSpec,
    OptimizerSpec,
    RopeSpec,
    RunSpec,
    trade_blocks,
    trade_ms,
)
from swarm.errors import BadConfig
from swarm.primitives.codec import LONGEST_FRAME_BYTES, Message
from swarm.types import NO_DIGEST

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
"""Names of runs and networks: 40 plain characters, because they go into terminals, file names and metrics."""
NUMERICS = ("native", "native-bf16", EXACT_NUMERICS)
TOKENIZERS = ("bytes", "file")
TOKEN_BYTES = {"uint8": 1, "uint16": 2, "uint32": 4}
"""Bytes of one token in a token file, by its dtype."""
CODECS = ("int8", "int4", "int4-mean", "int3-mean", "bf16")
ACTIVATIONS = ("bf16", "int8", "int4")
WAYS = ("replay", SPOTS)
ON_FRAUD = ("evict", "rollback")
OPTIMIZERS = (ADAMW, MUON)
ROPE_KINDS = (ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3)
LEARNING_RATES_MAX = 1024
AGE_WEIGHTS_MAX = 8
VALIDATORS_MAX = 128
"""A certificate carries one signature of each: 8 KiB at most."""
SEATS_MAX = 1024
"""Stages times replicas: the rosters of a run are kept for several rounds and hashed in every block."""
SEGMENT_TOKENS_MAX = (1 << 32) - 1
"""A commitment counts its tokens in 32 bits."""
ACCOUNTS_MAX = 10_000
AMOUNT_MAX = 1 << 62
STAGE_PARAMETERS_MAX = 1 << 31
"""8 GiB of float32 weights in one stage, 32 GiB with gradient and optimizer: the largest single machine."""
SHORTEST_WINDOW_EPOCHS = 2
"""Validators who leave a challenge out are followed by those of the next epoch before its window closes."""
_ENVELOPE_BYTES = 4096
"""Bytes of a frame beside an activation: ids, routes, hashes, signature."""

PRICE_MAX = 1 << 20
"""Most units for 1,000 tokens that a run may post, or a solver ask for: a segment earns less than 2^53."""

BOUNDS: dict[str, tuple[int, int]] = {
    # model
    "vocab_size": (256, 1 << 18),
    "hidden_size": (8, 1 << 14),
    "num_layers": (1, 256),
    "num_heads": (1, 256),
    "num_kv_heads": (1, 256),
    "intermediate_size": (8, 1 << 16),
    "seq_len": (8, 1 << 14),
    "rope_theta": (100, 10**9),
    "norm_eps_nano": (1, NANO // 1000),
    "bottleneck_rank": (0, 1 << 14),
    "bottleneck_stages": (1, 64),
    "factor_nano": (NANO, 1000 * NANO),
    "low_freq_nano": (NANO // 1000, 1000 * NANO),
    "high_freq_nano": (NANO // 1000, 1000 * NANO),
    "original_positions": (8, 1 << 20),
    # adapter: ranks in use are 4 to 256
    "rank": (0, 1024),
    "lora_alpha_nano": (0, 10_000 * NANO),
    # run
    "num_stages": (1, 64),
    "replicas_max": (1, 256),
    "microbatch_size": (1, 1024),
    "microbatches_per_step": (1, 256),
    "inner_steps_max": (1, 10_000),
    "round_blocks": (3, 100_000),
    "rounds": (1, 65_000),
    "checkpoint_rounds": (1, 1_000),
    "seed": (0, (1 << 63) - 1),
    "price_max": (1, PRICE_MAX),
    # optimizer
    "beta1_nano": (0, NANO - 1),
    "beta2_nano": (0, NANO - 1),
    "eps_nano": (1, NANO),
    "weight_decay_nano": (0, NANO),
    "clip_norm_nano": (NANO // 1000, 1000 * NANO),
    "learning_rate_stride": (1, 1 << 32),
    "momentum_nano": (0, NANO - 1),
    "adamw_rate_nano": (NANO // 1000, 10 * NANO),
    # outer
    "alpha_nano": (0, NANO - 1),
    "beta_nano": (1, 2 * NANO),
    "gamma_nano": (1, 2 * NANO),
    "alpha_ramp_rounds": (0, 65_000),
    "fragments": (1, 64),
    "trades_per_round": (1, 32),
    "pull_only_rounds": (0, 64),
    "num_retries": (0, 8),
    "distance_max_nano": (0, 1_000 * NANO),
    "loss_margin_nano": (0, 100 * NANO),
    # data: a token file is one blob, and a blob has at most 16 GiB
    "train_bytes": (1, 1 << 34),
    "heldout_bytes": (1, 1 << 34),
    "num_token_ids": (2, 1 << 18),
    # deadlines
    "step_ms": (100, 3_600_000),
    "hop_ms": (50, 600_000),
    "exchange_ms": (100, 3_600_000),
    # checks
    "probability_nano": (0, NANO),
    "forced_nano": (0, NANO // 2),
    "window_steps": (1, 10_000),
    "challenge_window_blocks": (1, 10_000_000),
    # genesis
    "block_interval_ms": (50, 60_000),
    "epoch_blocks": (10, 1_000_000),
    "beacon_delay": (1, 1_000),
    "unbonding_epochs": (3, 1_024),
    "stake_segments": (1, 1_000_000),
    "validator_stake": (1, AMOUNT_MAX),
    "fee_min": (0, 10**12),
    "fee_per_byte_nano": (1, 10**12),
}
"""Least and greatest value of every integer field, by its name in the spec."""


def check_spec(spec: RunSpec) -> None:
    """Raise ``BadConfig`` with the bound unless every honest machine can work by this spec."""
    _check_name(spec.name)
    parts = (
        spec,
        spec.model,
        spec.model.rope,
        spec.adapter,
        spec.optimizer,
        spec.outer,
        spec.data,
        spec.deadlines,
        spec.checks,
    )
    for part in parts:
        _check_integers(part)
    if spec.numerics not in NUMERICS:
        raise BadConfig(f"numerics is one of {', '.join(NUMERICS)}, not {spec.numerics[:40]!r}")
    _check_data(spec.data)
    _check_starts(spec)
    if spec.outer.codec not in CODECS:
        raise BadConfig(f"codec is one of {', '.join(CODECS)}, not {spec.outer.codec[:40]!r}")
    if spec.wire.activations not in ACTIVATIONS:
        raise BadConfig(f"activations is one of {', '.join(ACTIVATIONS)}")
    if spec.checks.on_fraud not in ON_FRAUD:
        raise BadConfig(f"on_fraud is one of {', '.join(ON_FRAUD)}")
    if spec.checks.way not in WAYS:
        raise BadConfig(f"way is one of {', '.join(WAYS)}")
    _check_optimizer(spec.optimizer)
    _check_tables(spec)
    _check_shape(spec)
    _check_rope(spec.model.rope)
    _check_adapter(spec)
    _check_outer(spec)
    _check_time(spec)


def check_genesis(genesis: Genesis) -> None:
    """Raise ``BadConfig`` with the bound unless this genesis defines a network that can run."""
    _check_name(genesis.name)
    _check_integers(genesis)
    peers = [account.peer for account in genesis.accounts]
    if len(genesis.seed) != 32 or any(len(peer) != 32 for peer in peers):
        raise BadConfig("a seed and a peer have 32 bytes")
    if not 1 <= len(genesis.validators) <= VALIDATORS_MAX:
        raise BadConfig(f"a network has 1 to {VALIDATORS_MAX} validators")
    if len(peers) > ACCOUNTS_MAX:
        raise BadConfig(f"a genesis has at most {ACCOUNTS_MAX} accounts")
    for names in (peers, list(genesis.validators)):
        if any(a >= b for a, b in pairwise(names)):
            raise BadConfig("accounts and validators are sorted by peer, each once")
    stakes = {account.peer: account.stake for account in genesis.accounts}
    if any(stakes.get(peer, 0) <= 0 for peer in genesis.validators):
        raise BadConfig("every validator has an account with a stake above 0")
    amounts = [amount for a in genesis.accounts for amount in (a.balance, a.stake)]
    if any(amount < 0 for amount in amounts) or sum(amounts) > AMOUNT_MAX:
        raise BadConfig("amounts are at least 0 and sum up to less than 2^62")


def check_fit(spec: RunSpec, genesis: Genesis) -> None:
    """Raise ``BadConfig`` with the bound unless the run fits the block times and epochs of the network."""
    window, epoch = spec.checks.challenge_window_blocks, genesis.epoch_blocks
    if window < SHORTEST_WINDOW_EPOCHS * epoch:
        raise BadConfig(
            f"challenge_window_blocks {window} must be at least {SHORTEST_WINDOW_EPOCHS} epochs ="
            f" {SHORTEST_WINDOW_EPOCHS * epoch} blocks"
        )
    if window >= genesis.unbonding_epochs * epoch:
        raise BadConfig(
            f"challenge_window_blocks {window} must be below unbonding_epochs * epoch_blocks ="
            f" {genesis.unbonding_epochs * epoch}, or a cheat withdraws its stake first"
        )
    if genesis.beacon_delay >= spec.round_blocks:
        raise BadConfig(
            f"beacon_delay {genesis.beacon_delay} must be below round_blocks = {spec.round_blocks}"
        )
    round_ms = spec.round_blocks * genesis.block_interval_ms
    _check_trade_time(spec, genesis)
    for name in ("step_ms", "exchange_ms"):
        if getattr(spec.deadlines, name) > round_ms:
            key, given_s = f"{name.removesuffix('_ms')}_s", getattr(spec.deadlines, name) / 1000
            raise BadConfig(
                f"the deadline {key} = {given_s:g} must be at most a round = {round_ms / 1000:g} s:"
                " round_blocks * block_interval_s"
            )


def _check_trade_time(spec: RunSpec, genesis: Genesis) -> None:
    """Check that a trade ends before the next one of its fragment begins, if a round has several."""
    trades, blocks = spec.outer.trades_per_round, trade_blocks(spec.round_blocks)
    most_ms = trade_ms(spec.round_blocks, genesis.block_interval_ms, trades)
    if trades > 1 and spec.deadlines.exchange_ms > most_ms:
        raise BadConfig(
            f"the deadline exchange_s = {spec.deadlines.exchange_ms / 1000:g} must be at most"
            f" {most_ms / 1000:g} s: trades_per_round = {trades} trades of a fragment share"
            f" {blocks} blocks of a round, one after another",
            hint=f"exchange_s = {most_ms / 1000:g} under [deadlines], fewer trades, or longer rounds",
        )


def token_dtype(num_token_ids: int) -> str:
    """Return the narrowest dtype of a token file that holds every id below ``num_token_ids``."""
    return next(name for name, size in TOKEN_BYTES.items() if num_token_ids <= 1 << (8 * size))


def num_parameters(model: ModelSpec, first: int = 0, last: int | None = None) -> int:
    """Return the number of parameters of layers ``first`` to ``last`` (exclusive).

    ``last`` None counts up to the last layer and adds the embedding, the final norm and the head.
    """
    width, heads = model.hidden_size, model.num_heads
    keys = width // heads * model.num_kv_heads
    layer = 2 * width * width + 2 * width * keys + 3 * width * model.intermediate_size + 2 * width
    ends = 2 * model.vocab_size * width + width if last is None else 0
    return ((model.num_layers if last is None else last) - first) * layer + ends


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise BadConfig(f"a name is 1 to 40 of a-z, 0-9 and -, not {name[:60]!r}")


def _check_integers(part: Message) -> None:
    for name in part.__struct_fields__:
        value: object = getattr(part, name)
        if name in BOUNDS and isinstance(value, int):  # the seed of a genesis is bytes
            least, most = BOUNDS[name]
            if not least <= value <= most:
                raise BadConfig(f"{name} must be from {least} to {most}, not {value}")


def _check_starts(spec: RunSpec) -> None:
    """Check the states that stages begin with: none is known yet, or one of each stage, within bounds."""
    if len(spec.starts) not in {0, spec.num_stages}:
        raise BadConfig(f"{len(spec.starts)} starts for {spec.num_stages} stages")
    if spec.is_pretrained and not spec.starts:
        raise BadConfig("pretrained weights that no hash names")
    for start in spec.starts:
        if len(start.weights) != 32:
            raise BadConfig("initial weights are named by a hash of 32 bytes")
        most = STAGE_PARAMETERS_MAX
        if not 1 <= start.num_parameters <= most or not 0 <= start.num_seconds <= most:
            raise BadConfig(
                f"a stage of {start.num_parameters} parameters, {start.num_seconds} squares"
            )
        if not 0 <= start.num_residuals <= 2 * most:
            raise BadConfig(f"a residual of {start.num_residuals} values")


def _check_data(data: DataSpec) -> None:
    """Check the description of the token files; their contents are checked where they are opened."""
    if data.tokenizer not in TOKENIZERS:
        raise BadConfig(f"tokenizer is one of {', '.join(TOKENIZERS)}")
    for name in ("train_root", "heldout_root", "tokenizer_root"):
        if len(getattr(data, name)) != 32:
            raise BadConfig(f"{name} is a hash of 32 bytes")
    wanted = token_dtype(data.num_token_ids)
    if data.dtype != wanted:
        raise BadConfig(f"{data.num_token_ids} token ids are kept as {wanted}")
    for name in ("train_bytes", "heldout_bytes"):
        if getattr(data, name) % TOKEN_BYTES[wanted]:
            raise BadConfig(f"{name} {getattr(data, name)} is no whole number of {wanted}")
    is_bytes = data.tokenizer == "bytes"
    if is_bytes and data.num_token_ids != 256:
        raise BadConfig(f"bytes have 256 token ids, not {data.num_token_ids}")
    if is_bytes != (data.tokenizer_root == NO_DIGEST):
        raise BadConfig("tokenizer_root names the file of tokenizer file, and of no other")


def _check_optimizer(optimizer: OptimizerSpec) -> None:
    if optimizer.name not in OPTIMIZERS:
        raise BadConfig(
            f"the optimizer's name is one of {', '.join(OPTIMIZERS)}, not {optimizer.name[:40]!r}"
        )
    rates = optimizer.learning_rates_nano
    if not 1 <= len(rates) <= LEARNING_RATES_MAX or not all(0 < rate <= NANO for rate in rates):
        raise BadConfig(f"1 to {LEARNING_RATES_MAX} learning rates, each above 0 and at most 1")
    if optimizer.name == MUON and max(rates) * optimizer.adamw_rate_nano > NANO * NANO:
        raise BadConfig(
            f"adamw_rate {_decimal(optimizer.adamw_rate_nano)} times the learning rate"
            f" {_decimal(max(rates))} must be at most 1"
        )


def _check_tables(spec: RunSpec) -> None:
    ages = spec.outer.age_weights_nano
    if not 1 <= len(ages) <= AGE_WEIGHTS_MAX or not all(0 <= age <= NANO for age in ages):
        raise BadConfig(f"1 to {AGE_WEIGHTS_MAX} age weights, each from 0 to 1")


def _check_shape(spec: RunSpec) -> None:
    model = spec.model
    if spec.data.tokenizer == "bytes" and model.vocab_size != 256:
        raise BadConfig(
            f"bytes have a vocab_size of 256, not {model.vocab_size}",
            hint="vocab_size = 256 under [model], or a dataset made with swarm data build --tokenizer",
        )
    if spec.data.num_token_ids > model.vocab_size:
        raise BadConfig(
            f"vocab_size {model.vocab_size} is below the {spec.data.num_token_ids} token ids of the text",
            hint=f"set vocab_size = {spec.data.num_token_ids} under [model]",
        )
    if model.hidden_size % (2 * model.num_heads):
        raise BadConfig(
            f"hidden_size {model.hidden_size} must be a multiple of 2 * num_heads = {2 * model.num_heads}:"
            " heads share it equally, and rotary positions turn pairs"
        )
    if model.num_heads % model.num_kv_heads:
        raise BadConfig(
            f"num_heads {model.num_heads} must be a multiple of num_kv_heads {model.num_kv_heads}"
        )
    if spec.num_stages > model.num_layers:
        raise BadConfig(
            f"num_stages {spec.num_stages} must be at most num_layers = {model.num_layers}"
        )
    if spec.num_stages * spec.replicas_max > SEATS_MAX:
        raise BadConfig(
            f"num_stages * replicas_max = {spec.num_stages * spec.replicas_max} seats must be at most"
            f" {SEATS_MAX}"
        )
    _check_bottleneck(spec)
    _check_sizes(spec)


def _check_bottleneck(spec: RunSpec) -> None:
    """Check that the bottlenecks of the model lie where the run cuts it, and make its rows shorter."""
    model, stages = spec.model, spec.num_stages
    if not model.bottleneck_rank:
        if model.bottleneck_stages != 1:
            raise BadConfig("bottleneck_stages without a bottleneck_rank")
        return
    if stages == 1:
        raise BadConfig(
            f"rank {model.bottleneck_rank} of a run with one stage, which has no cut to send through",
            hint="rank = 0 under [wire], or more [training] num_stages",
        )
    if model.bottleneck_stages != stages:
        raise BadConfig(
            f"bottlenecks between {model.bottleneck_stages} stages in a run of {stages}"
        )
    if model.bottleneck_rank >= model.hidden_size:
        raise BadConfig(
            f"rank {model.bottleneck_rank} must be below hidden_size = {model.hidden_size}, or it saves"
            " nothing",
            hint="rank = 0 under [wire]: no bottleneck",
        )


def _check_rope(rope: RopeSpec) -> None:
    if rope.kind not in ROPE_KINDS:
        raise BadConfig(f"rope_type is one of {', '.join(ROPE_KINDS)}, not {rope.kind[:40]!r}")
    if rope.kind == ROPE_DEFAULT and rope.factor_nano != NANO:
        raise BadConfig(
            f"rope_factor {_decimal(rope.factor_nano)} does nothing with rope_type default",
            hint='rope_type = "linear" or "llama3" under [model], or no rope_factor',
        )
    if rope.kind == ROPE_LLAMA3 and rope.low_freq_nano >= rope.high_freq_nano:
        raise BadConfig(
            f"rope_low_freq_factor {_decimal(rope.low_freq_nano)} must be below rope_high_freq_factor"
            f" {_decimal(rope.high_freq_nano)}"
        )


def _check_adapter(spec: RunSpec) -> None:
    """Check that an adapter fits the matrices that it corrects, and names the weights of every stage."""
    adapter = spec.adapter
    if not adapter.rank:
        if adapter != AdapterSpec():
            raise BadConfig("an adapter of rank 0 has neither alpha nor targets nor base_roots")
        return
    unknown = [name for name in adapter.targets if name not in ADAPTER_TARGETS]
    if unknown or not adapter.targets:
        raise BadConfig(
            f"targets of an adapter are some of {', '.join(ADAPTER_TARGETS)}, not"
            f" {', '.join(map(repr, unknown))[:60] or 'none'}",
            hint="edit targets under [adapter]",
        )
    if adapter.targets != tuple(name for name in ADAPTER_TARGETS if name in adapter.targets):
        raise BadConfig(f"targets of an adapter are sorted as {', '.join(ADAPTER_TARGETS)}")
    if not adapter.lora_alpha_nano:
        raise BadConfig("alpha of an adapter must be above 0", hint="alpha = 16 under [adapter]")
    narrowest = min(min(target_shape(spec.model, name)) for name in adapter.targets)
    if adapter.rank > narrowest:
        raise BadConfig(
            f"an adapter of rank {adapter.rank} is wider than the narrowest of its targets: {narrowest}",
            hint=f"rank = {narrowest} or less under [adapter], or fewer targets",
        )
    if spec.optimizer.name != ADAMW:
        raise BadConfig(
            f"the matrices of an adapter are stepped by {ADAMW}, not by {spec.optimizer.name}",
            hint=f'recipe = "lora" under [run], or name = "{ADAMW}" and learning_rate = 4e-3 under [optimizer]',
        )
    if spec.is_pretrained:
        raise BadConfig("an adapter starts from the seed, and only what it rests on is pretrained")
    if len(adapter.base_roots) != spec.num_stages or any(len(r) != 32 for r in adapter.base_roots):
        raise BadConfig(
            f"base_roots of an adapter name {spec.num_stages} stages by hashes of 32 bytes",
            hint='init_from = "FOLDER" under [model]',
        )


def target_shape(model: ModelSpec, name: str) -> tuple[int, int]:
    """Return (outputs, inputs) of a projection that an adapter can correct."""
    width, inner = model.hidden_size, model.intermediate_size
    keys = width // model.num_heads * model.num_kv_heads
    return {
        "q": (width, width),
        "k": (keys, width),
        "v": (keys, width),
        "o": (width, width),
        "gate": (inner, width),
        "up": (inner, width),
        "down": (width, inner),
    }[name]


def _check_sizes(spec: RunSpec) -> None:
    """Bound the tokens of a segment, the bytes of an activation and the parameters of a stage."""
    model = spec.model
    windows = spec.inner_steps_max * spec.microbatches_per_step * spec.microbatch_size
    if windows * model.seq_len * spec.replicas_max > SEGMENT_TOKENS_MAX:
        raise BadConfig(
            "inner_steps_max * microbatches_per_step * microbatch_size * seq_len * replicas_max ="
            f" {windows * model.seq_len * spec.replicas_max} tokens must be at most {SEGMENT_TOKENS_MAX}"
        )
    activation = spec.microbatch_size * model.seq_len * model.hidden_size * 2
    if activation > LONGEST_FRAME_BYTES - _ENVELOPE_BYTES:
        raise BadConfig(
            f"microbatch_size * seq_len * hidden_size * 2 = {activation} bytes must fit into a frame of"
            f" {LONGEST_FRAME_BYTES - _ENVELOPE_BYTES}"
        )
    layers = -(-model.num_layers // spec.num_stages)
    largest = num_parameters(model, 0, layers) + model.vocab_size * model.hidden_size
    # A stage between two cuts: one bottleneck's end, and the next one's beginning.
    if model.bottleneck_rank:
        largest += (2 * model.bottleneck_rank + model.vocab_size) * model.hidden_size
    if largest > STAGE_PARAMETERS_MAX:
        raise BadConfig(
            f"a stage of {largest} parameters is larger than {STAGE_PARAMETERS_MAX}: use more stages"
        )


def _check_outer(spec: RunSpec) -> None:
    """Check that pairwise averaging shrinks the variance (docs/spec/training.md section 3), and the trades."""
    alpha, gamma = spec.outer.alpha_nano, spec.outer.gamma_nano
    if gamma * NANO >= 2 * (NANO * NANO - alpha * alpha):
        bound = 2 * (NANO * NANO - alpha * alpha) // NANO
        raise BadConfig(
            f"gamma {_decimal(gamma)} must be below 2 * (1 - alpha^2) = {_decimal(bound)} for"
            f" alpha {_decimal(alpha)}, or the replicas drift apart"
        )
    trades, blocks = spec.outer.trades_per_round, trade_blocks(spec.round_blocks)
    if trades > blocks:
        raise BadConfig(
            f"trades_per_round {trades} must be at most {blocks}: a fragment's trades begin at different"
            f" blocks, and {blocks} of the {spec.round_blocks} of a round are for trades",
            hint=f"trades_per_round = {blocks} under [outer], or a greater round_blocks",
        )


def _check_time(spec: RunSpec) -> None:
    if spec.deadlines.hop_ms > spec.deadlines.step_ms:
        raise BadConfig(
            f"the hop deadline hop_s = {spec.deadlines.hop_ms / 1000:g} must be at most the step deadline"
            f" step_s = {spec.deadlines.step_ms / 1000:g}"
        )
    if spec.checks.spots and not (spec.is_exact and spec.checks.window_steps == 1):
        raise BadConfig(
            "checks that look at elements need windows of one step, and bits in which honest machines agree",
            hint='way = "replay" under [checks], or numerics = "seq-f32/1" under [run]',
        )
    if spec.checks.forced_nano and not spec.checks.spots:
        raise BadConfig(
            "forced errors are for checks that look at elements: who replays a window cannot answer without",
            hint="leave forced out under [checks]",
        )
    if spec.checks.window_steps > spec.inner_steps_max:
        raise BadConfig(
            f"window_steps {spec.checks.window_steps} must be at most inner_steps_max ="
            f" {spec.inner_steps_max}"
        )


def _decimal(nano: int) -> str:
    whole, part = divmod(nano, NANO)
    return f"{whole}.{part:09d}".rstrip("0").rstrip(".")
