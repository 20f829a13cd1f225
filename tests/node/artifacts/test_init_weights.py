"""The weights that a run draws are named once in a home, and never for a run that does not fit the machine."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import pytest

from swarm.config.load import genesis_of, parse_run_file
from swarm.config.spec import RunSpec
from swarm.errors import BadConfig
from swarm.events import Event
from swarm.gossip.blobs.service import Blobs
from swarm.node.artifacts import cache as init_weights
from swarm.node.artifacts.cache import seeded_root
from swarm.node.launch.launch import prepare_spec
from swarm.node.reporting import EventLog
from swarm.primitives.codec import replace
from swarm.primitives.commitments import hash_of
from swarm.store import Store
from swarm.testing.executor import InlineExecutor
from swarm.training.hf.export import export_files
from swarm.training.model.stages import init_flat, plan_stages, plans_of
from swarm.types import Digest, PeerId
from tests.fakes import FakeNetwork
from tests.node.artifacts.test_cache import RUN, a_spec

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Counted(InlineExecutor):
    """Counts the shards that were computed."""

    def __init__(self) -> None:
        super().__init__(lambda _: 0.0)
        self.computed = 0

    async def run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        self.computed += getattr(fn, "__name__", "") == "_root"
        return await super().run(fn, *args)


def seeded(spec: RunSpec) -> list[Digest]:
    """The hashes of the initial weights of all stages."""
    return [hash_of(init_flat(plan, spec.seed)) for plan in plans_of(spec)]


async def test_a_stage_is_initialised_once_in_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init_weights, "REPORTED_PARAMETERS", 1)
    compute, spec, messages = Counted(), a_spec(), list[str]()
    for _ in range(2):
        store = Store.open(tmp_path / "store.sqlite")
        roots = [
            await seeded_root(spec, stage, store, compute, messages.append) for stage in (0, 1)
        ]
        store.close()
    assert roots == seeded(spec)
    assert compute.computed == 2
    assert [text.split(":")[0] for text in messages] == [
        "initialising the weights of stage 0 of 2",
        "initialising the weights of stage 1 of 2",
    ]


async def test_another_seed_cut_or_shape_is_another_shard(tmp_path: Path) -> None:
    compute, spec, messages = Counted(), a_spec(), list[str]()
    store = Store.open(tmp_path / "store.sqlite")
    others = [
        spec,
        replace(spec, seed=spec.seed + 1),
        replace(spec, num_stages=1),
        replace(spec, model=replace(spec.model, num_heads=1, num_kv_heads=1)),
    ]
    roots = [await seeded_root(one, 0, store, compute, messages.append) for one in others]
    assert len(set(roots[:3])) == 3
    assert compute.computed == 4
    assert (
        await seeded_root(replace(spec, rounds=7), 0, store, compute, messages.append) == roots[0]
    )
    assert compute.computed == 4
    assert not messages, "a small one is no word worth"
    store.close()


@pytest.mark.rule("N13", "S26")
async def test_a_run_that_does_not_fit_is_refused_before_weights_are_computed(
    tmp_path: Path,
) -> None:
    """A launch of billions of parameters on a small machine is refused at once."""
    (tmp_path / "texts").mkdir()
    for number in range(4):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"text {number} " * 300)
    text = f'{RUN}[data]\nsource = ["texts"]\nheldout_every = 2\n'
    file, peer, compute = parse_run_file(text, "run.toml"), PeerId(bytes(32)), Counted()
    genesis = genesis_of(file, validators={peer: 1}, accounts={}, seed=secrets.token_bytes(32))
    host: Any = FakeNetwork().host(1)
    blobs = Blobs(tmp_path / "home", host, quota_bytes=1 << 24)
    events, asked = list[Event](), list[RunSpec]()
    report = EventLog(tmp_path, events.append)

    async def fits(spec: RunSpec) -> None:
        asked.append(spec)
        if len(asked) == 1:
            raise BadConfig("too large")

    store = Store.open(tmp_path / "store.sqlite")
    parts = (file, tmp_path, genesis, blobs, compute, store, fits, report)
    with pytest.raises(BadConfig, match="too large"):
        await prepare_spec(*parts)
    assert compute.computed == 0
    assert asked[0].data.train_bytes > 0, "with the sizes of its text"
    spec = await prepare_spec(*parts)
    assert compute.computed == 2
    assert [start.weights for start in spec.starts] == seeded(spec)
    store.close()


@pytest.mark.rule("T40")
async def test_a_launch_with_an_adapter_publishes_the_weights_below_and_starts_from_the_seed(
    tmp_path: Path,
) -> None:
    spec, llama = a_spec(), tmp_path / "llama"
    llama.mkdir()
    plans = plan_stages(spec.model, 2)
    for name, data in export_files(spec.model, [init_flat(plan, 9) for plan in plans]).items():
        (llama / name).write_bytes(data)
    (tmp_path / "texts").mkdir()
    for number in range(4):
        (tmp_path / "texts" / f"{number}.txt").write_text(f"text {number} " * 300)
    sections = (
        '[adapter]\nrank = 4\ntargets = ["q", "v"]\n[data]\nsource = ["texts"]\nheldout_every = 2\n'
    )
    file = parse_run_file(f'[model]\ninit_from = "llama"\nseq_len = 32\n{sections}', "run.toml")
    peer = PeerId(bytes(32))
    host: Any = FakeNetwork().host(1)
    genesis = genesis_of(file, validators={peer: 1}, accounts={}, seed=secrets.token_bytes(32))
    blobs = Blobs(tmp_path / "home", host, quota_bytes=1 << 24)
    store, report = Store.open(tmp_path / "store.sqlite"), EventLog(tmp_path, None)

    async def fits(_: RunSpec) -> None:
        pass

    made = await prepare_spec(file, tmp_path, genesis, blobs, Counted(), store, fits, report)
    assert made.adapter.base_roots == tuple(hash_of(init_flat(plan, 9)) for plan in plans)
    assert all(map(blobs.has, made.adapter.base_roots))
    assert not made.is_pretrained
    assert [start.weights for start in made.starts] == seeded(made)
    wide = file.model_copy(update={"adapter": file.adapter.model_copy(update={"rank": 33})})
    with pytest.raises(BadConfig, match="narrowest of its targets: 32"):
        await prepare_spec(wide, tmp_path, genesis, blobs, Counted(), store, fits, report)
    store.close()
