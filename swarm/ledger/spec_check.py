"""The ledger's own defence against hostile run specs: every field has a bound.

Core: one table of bounds, and what spans fields.

``config.py`` speaks to people and is stricter; this only refuses what could hurt a node that reads it:
sizes it cannot hold, tables it cannot keep, counts whose products overflow a field of a commit.
"""

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.transactions import SHORT_MAX, TOKENS_MAX
from swarm.spec import NANO, RunSpec

NAME_LENGTH_MAX = 64
STAGES_MAX = 64
REPLICAS_MAX = 256
SEATS_MAX = 1024
"""Stages times replicas: a run's entry stays under half a megabyte with four rosters."""

ROUNDS_MAX = SHORT_MAX - 16
"""Leaves room for the boundaries after the last round in a 16-bit field."""

ROUND_BLOCKS_MAX = 1 << 16
LEARNING_RATES_MAX = 1024
AGE_WEIGHTS_MAX = 16
HOUR_MS = 3_600_000
NUMERICS = ("native", "seq-f32/1")
TOKENIZERS = ("bytes",)


def check_run_spec(spec: RunSpec) -> None:
    """Raise ``InvalidStatement`` naming the first field that is out of bounds."""
    for name, value, low, high in _bounds(spec):
        if not low <= value <= high:
            raise InvalidStatement(
                Reason.BAD_FIELD, f"{name} {value} is not between {low} and {high}"
            )
    for is_wrong, fault in _relations(spec):
        if is_wrong:
            raise InvalidStatement(Reason.BAD_FIELD, fault)


def _bounds(spec: RunSpec) -> tuple[tuple[str, int, int, int], ...]:
    model, outer, data = spec.model, spec.outer, spec.data
    optimizer, deadlines, checks = spec.optimizer, spec.deadlines, spec.checks
    rates, weights = optimizer.learning_rates_nano, outer.age_weights_nano
    return (
        ("name length", len(spec.name), 1, NAME_LENGTH_MAX),
        ("num_stages", spec.num_stages, 1, STAGES_MAX),
        ("replicas_max", spec.replicas_max, 1, REPLICAS_MAX),
        ("seats", spec.num_stages * spec.replicas_max, 1, SEATS_MAX),
        ("microbatch_size", spec.microbatch_size, 1, 1 << 16),
        ("microbatches_per_step", spec.microbatches_per_step, 1, 1 << 16),
        ("inner_steps_max", spec.inner_steps_max, 1, SHORT_MAX),
        ("round_blocks", spec.round_blocks, 2, ROUND_BLOCKS_MAX),
        ("rounds", spec.rounds, 1, ROUNDS_MAX),
        ("checkpoint_rounds", spec.checkpoint_rounds, 1, ROUNDS_MAX),
        ("vocab_size", model.vocab_size, 2, 1 << 20),
        ("hidden_size", model.hidden_size, 2, 1 << 16),
        ("num_layers", model.num_layers, 1, 1 << 10),
        ("num_heads", model.num_heads, 1, 1 << 10),
        ("num_kv_heads", model.num_kv_heads, 1, 1 << 10),
        ("intermediate_size", model.intermediate_size, 1, 1 << 18),
        ("seq_len", model.seq_len, 1, 1 << 17),
        ("rope_theta", model.rope_theta, 1, 1 << 40),
        ("norm_eps_nano", model.norm_eps_nano, 1, NANO),
        ("beta1_nano", optimizer.beta1_nano, 0, NANO - 1),
        ("beta2_nano", optimizer.beta2_nano, 0, NANO - 1),
        ("eps_nano", optimizer.eps_nano, 1, NANO),
        ("weight_decay_nano", optimizer.weight_decay_nano, 0, NANO),
        ("clip_norm_nano", optimizer.clip_norm_nano, 1, 1_000_000 * NANO),
        ("number of learning rates", len(rates), 1, LEARNING_RATES_MAX),
        ("least learning rate", min(rates, default=0), 0, NANO),
        ("largest learning rate", max(rates, default=0), 0, NANO),
        ("learning_rate_stride", optimizer.learning_rate_stride, 1, 1 << 32),
        ("alpha_nano", outer.alpha_nano, 0, NANO - 1),
        ("beta_nano", outer.beta_nano, 1, 2 * NANO),
        ("gamma_nano", outer.gamma_nano, 1, 2 * NANO - 1),
        ("alpha_ramp_rounds", outer.alpha_ramp_rounds, 0, ROUNDS_MAX),
        ("number of age weights", len(weights), 0, AGE_WEIGHTS_MAX),
        ("least age weight", min(weights, default=0), 0, NANO),
        ("largest age weight", max(weights, default=0), 0, NANO),
        ("fragments", outer.fragments, 1, 64),
        ("pull_only_rounds", outer.pull_only_rounds, 0, 64),
        ("num_retries", outer.num_retries, 0, 8),
        ("train_bytes", data.train_bytes, 1, 1 << 50),
        ("heldout_bytes", data.heldout_bytes, 0, 1 << 50),
        ("train_root bytes", len(data.train_root), 32, 32),
        ("heldout_root bytes", len(data.heldout_root), 32, 32),
        ("init_root bytes", len(spec.init_root), 32, 32),
        ("step_ms", deadlines.step_ms, 1, HOUR_MS),
        ("hop_ms", deadlines.hop_ms, 1, HOUR_MS),
        ("exchange_ms", deadlines.exchange_ms, 1, HOUR_MS),
        ("probability_nano", checks.probability_nano, 0, NANO),
        ("window_steps", checks.window_steps, 1, SHORT_MAX),
        ("challenge_window_blocks", checks.challenge_window_blocks, 0, 1 << 24),
        ("seed", spec.seed, 0, (1 << 63) - 1),
    )


def _relations(spec: RunSpec) -> tuple[tuple[bool, str], ...]:
    model, outer = spec.model, spec.outer
    alpha, gamma = outer.alpha_nano, outer.gamma_nano
    return (
        (not spec.name.isprintable(), "a name with characters that do not print"),
        (spec.num_stages > model.num_layers, "more stages than layers"),
        (model.hidden_size % model.num_heads != 0, "heads do not divide the hidden size"),
        (model.hidden_size // model.num_heads % 2 != 0, "rotary positions need an even head size"),
        (model.num_heads % model.num_kv_heads != 0, "key heads do not divide the heads"),
        (
            segment_tokens_max(spec, spec.replicas_max) > TOKENS_MAX,
            "a segment could hold more tokens than its commit can count",
        ),
        (
            gamma * NANO >= 2 * (NANO * NANO - alpha * alpha),
            "the outer step is unstable: gamma must be below 2 (1 - alpha^2)",
        ),
        (spec.numerics not in NUMERICS, "unknown numerics"),
        (spec.data.tokenizer not in TOKENIZERS, "unknown tokenizer"),
    )


def segment_tokens_max(spec: RunSpec, num_origins: int) -> int:
    """The most tokens one seat can have seen in a segment that ``num_origins`` seats feed."""
    step = spec.microbatches_per_step * spec.microbatch_size * spec.model.seq_len
    return spec.inner_steps_max * step * max(num_origins, 1)
