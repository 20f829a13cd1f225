"""The form of the files people write: sections, names, defaults and bounds, in natural units.

Core: pydantic models. Door: pydantic (with config/load.py).

Each setting is declared once, here, with its meaning under it; ``swarm init`` prints these lines as the
comments of a new run file. Bounds are those of ``config/bounds.py``, divided by a billion where a person
writes a
fraction. Defaults suit a small model whose work is checked, and its first checkpoint comes within two minutes.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from swarm.config.bounds import AMOUNT_MAX, BOUNDS
from swarm.config.spec import NANO
from swarm.errors import BadConfig

PATHS_MAX = 1000
"""Most files or folders one run file may name as its text."""
DEVICES_MAX = 16
"""Most devices of one node: as many as the largest machines have."""
ADDRESSES_MAX = 16
"""Most addresses of one kind a node file may list."""

_COMMENT_CHARS = 96
_HASH = re.compile("([0-9a-f]{64})?")

Text = Annotated[str, StringConstraints(max_length=300)]
Paths = Annotated[tuple[Text, ...], Field(strict=False, min_length=1, max_length=PATHS_MAX)]
DEVICE_PATTERN = r"^(auto|cpu|mps|cuda(:[0-9]{1,2})?)$"
DeviceName = Annotated[str, StringConstraints(pattern=DEVICE_PATTERN)]
Devices = Annotated[
    tuple[DeviceName, ...], Field(strict=False, min_length=1, max_length=DEVICES_MAX)
]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """Base of every section: frozen, nothing unknown, nothing converted behind one's back."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


def _count(name: str, default: int) -> Any:  # noqa: ANN401  (a field is typed where it is declared)
    least, most = BOUNDS[name]
    return Field(default=default, ge=least, le=most)


def _ratio(name: str, default: float) -> Any:  # noqa: ANN401
    least, most = BOUNDS[f"{name}_nano"]
    return Field(default=default, ge=least / NANO, le=most / NANO)


def _seconds(name: str, default: float) -> Any:  # noqa: ANN401
    least, most = BOUNDS[f"{name}_ms"]
    return Field(default=default, ge=least / 1000, le=most / 1000)


class RunSection(Section):
    """What the run is called and how long it lasts."""

    name: str = Field(default="my-run", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    """1 to 40 of a-z, 0-9 and -."""
    rounds: int = _count("rounds", 500)
    """The run ends after this many rounds."""
    seed: int = _count("seed", 1)
    """Draws the initial weights and names the data order."""
    numerics: Literal["native", "native-bf16", "seq-f32/1"] = "seq-f32/1"
    """seq-f32/1: the same bits on any CPU: others can check it. native, native-bf16: any device, unchecked."""


class ModelSection(Section):
    """A Llama-style decoder."""

    vocab_size: int = _count("vocab_size", 256)
    """256 for bytes; of a dataset, at least what swarm data ls says under IDS."""
    hidden_size: int = _count("hidden_size", 128)
    """Width; a multiple of 2 * num_heads."""
    num_layers: int = _count("num_layers", 4)
    num_heads: int = _count("num_heads", 4)
    num_kv_heads: int = _count("num_kv_heads", 4)
    """Heads of keys and values; divides num_heads."""
    intermediate_size: int = _count("intermediate_size", 336)
    """Width inside SwiGLU; about 8/3 of hidden_size."""
    seq_len: int = _count("seq_len", 128)
    """Tokens per training window."""
    rope_theta: int = _count("rope_theta", 10_000)
    """Base of the rotary positions."""
    norm_eps: float = _ratio("norm_eps", 1e-5)
    init_from: Text = ""
    """A folder of transformers' Llama to go on from; its shape counts, but for seq_len."""


class TrainingSection(Section):
    """How the model is cut up and how a round goes."""

    num_stages: int = _count("num_stages", 2)
    """Pipeline shards; at most num_layers."""
    replicas_max: int = _count("replicas_max", 8)
    """Most seats per stage; joiners beyond them wait."""
    microbatch_size: int = _count("microbatch_size", 8)
    """Windows per micro-batch: what travels between stages at once."""
    microbatches_per_step: int = _count("microbatches_per_step", 4)
    """Micro-batches each seat of the first stage starts per optimizer step."""
    inner_steps_max: int = _count("inner_steps_max", 50)
    """H: most optimizer steps per round."""
    round_blocks: int = _count("round_blocks", 20)
    """Ledger blocks per round; times block_interval_s this is the length of a round."""
    checkpoint_rounds: int = _count("checkpoint_rounds", 2)
    """Rounds between two canonical checkpoints; swarm launch --dry-run says when the first one comes."""


class OptimizerSection(Section):
    """AdamW and its schedule: linear warm-up, then a cosine down to the floor."""

    learning_rate: float = Field(default=4e-3, ge=1e-8, le=1.0)
    """The highest."""
    learning_rate_floor: float = Field(default=0.1, ge=0.001, le=1.0)
    """The last, as a fraction of the highest."""
    warmup_steps: int = Field(default=50, ge=0, le=1_000_000)
    decay_steps: int = Field(default=0, ge=0, le=1 << 32)
    """Steps until the floor; 0 stands for rounds * inner_steps_max."""
    beta1: float = _ratio("beta1", 0.9)
    beta2: float = _ratio("beta2", 0.95)
    eps: float = _ratio("eps", 1e-8)
    weight_decay: float = _ratio("weight_decay", 0.01)
    clip_norm: float = _ratio("clip_norm", 1.0)
    """Longest gradient of a shard."""


class OuterSection(Section):
    """The outer step: how a shard and its partner's become one."""

    alpha: float = _ratio("alpha", 0.5)
    """Momentum. noloco .5 .7 .7, gossip 0 1 1 are good triples of alpha, beta, gamma."""
    beta: float = _ratio("beta", 0.7)
    """Step towards the average."""
    gamma: float = _ratio("gamma", 0.7)
    """Pull towards the partner; below 2 * (1 - alpha^2). Other than beta: twice the bytes."""
    alpha_ramp_rounds: int = _count("alpha_ramp_rounds", 0)
    """Rounds over which alpha grows from 0; 0 stands for a fifth of the run, 1 is at once."""
    age_weights: tuple[Fraction, ...] = Field(
        default=(1.0, 0.5, 0.25), strict=False, min_length=1, max_length=8
    )
    """Weight of a partner that is 0, 1, 2 ... rounds behind; further behind counts nothing."""
    fragments: int = _count("fragments", 6)
    """Parts of a shard, each traded with a partner of its own."""
    pull_only_rounds: int = _count("pull_only_rounds", 2)
    """Rounds in which a newcomer takes and does not give."""
    num_retries: int = _count("num_retries", 1)
    """Other partners tried when the first does not answer."""
    codec: Literal["int8", "int4", "bf16"] = "int8"
    """Of traded fragments. int4 halves int8's bytes, except in the last tenth of the rounds."""
    distance_max: float = Field(default=1.5, ge=0.0, le=1000.0)
    """A partner farther away than so many times the median is pulled closer; 0 is never."""
    loss_margin: float = Field(default=0.0, ge=0.0, le=100.0)
    """A partner that makes the loss worse by so many nats is declined, where a seat can tell; 0 is off."""


class WireSection(Section):
    """What travels between the stages of the pipeline."""

    activations: Literal["bf16", "int8"] = "bf16"
    """Of activations and gradients. int8 halves the bytes."""


class DataSection(Section):
    """The text, cut into a training and a held-out part on the machine that launches."""

    dataset: Text = ""
    """What swarm data build made: its name, or its path if that has a /; then the rest here is not used."""
    dataset_hash: str = Field(default="", max_length=64)
    """Its hash, as swarm data build says it: a launch with any other dataset is refused. Empty takes any."""
    source: Literal["python-stdlib"] | Paths = "python-stdlib"
    """python-stdlib, or a list of files and folders of text."""
    tokenizer: Literal["bytes"] = "bytes"
    max_bytes: int = Field(default=12_000_000, ge=10_000, le=1 << 34)
    """Most text to take."""
    heldout_every: int = Field(default=20, ge=2, le=10_000)
    """Every n-th file is kept for measuring and never trained on."""


class ChecksSection(Section):
    """How work is checked by others."""

    probability: float = _ratio("probability", 0.5)
    """q: twice this many verifiers are drawn per segment on average."""
    window_steps: int = _count("window_steps", 10)
    """Steps replayed in one check."""
    challenge_window_blocks: int = Field(default=0, ge=0, le=BOUNDS["challenge_window_blocks"][1])
    """Blocks in which a verified segment can still be challenged; 0 stands for the least: 2 epochs."""
    on_fraud: Literal["evict", "rollback"] = "evict"
    """evict: the liar goes. rollback: its stage also begins again from the checkpoint before the lie."""


class DeadlinesSection(Section):
    """How long a peer waits before it goes on without."""

    step_s: float = _seconds("step", 10.0)
    """For the gradients of one step."""
    hop_s: float = _seconds("hop", 4.0)
    """For one stage to answer."""
    exchange_s: float = _seconds("exchange", 15.0)
    """For one trade with a partner."""


class LedgerSection(Section):
    """The network that a launch creates for this run; in a home that has a network already, that one counts."""

    block_interval_s: float = _seconds("block_interval", 2.0)
    epoch_blocks: int = _count("epoch_blocks", 120)
    """Blocks for which the set of validators is fixed."""
    beacon_delay: int = _count("beacon_delay", 2)
    """Blocks between a commitment and the dice that decide who checks it."""
    unbonding_epochs: int = _count("unbonding_epochs", 14)
    """Epochs until a withdrawn stake is free."""
    stake_segments: int = _count("stake_segments", 60)
    """What a solver has at stake, in segments of work."""
    fee_min: int = _count("fee_min", 1)
    fee_per_byte: float = _ratio("fee_per_byte", 0.0)


class RunFile(Section):
    """A run file: everything its peers must agree on, as a person writes it."""

    run: RunSection = RunSection()
    model: ModelSection = ModelSection()
    training: TrainingSection = TrainingSection()
    optimizer: OptimizerSection = OptimizerSection()
    outer: OuterSection = OuterSection()
    wire: WireSection = WireSection()
    data: DataSection = DataSection()
    checks: ChecksSection = ChecksSection()
    deadlines: DeadlinesSection = DeadlinesSection()
    ledger: LedgerSection = LedgerSection()


class ComputeSection(Section):
    """What this machine computes with; runs whose numerics are exact stay on the CPU."""

    device: DeviceName | Devices = "auto"
    """auto (the best there is), cpu, cuda, cuda:1, mps; or a list: every micro-batch is split over them."""
    compile_: bool = Field(default=False, alias="compile")
    """torch.compile native stages: some minutes at the start, fewer in every step after."""


class NodeConfig(Section):
    """A node file: what concerns this machine and nobody else."""

    listen: tuple[Text, ...] = Field(
        default=("0.0.0.0:0",), strict=False, min_length=1, max_length=ADDRESSES_MAX
    )
    """host:port to listen on; port 0 takes a free one. 127.0.0.1 keeps the node on this machine."""
    announce: tuple[Text, ...] = Field(default=(), strict=False, max_length=ADDRESSES_MAX)
    """More addresses to tell others, such as a forwarded port: /ip4/203.0.113.7/tcp/4001."""
    bootstrap: tuple[Text, ...] = Field(default=(), strict=False, max_length=ADDRESSES_MAX)
    """Peers to begin with, beside those of the ticket: /ip4/HOST/tcp/PORT/p2p/PEER."""
    api_port: int = Field(default=7420, ge=0, le=65535)
    """Port of the map on 127.0.0.1; if it is taken, a free one. 0 always takes a free one."""
    solve: bool = True
    """Train a shard of the run."""
    validate_: bool = Field(default=False, alias="validate")
    """Vote on blocks, if this key is among the validators."""
    verify: bool = True
    """Check the work of others when the dice draw this node; it takes a stake."""
    stake: int = Field(default=0, ge=0, le=AMOUNT_MAX)
    """What to have at stake on the ledger, as soon as the balance allows; 0 stakes nothing by itself."""
    generate: bool = True
    """Go on with texts for others (swarm generate --swarm), in moderation and after our own training."""
    evaluate: bool = False
    """Fetch every new checkpoint and measure it on held-out text; who launched the run always does."""
    threads: int = Field(default=1, ge=1, le=256)
    """Threads for arithmetic; 1 gives the same bits in every run on this machine."""
    compute: ComputeSection = ComputeSection()
    """What this machine computes with."""
    disk_quota_mb: int = Field(default=8_000, ge=100, le=1 << 30)
    """Most disk for checkpoints, data of others, and what this node keeps so that others can check it."""


def check_data(data: DataSection, name: str) -> None:
    """Raise ``BadConfig`` where the settings of a run's text do not go together; ``name`` is the file's."""
    if data.dataset and data.source != DataSection().source:
        raise BadConfig(
            f"{name}: [data] names a dataset and a source; a run has one text", hint=f"edit {name}"
        )
    if not _HASH.fullmatch(data.dataset_hash):
        raise BadConfig(
            f'{name}: [data] dataset_hash = "{data.dataset_hash}" is not 64 digits of 0-9 and a-f',
            hint="swarm data verify NAME prints the hash of a dataset",
        )
    if data.dataset_hash and not data.dataset:
        raise BadConfig(
            f"{name}: [data] has the hash of a dataset, and names none",
            hint=f'dataset = "NAME" under [data] of {name}; swarm data ls',
        )


def run_template(file: RunFile | None = None) -> str:
    """A run file with every setting and its meaning: what ``swarm init`` writes.

    Shows the settings of ``file`` where it is given, and the defaults where it is not.
    """
    lines = [
        "# A run file: what all peers of a run agree on. Every line is optional and shows its default.",
        "# Launch it with: swarm launch FILE",
    ]
    if file is not None:
        lines[0] = lines[0].replace(
            "shows its default.",
            "shows its default, except\n# round_blocks and [ledger]: they fit the network of this home.",
        )
    default = file or RunFile()
    for section_name in RunFile.model_fields:
        section: Section = getattr(default, section_name)
        lines += ["", f"# {(section.__doc__ or '').strip()}", f"[{section_name}]"]
        for key, field in section.__class__.model_fields.items():
            setting = f"{key} = {_toml_value(getattr(section, key))}"
            meaning = " ".join((field.description or "").split())
            if meaning and len(setting) + len(meaning) > _COMMENT_CHARS - 10:
                lines += [f"# {meaning}", setting]
            else:
                lines.append(f"{setting:<34}  # {meaning}" if meaning else setting)
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        items: tuple[object, ...] = value
        return f"[{', '.join(_toml_value(item) for item in items)}]"
    return repr(value)
