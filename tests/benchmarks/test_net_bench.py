"""The bench of the network names the figures of its row, and says why one is null."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import net, net_relay, net_tcp
from benchmarks.common import Outcome
from benchmarks.wire_children import ChildError

ROOT = Path(__file__).parents[2]


def test_the_figures_are_those_of_the_row_in_the_specification() -> None:
    lines = (ROOT / "docs/spec/figures.md").read_text("utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith("| net |"))
    assert tuple(row.split("|")[2].split()) == net.FIGURES


def test_a_figure_that_could_not_be_measured_is_null_with_its_reason() -> None:
    outcome = Outcome(detail={"reasons": {}})

    def fail() -> None:
        raise ChildError("it said nothing")

    net._try(outcome, ["idle_cpu"], fail)
    assert outcome.figures == {"idle_cpu": None}
    assert outcome.detail["reasons"] == {"idle_cpu": "it said nothing"}


def test_where_no_machines_can_be_made_the_join_through_a_relay_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1_000)
    with pytest.raises(ChildError, match="takes root"):
        net_relay.through_a_relay(True, tmp_path)


def test_plain_tcp_copies_the_whole_file(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 10_000)
    sender = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.net_tcp", "--file", str(source)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert sender.stdout is not None
        port = int(sender.stdout.readline().split(":")[1].strip(" }\n"))
        assert net_tcp.copy(port, target) > 0
    finally:
        sender.kill()
        sender.communicate()
    assert target.read_bytes() == source.read_bytes()
