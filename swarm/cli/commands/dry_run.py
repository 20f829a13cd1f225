"""Check a launch without starting anything: read the file, the text, the model; say what it takes.

Shell: reads this machine's disk and prints; the lines and the object of ``--json`` are pure functions of sizes.
"""

from dataclasses import asdict
from pathlib import Path

from swarm.cli.style import Ink, counted, human_bytes, human_count, human_span, pad
from swarm.cli.terminal import Terminal
from swarm.config.load import genesis_of, planned_data, run_spec, with_shape
from swarm.config.schema import NodeConfig, RunFile
from swarm.config.spec import DataSpec, Genesis, RunSpec
from swarm.ledger.odds import Odds, look_odds_of, odds_of
from swarm.ledger.transition.prices import solver_stake
from swarm.limits import Memory
from swarm.machine import read_memory
from swarm.node.launch.launch import check_limits
from swarm.node.launch.publish import check_length, described, read_corpus
from swarm.node.launch.sizing import MIB, Sizing, sizing_of, tolerance_text
from swarm.node.seat.compute import present
from swarm.node.start import (
    Launch,
    lazy_text,
    odds_remedies,
    odds_text,
    paying_text,
    saved_genesis,
    unchecked_text,
)
from swarm.training.data.dataset import MANIFEST_FILE, check_hash, data_spec
from swarm.training.data.disk import dataset_path, names_by_hash, open_dataset
from swarm.training.devices.select import exact_text
from swarm.training.hf.load import open_folder
from swarm.types import NO_DIGEST, PeerId

SOLVE_HINT = "solve = false in node.toml serves and follows, and lets others train"


def dry_run_object(
    spec: RunSpec, sizing: Sizing, text: str | None, notes: list[str]
) -> dict[str, object]:
    """Return the object of ``--json``; ``text`` is the source of the text, None if it is not there yet."""
    return {
        "run": spec.name,
        "numerics": spec.numerics,
        "num_stages": spec.num_stages,
        "replicas_max": spec.replicas_max,
        "optimizer": spec.optimizer.name,
        "trades_per_round": spec.outer.trades_per_round,
        "adapter_rank": spec.adapter.rank,
        "rounds": spec.rounds,
        "inner_steps_max": spec.inner_steps_max,
        **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(sizing).items()},
        "wire_bits_per_s": sizing.wire_bits_per_s,
        "text": text,
        "notes": notes,
    }


def dry_run_lines(spec: RunSpec, sizing: Sizing, text: str | None, ink: Ink) -> list[str]:
    """Return the same for people, a line for each thing a run takes."""
    stages, replicas = spec.num_stages, spec.replicas_max
    rows = [
        (
            "run",
            f"{spec.name}: {human_count(sizing.parameters)} parameters, {spec.numerics},"
            f" {counted(stages, 'stage')} of up to {counted(replicas, 'replica')}",
        ),
        *_adapter_row(spec, sizing),
        ("text", text or "not there yet"),
        (
            "steps",
            f"{sizing.tokens_per_step:,} tokens each, with every seat taken; at most"
            f" {spec.inner_steps_max} a round",
        ),
        (
            "rounds",
            f"{spec.rounds} of {human_span(sizing.round_s)}: {human_span(sizing.run_s)},"
            f" {human_count(sizing.tokens)} tokens if no peer misses a step",
        ),
        (
            "model",
            f"the first checkpoint comes about {human_span(sizing.first_checkpoint_s)} after the run is opened,"
            f" then one every {counted(spec.checkpoint_rounds, 'round')} and one at the end",
        ),
        (
            "pace",
            f"{sizing.replica_tokens_per_s:,.0f} tokens/s of each replica take every step"
            f" ({_flops(sizing.seat_flops_per_s)} in a seat); slower ones take fewer",
        ),
        ("update", _update(spec, sizing)),
        (
            "seat",
            f"{human_count(max(sizing.stages))} parameters in the largest stage: about"
            f" {human_bytes(sizing.seat_memory_bytes)} of memory, a GPU's included",
        ),
        ("wire", _wire(spec, sizing)),
        (
            "disk",
            f"{human_bytes(sizing.seat_blob_bytes)} at most for text, checkpoints and windows (they count for"
            f" disk_quota_mb), {human_bytes(sizing.shard_file_bytes)} for its own shard, and"
            f" {human_bytes(sizing.spill_bytes)} while it trains, in the place of memory",
        ),
        (
            "you",
            f"the launcher holds every stage until others come: about"
            f" {human_bytes(sizing.alone_memory_bytes)} of memory, {human_bytes(sizing.owner_blob_bytes)}"
            " on the disk",
        ),
    ]
    return [f"{ink.paint('dim', pad(label, 7))} {value}" for label, value in rows]


def stake_line(stake: int, ink: Ink) -> str:
    """Return the line about the stake of a solver."""
    text = f"{stake:,} with which a peer trains at full weight, verifies and reports; others are volunteers"
    return f"{ink.paint('dim', pad('stake', 7))} {text}"


def odds_line(odds: Odds, spec: RunSpec, ink: Ink) -> str:
    """Return the line about what those who check find."""
    return f"{ink.paint('dim', pad('checks', 7))} {odds_text(odds, spec)}"


def devices_line(text: str, ink: Ink) -> str:
    """Return the line about where an exact run would be computed here."""
    return f"{ink.paint('dim', pad('device', 7))} {text}"


def odds_notes(spec: RunSpec, odds: Odds, stake_segments: int) -> list[str]:
    """Say that lies pay in a run that is checked, if they do, and that a launch refuses it."""
    text = paying_text(odds)
    if unchecked_text(spec) or not text:
        return []
    ways = ", or ".join(odds_remedies(spec, stake_segments))
    return [f"{text}; swarm launch refuses it without --force: {ways}"]


def dry_run_notes(spec: RunSpec, sizing: Sizing, config: NodeConfig, memory: Memory) -> list[str]:
    """List the obstacles to launching it here, and the facts to know before; one sentence each."""
    notes = list[str]()
    if config.solve and memory.num_bytes < sizing.alone_memory_bytes:
        what = "a seat" if memory.num_bytes < sizing.seat_memory_bytes else "every stage at once"
        wider = f"{memory.remedy}, or " if memory.remedy else ""
        notes.append(f"{memory.text} of memory, too little for {what}; {wider}{SOLVE_HINT}")
    if config.solve and sizing.owner_blob_bytes // MIB >= config.disk_quota_mb:
        notes.append(
            f"disk_quota_mb is {config.disk_quota_mb}; the launcher of this run needs"
            f" {sizing.owner_blob_bytes // MIB + 1} in node.toml"
        )
    if texts := [text for text in (tolerance_text(spec), unchecked_text(spec)) if text]:
        notes.append("; ".join(texts))
    return notes


def _adapter_row(spec: RunSpec, sizing: Sizing) -> list[tuple[str, str]]:
    """Return the line about the adapter of a run; none without one."""
    adapter = spec.adapter
    if not adapter.rank:
        return []
    return [
        (
            "adapter",
            f"rank {adapter.rank}, scale {adapter.scale:g}, on {', '.join(adapter.targets)}: these"
            f" {human_count(sizing.parameters)} are trained, {human_count(sum(sizing.frozen))} stay",
        )
    ]


def _update(spec: RunSpec, sizing: Sizing) -> str:
    """Return the optimizer and the cost of its step: Muon's grows with the width, over the tokens of a step."""
    name, tokens = spec.optimizer.name, sizing.replica_tokens_per_step
    if not sizing.optimizer_cost:
        return f"{name}: little beside forward and backward"
    width = spec.model.hidden_size / tokens
    return (
        f"{name}: {100 * sizing.optimizer_cost:.1f}% of forward and backward by count,"
        f" {sizing.optimizer_cost / width:.2f} d / N at d {spec.model.hidden_size} and N {tokens:,} tokens"
    )


def _wire(spec: RunSpec, sizing: Sizing) -> str:
    trades = spec.outer.trades_per_round
    whom = "a partner" if trades == 1 else f"partners in {trades} trades"
    sent = f"{human_bytes(sizing.trade_bytes_per_round)} to {whom}"
    if sizing.microbatch_bytes_per_round:
        each = sizing.cut_bytes_per_token
        sent += (
            f", {human_bytes(sizing.microbatch_bytes_per_round)} to other stages"
            f" ({each:,.0f} bytes a token and cut, {each / spec.model.hidden_size:.3g} d)"
        )
    return (
        f"{sent} each round, as much comes in: {sizing.wire_bits_per_s / 1e6:,.1f} Mbit/s each way"
    )


def _flops(per_s: float) -> str:
    size, unit = next(
        (size, unit)
        for size, unit in ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (0, "MFLOP/s"))
        if per_s >= size
    )
    return f"{per_s / (size or 1e6):,.1f} {unit}"


def check_launch(screen: Terminal, start: Launch, config: NodeConfig) -> None:
    """Print what a launch takes.

    Raises what the launch would raise before it starts, except for a dataset that is not there yet.
    """
    file, base = start.file, start.base
    if file.model.init_from:
        file = with_shape(file, open_folder(base / Path(file.model.init_from).expanduser()).model)
    notes = list[str]()
    data = _data(screen, file, base)
    text = None
    if data is None:
        name = file.data.dataset
        notes.append(f"there is no dataset {name} yet: swarm data build FOLDER --out {name}")
    else:
        check_length(file, data)
        text = described(data)
    spec = run_spec(file, data=data or planned_data(file))
    genesis = saved_genesis(screen.home) or _own_genesis(file)
    check_limits(spec, genesis)
    sizing = sizing_of(spec, genesis.block_interval_ms)
    notes += dry_run_notes(spec, sizing, config, read_memory())
    stake = solver_stake(genesis, spec)
    lines = [*dry_run_lines(spec, sizing, text, screen.ink), stake_line(stake, screen.ink)]
    found = dict[str, object](solver_stake=stake)
    if spec.is_exact:
        odds = odds_of(spec, genesis.stake_segments)
        notes += odds_notes(spec, odds, genesis.stake_segments)
        where = exact_text(config.compute.device, present())
        lines += [odds_line(odds, spec, screen.ink)]
        if spec.checks.spots:
            looking = look_odds_of(spec, genesis.stake_segments)
            lines.append(f"{screen.ink.paint('dim', pad('looking', 7))} {lazy_text(spec, looking)}")
            found["look_odds"] = asdict(looking)
        lines.append(devices_line(where, screen.ink))
        found |= {"odds": asdict(odds), "device": where}
    screen.data({**dry_run_object(spec, sizing, text, notes), **found}, lines)
    for note in notes:
        screen.say(f"note: {note}")


def _own_genesis(file: RunFile) -> Genesis:
    """Return the genesis that a launch would create, for a placeholder key."""
    placeholder = PeerId(bytes(32))
    return genesis_of(file, validators={placeholder: 1}, accounts={}, seed=bytes(32))


def _data(screen: Terminal, file: RunFile, base: Path) -> DataSpec | None:
    """Describe the text of the run; None for a dataset that is not there."""
    if not file.data.dataset:
        with screen.patient("reading the text of the run"):
            corpus = read_corpus(file, base)
        sizes = (len(corpus.train), NO_DIGEST, len(corpus.heldout))
        return DataSpec(file.data.tokenizer, NO_DIGEST, *sizes)
    folder, pinned = dataset_path(screen.home, base, file.data.dataset), file.data.dataset_hash
    if not (folder / MANIFEST_FILE).is_file():
        return None
    manifest = open_dataset(folder).manifest
    check_hash(manifest, pinned, str(folder), names_by_hash(screen.home) if pinned else {})
    return data_spec(manifest)
