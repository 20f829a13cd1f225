"""Render a node's state as lines of text: status, map, run, and the table of peers.

Core: the document of /api/v1/state in, lines out. In a table that is wider than the terminal, text gives way
and numbers never do.
"""

from swarm.cli.state_reader import (
    audits,
    moves,
    phase_text,
    progress,
    quality,
    quality_brief,
    remark,
    training_loss,
    verdict,
)
from swarm.cli.style import (
    Ink,
    counted,
    cut,
    fitted,
    human_bytes,
    human_count,
    human_span,
    one_line,
    pad,
    table,
    wrapped,
)
from swarm.errors import UsageError
from swarm.node.api.schema import LedgerRow, NodeRow, PeerRow, RunRow, StateDocument

LANE_COLUMNS = (9, 3)
"""Of a bar that marks a seat: wide, and where that does not fit."""
NAME_COLUMNS_MIN = 12
"""A name is cut to this: enough to distinguish two peers, and `swarm peers show` finds one by its beginning."""
STATE_COLUMNS_MIN = 10
_MARKS = {"ok": "█", "busy": "░", "slow": "▓", "gone": "▒", "out": "▚"}
_SHAPES = {"ok": "●", "busy": "○", "slow": "▲", "gone": "✕", "out": "⊘"}


def map_table(state: StateDocument, ink: Ink, columns: int) -> list[str]:
    """Return the map's table, in the widest of some layouts that fits."""
    layouts = [
        (LANE_COLUMNS[0], True, 22),
        (LANE_COLUMNS[1], True, 22),
        (LANE_COLUMNS[1], False, STATE_COLUMNS_MIN),
        (0, False, STATE_COLUMNS_MIN),
        (0, False, 0),
    ]
    lines = list[str]()
    for lane, has_path, state_least in layouts:
        heads, rows = _map_cells(state, ink, lane, has_path=has_path, has_state=state_least > 0)
        first = heads.index("rtt")
        cuts = [(len(heads) - 1, state_least)] if state_least else []
        cuts += [] if has_path else [(1, NAME_COLUMNS_MIN)]
        numbers = frozenset(range(first, first + 4))
        found = fitted(heads, rows, numbers=numbers, cuts=cuts, columns=columns, ink=ink)
        if found is not None:
            return found
        lines = table(heads, rows, numbers=numbers, ink=ink)
    return lines


def _map_cells(
    state: StateDocument, ink: Ink, lane: int, *, has_path: bool, has_state: bool
) -> tuple[list[str], list[list[str]]]:
    """Heads and rows; a ``lane`` of no width becomes one column that lists the stages."""
    seated = [stage + 1 for peer in state.peers for stage in peer.stages]
    num_stages = max([state.run.num_stages if state.run else 0, *seated])
    lanes = [f"stage {n}" if lane >= len("stage 0") else f"s{n}" for n in range(num_stages)]
    heads = ["", "peer", *(lanes if lane else ["stage"]), *(["path"] if has_path else [])]
    heads += ["rtt", "tok/s", "trades", "audits", *(["state"] if has_state else [])]
    rows = list[list[str]]()
    for peer in ordered(state):
        kind, is_seated = peer.condition, bool(peer.stages)
        bar = ink.paint(kind, _MARKS.get(kind, "█") * lane)
        mark = "◆" if peer.name in state.ledger.validators else " "
        bars = [bar if stage in peer.stages else "" for stage in range(num_stages)]
        rows.append([
            ink.paint(kind, _SHAPES.get(kind, "●")) + mark,
            ink.paint("bold", peer.name) if peer.me else peer.name,
            *(bars if lane else [",".join(map(str, peer.stages)) or "-"]),
            *(["you" if peer.me else peer.path or "-"] if has_path else []),
            rtt_text(peer),
            human_count(peer.tokens_per_s) if is_seated else "-",
            human_count(peer.trades) if is_seated else "-",
            audits(peer),
            *([ink.paint(kind, remark(peer)) if kind != "ok" else remark(peer)] if has_state else []),
        ])  # fmt: skip
    return heads, rows


def peer_table(state: StateDocument, ink: Ink, columns: int = 0) -> list[str]:
    """Return the lines of ``swarm peers ls``: a table, or some lines per peer if that does not fit."""
    texts = ["", "peer", "role", "seats", "path", "state"]
    peers = ordered(state)
    heads = [*texts[:-1], *(name for name, _ in _numbers(PeerRow())), "state"]
    rows = [
        [*_texts(peer, ink), *(value for _, value in _numbers(peer)), remark(peer)]
        for peer in peers
    ]
    numbers = frozenset(range(5, len(heads) - 1))
    if not columns:
        return table(heads, rows, numbers=numbers, ink=ink)
    for dropped in ((), (2, 4)):
        keep = [i for i in range(len(heads)) if i not in dropped]
        last = len(keep) - 1
        found = fitted(
            [heads[i] for i in keep],
            [[row[i] for i in keep] for row in rows],
            numbers=frozenset(keep.index(i) for i in numbers),
            cuts=[(last, STATE_COLUMNS_MIN), (1, NAME_COLUMNS_MIN)] if dropped else [],
            columns=columns,
            ink=ink,
        )
        if found is not None:
            return found
    lines = list[str]()
    for peer in peers:
        shape, name, role, seats, path = _texts(peer, ink)
        parts = [f"{shape} {name}", role, f"seats {seats}", *([path] if path != "-" else [])]
        lines += [cut("  ".join([*parts, remark(peer)]), columns)]
        lines += wrapped(
            (f"{label} {value}" for label, value in _numbers(peer)), columns, indent="    "
        )
    return lines


def _texts(peer: PeerRow, ink: Ink) -> list[str]:
    shape = ink.paint(peer.condition, _SHAPES.get(peer.condition, "●"))
    name = peer.name + (" (you)" if peer.me else "")
    return [shape, name, peer.role, seats_text(peer) or "-", peer.path or "-"]


def _numbers(peer: PeerRow) -> list[tuple[str, str]]:
    return [
        ("rtt", rtt_text(peer)),
        ("up", human_bytes(peer.up_bytes)),
        ("down", human_bytes(peer.down_bytes)),
        ("tok/s", human_count(peer.tokens_per_s)),
        ("round", human_count(peer.round)),
        ("trades", human_count(peer.trades)),
        ("solo", human_count(peer.solo)),
        ("audits", audits(peer)),
        ("stake", human_count(peer.stake)),
    ]


def ordered(state: StateDocument) -> list[PeerRow]:
    """Me first, then by stage and name, those without a seat last."""
    return sorted(state.peers, key=lambda p: (not p.me, min(p.stages, default=1 << 30), p.name))


def seats_text(peer: PeerRow) -> str:
    """Return a peer's seats by stage and index: ``0/1 1/2``."""
    return " ".join(f"{stage}/{index}" for stage, index in peer.seats)


def rtt_text(peer: PeerRow) -> str:
    """Return the round trip to it; a dash for this node, and where it was not measured."""
    return "-" if peer.me or peer.rtt_ms is None else f"{peer.rtt_ms} ms"


NAMES_SHOWN = 3
CHECKS_SHOWN = 8
_PASSED = ("verified",)
_ENDINGS = {
    "guilty": "proven false",
    "silent": "not shown",
    "unsampled": "unchecked",
    "disputed": "disputed",
    "within": "within tolerance",
    "doubted": "doubted",
    "rejected": "rejected",
}
"""Words for the other outcomes of a segment; all others are under way."""
_LEAST = [2, 5, 4, 6, 3, 1]
"""Bits of the headline in the order in which a narrow line does without them: the held-out figure first."""


def status_lines(state: StateDocument, ink: Ink) -> list[str]:
    """Return the lines of ``swarm status``."""
    node, run, ledger = state.node, state.run, state.ledger
    gone = sum(peer.gone_s is not None for peer in state.peers)
    peers = counted(len(state.peers), "peer") + (f" ({gone} gone)" if gone else "")
    rows = [
        ("node", f"{node.name} {node.version}, {node.state}"),
        ("home", node.home),
        ("device", node.device or "cpu"),
        ("up", human_span(node.uptime_s)),
        ("network", f"{peers}, {', '.join(node.addresses[:2]) or 'no address yet'}"),
        ("links", links_text(node)),
    ]
    if node.reach_text:
        rows.append(("reach", node.reach_text))
    if run:
        rows += [
            ("run", f"{run.name}, {human_count(run.parameters)} parameters,"
                    f" {counted(run.num_stages, 'stage')}, {phase_text(state)}"),
            ("round", headline(state)),
            ("model", quality(run)),
            ("checks", checking(run)),
        ]  # fmt: skip
    else:
        rows.append(("run", "none yet"))
    rows.append(("ledger", ledger_text(ledger)))
    rows.append(("final by", ledger.trust))
    if node.outlook:
        rows.append(("seat", node.outlook))
    if node.waits_for:
        rows.append(("waits", node.waits_for))
    rows.append(("health", health(state, ink)))
    rows.append(("map", node.api_url))
    return [f"{ink.paint('dim', pad(label, 9))} {value}" for label, value in rows]


def links_text(node: NodeRow) -> str:
    """Return ``9 connected, 8 by own choice, in 5 networks; 4 anchor peers``, or since when there are none."""
    if node.isolated_s is not None and not node.links:
        return f"none: isolated for {human_span(node.isolated_s)}"
    networks = f", in {counted(node.link_networks, 'network')}" if node.link_networks else ""
    anchors = f"; {counted(node.anchor_peers, 'anchor peer')}" if node.anchor_peers else ""
    return f"{node.links} connected, {node.links_chosen} by own choice{networks}{anchors}"


def headline(state: StateDocument, columns: int = 0) -> str:
    """Return one line about the run: round, loss, perplexity, speed, peers, ledger.

    With ``columns`` it does without what does not fit; no figure is ever cut.
    """
    bits = _headline_bits(state)
    return one_line(bits, columns, least=_LEAST) if columns else "  ".join(filter(None, bits))


def _headline_bits(state: StateDocument) -> list[str]:
    run, ledger = state.run, state.ledger
    height = f"ledger {ledger.height}"
    height += f", still for {human_span(ledger.age_s)}" if ledger.is_still else ""
    if run is None:
        return [f"no run yet, {height}"]
    gone = sum(peer.gone_s is not None for peer in state.peers)
    return [
        progress(run),
        training_loss(run),
        quality_brief(run),
        f"{human_count(run.tokens_per_s)} tok/s",
        f"{human_count(run.tokens)} tokens",
        counted(len(state.peers), "peer") + (f" ({gone} gone)" if gone else ""),
        height,
    ]


def ledger_text(ledger: LedgerRow) -> str:
    """Return ``height 212, final in 0.4 s, supply conserved``, or the standstill and the missing votes."""
    held = "supply conserved" if ledger.supply_conserved else "SUPPLY NOT CONSERVED"
    if not ledger.is_still:
        final = f"final in {ledger.finality_s:.1f} s, " if ledger.finality_s is not None else ""
        return f"height {ledger.height}, {final}{held}"
    message = f"height {ledger.height} stands still for {human_span(ledger.age_s)}, {held}"
    missing = ledger.validators_missing
    return f"{message}; validators not heard: {_named(missing)}" if missing else message


def checking(run: RunRow | None) -> str:
    """Return ``37 of 41 segments passed a sampled check (12% of ...), 1 proven false, 3 under way``."""
    counts = run.checks if run else {}
    total = sum(counts.values())
    if not run or not total:
        return "nothing to check yet"
    passed = sum(counts.get(phase, 0) for phase in _PASSED)
    parts = [f"{passed} of {total} segments passed a sampled check{_share(run)}"]
    parts += [f"{counts[phase]} {word}" for phase, word in _ENDINGS.items() if counts.get(phase)]
    waiting = total - passed - sum(counts.get(phase, 0) for phase in _ENDINGS)
    return ", ".join([*parts, f"{waiting} under way"] if waiting else parts)


def _share(run: RunRow) -> str:
    """Return the share of steps that was checked of what passed; empty if the ledger does not have it."""
    if not run.judged_steps or run.replayed_steps is None:
        return ""
    percent = 100 * run.replayed_steps / run.judged_steps
    verb = "replayed" if run.way == "replay" else "looked at"
    return f" ({percent:.0f}% of the steps on record {verb})"


def health(state: StateDocument, ink: Ink) -> str:
    """Return ``healthy``, or what stands still and what helps; who was evicted does no harm any more."""
    faults = list[str]()
    message, is_well = verdict(state.health), state.health.verdict == "progressing" and moves(state)
    for kind, word in (("gone", "gone"), ("slow", "behind or silent")):
        named = tuple(peer.name for peer in state.peers if peer.condition == kind)
        if named and (kind == "gone" or is_well):  # where nothing moves, every peer is behind
            faults.append(ink.paint(kind, f"{_named(named)} {word}"))
    if not is_well:
        style = "slow" if state.health.verdict in {"waiting", "paused", "ended"} else "gone"
        message = ink.paint(style, message if message != "healthy" else "stalled")
        message = "; ".join([message, *faults])
    else:
        message = "degraded: " + "; ".join(faults) if faults else ink.paint("ok", message)
    out = sum(peer.condition == "out" for peer in state.peers)
    return f"{message}; {out} proven false and evicted" if out else message


def _named(names: tuple[str, ...]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def map_lines(state: StateDocument, ink: Ink, columns: int) -> list[str]:
    """Return the peer map: a row per peer, a lane per stage. Narrow terminals cut text, never a number."""
    run = state.run
    title = [ink.paint("bold", run.name if run else "no run yet"), *_headline_bits(state)]
    lines = wrapped(filter(None, title), columns)
    lines += wrapped(health(state, ink).split(" "), columns, gap=" ")
    if run and run.checks:
        lines += wrapped(checking(run).split(" "), columns, gap=" ")
    return [*lines, "", *map_table(state, ink, columns)]


def find_peer(state: StateDocument, wanted: str) -> PeerRow:
    """Return the one peer whose name or id begins with ``wanted``; raises ``UsageError`` with candidates."""
    exact = [peer for peer in state.peers if wanted in (peer.name, peer.peer)]
    found = exact or [
        peer for peer in state.peers if peer.name.startswith(wanted) or peer.peer.startswith(wanted)
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(peer.name for peer in (found or state.peers)[:5])
    problem = "several peers begin with" if found else "no peer is called"
    raise UsageError(f"{problem} {wanted!r}; there are {names or 'none'}", hint="swarm peers ls")


def peer_lines(peer: PeerRow, ink: Ink) -> list[str]:
    """Return the lines of ``swarm peers show``: everything known about one peer."""
    loss, record = peer.loss_nats, peer.audits
    lag = f", {peer.lag} behind" if peer.lag else ""
    solo = "" if peer.solo is None else f", {peer.solo} solo"
    rows = [
        ("peer", peer.peer),
        ("state", ink.paint(peer.condition, remark(peer))),
        ("role", peer.role),
        ("seats", seats_text(peer) or "none"),
        ("path", f"{peer.path or '-'}, {rtt_text(peer)}"),
        ("sent", human_bytes(peer.up_bytes)),
        ("received", human_bytes(peer.down_bytes)),
        ("speed", f"{human_count(peer.tokens_per_s)} tok/s"),
        ("loss", f"{loss:.3f} nats, training" if loss is not None and loss > 0 else "-"),
        ("round", f"{human_count(peer.round)}{lag}"),
        ("trades", f"{peer.trades} with a partner{solo}"),
        ("audits", f"{audits(peer)} of its segments stood a sampled check: {record.failed} proven false,"
                   f" {record.silent} not shown"),
        ("checks", f"{record.checked} windows of others, {record.missed} missed,"
                   f" {record.refuted} accusations refuted"),
        ("work", f"{human_count(peer.segments)} segments, {human_count(record.tokens)} tokens,"
                 f" {human_count(record.shares)} shares"),
        ("strikes", f"{record.strikes} of 3"),
        ("stake", human_count(peer.stake)),
        ("earned", human_count(peer.earned)),
        ("version", peer.version),
        ("known", "measured by this node" if peer.measured else "as it claims"),
        ("heard", f"{human_span(peer.age_s)} ago"),
    ]  # fmt: skip
    head = ink.paint("bold", peer.name + (" (you)" if peer.me else ""))
    return [head, *(f"  {ink.paint('dim', pad(label, 9))} {value}" for label, value in rows)]


def run_lines(state: StateDocument, ink: Ink) -> list[str]:
    """Return the lines of ``swarm run show``: the run and its seats."""
    run = state.run
    if run is None:
        return ["no run yet"]
    lines = [ink.paint("bold", run.name) + f"  {headline(state)}"]
    lines.append(f"  digest    {run.digest}")
    size = f"{human_count(run.parameters)} parameters in {counted(run.num_stages, 'stage')}"
    lines.append(f"  size      {size}")
    lines.append(f"  phase     {phase_text(state)}")
    if run.price_max:
        lines.append(f"  pays      {paying(run)}")
    lines.append(f"  checks    {checking(run)}")
    lines += [f"  false     {ink.paint('out', message)}" for message in conviction_lines(state)]
    lines.append(f"  model     {quality(run)}")
    lines += [f"  stage {stage}   {text}" for stage, text in enumerate(run.storage) if text]
    rows = [
        [
            f"{seat.stage}/{seat.index}",
            seat.name,
            "-" if seat.last_commit_round < 0 else str(seat.last_commit_round),
            human_count(seat.tokens),
        ]
        for seat in state.seats
    ]
    heads = ["seat", "peer", "last commit", "tokens"]
    lines += ["", *table(heads, rows, numbers=frozenset({2, 3}), ink=ink)]
    checks = [check.text for check in state.checks[:CHECKS_SHOWN]]
    return [*lines, "", ink.paint("dim", "newest checks"), *checks] if checks else lines


def paying(run: RunRow) -> str:
    """Return ``9 for 1,000 tokens, at most 16; the escrow pays 120 rounds at least``."""
    text = f"{run.price:,} for 1,000 tokens, at most {run.price_max:,}"
    rounds = run.escrow_rounds
    return text if rounds is None else f"{text}; the escrow pays {rounds:,} rounds at least"


def conviction_lines(state: StateDocument) -> list[str]:
    """List the convictions: peer, segment, height."""
    return [
        one.text
        or f"segment {one.round}/{one.stage}/{one.seat} of {one.name}"
        f" was proven false at height {one.height}"
        for one in state.convictions
    ]
