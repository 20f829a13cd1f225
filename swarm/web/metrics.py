"""Turn a snapshot of a node into the text that Prometheus scrapes.

Core: a function of the snapshot. Source: the Prometheus text exposition format 0.0.4.
"""

import math
from collections.abc import Mapping
from typing import cast

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_GAUGES = (
    ("run", "round", "swarm_round", "Training round of the run this node follows."),
    ("run", "loss_nats", "swarm_loss_nats", "Last training loss, nats per token."),
    ("run", "heldout", "swarm_heldout_loss_nats", "Held-out loss as this node measured it."),
    ("run", "perplexity", "swarm_perplexity", "Held-out perplexity as this node measured it."),
    ("run", "heldout_round", "swarm_heldout_round", "Round of the checkpoint it measured."),
    ("run", "consensus_round", "swarm_consensus_round", "Round of consensus at the end; 0 before."),
    ("run", "tokens", "swarm_run_tokens_total", "Tokens trained by the whole run."),
    ("run", "tokens_per_s", "swarm_run_tokens_per_s", "Tokens a second, whole run."),
    ("run", "segments", "swarm_run_segments_total", "Segments committed by the whole run."),
    ("run", "confirmed", "swarm_run_confirmed", "Segments another peer replayed and found true."),
    ("node", "uptime_s", "swarm_uptime_s", "Seconds since this node started."),
    ("node", "steps", "swarm_steps_total", "Inner steps this node has made."),
    ("ledger", "height", "swarm_ledger_height", "Height of the last final block."),
    ("ledger", "finality_s", "swarm_ledger_finality_s", "Seconds from proposal to final."),
    ("ledger", "supply", "swarm_ledger_supply", "Units in existence."),
    ("ledger", "supply_conserved", "swarm_ledger_supply_conserved", "1 if no unit was lost."),
)
_PEER_GAUGES = (
    ("tokens_per_s", "swarm_peer_tokens_per_s", "Tokens a second of one peer."),
    ("rtt_ms", "swarm_peer_rtt_ms", "Round trip to one peer, milliseconds."),
    ("up_bytes", "swarm_peer_up_bytes_total", "Bytes sent to one peer."),
    ("down_bytes", "swarm_peer_down_bytes_total", "Bytes received from one peer."),
)


def prometheus_text(snapshot: Mapping[str, object]) -> str:
    """Return the metrics of one snapshot (the object of /api/v1/state); unknown values are left out."""
    lines: list[str] = []
    for section, key, name, help_text in _GAUGES:
        value = _number(section_of(snapshot, section).get(key))
        if value is not None:
            lines += [*_head(name, help_text), f"{name} {value}"]
    phases = section_of(section_of(snapshot, "run"), "checks")
    samples = [
        f'swarm_run_checks{{phase="{_label(phase)}"}} {value}'
        for phase in sorted(phases)
        if (value := _number(phases[phase])) is not None
    ]
    lines += (
        [*_head("swarm_run_checks", "Segments by how far their check is."), *samples]
        if samples
        else []
    )
    peers = records_of(snapshot, "peers")
    lines += [*_head("swarm_peers", "Peers this node knows."), f"swarm_peers {len(peers)}"]
    for key, name, help_text in _PEER_GAUGES:
        samples = [
            f'{name}{{peer="{_label(peer.get("peer"))}"}} {value}'
            for peer in peers
            if (value := _number(peer.get(key))) is not None
        ]
        lines += [*_head(name, help_text), *samples] if samples else []
    return "\n".join(lines) + "\n"


def section_of(snapshot: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return one object of the snapshot; empty when it is null or missing."""
    found = snapshot.get(name)
    return cast("Mapping[str, object]", found) if isinstance(found, Mapping) else {}


def records_of(snapshot: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    """Return one list of objects of the snapshot, without its items that are no objects."""
    found = snapshot.get(name)
    if not isinstance(found, list | tuple):
        return []
    items = cast("list[object]", found)
    return [cast("Mapping[str, object]", item) for item in items if isinstance(item, Mapping)]


def _head(name: str, help_text: str) -> tuple[str, str]:
    kind = "counter" if name.endswith("_total") else "gauge"
    return f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"


def _number(value: object) -> str | None:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        return str(value)
    return repr(value) if isinstance(value, float) and math.isfinite(value) else None


def _label(value: object) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
