"""Read run files and node files, and turn a run file into what peers agree on.

Core: TOML text in, checked structs out. Entry point of pydantic, with config/schema.py.

Every error is a ``BadConfig`` with the file, the section, the key and what would be right. A run file takes
over the shape of the model that it starts from, and the pace of an existing network.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from swarm.config.advice import KEY_CHARS_MAX, advice, in_plain_words, mend
from swarm.config.bounds import (
    BOUNDS,
    LEARNING_RATES_MAX,
    SHORTEST_WINDOW_EPOCHS,
    TOKEN_BYTES,
    check_fit,
    check_genesis,
    check_spec,
    token_dtype,
)
from swarm.config.schema import (
    ChecksSection,
    LedgerSection,
    ModelSection,
    NodeConfig,
    RunFile,
    Section,
    check_data,
    run_template,
    with_recipe,
)
from swarm.config.spec import (
    ADAPTER_TARGETS,
    NANO,
    SPOTS,
    AdapterSpec,
    CheckSpec,
    DataSpec,
    DeadlineSpec,
    Genesis,
    GenesisAccount,
    ModelSpec,
    OptimizerSpec,
    OuterSpec,
    RopeSpec,
    RunSpec,
    StageStart,
    WireSpec,
    trade_ms,
)
from swarm.config.tolerance import needs_spots
from swarm.errors import BadConfig
from swarm.primitives.codec import replace
from swarm.types import NO_DIGEST, Amount, Digest, PeerId


def with_shape(file: RunFile, shape: ModelSpec) -> RunFile:
    """Return the run file with the shape of the model it starts from, wherever it has the defaults.

    ``seq_len`` is the run's own, at most the model's. Raises ``BadConfig`` naming the key that differs.
    """
    # [wire] has the bottlenecks, which no folder does, and the rule of the frequencies is several settings.
    others = {"bottleneck_rank", "bottleneck_stages", "rope"}
    known = {
        name: getattr(shape, name) for name in ModelSpec.__struct_fields__ if name not in others
    }
    known["norm_eps"] = known.pop("norm_eps_nano") / NANO
    known |= _rope_settings(shape.rope)
    longest = known.pop("seq_len")
    defaults = ModelSection()
    for name, value in known.items():
        given = getattr(file.model, name)
        if given not in {value, getattr(defaults, name)}:
            raise BadConfig(
                f"[model] {name} = {given}, and the model of init_from has {value}",
                hint=f"remove {name} from [model]: the shape comes from init_from",
            )
    if file.model.seq_len > max(longest, defaults.seq_len):
        raise BadConfig(
            f"[model] seq_len = {file.model.seq_len}, and the model of init_from has {longest} positions",
            hint=f"set seq_len to at most {longest}",
        )
    known["seq_len"] = min(file.model.seq_len, longest)
    return file.model_copy(update={"model": file.model.model_copy(update=known)})


def _rope_settings(rope: RopeSpec) -> dict[str, object]:
    """Return the settings under [model] that stand for a rule of the rotary frequencies."""
    return {
        "rope_type": rope.kind,
        "rope_factor": rope.factor_nano / NANO,
        "rope_low_freq_factor": rope.low_freq_nano / NANO,
        "rope_high_freq_factor": rope.high_freq_nano / NANO,
        "rope_original_positions": rope.original_positions,
    }


def on_network(file: RunFile, network: Genesis) -> RunFile:
    """Return the run file with the [ledger] section of a network that exists already."""
    ledger = LedgerSection(
        block_interval_s=network.block_interval_ms / 1000,
        epoch_blocks=network.epoch_blocks,
        beacon_delay=network.beacon_delay,
        unbonding_epochs=network.unbonding_epochs,
        stake_segments=network.stake_segments,
        validator_stake=network.validator_stake,
        fee_min=network.fee_min,
        fee_per_byte=network.fee_per_byte_nano / NANO,
    )
    return file.model_copy(update={"ledger": ledger})


__all__ = [
    "NodeConfig",
    "RunFile",
    "check_network",
    "check_run_file",
    "genesis_of",
    "parse_node_file",
    "parse_run_file",
    "planned_data",
    "read_run_file",
    "run_spec",
    "run_template",
]

FILE_CHARS_MAX = 64_000
"""Most characters of a file: ten times the longest sensible one."""
PORT_MAX = 65_535
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")

_DEFAULTS = RunFile()
SectionT = TypeVar("SectionT", bound=Section)


def parse_run_file(text: str, name: str, network: Genesis | None = None) -> RunFile:
    """Read a run file; ``name`` is how errors call it.

    For a run on a ``network`` that is there, ``check_network`` says whether it fits. Raises ``BadConfig`` for
    bad TOML, unknown keys, values out of bounds, and settings that do not go together (with the bound).
    """
    return check_run_file(read_run_file(text, name), name, network)


def read_run_file(text: str, name: str) -> RunFile:
    """Read a run file, each setting by itself; raises ``BadConfig`` for bad TOML, keys and values."""
    return _checked(RunFile, with_recipe(_toml(text, name)), name)


def check_run_file(file: RunFile, name: str, network: Genesis | None = None) -> RunFile:
    """Return the settings of a run with the ``[ledger]`` section of a network that is there.

    Raises ``BadConfig`` for settings that do not go together, with the bound.
    """
    file = file if network is None else on_network(file, network)
    try:
        spec = planned_spec(file)
        one_peer = PeerId(bytes(32))
        genesis = _genesis(file, {one_peer: Amount(1)}, {}, bytes(32))
        check_spec(spec)
        check_genesis(genesis)
        if network is None:
            check_fit(spec, genesis)
    except BadConfig as error:
        raise BadConfig(f"{name}: {error}", hint=error.hint or f"edit {name}") from None
    check_data(file.data, name)
    if file.model.init_from and file.wire.rank:
        raise BadConfig(
            f"{name}: [wire] rank = {file.wire.rank} and [model] init_from: that model was trained without"
            " bottlenecks, and nothing of it would come through them unharmed",
            hint='rank = 0 under [wire]; activations = "int4" still takes a quarter of the bytes',
        )
    if file.optimizer.warmup_steps > _decay_steps(file):
        raise BadConfig(
            f"{name}: warmup_steps {file.optimizer.warmup_steps} must be at most the"
            f" {_decay_steps(file)} steps of the schedule",
            hint=f"edit {name}",
        )
    return file


def check_network(file: RunFile, network: Genesis) -> None:
    """Raise ``BadConfig`` with the bound unless the run of ``file`` fits the pace of ``network``."""
    check_fit(planned_spec(file), network)


def planned_spec(file: RunFile) -> RunSpec:
    """Return the spec of a run as far as its file tells it, with placeholders for data and weights."""
    return _spec(_planned_model(file), planned_data(file))


def parse_node_file(text: str, name: str) -> NodeConfig:
    """Read a node file; raise ``BadConfig`` like ``parse_run_file``."""
    node = _checked(NodeConfig, _toml(text, name), name)
    for entry in node.listen:
        if not is_listen_address(entry):
            raise BadConfig(
                f'{name}: listen = "{entry}" is not host:port, such as "0.0.0.0:4001"',
                hint=f"edit {name}",
            )
    for key, entries in (("announce", node.announce), ("bootstrap", node.bootstrap)):
        for entry in entries:
            if not entry.startswith("/"):
                raise BadConfig(
                    f'{name}: {key} = "{entry}" is not an address, such as "/ip4/203.0.113.7/tcp/4001"',
                    hint=f"edit {name}",
                )
    return node


def is_listen_address(text: str) -> bool:
    """Return True if a text is ``host:port``, with a port of at most ``PORT_MAX``."""
    found = _HOST_PORT.fullmatch(text)
    return found is not None and int(found[2]) <= PORT_MAX


def run_spec(
    file: RunFile,
    *,
    data: DataSpec,
    starts: tuple[StageStart, ...] = (),
    is_pretrained: bool = False,
    base_roots: tuple[Digest, ...] = (),
) -> RunSpec:
    """Return the spec that the peers of this run agree on.

    Args:
        file: Run file.
        data: Description of the token files.
        starts: State that each stage begins with; empty for a plan.
        is_pretrained: True if the initial weights are blobs, and not drawn from the seed.
        base_roots: Root of each stage's weights below the adapter of the run, if it has one.

    Raises:
        BadConfig: A bound of ``config/bounds.py`` is broken.
    """
    spec = replace(_spec(file, data), starts=starts, is_pretrained=is_pretrained)
    if base_roots:
        spec = replace(spec, adapter=replace(spec.adapter, base_roots=base_roots))
    check_spec(spec)
    return spec


def genesis_of(
    file: RunFile,
    *,
    validators: Mapping[PeerId, int],
    accounts: Mapping[PeerId, int],
    seed: bytes,
) -> Genesis:
    """Return block 0 of a network for this run.

    Args:
        file: Run file; its ``[ledger]`` section sets the pace and the fees.
        validators: Stake of each validator.
        accounts: Balance of each account.
        seed: 32 random bytes, the first beacon.

    Raises:
        BadConfig: A bound of ``config/bounds.py`` is broken.
    """
    genesis = _genesis(file, validators, accounts, seed)
    check_genesis(genesis)
    return genesis


def learning_rates(file: RunFile) -> tuple[tuple[int, ...], int]:
    """Return the learning-rate schedule as (table in billionths, stride).

    Entry i serves steps [i * stride, (i + 1) * stride).
    """
    steps = _decay_steps(file)
    stride = -(-steps // (LEARNING_RATES_MAX - 1))
    count = -(-steps // stride) + 1
    return tuple(_learning_rate_nano(file, i * stride, steps) for i in range(count)), stride


def _toml(text: str, name: str) -> dict[str, Any]:
    if len(text) > FILE_CHARS_MAX:
        raise BadConfig(f"{name} has {len(text)} characters; at most {FILE_CHARS_MAX} are read")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadConfig(f"{name} is not TOML: {error}", hint=f"edit {name}") from None


def _checked(kind: type[SectionT], raw: dict[str, Any], name: str) -> SectionT:
    _refuse_unknown(kind, raw, name, where="")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        path = [str(part) for part in errors[0]["loc"]]
        depth = 2 if len(path) > 1 and isinstance(raw.get(path[0]), dict) else 1
        setting = f"[{path[0]}] {path[1]}" if depth == 2 else path[0]
        same = [e for e in errors if [str(part) for part in e["loc"]][:depth] == path[:depth]]
        if any(isinstance(e["loc"][-1], int) for e in same):  # an entry of a list, not its length
            same = [e for e in same if e["type"] != "too_short"]
        wanted = " or ".join(in_plain_words(e["msg"]) for e in same)
        given = str(errors[0]["input"])[:60]
        raise BadConfig(f"{name}: {setting} = {given}: {wanted}", hint=mend(path, name)) from None


def _refuse_unknown(kind: type[Section], raw: dict[str, Any], name: str, *, where: str) -> None:
    """Raise ``BadConfig`` for the first key that is not a setting, with the nearest known key."""
    known = {field.alias or key: field.annotation for key, field in kind.model_fields.items()}
    for key, value in raw.items():
        below = known.get(key)
        if key not in known:
            inside = f" in [{where}]" if where else ""
            raise BadConfig(
                f'{name}: unknown key "{key[:KEY_CHARS_MAX]}"{inside}'
                f"{advice(key, sorted(known), _settings(sorted(known), where))}",
                hint=f"edit {name}",
            )
        if isinstance(below, type) and issubclass(below, Section):
            if not isinstance(value, dict):
                raise BadConfig(f"{name}: {key} is a section: write [{key}]", hint=f"edit {name}")
            _refuse_unknown(below, value, name, where=key)


def _settings(known: list[str], where: str) -> dict[str, list[str]]:
    """Return the settings of each section of a run file; empty for a node file."""
    is_run_file = "run" in known or where in RunFile.model_fields
    return {
        section: list(getattr(_DEFAULTS, section).__class__.model_fields)
        for section in (RunFile.model_fields if is_run_file else ())
    }


def _nano(value: float) -> int:
    return round(value * NANO)


def _decay_steps(file: RunFile) -> int:
    return file.optimizer.decay_steps or file.run.rounds * file.training.inner_steps_max


def _learning_rate_nano(file: RunFile, step: int, steps: int) -> int:
    """Return the rate of ``step``: linear warm-up to the highest, then half a cosine to the floor."""
    optimizer = file.optimizer
    if step < optimizer.warmup_steps:
        share = (step + 1) / optimizer.warmup_steps
    else:
        done = (step - optimizer.warmup_steps) / max(steps - optimizer.warmup_steps, 1)
        floor = optimizer.learning_rate_floor
        share = floor + (1 - floor) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    return max(_nano(optimizer.learning_rate * share), 1)


def _planned_model(file: RunFile) -> RunFile:
    """Return the file with enough layers for its stages, if a launch is to read the shape from ``init_from``.

    The number of layers is not known before the launch reads that folder, so the default must not break a
    bound. Nor is the width of the matrices: the launch compares the rank of an adapter with it.
    """
    if not file.model.init_from:
        return file
    adapter = file.adapter.model_copy(update={"rank": min(file.adapter.rank, 1)})
    file = file.model_copy(update={"adapter": adapter})
    if file.model.num_layers != _DEFAULTS.model.num_layers:
        return file
    layers = max(file.model.num_layers, file.training.num_stages)
    model = file.model.model_copy(update={"num_layers": layers})
    return file.model_copy(update={"model": model})


def planned_data(file: RunFile) -> DataSpec:
    """Return a placeholder for the data of a run that is not built yet; it fits the model of the file."""
    if not file.data.dataset:
        return DataSpec(file.data.tokenizer, NO_DIGEST, 1, NO_DIGEST, 1)
    ids = file.model.vocab_size
    dtype, name = token_dtype(ids), Digest(b"\xff" * len(NO_DIGEST))
    size = TOKEN_BYTES[dtype]
    return DataSpec(
        tokenizer="file",
        train_root=NO_DIGEST,
        train_bytes=size,
        heldout_root=NO_DIGEST,
        heldout_bytes=size,
        dtype=dtype,
        num_token_ids=ids,
        tokenizer_root=name,
    )


def _spec(file: RunFile, data: DataSpec) -> RunSpec:
    run, training, checks = file.run, file.training, file.checks
    shortest_window = SHORTEST_WINDOW_EPOCHS * file.ledger.epoch_blocks
    spec = RunSpec(
        name=run.name,
        model=_model(file),
        num_stages=training.num_stages,
        replicas_max=training.replicas_max,
        microbatch_size=training.microbatch_size,
        microbatches_per_step=training.microbatches_per_step,
        inner_steps_max=training.inner_steps_max,
        round_blocks=training.round_blocks,
        rounds=run.rounds,
        checkpoint_rounds=training.checkpoint_rounds,
        optimizer=_optimizer(file),
        outer=_outer(file),
        wire=WireSpec(file.wire.activations),
        data=data,
        deadlines=DeadlineSpec(
            step_ms=round(file.deadlines.step_s * 1000),
            hop_ms=round(file.deadlines.hop_s * 1000),
            exchange_ms=_exchange_ms(file),
        ),
        checks=CheckSpec(
            probability_nano=_nano(checks.probability),
            window_steps=checks.window_steps,
            challenge_window_blocks=checks.challenge_window_blocks or shortest_window,
            on_fraud=checks.on_fraud,
        ),
        numerics=run.numerics,
        seed=run.seed,
        adapter=_adapter(file),
        price_max=run.price_max,
    )
    if checks.way == SPOTS or (checks.way == "auto" and needs_spots(spec)):
        forced = _nano(checks.forced)
        looking = replace(spec.checks, window_steps=1, way=SPOTS, forced_nano=forced)
        return replace(spec, checks=looking)
    if checks.forced not in {0.0, ChecksSection().forced}:  # the bounds refuse it
        spec = replace(spec, checks=replace(spec.checks, forced_nano=_nano(checks.forced)))
    return spec


def _adapter(file: RunFile) -> AdapterSpec:
    """Return the adapter of a run, resting on weights that are not known yet; rank 0 is one spec."""
    adapter = file.adapter
    if not adapter.rank:
        return AdapterSpec()
    if not file.model.init_from:
        raise BadConfig(
            f"[adapter] rank = {adapter.rank} needs the weights that it adapts",
            hint='init_from = "FOLDER" under [model]: a folder of a transformers Llama model',
        )
    return AdapterSpec(
        rank=adapter.rank,
        lora_alpha_nano=_nano(adapter.alpha),
        targets=tuple(name for name in ADAPTER_TARGETS if name in adapter.targets),
        base_roots=(NO_DIGEST,) * file.training.num_stages,
    )


def _exchange_ms(file: RunFile) -> int:
    """Return the deadline of a trade: what the file says, or its share of a round on a network of this pace.

    The trades of a fragment follow each other, so that on a faster network each has less time.
    """
    given_ms, trades = round(file.deadlines.exchange_s * 1000), file.outer.trades_per_round
    if trades == 1:
        return given_ms
    interval_ms = round(file.ledger.block_interval_s * 1000)
    share_ms = trade_ms(file.training.round_blocks, interval_ms, trades)
    return max(min(given_ms, share_ms), BOUNDS["exchange_ms"][0])


def _model(file: RunFile) -> ModelSpec:
    model = file.model
    return ModelSpec(
        vocab_size=model.vocab_size,
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        num_kv_heads=model.num_kv_heads,
        intermediate_size=model.intermediate_size,
        seq_len=model.seq_len,
        rope_theta=model.rope_theta,
        norm_eps_nano=_nano(model.norm_eps),
        bottleneck_rank=file.wire.rank,
        bottleneck_stages=file.training.num_stages if file.wire.rank else 1,
        rope=RopeSpec(
            kind=model.rope_type,
            factor_nano=_nano(model.rope_factor),
            low_freq_nano=_nano(model.rope_low_freq_factor),
            high_freq_nano=_nano(model.rope_high_freq_factor),
            original_positions=model.rope_original_positions,
        ),
    )


def _optimizer(file: RunFile) -> OptimizerSpec:
    optimizer = file.optimizer
    rates, stride = learning_rates(file)
    return OptimizerSpec(
        beta1_nano=_nano(optimizer.beta1),
        beta2_nano=_nano(optimizer.beta2),
        eps_nano=_nano(optimizer.eps),
        weight_decay_nano=_nano(optimizer.weight_decay),
        clip_norm_nano=_nano(optimizer.clip_norm),
        name=optimizer.name,
        momentum_nano=_nano(optimizer.momentum),
        adamw_rate_nano=_nano(optimizer.adamw_rate),
        learning_rates_nano=rates,
        learning_rate_stride=stride,
    )


def _outer(file: RunFile) -> OuterSpec:
    outer = file.outer
    return OuterSpec(
        alpha_nano=_nano(outer.alpha),
        beta_nano=_nano(outer.beta),
        gamma_nano=_nano(outer.gamma),
        alpha_ramp_rounds=outer.alpha_ramp_rounds or file.run.rounds // 5,
        age_weights_nano=tuple(_nano(age) for age in outer.age_weights),
        fragments=outer.fragments,
        pull_only_rounds=outer.pull_only_rounds,
        num_retries=outer.num_retries,
        codec=outer.codec,
        distance_max_nano=_nano(outer.distance_max),
        loss_margin_nano=_nano(outer.loss_margin),
        trades_per_round=outer.trades_per_round,
    )


def _genesis(
    file: RunFile, validators: Mapping[PeerId, int], accounts: Mapping[PeerId, int], seed: bytes
) -> Genesis:
    ledger = file.ledger
    peers = sorted({*validators, *accounts})
    return Genesis(
        name=file.run.name,
        accounts=tuple(
            GenesisAccount(p, Amount(accounts.get(p, 0)), Amount(validators.get(p, 0)))
            for p in peers
        ),
        validators=tuple(sorted(validators)),
        block_interval_ms=round(ledger.block_interval_s * 1000),
        epoch_blocks=ledger.epoch_blocks,
        beacon_delay=ledger.beacon_delay,
        unbonding_epochs=ledger.unbonding_epochs,
        stake_segments=ledger.stake_segments,
        validator_stake=Amount(ledger.validator_stake),
        fee_min=Amount(ledger.fee_min),
        fee_per_byte_nano=_nano(ledger.fee_per_byte),
        seed=seed,
    )
