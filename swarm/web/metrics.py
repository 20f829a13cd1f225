"""Turn a snapshot of a node into the text that Prometheus scrapes.

Core: a function of the snapshot. Source: the Prometheus text exposition format 0.0.4.
"""

import math

from swarm.node.api.schema import StateDocument

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_GAUGES = (
    ("run", "round", "swarm_round", "Training round of the run this node follows."),
    ("run", "loss_nats", "swarm_loss_nats", "Training loss, nats per token: mean over live peers."),
    ("run", "heldout", "swarm_heldout_loss_nats", "Held-out loss as this node measured it."),
    ("run", "perplexity", "swarm_perplexity", "Held-out perplexity as this node measured it."),
    ("run", "heldout_round", "swarm_heldout_round", "Round of the checkpoint it measured."),
    ("run", "consensus_round", "swarm_consensus_round", "Round of final averaging; 0 before."),
    ("run", "tokens", "swarm_run_tokens_total", "Tokens trained by the whole run."),
    ("run", "tokens_per_s", "swarm_run_tokens_per_s", "Tokens a second, of all live peers."),
    ("run", "segments", "swarm_run_segments_total", "Segments committed by the whole run."),
    (
        "run",
        "confirmed",
        "swarm_run_confirmed",
        "Segments of which another peer checked a window and agreed.",
    ),
    ("node", "uptime_s", "swarm_uptime_s", "Seconds since this node started."),
    ("node", "steps", "swarm_steps_total", "Inner steps this node has made."),
    ("ledger", "height", "swarm_ledger_height", "Height of the last final block."),
    ("ledger", "age_s", "swarm_ledger_age_s", "Seconds since the height last rose."),
    ("run", "tokens_age_s", "swarm_run_tokens_age_s", "Seconds since any peer finished a step."),
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


def prometheus_text(state: StateDocument) -> str:
    """Return the metrics of one document; unknown and stale figures are left out."""
    sections = {
        "run": state.run,
        "node": state.node,
        "ledger": state.ledger,
        "health": state.health,
    }
    lines: list[str] = []
    for section, key, name, help_text in _GAUGES:
        value = _number(getattr(sections[section], key, None))
        if value is not None:
            lines += [*_head(name, help_text), f"{name} {value}"]
    phases = state.run.checks if state.run else {}
    samples = [
        f'swarm_run_checks{{phase="{_label(phase)}"}} {phases[phase]}' for phase in sorted(phases)
    ]
    lines += (
        [*_head("swarm_run_checks", "Segments by how far their check is."), *samples]
        if samples
        else []
    )
    well = int(state.health.verdict == "progressing")
    lines += [
        *_head("swarm_progressing", "1 while tokens and height rise."),
        f"swarm_progressing {well}",
    ]
    gone = sum(peer.gone_s is not None for peer in state.peers)
    lines += [*_head("swarm_peers", "Peers this node knows."), f"swarm_peers {len(state.peers)}"]
    lines += [
        *_head("swarm_peers_gone", "Of those, not heard of any more."),
        f"swarm_peers_gone {gone}",
    ]
    for key, name, help_text in _PEER_GAUGES:
        samples = [
            f'{name}{{peer="{_label(peer.peer)}"}} {value}'
            for peer in state.peers
            if (value := _number(getattr(peer, key))) is not None
        ]
        lines += [*_head(name, help_text), *samples] if samples else []
    return "\n".join(lines) + "\n"


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
