"""The sequence of the README, by a newcomer: launch, join, map, build, init, launch, measure, export, load.

One home holds both launches, as it does for a reader of the README. A small file stands for the packaged demo
run, and the file of ``swarm init`` is made smaller, so that this takes a minute.
"""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from swarm.ticket import Ticket, format_ticket
from swarm.types import PeerId
from tests.e2e.localnet import Localnet, Node, last_commit

pytestmark = pytest.mark.e2e

USAGE, NETWORK = 2, 3
"""Exit codes."""
SMALLER = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "num_kv_heads": 2,
    "intermediate_size": 64,
    "seq_len": 32,
    "inner_steps_max": 10,
    "round_blocks": 14,
    "checkpoint_rounds": 1,
    "step_s": 3.0,
    "hop_s": 1.5,
    "exchange_s": 5.0,
}
"""Of the file that init writes: a round of 7 s, and deadlines that fit into it."""
LATE_S = 20.0
"""A machine with a few other tests on it is behind a plan of 10 s by less."""


@pytest.fixture(scope="module")
def stray(net: Localnet) -> Node:
    """A newcomer with a ticket whose peer is gone; it waits while the rest goes on."""
    gone = Ticket(bytes(16), bytes(16), PeerId(b"\1" * 32), ("/ip4/127.0.0.1/tcp/9",), 0)
    return net.join("stray", format_ticket(gone))


@pytest.fixture(scope="module")
def home(net: Localnet, stray: Node) -> Path:
    """The home of the newcomer after its first launch, which a second peer joined, and both looked at."""
    first = net.launch("newcomer")
    other = net.join("other", first.ticket())
    other.wait("a segment of the other", lambda s: last_commit(s) >= 0 and s)
    for node in (first, other):
        shown = net.swarm("map", home=node.home)
        assert shown.returncode == 0, shown.stderr
        assert "tiny" in shown.stdout
    assert "only this machine can use this ticket" in first.log.read_text()
    assert net.read("ticket", "new", home=first.home)["ticket"]
    for node in (other, first):
        assert node.stop()[0] == 130
    return first.home


@pytest.fixture(scope="module")
def mine(net: Localnet, home: Path) -> Path:
    """The run file of the newcomer, and a dataset beside it."""
    path = net.folder / "mine.toml"
    built = net.read(
        "data",
        "build",
        str(net.folder / "corpus"),
        "--out",
        "mine",
        "--heldout-every",
        "3",
        home=home,
    )
    assert built["name"] == "mine"
    assert net.read("init", str(path), home=home) == {"file": str(path)}
    text = path.read_text()
    for key, value in SMALLER.items():
        text, count = re.subn(rf"(?m)^{key} = \S+", f"{key} = {value}", text)
        assert count == 1, key
    path.write_text(text)
    return path


def test_a_file_of_ones_own_is_launched_in_the_home_of_the_first_launch(
    net: Localnet, home: Path, mine: Path
) -> None:
    """The dry run says when its first checkpoint comes; then it is measured, taken out and loaded."""
    plan = net.read("launch", str(mine), "--dataset", "mine", "--dry-run", home=home)
    assert (plan["numerics"], plan["notes"]) == ("seq-f32/1", [])
    assert plan["first_checkpoint_s"] == (2 + 14 + 3) * 0.5
    node = net.start("newcomer", "launch", str(mine), "--dataset", "mine")
    opened = _opened(net, node)
    node.wait("its first checkpoint", lambda s: _is_kept(s) and s)
    seconds = time.time() - opened / 1000
    assert 0 <= seconds - plan["first_checkpoint_s"] + 2 * 0.5 < LATE_S
    assert "leaves tiny" in node.log.read_text()

    measured = net.read("eval", home=home)
    assert measured["round"] >= 1
    # Loaded here, and not in the worker that only collects this file.
    from transformers import AutoTokenizer, LlamaForCausalLM

    out = net.folder / "model"
    net.read("export", str(out), home=home)
    model: Any = LlamaForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    asked = tokenizer("line 1 of text ", return_tensors="pt")
    assert asked["input_ids"].tolist()[0] == list(b"line 1 of text ")
    (ids,) = model.generate(**asked, max_new_tokens=8, do_sample=False)
    assert str(tokenizer.decode(ids)).startswith("line 1 of text ")

    unasked = net.swarm("stop", home=home)
    assert unasked.returncode == USAGE
    assert "swarm stop --yes" in unasked.stderr
    assert net.read("stop", "--yes", home=home)["run"] == "my-run"


def test_a_file_that_the_network_of_the_home_cannot_carry_names_the_launch_that_works(
    net: Localnet, home: Path, mine: Path
) -> None:
    """And leaves nothing behind: neither in this home, nor does the other need more than the command."""
    wide = net.folder / "wide.toml"
    wide.write_text(
        mine.read_text().replace("challenge_window_blocks = 0", "challenge_window_blocks = 9000")
    )
    args = ("launch", str(wide), "--dataset", "mine", "--dry-run")
    done = net.swarm(*args, home=home)
    assert done.returncode == 4
    assert "challenge_window_blocks 9000 must be below" in done.stderr
    (command,) = re.findall(r"try: swarm (launch .*)", done.stderr)
    elsewhere = Path(re.findall(r"--home (\S+)", command)[0])
    assert not elsewhere.exists()
    wide.write_text(wide.read_text().replace("epoch_blocks = 60", "epoch_blocks = 4000"))
    planned: Any = net.read(
        *command.replace(f"--home {elsewhere} ", "").split(), "--dry-run", home=elsewhere
    )
    assert planned["run"] == "my-run"


def test_a_ticket_that_leads_to_nobody_ends(net: Localnet, stray: Node) -> None:
    """One cause, one command, exit code 3, and no network is left in the home."""
    assert net.wait("the stray to give up", lambda: not stray.is_running)
    assert stray.process.returncode == NETWORK
    log_text = stray.log.read_text()
    assert "no peer of this ticket answered in 60 s: cannot reach" in log_text
    assert "only on the machine that it was made on" in log_text
    assert log_text.count("try: ") == 1
    assert not (stray.home / "genesis.bin").exists()


def _opened(net: Localnet, node: Node) -> int:
    """When the second launch of a home opened its run, in milliseconds of the clock on the wall."""

    def find_run() -> int | None:
        found = [event for event in node.events() if event["text"].startswith("opened the run")]
        return found[1]["at_ms"] if len(found) > 1 else None

    return net.wait("the run to be opened", find_run, node=node)


def _is_kept(state: dict[str, Any]) -> bool:
    """Whether every stage of the newcomer's run has a checkpoint on the ledger."""
    run = state["run"] or {}
    return run.get("name") == "my-run" and all(run["checkpoints"])
