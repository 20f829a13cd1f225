"""Two nodes fine-tune a Llama folder by an adapter, and both forms of its export are better than the folder."""

from pathlib import Path

import pytest

from swarm.testing.ledger import small_run_spec
from tests.e2e.localnet import Localnet, last_commit

pytestmark = pytest.mark.e2e

MODEL = small_run_spec().model
BETTER_NATS = 0.1
"""On held-out bytes, after a few rounds: far less than the nat and more that an adapter gains in a minute."""


def a_folder(folder: Path) -> None:
    """A model of bytes in the form of transformers, as it is drawn."""
    # With torch: loaded here, and not in the worker that only collects this file.
    from swarm.training.hf.export import export_files
    from swarm.training.model.stages import init_flat, plan_stages

    (plan,) = plan_stages(MODEL, 1)
    folder.mkdir()
    for name, data in export_files(MODEL, [init_flat(plan, 77)]).items():
        (folder / name).write_bytes(data)


def a_run_file(net: Localnet) -> Path:
    """The small run, of an adapter on the folder llama, with a checkpoint every other round."""
    head, _, rest = net.run_file(round_blocks=14).read_text().partition("[model]")
    rest = rest.partition("[training]")[2].replace("warmup_steps = 10", "warmup_steps = 0")
    path = net.folder / "tune.toml"
    path.write_text(
        f'{head}[model]\ninit_from = "llama"\nseq_len = 32\n[adapter]\nrank = 4\n[training]{rest}'
    )
    return path


def test_an_adapter_is_trained_by_two_nodes_and_its_exports_are_better_than_the_base(
    net: Localnet,
) -> None:
    base, merged, alone = (net.folder / name for name in ("llama", "merged", "adapter"))
    a_folder(base)
    launcher = net.start("launcher", "launch", str(a_run_file(net)))
    joiner = net.join("joiner", launcher.ticket())
    joiner.wait("a segment of the joiner", lambda s: last_commit(s) >= 0 and s)
    joiner.wait_event("traded")
    joined = launcher.wait("the state document", lambda s: s["run"] and s)["run"]["round"]
    launcher.wait(
        "a checkpoint of each stage from after that",
        lambda s: all(kept and kept[0][0] > joined for kept in s["run"]["checkpoints"]),
    )
    before = net.read("eval", "--initial", home=launcher.home)["loss_nats"]
    assert net.export(launcher, "merged").returncode == 0
    after = net.read("eval", str(merged), home=launcher.home)["loss_nats"]
    assert after < before - BETTER_NATS

    done = net.export(launcher, "adapter", "--format", "peft", "--base", str(base))
    assert done.returncode == 0, done.stderr
    row = net.read("eval", str(alone), "--base", str(base), home=launcher.home)
    assert row["loss_nats"] < before - BETTER_NATS
