"""The document of /api/v1/state: true ages, one definition of each figure, nothing of peers that are gone."""

import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest
import trio

from swarm.dht.directory import Announcement, PeerTable, fold, measured
from swarm.events import EventKind, make_event
from swarm.host.reachability import Reachable, Verdict
from swarm.ledger.state.records import Run
from swarm.ledger.transition.prices import solver_stake
from swarm.ledger.views import ConvictionView
from swarm.node.api.schema import PeerRow, RunRow, StateDocument
from swarm.node.api.state import StateBuilder
from swarm.node.api.vitals import POLL_S
from swarm.node.context import NodeStats, TradeRecord
from swarm.node.join.join import TABLE, TICKET_KEY
from swarm.primitives.codec import encode_document, fields_of, replace
from swarm.primitives.crypto import peer_name
from swarm.store import Store
from swarm.training.pipeline import Meter
from swarm.types import PeerId
from swarm.verify.service import VerifierCounts
from tests.ledger.checking import EXACT, Case, a_case

ONE_STAGE = replace(EXACT, num_stages=1, starts=EXACT.starts[:1])
"""Both peers hold a seat of the last stage: their rates add up."""

KEYS_BEFORE = {
    "$": "node run ledger peers seats checks convictions loss_curve trades events",
    "node": "peer name version home state waits_for uptime_s addresses api_url pid device steps"
    " loss_nats tokens trades solo seats validates checks seconds calls calls_s",
    "run": "index name digest phase round rounds final_round consensus_round consensus_rounds"
    " is_pausing num_stages parameters loss_nats tokens tokens_per_s heldout perplexity heldout_round"
    " evaluations is_measured_here segments checks confirmed owner checkpoints waiting ticket",
    "ledger": "chain height finality_s validators supply supply_conserved tail",
    "peers": "peer name me stages seats state reason path rtt_ms up_bytes down_bytes lag stake"
    " earned segments audits measured age_s role tokens_per_s loss_nats round last_partner trades version",
    "seats": "stage index name peer last_commit_round tokens",
    "checks": "round stage seat name height steps tokens start phase due throws reward paid windows"
    " verifiers accusers accusations dispute judged confirmed text",
    "trades": "round fragment stage from to ok",
    "events": "at kind text",
}
"""What programs of others read."""


class Harness:
    """A node beside an in-memory test ledger: it has key 0, and every figure is set by hand."""

    def __init__(self, folder: Path, case: Case | None = None) -> None:
        self.case = case or a_case(ONE_STAGE)
        self.stats = NodeStats()
        self.map = PeerTable()
        self.connected: list[PeerId] = []
        self.seq = 0
        ledger = self.case.ledger
        self.me, self.other = ledger.keys[0].peer, self.case.solver.peer
        self.is_running = True
        harness = self

        class Ledger:
            is_validator = True
            is_silent = False
            first = 1
            finality_s = 0.4
            state = property(lambda _: ledger.state)
            height = property(lambda _: ledger.state.height)

            def block_at(self, height: int) -> object:
                return ledger.links[height - 1] if height <= len(ledger.links) else None

        class Context:
            run = property(lambda _: harness.run)
            dht = property(lambda _: Some(peer_map=harness.map))

        store = Store.open(folder / "store.sqlite")
        store.put(TABLE, TICKET_KEY, b"swarm1:abc")
        context: Any = Context()
        fields: dict[str, object] = {
            "me": self.me,
            "home": folder,
            "ledger": Ledger(),
            "genesis": ledger.genesis,
            "stats": self.stats,
            "store": store,
            "run16": bytes(16),
            "config": Some(threads=1, solve=True, evaluate=False),
            "devices": ("cpu",),
            "host": Some(
                addresses=lambda: ["/ip4/127.0.0.1/tcp/1"],
                connected=lambda: self.connected,
                skews_s=dict,
                path=lambda peer: "direct" if peer in self.connected else "",
                reach=Some(verdict=lambda: Verdict(Reachable.UNKNOWN)),
                relays=Some(relays=list),
                reach_text=lambda: "nobody has tried to dial this node yet",
            ),
            "checks": Some(counts=VerifierCounts(done=2, agreed=1), log_store=Some(packing_s=0.0)),
            "compute": Some(spent_s={"x": 0.5}),
            "checking": Some(spent_s={}),
            "pipeline": Some(meter=Meter(calls=3)),
            "report": Some(recent=deque([make_event(5, EventKind.PROGRESS, "hello")])),
        }
        for name, value in fields.items():
            setattr(context, name, value)
        self.snapshots = StateBuilder(context)

    @property
    def run(self) -> Run | None:
        return self.case.ledger.state.find_run(self.case.run.index) if self.is_running else None

    def block(self) -> None:
        self.case.ledger.block()

    def announce(
        self, peer: PeerId, steps: int, *, rate: int = 0, loss_milli: int = -1, round_: int = 2
    ) -> None:
        """An announcement of a peer that trains."""
        self.seq += 1
        announcement = Announcement(
            run16=bytes(16),
            roles=1,
            seats=((0, 0),),
            tokens_per_s=rate,
            loss_milli=loss_milli,
            round=round_,
            steps=steps,
            height=1,
            reachability="direct",
            version="0.1.0",
            addresses=(),
            state="training",
            num_traded=4,
            last_partner=b"",
        )
        self.map = fold(self.map, peer, announcement, self.seq, trio.current_time())

    def link(self, peer: PeerId, *, is_connected: bool) -> None:
        now = trio.current_time()
        self.map = measured(
            self.map, peer, rtt_ms=7, up_bytes=1, down_bytes=2, is_connected=is_connected, now=now
        )
        self.connected = [peer] if is_connected else []

    async def go(self, seconds: int, *moving: str) -> StateDocument:
        """Let so many seconds pass in which what is named moves; the document then."""
        for _ in range(seconds):
            await trio.sleep(POLL_S)
            if "height" in moving:
                self.block()
            if "own" in moving:
                self.stats.steps += 1
                self.stats.tokens += 640
                self.announce(self.me, self.stats.steps)
            if "other" in moving:
                self.announce(self.other, self.seq, rate=300, loss_milli=2500)
            self.snapshots.take()
        return self.snapshots.take()


def run_of(state: StateDocument) -> RunRow:
    assert state.run is not None
    return state.run


def peer_of(state: StateDocument, peer: PeerId) -> PeerRow:
    return next(row for row in state.peers if row.name == peer_name(peer))


def keys_of(rows: object) -> set[str]:
    found = rows[0] if isinstance(rows, list) else rows
    assert isinstance(found, dict)
    return set(found)


async def a_busy_harness(harness: Harness) -> StateDocument:
    harness.stats.tokens_per_s, harness.stats.open_loss = 500, 3.0
    harness.snapshots.take()
    return await harness.go(3, "height", "own", "other")


async def test_every_key_that_was_served_is_served(tmp_path: Path, autojump_clock: object) -> None:
    """With the same name, whatever was added; and the document is JSON."""
    del autojump_clock
    harness = Harness(tmp_path, a_case(lie=0))
    case = harness.case
    case.show(case.up_to_reveal())
    harness.stats.notes = [
        TradeRecord(
            round=1, fragment=0, stage=0, source=harness.me, target=harness.other, is_done=True
        )
    ]
    state = fields_of(await a_busy_harness(harness))
    assert encode_document(harness.snapshots.take())
    for section, names in KEYS_BEFORE.items():
        given = state if section == "$" else state[section]
        assert set(names.split()) <= keys_of(given), section
    assert state["run"]["ticket"] == "swarm1:abc"
    assert state["trades"][0]["from"] == peer_name(harness.me)
    assert state["events"] == [{"at": 5, "kind": "progress", "text": "hello"}]


async def test_a_node_that_works_is_progressing_with_every_figure(
    tmp_path: Path, autojump_clock: object
) -> None:
    """The swarm's rate is the sum of the peers', its loss their mean, each as the row of the peer has it."""
    harness = Harness(tmp_path)
    state = await a_busy_harness(harness)
    run = run_of(state)
    assert state.health.verdict == "progressing"
    assert state.node.state == "training"
    assert state.node.tokens_per_s == 500
    rows = [peer_of(state, harness.me), peer_of(state, harness.other)]
    assert [row.tokens_per_s for row in rows] == [500, 300]
    assert run.tokens_per_s == 800
    assert run.loss_nats == pytest.approx((3.0 + 2.5) / 2)
    assert state.loss_curve == ((1.0, run.loss_nats),)
    assert (run.round, run.tokens_age_s, state.ledger.age_s) == (2, 0, 0)
    assert state.ledger.finality_s == 0.4
    assert len(state.ledger.tail) == min(20, state.ledger.height)


async def test_a_peer_that_died_is_not_summed(tmp_path: Path, autojump_clock: object) -> None:
    """Its row has no rate, no loss, no round, and says since when; the run goes on without it."""
    harness = Harness(tmp_path)
    await a_busy_harness(harness)
    state = await harness.go(25, "height", "own")
    row, run = peer_of(state, harness.other), run_of(state)
    assert (row.tokens_per_s, row.loss_nats, row.round, row.rtt_ms) == (None, None, None, None)
    assert (row.condition, row.gone_s, row.reason) == ("gone", 25, "gone for 25 s")
    assert run.tokens_per_s == 500
    assert run.loss_nats == pytest.approx(3.0)
    assert state.health.verdict == "progressing"
    state = await harness.go(1, "height", "own", "other")
    assert peer_of(state, harness.other).gone_s is None, "it is back"


async def test_a_ledger_that_stands_still_takes_every_rate_with_it(
    tmp_path: Path, autojump_clock: object
) -> None:
    harness = Harness(tmp_path)
    await a_busy_harness(harness)
    state = await harness.go(14, "own", "other")
    assert not state.ledger.is_still
    state = await harness.go(1, "own", "other")
    assert state.ledger.is_still
    assert (state.ledger.age_s, state.ledger.finality_s) == (15, None)
    assert run_of(state).tokens_per_s is None
    assert [row.tokens_per_s for row in state.peers] == [None, None]
    assert state.node.tokens_per_s is None
    assert state.node.state == "stalled"
    assert {row.state for row in state.peers} == {"stalled"}
    assert state.health.verdict == "stalled"
    assert f"at height {state.ledger.height}" in state.health.cause
    voters = {peer_name(voter.peer) for voter in harness.case.ledger.state.validators}
    heard = {peer_name(harness.me), peer_name(harness.other)}
    assert set(state.ledger.validators_missing) == voters - heard
    state = await harness.go(2, "height", "own", "other")
    assert state.health.verdict == "progressing"


async def test_tokens_that_stand_still_take_rates_and_losses_with_them(
    tmp_path: Path, autojump_clock: object
) -> None:
    """Peers go on to announce what they last had: that is no progress."""
    harness = Harness(tmp_path)
    state = await a_busy_harness(harness)
    for _ in range(16):
        harness.announce(harness.other, 3, rate=300, loss_milli=2500)
        harness.announce(harness.me, harness.stats.steps)
        state = await harness.go(1, "height")
    run = run_of(state)
    assert (run.tokens_per_s, run.loss_nats) == (None, None)
    assert run.tokens_age_s >= 15
    assert state.health.verdict == "stalled"
    assert state.health.cause == "no token was trained"
    assert state.node.loss_nats is None
    assert peer_of(state, harness.other).reason.startswith("no step for ")
    assert state.loss_curve, "what was measured stays"


async def test_this_node_may_stand_still_while_others_train(
    tmp_path: Path, autojump_clock: object
) -> None:
    harness = Harness(tmp_path)
    state = await a_busy_harness(harness)
    for _ in range(15):
        harness.announce(harness.me, harness.stats.steps)
        state = await harness.go(1, "height", "other")
    assert state.node.state == "stalled"
    assert state.node.tokens_per_s is None
    assert state.node.tokens_age_s == 15
    assert run_of(state).tokens_per_s == 300
    assert state.health.cause == "this node has finished no step; others train"


async def test_the_watch_keeps_ages_true_without_requests(
    tmp_path: Path, autojump_clock: object
) -> None:
    """A page that is opened after an hour gets the hour."""
    harness = Harness(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.snapshots.watch)
        await trio.sleep(3600)
        state = harness.snapshots.take()
        nursery.cancel_scope.cancel()
    assert state.ledger.age_s == 3600
    assert state.health.verdict == "stalled"
    assert state.node.uptime_s == 3600


async def test_before_there_is_a_run_a_node_waits(tmp_path: Path, autojump_clock: object) -> None:
    harness = Harness(tmp_path)
    harness.is_running, harness.stats.waits_for = False, "the run to appear on the ledger"
    state = await harness.go(3, "height")
    assert state.run is None
    assert state.seats == ()
    assert (state.node.state, state.health.verdict) == ("syncing", "waiting")
    assert state.health.cause == "waiting for the run to appear on the ledger"


async def test_a_link_is_told_as_measured_and_a_broken_one_is_not(
    tmp_path: Path, autojump_clock: object
) -> None:
    harness = Harness(tmp_path)
    await a_busy_harness(harness)
    harness.link(harness.other, is_connected=True)
    row = peer_of(await harness.go(1, "height", "own", "other"), harness.other)
    assert (row.path, row.rtt_ms, row.measured) == ("direct", 7, True)
    harness.link(harness.other, is_connected=False)
    row = peer_of(await harness.go(1, "height", "own", "other"), harness.other)
    assert (row.path, row.rtt_ms) == ("-", None)


async def test_what_was_replayed_is_told_as_a_share(tmp_path: Path, autojump_clock: object) -> None:
    harness = Harness(tmp_path, a_case(num_steps=25))
    harness.case.show(harness.case.up_to_reveal())
    state = await a_busy_harness(harness)
    (check,) = state.checks
    assert (check.phase, check.steps) == ("verified", 25)
    assert check.replayed_steps is not None
    assert 0 < check.replayed_steps <= 20
    run = run_of(state)
    assert (run.replayed_steps, run.judged_steps) == (check.replayed_steps, 25)
    assert run.confirmed == 1
    assert run.solver_stake == solver_stake(harness.case.ledger.state.params, EXACT) > 0


async def test_a_conviction_is_told_newest_first(tmp_path: Path, autojump_clock: object) -> None:
    harness = Harness(tmp_path, a_case(lie=0))
    case = harness.case
    case.show(case.up_to_reveal())
    case.decide(is_guilty=True)
    (found,) = case.ledger.state.verdicts(case.run.index).convictions
    harness.stats.convictions.append(ConvictionView(found, None, 7))
    state = await a_busy_harness(harness)
    (conviction,) = state.convictions
    assert (conviction.name, conviction.stake_taken) == (peer_name(harness.other), 7)
    assert peer_of(state, harness.other).condition == "out"
    assert peer_of(state, harness.other).tokens_per_s is None


async def test_a_document_of_many_peers_is_taken_quickly(
    tmp_path: Path, autojump_clock: object
) -> None:
    """The page asks more than once a second, and training goes on meanwhile."""
    harness = Harness(tmp_path)
    peers: Iterable[PeerId] = [PeerId(bytes([n // 256, n % 256]) * 16) for n in range(300)]
    for peer in peers:
        harness.announce(peer, 1)
    harness.snapshots.take()
    began = time.process_time()
    assert len(harness.snapshots.take().peers) == 300
    assert time.process_time() - began < 0.5
