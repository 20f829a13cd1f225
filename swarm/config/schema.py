"""Declare the run file and the node file: sections, names, defaults and bounds, in natural units.

Core: pydantic models. Entry point of pydantic, with config/load.py.

Each setting is declared once, here, with its meaning under it; ``swarm init`` prints these lines as the
comments of a new run file. Bounds are those of ``config/bounds.py``, divided by a billion where a person writes
a fraction. Defaults suit a small model whose work is checked, and its first checkpoint comes within two
minutes.
"""

import re
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from swarm.config.bounds import AMOUNT_MAX, BOUNDS, PRICE_MAX
from swarm.config.spec import ADAPTER_TARGETS, NANO, Recompute, Target
from swarm.errors import BadConfig

PATHS_MAX = 1000
"""Most files or folders that one run file may name as its text."""
DEVICES_MAX = 16
"""Most devices of one node: as many as the largest machines have."""
UPLOAD_MBIT_MAX = 1_000_000
"""Largest limit of what a node sends: more than a machine has."""
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
    """Base of every section: frozen, without unknown keys or silent conversions."""

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
    """Name, length, seed and numerics of the run."""

    name: str = Field(default="my-run", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    """1 to 40 of a-z, 0-9 and -."""
    rounds: int = _count("rounds", 500)
    """Rounds after which the run ends."""
    seed: int = _count("seed", 1)
    """Draws the initial weights and names the data order."""
    numerics: Literal["native", "native-bf16", "seq-f32/1"] = "seq-f32/1"
    """seq-f32/1: the same bits on any CPU: others can check it. native, native-bf16: any device, unchecked."""
    recipe: Literal["muon", "noloco", "lora"] = "muon"
    """Defaults of [optimizer] and [outer]. muon: orthogonal momentum, pairs averaged several times a round in
    4 bits. noloco: AdamW, pairs averaged once a round with outer momentum, in 8 bits (arXiv 2506.10911).
    lora: as muon, but AdamW; the default with an [adapter]."""
    price_max: int = _count("price_max", 1)
    """Most that the run pays for 1,000 verified tokens; solvers may ask for less (docs/money.md)."""


class ModelSection(Section):
    """Shape of the model, a Llama-style decoder."""

    vocab_size: int = _count("vocab_size", 256)
    """256 for bytes; for a dataset, at least what swarm data ls prints under IDS."""
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
    rope_type: Literal["default", "linear", "llama3"] = "default"
    """Rule of the rotary frequencies, as transformers' rope_parameters has it."""
    rope_factor: float = _ratio("factor", 1.0)
    """linear, llama3: by what low frequencies are divided."""
    rope_low_freq_factor: float = _ratio("low_freq", 1.0)
    """llama3: turns in the original context up to which a frequency is low."""
    rope_high_freq_factor: float = _ratio("high_freq", 4.0)
    """llama3: turns from which it stays as it is."""
    rope_original_positions: int = _count("original_positions", 8192)
    """llama3: context before it was stretched."""
    init_from: Text = ""
    """Folder of a transformers Llama model to start from; its shape is used, except seq_len."""


class AdapterSection(Section):
    """LoRA adapter: trained in place of the weights of init_from, which stay as they are."""

    rank: int = _count("rank", 0)
    """0: no adapter, all weights are trained. 8 or 16 is usual; at most the narrowest target."""
    alpha: float = _ratio("lora_alpha", 16.0)
    """A correction is scaled by alpha / rank."""
    targets: tuple[Target, ...] = Field(
        default=ADAPTER_TARGETS, strict=False, min_length=1, max_length=len(ADAPTER_TARGETS)
    )
    """Projections of every layer that are corrected."""


class TrainingSection(Section):
    """Pipeline stages, micro-batches and the length of a round."""

    num_stages: int = _count("num_stages", 2)
    """Pipeline shards; at most num_layers."""
    replicas_max: int = _count("replicas_max", 8)
    """Most seats per stage; joiners beyond them wait."""
    microbatch_size: int = _count("microbatch_size", 8)
    """Windows per micro-batch, the unit that travels between stages."""
    microbatches_per_step: int = _count("microbatches_per_step", 4)
    """Micro-batches that each seat of the first stage starts per optimizer step."""
    inner_steps_max: int = _count("inner_steps_max", 50)
    """H: most optimizer steps per round."""
    round_blocks: int = _count("round_blocks", 20)
    """Ledger blocks per round; times block_interval_s this is the length of a round."""
    checkpoint_rounds: int = _count("checkpoint_rounds", 2)
    """Rounds between two canonical checkpoints; swarm launch --dry-run says when the first one comes."""


class OptimizerSection(Section):
    """Optimizer of a shard and its schedule: linear warm-up, then a cosine down to the floor."""

    name: Literal["adamw", "muon"] = "muon"
    """adamw, or muon: orthogonal momentum for the matrices of the layers, AdamW for the rest."""
    learning_rate: float = Field(default=0.03, ge=1e-8, le=1.0)
    """Highest learning rate. muon: the more often pairs trade the higher, 0.02 (every 10 steps) to 0.06;
    adamw: 4e-3 for small models."""
    learning_rate_floor: float = Field(default=0.1, ge=0.001, le=1.0)
    """Last learning rate, as a fraction of the highest."""
    warmup_steps: int = Field(default=50, ge=0, le=1_000_000)
    decay_steps: int = Field(default=0, ge=0, le=1 << 32)
    """Steps until the floor; 0 stands for rounds * inner_steps_max."""
    momentum: float = _ratio("momentum", 0.95)
    """Momentum of muon; adamw does not use it."""
    adamw_rate: float = _ratio("adamw_rate", 1.0)
    """With muon: learning rate of embedding, head and norms, as a fraction of the matrices'."""
    beta1: float = _ratio("beta1", 0.9)
    beta2: float = _ratio("beta2", 0.95)
    eps: float = _ratio("eps", 1e-8)
    weight_decay: float = _ratio("weight_decay", 0.01)
    clip_norm: float = _ratio("clip_norm", 1.0)
    """Greatest norm of a shard's gradient."""


class OuterSection(Section):
    """Outer step: averaging of a shard with its trading partner's."""

    alpha: float = _ratio("alpha", 0.0)
    """Momentum. 0 1 1 (the plain average of a pair) and .5 .7 .7 (noloco) are good triples of alpha, beta,
    gamma."""
    beta: float = _ratio("beta", 1.0)
    """Step towards the average."""
    gamma: float = _ratio("gamma", 1.0)
    """Pull towards the partner; below 2 * (1 - alpha^2). If it is not beta, a trade takes twice the bytes."""
    alpha_ramp_rounds: int = _count("alpha_ramp_rounds", 0)
    """Rounds over which alpha grows from 0; 0 stands for a fifth of the run, 1 is at once."""
    age_weights: tuple[Fraction, ...] = Field(
        default=(1.0, 0.5, 0.25), strict=False, min_length=1, max_length=8
    )
    """Weight of a partner that is 0, 1, 2 ... rounds behind; one further behind has weight 0."""
    fragments: int = _count("fragments", 2)
    """Parts of a shard, each traded with a partner of its own."""
    trades_per_round: int = _count("trades_per_round", 6)
    """Trades of each part in a round, each with another draw of partners; each takes the bytes of one."""
    pull_only_rounds: int = _count("pull_only_rounds", 2)
    """Rounds in which a newcomer only receives fragments."""
    num_retries: int = _count("num_retries", 1)
    """Further partners tried when the first does not answer."""
    codec: Literal["int8", "int4", "int4-mean", "int3-mean", "bf16"] = "int4-mean"
    """Encoding of traded fragments. int4-mean: half of int8's bytes, and a trade keeps the mean of its pair.
    int3-mean: a third, for checkpoints less than 100 steps apart. int4: half, errors are carried on, int8 in
    the last tenth of the rounds."""
    distance_max: float = Field(default=1.5, ge=0.0, le=1000.0)
    """A partner farther away than this many times as far as both can have moved since they last traded gets
    less weight; 0: never."""
    loss_margin: float = Field(default=0.0, ge=0.0, le=100.0)
    """A partner that raises the loss by more nats than this is declined, where a seat can measure it; 0:
    off."""


class WireSection(Section):
    """Encoding of what travels between pipeline stages."""

    activations: Literal["bf16", "int8", "int4"] = "bf16"
    """Encoding of activations and gradients; int8 takes half the bytes, int4 a quarter."""
    rank: int = _count("bottleneck_rank", 0)
    """Values of a token that cross a cut; 0: all. A bottleneck for slow lines (hidden_size / 8 with int4 is
    usual): large models need it, small ones do not, and transformers cannot load it."""


class DataSection(Section):
    """Text of the run, split into a training and a held-out part on the machine that launches."""

    dataset: Text = ""
    """Dataset of swarm data build: its name, or a path with a /; the text settings below are then unused."""
    dataset_hash: str = Field(default="", max_length=64)
    """Hash that swarm data build printed: a launch with any other dataset is refused. Empty accepts any."""
    source: Literal["python-stdlib"] | Paths = "python-stdlib"
    """python-stdlib, or a list of files and folders of text."""
    tokenizer: Literal["bytes"] = "bytes"
    max_bytes: int = Field(default=12_000_000, ge=10_000, le=1 << 34)
    """Most bytes of text to take."""
    heldout_every: int = Field(default=20, ge=2, le=10_000)
    """Every n-th file is held out for evaluation and never trained on."""


class ChecksSection(Section):
    """Verification of the work by other peers."""

    probability: float = _ratio("probability", 0.5)
    """q: twice this many verifiers are drawn per segment on average."""
    window_steps: int = _count("window_steps", 10)
    """Steps replayed in one check; 1 where checks look at elements."""
    way: Literal["auto", "replay", "spots"] = "auto"
    """replay: a check computes a window again, from its log. spots: it looks at drawn elements of one step, and
    costs as much at any size. auto: spots where a log is longer than checkers take."""
    forced: float = _ratio("forced", 0.01)
    """Part of the checks at elements in which a solver states something false on purpose, so that who does not
    look is found out; 0: none. Not used where windows are replayed."""
    challenge_window_blocks: int = Field(default=0, ge=0, le=BOUNDS["challenge_window_blocks"][1])
    """Blocks in which a verified segment can still be challenged; 0 stands for the least: 2 epochs."""
    on_fraud: Literal["evict", "rollback"] = "evict"
    """evict: the cheating peer is removed. rollback: its stage also restarts from the checkpoint before."""


class DeadlinesSection(Section):
    """Seconds that a peer waits before it goes on without an answer."""

    step_s: float = _seconds("step", 10.0)
    """Wait for the gradients of one step."""
    hop_s: float = _seconds("hop", 4.0)
    """For one stage to answer."""
    exchange_s: float = _seconds("exchange", 5.0)
    """For one trade with a partner, at most: trades_per_round of them share a round."""


class LedgerSection(Section):
    """The network that a launch creates for this run; in a home that has a network already, that one counts."""

    block_interval_s: float = _seconds("block_interval", 2.0)
    epoch_blocks: int = _count("epoch_blocks", 120)
    """Blocks for which the set of validators is fixed."""
    beacon_delay: int = _count("beacon_delay", 2)
    """Blocks between a commitment and the beacon draw of its verifiers."""
    unbonding_epochs: int = _count("unbonding_epochs", 14)
    """Epochs until a withdrawn stake is free; at least 3, for it may count as a vote for two."""
    stake_segments: int = _count("stake_segments", 60)
    """Stake of a solver, in segments of work."""
    validator_stake: int = _count("validator_stake", 10_000)
    """Least stake of a validator. What it buys is a voice in what is final, so it is what a lie costs."""
    fee_min: int = _count("fee_min", 1)
    fee_per_byte: float = _ratio("fee_per_byte", 0.001)


class RunFile(Section):
    """Run file: everything that the peers of a run must agree on, as a person writes it."""

    run: RunSection = RunSection()
    model: ModelSection = ModelSection()
    adapter: AdapterSection = AdapterSection()
    training: TrainingSection = TrainingSection()
    optimizer: OptimizerSection = OptimizerSection()
    outer: OuterSection = OuterSection()
    wire: WireSection = WireSection()
    data: DataSection = DataSection()
    checks: ChecksSection = ChecksSection()
    deadlines: DeadlinesSection = DeadlinesSection()
    ledger: LedgerSection = LedgerSection()


class ComputeSection(Section):
    """Devices that this machine computes with; exact runs use the CPU, or a CUDA device that is named."""

    device: DeviceName | Devices = "auto"
    """auto (the best there is), cpu, cuda, cuda:1, mps; or a list: every micro-batch is split over them."""
    compile_: bool = Field(default=False, alias="compile")
    """torch.compile for native stages: some minutes at the start, faster steps afterwards."""
    recompute: Recompute = "auto"
    """Forward passes that wait for their gradient are computed again when it arrives, which saves memory and
    takes a third more arithmetic; the bits are the same. auto: where they would keep more than 1 GiB."""


class NodeConfig(Section):
    """Node file: settings of this machine only."""

    listen: tuple[Text, ...] = Field(
        default=("0.0.0.0:0", "[::]:0"), strict=False, min_length=1, max_length=ADDRESSES_MAX
    )
    """host:port to listen on, by default on IPv4 and IPv6, where there is one; port 0 takes a free one.
    127.0.0.1 keeps the node on this machine."""
    announce: tuple[Text, ...] = Field(default=(), strict=False, max_length=ADDRESSES_MAX)
    """More addresses to tell others, such as a forwarded port: /ip4/203.0.113.7/tcp/4001."""
    lan: bool = True
    """Tell machines of this network by multicast DNS how to join: a bare ``swarm join`` finds this node."""
    upnp: bool = True
    """Ask the router of a private network to forward the port of this node to it, for as long as it runs; not
    where ``announce`` names where it is reached."""
    relay: Literal["auto", "on", "off"] = "auto"
    """Carry for peers that nobody can dial: auto, if this node can be dialled from everywhere; on; off."""
    relay_mbit: int = Field(default=8, ge=1, le=UPLOAD_MBIT_MAX)
    """Most that this node carries for them, all together, both ways, in Mbit/s."""
    relays: tuple[Text, ...] = Field(default=(), strict=False, max_length=ADDRESSES_MAX)
    """Relays to be reached through if nobody can dial this node, before any that it meets:
    /ip4/HOST/tcp/PORT/p2p/PEER, as swarm relay prints it."""
    bootstrap: tuple[Text, ...] = Field(default=(), strict=False, max_length=ADDRESSES_MAX)
    """Peers to connect to first, beside those of the ticket: /ip4/HOST/tcp/PORT/p2p/PEER."""
    api_port: int = Field(default=7420, ge=0, le=65535)
    """Port of the local page and API on 127.0.0.1; if it is taken, a free one. 0 always takes a free one."""
    solve: bool = True
    """Train a shard of the run."""
    validate_: bool = Field(default=False, alias="validate")
    """Offer to validate, and vote on blocks in the epochs for which this node is chosen; it takes a stake."""
    verify: bool = True
    """Check the work of others when this node is drawn as a verifier; it takes a stake."""
    audit_rate: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the segments of others of which this node audits one more window by itself, and reports the lies
    that it finds, which takes the stake of a solver: 1 for every segment that has passed."""
    stake: int = Field(default=0, ge=0, le=AMOUNT_MAX)
    """Amount to have at stake on the ledger, as soon as the balance allows; 0: what it takes to train and to
    validate, where this node does, and the balance allows."""
    ask: int = Field(default=-1, ge=-1, le=PRICE_MAX)
    """Least pay for 1,000 tokens that this node trains for. -1: the most that the run pays; 0: any."""
    archive: bool = False
    """Begin with block 1 and keep every block of the ledger. Otherwise a node that is far behind begins with a
    snapshot, and blocks go when nobody can ask for them any more."""
    generate: bool = True
    """Serve generation requests of others (swarm generate --swarm), in moderation and after our own
    training."""
    evaluate: bool = False
    """Fetch every new checkpoint and measure it on held-out text; the launcher of the run always does."""
    threads: int = Field(default=1, ge=1, le=256)
    """Threads for arithmetic; 1 gives the same bits in every run on this machine."""
    compute: ComputeSection = ComputeSection()
    """Devices that this machine computes with."""
    upload_mbit: int = Field(default=0, ge=0, le=UPLOAD_MBIT_MAX)
    """Most that this node sends, in Mbit/s, all connections together; 0: no limit. A low one costs trades."""
    disk_quota_mb: int = Field(default=8_000, ge=100, le=1 << 30)
    """Most disk, in MB, for checkpoints, data of others, and what this node keeps for its verifiers."""
    storage_mb: int = Field(default=2_000, ge=0, le=1 << 30)
    """Most disk, in MB beside disk_quota_mb, for checkpoints of other stages that the ledger draws this node to
    hold, so that they outlive their peers; 0: none."""


RECIPES: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "muon": {},
    "noloco": {
        "optimizer": {"name": "adamw", "learning_rate": 4e-3},
        "outer": {
            "alpha": 0.5,
            "beta": 0.7,
            "gamma": 0.7,
            "fragments": 6,
            "trades_per_round": 1,
            "codec": "int8",
        },
        "deadlines": {"exchange_s": 15.0},
    },
    "lora": {"optimizer": {"name": "adamw", "learning_rate": 4e-3}},
}
"""Settings of each recipe where a run file is silent; the defaults of the sections are those of muon."""


def with_recipe(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of a run file with the defaults of the recipe that it names; check nothing."""
    filled, run, adapter = dict(raw), raw.get("run", {}), raw.get("adapter")
    if isinstance(run, dict) and isinstance(adapter, dict) and adapter.get("rank"):
        filled["run"] = run = {"recipe": "lora", **run}
    name = run.get("recipe") if isinstance(run, dict) else None
    for section, settings in RECIPES.get(name, {}).items() if isinstance(name, str) else ():
        given = raw.get(section, {})
        filled[section] = {**settings, **given} if isinstance(given, dict) else given
    return filled


def check_data(data: DataSection, name: str) -> None:
    """Raise ``BadConfig`` unless the data settings go together; ``name`` is the file's name in errors."""
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
    """Return a run file with every setting and its meaning, as ``swarm init`` writes it.

    Shows the settings of ``file`` where it is given, and the defaults where it is not.
    """
    lines = [
        "# A run file: what all peers of a run agree on. Every line is optional and shows its default.",
        "# Launch it with: swarm launch FILE",
    ]
    default = file or RunFile()
    if default.ledger != LedgerSection():
        lines[0] = lines[0].replace(
            "shows its default.",
            "shows its default, except\n# round_blocks and [ledger]: they fit the network of this home.",
        )
    for section_name in RunFile.model_fields:
        section: Section = getattr(default, section_name)
        lines += ["", f"# {(section.__doc__ or '').strip()}", f"[{section_name}]"]
        for key, field in section.__class__.model_fields.items():
            setting = f"{key} = {_toml_value(getattr(section, key))}"
            meaning = " ".join((field.description or "").split())
            if meaning and len(setting) + len(meaning) > _COMMENT_CHARS - 10:
                lines += [
                    *(f"# {line}" for line in textwrap.wrap(meaning, _COMMENT_CHARS)),
                    setting,
                ]
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
