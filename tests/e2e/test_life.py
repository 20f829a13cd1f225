"""A swarm of real processes trains, agrees, loses a member and takes it back."""

import signal
import sqlite3

import pytest

from swarm.store import Store, key_of
from swarm.ticket import parse_ticket
from tests.e2e.localnet import Localnet, Node, State, last_commit, seats_of

pytestmark = pytest.mark.e2e

GONE_S = 30.0
"""A killed peer shows on the map within 15 s on a free machine."""
REST_S = 240.0
"""A peer that was away twice may have a fourth silent segment, and rests four epochs: two minutes."""
EPOCH = 60
SHOWN_S = 120.0
"""Two epochs of 30 s."""
STOP_S = 3.0


@pytest.fixture(scope="module")
def joiner(net: Localnet, ticket: str) -> Node:
    """A peer that came by ticket."""
    return net.join("joiner", ticket)


def test_a_lone_launch_trains_and_commits(launcher: Node) -> None:
    """No other peer is needed: every seat is the launcher's until another joins."""
    state = launcher.wait("a second segment on the ledger", lambda s: last_commit(s) >= 1 and s)
    assert {seat["stage"] for seat in seats_of(state)} == {0, 1}
    assert state["ledger"]["supply_conserved"]
    assert launcher.events("committed")
    assert launcher.events("round_started")


def test_a_joiner_takes_a_seat_trades_and_commits(launcher: Node, joiner: Node) -> None:
    """The ticket is all it needs: genesis, ledger, text, weights and moments come from the peer."""
    seat = joiner.wait_event("seat_taken")
    assert "starting from what" in seat["text"], "it goes on from the launcher's committed state"
    state = joiner.wait("a segment of the joiner", lambda s: last_commit(s) >= 0 and s)
    name = state["node"]["name"]
    joiner.wait_event("traded")
    launcher.wait("the joiner's seat", lambda s: name in {seat["name"] for seat in s["seats"]})

    joiner.wait_event("progress", "on trial as a volunteer")
    joiner.wait_event("progress", "the trial is over")
    launcher.wait_event("traded", name)

    def is_shared(state: State) -> bool:
        """The launcher leaves no stage to one volunteer alone."""
        names = {seat["name"] for seat in state["seats"] if seat["stage"] == 0}
        return names == {name, state["node"]["name"]}

    launcher.wait("both in one stage", is_shared)
    assert (joiner.home / "identity.key").stat().st_mode & 0o777 == 0o600


def test_the_read_commands_agree(net: Localnet, launcher: Node, joiner: Node) -> None:
    """From another terminal, on either home, while both nodes run."""
    joiner.wait("both on the map", lambda s: len(s["peers"]) >= 2)
    status = net.read("status", home=joiner.home)
    map_ = net.read("map", home=joiner.home)
    peers = net.read("peers", "ls", home=joiner.home)
    run = net.read("run", "show", home=joiner.home)
    assert {p["peer"] for p in map_["peers"]} == {p["peer"] for p in peers}
    assert [p["name"] for p in peers if p["me"]] == [status["node"]["name"]]
    assert map_["run"]["digest"] == run["run"]["digest"] == status["run"]["digest"]
    assert {seat["peer"] for seat in run["seats"]} <= {p["peer"] for p in peers}
    assert status["ledger"]["height"] <= map_["ledger"]["height"]

    tail = net.read("ledger", "tail", "-n", "3", home=joiner.home)
    shown = net.read("ledger", "show", str(tail[0]["height"]), home=launcher.home)
    assert {**tail[0], "votes": None} == {**shown, "votes": None}
    verified = net.read("ledger", "verify", home=joiner.home)
    assert verified["chain"] == status["ledger"]["chain"]
    assert verified["height"] + verified["unproved_blocks"] >= tail[-1]["height"]
    assert verified["supply_conserved"]
    assert verified["commits"] > 0

    wish = ("generate", "--swarm", "-p", "def f(", "--count", "12", "--temperature", "0")
    assert net.swarm(*wish, home=joiner.home).stdout.startswith("def f(")


@pytest.mark.rule("N23")
def test_a_peer_of_another_stage_holds_a_checkpoint_and_shows_it(
    net: Localnet, launcher: Node
) -> None:
    """Each of the two has a stage by now, and holds what the other posts; an epoch later it has shown it."""

    def held_at(state: State) -> int:
        is_held = any("held by" in text for text in state["run"]["storage"])
        return int(state["ledger"]["height"]) if is_held else 0

    height = launcher.wait("a receipt", held_at)
    launcher.wait("an epoch more", lambda s: s["ledger"]["height"] >= height + 2 * EPOCH, SHOWN_S)
    assert net.read("ledger", "verify", home=launcher.home)["storage_proofs"] > 0


def test_after_kill_minus_nine_it_comes_back_as_itself(launcher: Node, joiner: Node) -> None:
    """The others go on; it finds them without a ticket, resumes, and commits again."""
    before = joiner.wait("a commit", lambda s: last_commit(s) >= 0 and s)
    name, seen = before["node"]["name"], len(joiner.events())
    joiner.kill()
    killed_at = launcher.wait("the state document", lambda s: s)["run"]["round"]
    launcher.wait("the loss on the map", lambda s: is_missed(s, name), GONE_S)
    launcher.wait("rounds without it", lambda s: last_commit(s) > killed_at)

    joiner.resume()
    seat = joiner.wait_event("seat_taken", after=seen)
    ways = ("its own state", "committed in round", "the checkpoint of round")
    assert any(way in seat["text"] for way in ways)
    back_at = joiner.wait("the state document", lambda s: s["run"] and s)["run"]["round"]
    after = joiner.wait("a new commit", lambda s: last_commit(s) >= back_at and s)
    assert after["node"]["name"] == name
    assert after["node"]["peer"] == before["node"]["peer"]


def is_missed(state: State, name: str) -> bool:
    """Whether the map says that a peer is gone, and why."""
    peer = next((peer for peer in state["peers"] if peer["name"] == name), None)
    return peer is not None and "gone for" in peer["reason"]


def test_a_late_follower_checks_the_whole_chain_offline(
    net: Localnet, launcher: Node, ticket: str
) -> None:
    """It syncs, trains nothing, stops, and its disk alone proves every block."""
    height = launcher.wait("the state document", lambda s: s["ledger"]["height"])
    late = net.join("late", ticket, "--no-solve")
    late.wait("the chain", lambda s: s["ledger"]["height"] >= height)
    assert seats_of(late.wait("the state document", lambda s: s)) == []
    code, _ = late.stop(signal.SIGTERM)
    assert code == 0
    verified = net.read("ledger", "verify", home=late.home)
    assert verified["height"] + verified["unproved_blocks"] >= height
    assert verified["height"] > 0
    assert verified["supply_conserved"]


def test_what_the_disk_did_to_a_ledger_is_named(net: Localnet, launcher: Node) -> None:
    """A block that is gone, and one that has changed: the chain is not valid without them."""
    launcher.wait("blocks", lambda s: s["ledger"]["height"] > 8)
    home = net.folder / "damaged"
    home.mkdir()
    for name, block in (("gone", None), ("changed", b"\x93")):
        with sqlite3.connect(launcher.home / "store.sqlite") as source:
            source.backup(copy := sqlite3.connect(home / "store.sqlite"))
        source.close()
        copy.close()
        store = Store.open(home / "store.sqlite")
        store.write([("ledger_blocks", key_of(4), block)])
        store.close()
        done = net.swarm("ledger", "verify", home=home)
        assert done.returncode == (6 if name == "gone" else 1), done.stderr
        assert "block 4" in done.stderr
        assert f"try: mv {home / 'store.sqlite'}" in done.stderr


def test_anybody_in_the_run_can_invite(net: Localnet, launcher: Node, joiner: Node) -> None:
    """A joiner's ticket names the joiner, and the same network and run."""
    joiner.wait("the run", lambda s: s["run"])
    theirs = parse_ticket(net.read("ticket", "new", home=joiner.home)["ticket"], 0)
    mine = parse_ticket(launcher.ticket(), 0)
    assert (theirs.genesis16, theirs.run16) == (mine.genesis16, mine.run16)
    assert theirs.peer != mine.peer


def test_only_checkpoints_that_somebody_may_need_are_on_the_disk(launcher: Node) -> None:
    """Those the ledger lists, for the peers that replay from them; a few more are anchors or on their way."""
    state = launcher.wait("six checkpoints of each stage", lambda s: last_commit(s) >= 12 and s)
    listed = sum(len(kept) for kept in state["run"]["checkpoints"])
    assert listed >= 2 * 4
    blobs = launcher.home / "blobs"
    assert len(list(blobs.glob("*.list"))) <= 2 + listed + 2 * 2


@pytest.mark.rule("C5")
def test_ctrl_c_ends_a_node_in_time_and_leaves_nothing(joiner: Node) -> None:
    """Under 3 s, exit code 130, no traceback, no child."""
    joiner.wait("the state document", lambda s: s)
    code, seconds = joiner.stop(signal.SIGINT)
    assert code == 130
    assert seconds < STOP_S
    assert not joiner.has_children()
    assert "Traceback" not in joiner.log.read_text()
    assert not list(joiner.home.glob("trace-*"))
    assert not (joiner.home / "api.json").exists()


@pytest.mark.rule("N15")
def test_a_run_that_everybody_left_goes_on_when_they_come_back(
    launcher: Node, joiner: Node
) -> None:
    """No process is left; the homes start again, and train from where they were."""
    before = launcher.wait("the state document", lambda s: s["run"] and s)
    if joiner.is_running:  # where this test runs without the one before it
        joiner.wait("a commit of the joiner", lambda s: last_commit(s) >= 1)
        joiner.stop()
    launcher.kill()
    seen = {node: len(node.events()) for node in (launcher, joiner)}
    launcher.resume()
    joiner.resume()
    for node in (launcher, joiner):
        taken = node.wait_event("seat_taken", after=seen[node])
        sources = ("its own state", "checkpoint", "committed in round")
        assert any(source in taken["text"] for source in sources), taken["text"]
    round_ = before["run"]["round"]
    for node in (launcher, joiner):
        node.wait("commits after the return", lambda s: last_commit(s) > round_ + 1 and s, REST_S)
