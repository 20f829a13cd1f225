"""The owner of a run of real processes pauses it, resumes it, and ends it before its last round."""

import pytest

from tests.e2e.localnet import HomeSetup, Localnet, last_commit

pytestmark = pytest.mark.e2e


def test_the_owner_pauses_resumes_and_stops_and_the_replicas_end_as_one(net: Localnet) -> None:
    """Seats rest in the pause; others are refused; the last checkpoint comes after the rounds of consensus."""
    run_file = net.run_file()
    net.set_up(run_file, "steered", guest=HomeSetup(), friend=HomeSetup())
    owner = net.start("steered", "launch", str(run_file))
    other = net.join("guest", owner.ticket())
    third = net.join("friend", owner.ticket())
    for node in (other, third):
        node.wait("a segment of the guest", lambda s: last_commit(s) >= 0 and s)
    refused = net.swarm("pause", home=other.home)
    assert refused.returncode == 2
    assert "only the owner" in refused.stderr
    early = net.swarm("resume", home=owner.home)
    assert early.returncode == 2
    assert "nothing to resume in run tiny: it is not paused: the run is training" in early.stderr

    said = net.read("pause", home=owner.home)
    assert said["phase"] == "training"
    assert "rests from round" in said["text"]
    rests = owner.wait("the pause", lambda s: s["run"]["phase"] == "paused" and s)
    held = rests["run"]["round"]
    height = rests["ledger"]["height"]
    owner.wait("blocks in the pause", lambda s: s["ledger"]["height"] > height + 8)
    assert owner.wait("the state document", lambda s: s)["run"]["round"] == held
    other.wait(
        "all seats at rest",
        lambda s: {peer["state"] for peer in s["peers"] if peer["seats"]} == {"paused"},
    )
    again = net.swarm("pause", home=owner.home)
    assert (again.returncode, "nothing to pause" in again.stderr) == (2, True)
    assert net.read("resume", home=owner.home)["text"]
    other.wait("a segment from after the pause", lambda s: last_commit(s) > held and s)

    assert "makes one model" in net.read("stop", "--yes", home=owner.home)["text"]
    for node in (owner, other, third):
        node.wait_event("run_finished")
        node.wait_event("committed", "without a step")
    over = owner.wait(
        "the last checkpoint of every stage",
        lambda s: (
            [stage[:1] and stage[0][0] for stage in s["run"]["checkpoints"]]
            == [s["run"]["final_round"]] * 2
            and s
        ),
    )
    last = over["run"]["final_round"]
    assert last == over["run"]["rounds"] + 1, "three peers in two stages: one pair"
    assert net.export(owner, "steered-model").returncode == 0
    folder = net.folder / "steered-model"
    proved = net.read("checkpoint", "verify", str(folder), home=owner.home)
    assert (proved["round"], proved["is_trusted"]) == (last, True)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    refused = net.swarm("checkpoint", "verify", str(folder), home=owner.home)
    assert (refused.returncode, "are not those of round" in refused.stderr) == (6, True)
