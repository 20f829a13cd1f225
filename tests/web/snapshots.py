"""A realistic state document of a node, as tests and screenshots of the page need it."""

import math
import random

from swarm.cli.state_reader import read_state
from swarm.node.api.schema import StateDocument

NAMES = """hazy-otter-697 glad-raven-113 icy-newt-042 amber-lynx-880 keen-quail-306 mild-heron-551
brisk-seal-274 lucid-owl-919""".split()


def peer_of(position: int, *, seats: list[tuple[int, int]], **more: object) -> dict[str, object]:
    rng = random.Random(position)
    name = NAMES[position] if position < len(NAMES) else f"calm-stoat-{position:03d}"
    speed = int(rng.uniform(420, 1900)) if seats else 0
    return {
        "peer": f"12D3KooW{position:04d}" + "x" * 40,
        "name": name,
        "me": position == 0,
        "role": "replica" if seats else "follower",
        "stages": sorted({stage for stage, _ in seats}),
        "seats": [list(seat) for seat in seats],
        "state": "training" if seats else "idle",
        "reason": "ok",
        "condition": "ok",
        "gone_s": None,
        "path": "direct",
        "rtt_ms": rng.randint(1, 40),
        "up_bytes": rng.randint(10**6, 10**8),
        "down_bytes": rng.randint(10**6, 10**8),
        "tokens_per_s": speed if seats else None,
        "loss_nats": 2.0 + rng.random() / 10 if seats else None,
        "round": 41,
        "lag": 0,
        "last_partner": "",
        "trades": rng.randint(30, 80) if seats else 0,
        "solo": rng.randint(0, 4) if seats else 0,
        "stake": 1000 if position in {1, 4, 6, 7} else 0,
        "earned": rng.randint(100, 900) if seats else 0,
        "version": "0.1.0",
        "measured": True,
        "age_s": rng.randint(1, 8),
        **more,
    }


def a_snapshot() -> dict[str, object]:
    """Eight peers, two stages, one peer behind and one gone."""
    peers = [
        peer_of(0, seats=[(0, 0)]),
        peer_of(1, seats=[(0, 1)]),
        peer_of(
            2,
            seats=[(0, 2)],
            state="slow",
            reason="slow: 2 rounds behind",
            condition="slow",
            lag=2,
        ),
        peer_of(3, seats=[(1, 1)]),
        peer_of(
            4,
            seats=[(1, 2)],
            state="unreachable",
            reason="gone for 44 s",
            condition="gone",
            gone_s=44,
            age_s=44,
            path="-",
            rtt_ms=None,
            tokens_per_s=None,
            loss_nats=None,
            round=None,
        ),
        peer_of(5, seats=[(1, 3)]),
        peer_of(6, seats=[]),
        peer_of(7, seats=[]),
    ]
    rng = random.Random(7)
    curve = [[r, 1.86 + 3.6 * math.exp(-r / 9) + rng.random() * 0.05] for r in range(42)]
    tail = []
    for height in range(193, 213):
        some = [
            {"kind": "CommitSegment", "text": f"round 40 stage {s} seat {s} by {NAMES[s + 1]}"}
            for s in range(height % 3)
        ]
        if height == 208:
            some = [
                {"kind": "PostCheckpoint", "text": "round 40 stage 0 root 9f3c21ab by icy-newt-042"}
            ]
        tail.append({"height": height, "leader": NAMES[6], "time_s": None, "transactions": some})
    trades = [
        {"round": r, "fragment": 0, "stage": s, "from": NAMES[a], "to": NAMES[b], "ok": ok}
        for r in (39, 40, 41)
        for s, a, b, ok in ((0, 0, 1 if r % 2 else 2, True), (1, 3, 5, True), (1, 4, 5, r < 40))
    ]
    return {
        "health": {"verdict": "progressing", "cause": "", "command": "", "age_s": 1},
        "node": {
            "peer": peers[0]["peer"],
            "name": NAMES[0],
            "version": "0.1.0",
            "home": "/home/me/.swarm",
            "device": "cuda:0 + cuda:1, 1 thread",
            "state": "training",
            "uptime_s": 184,
            "steps": 812,
            "addresses": ["/ip4/127.0.0.1/tcp/40001"],
            "api_url": "http://127.0.0.1:7420/",
        },
        "run": {
            "index": 1,
            "name": "pydocs-demo",
            "digest": "51c0" * 16,
            "phase": "training",
            "round": 41,
            "rounds": 80,
            "final_round": 80,
            "consensus_round": 0,
            "consensus_rounds": 0,
            "num_stages": 2,
            "parameters": 842_496,
            "loss_nats": curve[-1][1],
            "tokens": 12_400_000,
            "tokens_per_s": 7_412,
            "tokens_age_s": 1,
            "heldout": 2.214,
            "perplexity": math.exp(2.214),
            "heldout_round": 40,
            "is_measured_here": True,
            "evaluations": [
                {"round": r, "loss_nats": loss, "perplexity": math.exp(loss), "tokens": 16_384}
                for r, loss in (
                    (0, 5.551),
                    (8, 3.402),
                    (16, 2.871),
                    (24, 2.488),
                    (32, 2.301),
                    (40, 2.214),
                )
            ],
            "ticket": "swarm1:" + "7Qm3" * 40,
        },
        "ledger": {
            "chain": "ab" * 32,
            "height": 212,
            "age_s": 1,
            "is_still": False,
            "validators_missing": [],
            "finality_s": 0.42,
            "validators": [NAMES[1], NAMES[4], NAMES[6], NAMES[7]],
            "supply": 4_000_000,
            "supply_conserved": True,
            "tail": tail,
        },
        "peers": peers,
        "seats": [
            {
                "stage": stage,
                "index": index,
                "name": p["name"],
                "peer": p["peer"],
                "last_commit_round": 40,
                "tokens": 100_000,
            }
            for p in peers
            for stage, index in p["seats"]  # type: ignore[attr-defined]
        ],
        "loss_curve": curve,
        "trades": trades,
        "events": [
            {"at": 1_763_800_000 + 3 * i, "kind": kind, "text": text}
            for i, (kind, text) in enumerate(
                [
                    ("node_started", "node hazy-otter-697 started"),
                    ("network", "found glad-raven-113 at 127.0.0.1, 2 ms"),
                    ("seat_taken", "took seat 0 of stages 0 and 1"),
                    ("seat_yielded", "yielded stage 1 to keen-quail-306"),
                    ("round_started", "round 40 started: 3 + 3 seats"),
                    ("traded", "traded fragment 0 with glad-raven-113 in 0.4 s"),
                    ("committed", "segment of round 40 committed at height 208"),
                    ("warning", "lost keen-quail-306: connection reset"),
                ]
            )
        ],
    }


def a_first_snapshot() -> dict[str, object]:
    """The same in its first round: nothing is committed, and training has a loss already."""
    document = a_snapshot()
    run: dict[str, object] = {**document["run"], "round": 0, "tokens": 0, "loss_nats": 4.312}  # type: ignore[dict-item]
    first = run["evaluations"][:1]  # type: ignore[index]
    start = {"heldout": 5.551, "perplexity": math.exp(5.551), "heldout_round": 0}
    return {
        **document,
        "run": {**run, **start, "evaluations": first},
        "loss_curve": [],
        "trades": [],
    }


def an_ending_snapshot() -> dict[str, object]:
    """The same after the last round of training, while the replicas of each stage become one."""
    document = a_snapshot()
    end = {"phase": "cooling", "round": 81, "final_round": 84, "tokens_per_s": None}
    count = {"consensus_round": 2, "consensus_rounds": 4}
    return {**document, "run": {**document["run"], **end, **count}}  # type: ignore[dict-item]


def a_checked_snapshot() -> dict[str, object]:
    """The same while work is checked: most of it verified, one peer proven false and evicted."""
    document = a_snapshot()
    cheat = peer_of(
        8,
        seats=[],
        stake=0,
        condition="out",
        audits={
            "verified": 1,
            "failed": 2,
            "silent": 0,
            "checked": 3,
            "missed": 0,
            "barred": True,
        },
    )
    peers: list[dict[str, object]] = [*document["peers"], cheat]  # type: ignore[misc]
    for number, peer in enumerate(peers[:-1]):
        seated = 12 if peer["seats"] else 0
        peer["audits"] = {
            "verified": seated - (number == 3),
            "failed": 0,
            "silent": int(number == 3),
            "checked": 20 if peer["stake"] else 0,
            "missed": int(number == 4),
            "barred": False,
        }
    phases = "verified verified sampled revealed verified sealed posted verified disputed verified".split()
    checks = [
        {
            "round": 40 - number // 6,
            "stage": number % 2,
            "seat": number // 2 % 3 + number % 2,
            "name": NAMES[(0, 3, 1, 4, 2, 5)[number % 6]],
            "height": 500 + number,
            "phase": phase,
            "windows": 5,
            "verifiers": [
                {"name": NAMES[6 + number % 2], "window": 2, "state": "agreed"},
            ],
            "accusers": [NAMES[6]] if phase == "disputed" else [],
            "dispute": {"window": 2} if phase == "disputed" else None,
            "judged": [],
            "text": f"segment {40 - number // 6}/{number % 2}/1 of {NAMES[number % 6]} is {phase}",
            "steps": 10,
            "replayed_steps": 2 if phase == "verified" else 0,
        }
        for number, phase in enumerate(phases)
    ]
    conviction = {
        "round": 37,
        "stage": 0,
        "seat": 4,
        "peer": cheat["peer"],
        "name": cheat["name"],
        "height": 203,
        "accuser": NAMES[6],
        "stake_taken": 1_000_000,
        "text": f"segment 37/0/4 of {cheat['name']} was proven false by {NAMES[6]}",
    }
    counts = {"verified": 71, "guilty": 2, "unsampled": 1, "silent": 1, "disputed": 1, "posted": 6}
    return {
        **document,
        "run": {
            **document["run"],  # type: ignore[dict-item]
            "checks": counts,
            "confirmed": 70,
            "judged_steps": 410,
            "replayed_steps": 82,
        },
        "peers": peers,
        "checks": checks,
        "convictions": [conviction],
    }


def a_stalled_snapshot() -> dict[str, object]:
    """The same 40 s after two of four validators were gone: neither height nor tokens rise."""
    document = a_snapshot()
    cause = "the ledger stands still at height 212: the votes of 2 of 4 validators are missing"
    health = {"verdict": "stalled", "cause": cause, "command": "swarm join", "age_s": 40}
    peers: list[dict[str, object]] = document["peers"]  # type: ignore[assignment]
    still = {"tokens_per_s": None, "state": "stalled", "condition": "slow"}
    still["reason"] = "the ledger stands still"
    seated = [
        {**peer, **still} if peer["seats"] and peer["gone_s"] is None else peer for peer in peers
    ]
    still_ledger: dict[str, object] = {"age_s": 40, "is_still": True, "finality_s": None}
    still_ledger["validators_missing"] = [NAMES[4], NAMES[6]]
    return {
        **document,
        "health": health,
        "node": {**document["node"], "state": "stalled", "tokens_per_s": None},  # type: ignore[dict-item]
        "run": {
            **document["run"],  # type: ignore[dict-item]
            "tokens_per_s": None,
            "loss_nats": None,
            "tokens_age_s": 38,
        },
        "ledger": {**document["ledger"], **still_ledger},  # type: ignore[dict-item]
        "peers": seated,
    }


def a_state(document: dict[str, object] | None = None) -> StateDocument:
    """The document as the structs that the views read."""
    return read_state(a_snapshot() if document is None else document)
