"""Go through a launch without starting anything: read the file, the text, the model; say what it takes.

Shell: reads this machine's disk; the words are ``dry_run.py``'s.
"""

from pathlib import Path

from swarm.cli.dry_run import dry_run_lines, dry_run_notes, dry_run_object
from swarm.cli.terminal import Terminal
from swarm.config import genesis_of, planned_data, run_spec
from swarm.node.fitting import memory_bytes
from swarm.node.launching import check_limits, saved_genesis
from swarm.node.publishing import check_length, described, read_corpus
from swarm.node.sizing import sizing_of
from swarm.run_file import NodeConfig, RunFile
from swarm.spec import DataSpec, Genesis
from swarm.start_shape import with_shape
from swarm.training.dataset import MANIFEST_FILE, check_hash, data_spec
from swarm.training.dataset_files import dataset_path, names_by_hash, open_dataset
from swarm.training.hf_import import open_folder
from swarm.types import NO_DIGEST, PeerId


def rehearse(desk: Terminal, file: RunFile, base: Path, config: NodeConfig) -> None:
    """Print what a launch of ``file`` takes; paths in it are relative to ``base``.

    Raises what the launch would raise before it starts, but for a dataset that is not there yet.
    """
    if file.model.init_from:
        file = with_shape(file, open_folder(base / Path(file.model.init_from).expanduser()).model)
    notes = list[str]()
    data = _data(desk, file, base)
    text = None
    if data is None:
        name = file.data.dataset
        notes.append(f"there is no dataset {name} yet: swarm data build FOLDER --out {name}")
    else:
        check_length(file, data)
        text = described(data)
    spec = run_spec(file, data=data or planned_data(file), init_root=NO_DIGEST)
    genesis = saved_genesis(desk.home) or _own_genesis(file)
    check_limits(spec, genesis)
    sizing = sizing_of(spec, genesis.block_interval_ms)
    notes += dry_run_notes(spec, sizing, config, memory_bytes())
    lines = dry_run_lines(spec, sizing, text, desk.ink)
    desk.data(dry_run_object(spec, sizing, text, notes), lines)
    for note in notes:
        desk.say(f"note: {note}")


def _own_genesis(file: RunFile) -> Genesis:
    """Of the network that a launch would create, but for whose it is."""
    nobody = PeerId(bytes(32))
    return genesis_of(file, validators={nobody: 1}, accounts={}, seed=bytes(32))


def _data(desk: Terminal, file: RunFile, base: Path) -> DataSpec | None:
    """What the text of the run is; None for a dataset that is not there."""
    if not file.data.dataset:
        with desk.patient("reading the text of the run"):
            corpus = read_corpus(file, base)
        sizes = (len(corpus.train), NO_DIGEST, len(corpus.heldout))
        return DataSpec(file.data.tokenizer, NO_DIGEST, *sizes)
    folder, pinned = dataset_path(desk.home, base, file.data.dataset), file.data.dataset_hash
    if not (folder / MANIFEST_FILE).is_file():
        return None
    manifest = open_dataset(folder).manifest
    check_hash(manifest, pinned, str(folder), names_by_hash(desk.home) if pinned else {})
    return data_spec(manifest)
