"""Real nodes in a native run: honest work is within tolerance on the ledger, and so an audit says."""

import json

from tests.e2e.localnet import HomeSetup, Localnet


def test_honest_native_work_is_checked_within_tolerance_and_an_audit_says_how_far_it_is(
    net: Localnet,
) -> None:
    """The same machine replays: its bits may be equal, and what is shown must not say that it is verified."""
    run_file = net.run_file()
    text = run_file.read_text().replace("[outer]\n", '[outer]\ncodec = "int8"\n')
    run_file.write_text(text)
    names = net.set_up(
        run_file,
        "launcher",
        founder=HomeSetup(stake=0, verify=False),
        honest=HomeSetup(),
        watcher=HomeSetup(solve=False),
    )
    launcher = net.start("launcher", "launch", str(run_file))
    ticket = launcher.ticket()
    launcher.wait_event("warning", "its windows are checked within a tolerance of 1e-03")
    nodes = {name: net.start(name, "join", ticket) for name in ("honest", "watcher")}
    watcher = nodes["watcher"]
    state = watcher.wait("its own check", lambda s: s["node"]["checks"]["agreed"] >= 1 and s)
    assert state["run"]["checks"].get("within", 0) >= 1
    assert not state["run"]["checks"].get("verified", 0)
    texts = [row["text"] for row in state["checks"] if row["phase"] == "within"]
    assert any("was checked within tolerance" in text for text in texts)
    assert not any("passed" in text for text in texts)
    row = next(row for row in state["checks"] if row["phase"] == "within")
    where = [f"--{name}={row[name]}" for name in ("round", "stage", "seat")]
    done = net.swarm("audit", *where, "--json", home=watcher.home)
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["verdict"] == "within_tolerance"
    assert "of the way from where its solver says it ends" in found["text"][1]
    assert names["honest"]
