"""The picture of a node as lines of text: status, map, peers, run.

Core: the object of /api/v1/state in, lines out.
"""

from swarm.cli.state_reader import (
    Picture,
    audits,
    condition,
    items,
    name_of,
    number,
    part,
    parts,
    phase_text,
    progress,
    quality,
    quality_brief,
    remark,
    text,
    training_loss,
    whole,
)
from swarm.cli.style import Ink, counted, human_bytes, human_count, human_span, pad, table
from swarm.errors import UsageError

LANE_COLUMNS = 9
CHECKS_SHOWN = 8
_MARKS = {"ok": "█", "busy": "░", "slow": "▓", "gone": "▒", "out": "▚"}
_SHAPES = {"ok": "●", "busy": "○", "slow": "▲", "gone": "✕", "out": "⊘"}
PHASES = {
    "verified": "verified",
    "cleared": "cleared",
    "guilty": "proven false",
    "silent": "not shown",
    "unsampled": "unchecked",
    "disputed": "disputed",
}
"""How a segment can have ended, or be about to, in words; the rest is under way."""


def status_lines(picture: Picture, ink: Ink) -> list[str]:
    """What ``swarm status`` says: who, where, how it goes."""
    node, run, ledger = part(picture, "node"), part(picture, "run"), part(picture, "ledger")
    peers = parts(picture, "peers")
    rows = [
        ("node", f"{text(node, 'name')} {text(node, 'version')}, {text(node, 'state')}"),
        ("home", text(node, "home")),
        ("device", text(node, "device") or "cpu"),
        ("up", human_span(number(node, "uptime_s") or 0.0)),
        (
            "network",
            f"{counted(len(peers), 'peer')}, {', '.join(_addresses(node)) or 'no address yet'}",
        ),
    ]
    if run:
        rows += [
            ("run", f"{text(run, 'name')}, {human_count(run.get('parameters'))} parameters,"
                    f" {counted(whole(run, 'num_stages'), 'stage')}, {phase_text(run)}"),
            ("round", headline(picture)),
            ("model", quality(run)),
            ("checks", checking(picture)),
        ]  # fmt: skip
    else:
        rows.append(("run", "none yet"))
    held = "supply conserved" if ledger.get("supply_conserved") else "SUPPLY NOT CONSERVED"
    rows.append(("ledger", f"height {whole(ledger, 'height')}, {_finality(ledger)}{held}"))
    if waits := text(node, "waits_for"):
        rows.append(("waits", waits))
    rows.append(("health", health(picture, ink)))
    rows.append(("map", text(node, "api_url")))
    return [f"{ink.paint('dim', pad(label, 9))} {value}" for label, value in rows]


def headline(picture: Picture) -> str:
    """One line about the run: round, loss, perplexity, speed, peers, ledger."""
    run, ledger = part(picture, "run"), part(picture, "ledger")
    if not run:
        return f"no run yet, ledger {whole(ledger, 'height')}"
    bits = [
        progress(run),
        training_loss(run),
        quality_brief(run),
        f"{human_count(run.get('tokens_per_s'))} tok/s",
        f"{human_count(run.get('tokens'))} tokens",
        counted(len(parts(picture, "peers")), "peer"),
        f"ledger {whole(ledger, 'height')}",
    ]
    return "  ".join(bit for bit in bits if bit)


def checking(picture: Picture) -> str:
    """How much of the work was checked: ``37 of 41 segments verified, 1 proven false, 3 under way``."""
    counts = part(part(picture, "run"), "checks")
    total = sum(whole(counts, phase) for phase in counts)
    if not total:
        return "nothing to check yet"
    stood = whole(counts, "verified") + whole(counts, "cleared")
    said = [f"{stood} of {total} segments verified"]
    said += [
        f"{whole(counts, phase)} {word}"
        for phase, word in list(PHASES.items())[2:]
        if whole(counts, phase)
    ]
    waiting = total - sum(whole(counts, phase) for phase in PHASES)
    return ", ".join([*said, f"{waiting} under way"] if waiting else said)


def health(picture: Picture, ink: Ink) -> str:
    """``healthy``, or what is wrong; who was evicted is no harm any more."""
    peers = parts(picture, "peers")
    faults = list[str]()
    for kind, word in (("gone", "unreachable"), ("slow", "behind")):
        named = [name_of(peer) for peer in peers if condition(peer) == kind]
        if named:
            who = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
            faults.append(ink.paint(kind, f"{who} {word}"))
    said = "degraded: " + "; ".join(faults) if faults else ink.paint("ok", "healthy")
    out = sum(condition(peer) == "out" for peer in peers)
    return f"{said}; {out} proven false and evicted" if out else said


def map_lines(picture: Picture, ink: Ink, columns: int) -> list[str]:
    """The peer map: a row per peer, a lane per stage. Narrow terminals lose the last columns."""
    run = part(picture, "run")
    seated = [stage + 1 for peer in parts(picture, "peers") for stage in _stages(peer)]
    num_stages = max([whole(run, "num_stages"), *seated])
    lanes = [f"stage {stage}" for stage in range(num_stages)]
    heads = ["", "peer", *lanes, "path", "rtt", "tok/s", "trades", "audits", "state"]
    rows = [_map_row(peer, num_stages, picture, ink) for peer in _ordered(picture)]
    title = f"{text(run, 'name') or 'no run yet'}  {headline(picture)}"
    first = 2 + num_stages
    lines = table(heads, rows, numbers=frozenset(range(first + 1, first + 5)), ink=ink)
    if columns < 90:
        keep = [0, 1, *range(2, first), len(heads) - 1]
        slim = [[row[i] for i in keep] for row in rows]
        lines = table([heads[i] for i in keep], slim, numbers=frozenset(), ink=ink)
    said = f"   {checking(picture)}" if part(run, "checks") else ""
    return [ink.paint("bold", title), health(picture, ink) + said, "", *lines]


def _map_row(peer: Picture, num_stages: int, picture: Picture, ink: Ink) -> list[str]:
    kind, stages = condition(peer), set(_stages(peer))
    bar = ink.paint(kind, _MARKS[kind] * LANE_COLUMNS)
    lanes = [bar if stage in stages else "" for stage in range(num_stages)]
    mine = peer.get("me") is True
    validator = "◆" if text(peer, "name") in items(part(picture, "ledger"), "validators") else " "
    return [
        ink.paint(kind, _SHAPES[kind]) + validator,
        ink.paint("bold", name_of(peer)) if mine else name_of(peer),
        *lanes,
        "you" if mine else text(peer, "path", 12) or "-",
        "-" if mine or number(peer, "rtt_ms") is None else f"{whole(peer, 'rtt_ms')} ms",
        human_count(peer.get("tokens_per_s")) if stages else "-",
        human_count(peer.get("trades")) if stages else "-",
        audits(peer),
        ink.paint(kind, remark(peer)) if kind != "ok" else remark(peer),
    ]


def peer_table(picture: Picture, ink: Ink) -> list[str]:
    """``swarm peers ls``."""
    words = "peer role seats path rtt up down tok/s round trades solo audits stake state"
    heads = ["", *words.split()]
    rows = [
        [
            ink.paint(condition(peer), _SHAPES[condition(peer)]),
            name_of(peer) + (" (you)" if peer.get("me") is True else ""),
            text(peer, "role", 30),
            _seats(peer) or "-",
            text(peer, "path", 12) or "-",
            "-" if number(peer, "rtt_ms") is None else f"{whole(peer, 'rtt_ms')} ms",
            human_bytes(peer.get("up_bytes")),
            human_bytes(peer.get("down_bytes")),
            human_count(peer.get("tokens_per_s")),
            human_count(peer.get("round")),
            human_count(peer.get("trades")),
            human_count(peer.get("solo")),
            audits(peer),
            human_count(peer.get("stake")),
            remark(peer),
        ]
        for peer in _ordered(picture)
    ]
    return table(heads, rows, numbers=frozenset(range(5, 14)), ink=ink)


def find_peer(picture: Picture, wanted: str) -> Picture:
    """The one peer whose name or id begins with ``wanted``; raises ``UsageError`` naming the nearest."""
    peers = parts(picture, "peers")
    exact = [p for p in peers if wanted in (p.get("name"), p.get("peer"))]
    found = exact or [
        p for p in peers if name_of(p).startswith(wanted) or text(p, "peer").startswith(wanted)
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(name_of(peer) for peer in (found or peers)[:5])
    problem = "several peers begin with" if found else "no peer is called"
    raise UsageError(f"{problem} {wanted!r}; there are {names or 'none'}", hint="swarm peers ls")


def peer_lines(peer: Picture, ink: Ink) -> list[str]:
    """``swarm peers show``: everything known about one peer."""
    loss, record = number(peer, "loss_nats"), part(peer, "audits")
    rows = [
        ("peer", text(peer, "peer")),
        ("state", ink.paint(condition(peer), remark(peer))),
        ("role", text(peer, "role")),
        ("seats", _seats(peer) or "none"),
        ("path", f"{text(peer, 'path') or '-'}, {whole(peer, 'rtt_ms')} ms"),
        ("sent", human_bytes(peer.get("up_bytes"))),
        ("received", human_bytes(peer.get("down_bytes"))),
        ("speed", f"{human_count(peer.get('tokens_per_s'))} tok/s"),
        ("loss", f"{loss:.3f} nats, training" if loss is not None and loss > 0 else "-"),
        ("round", f"{whole(peer, 'round')}, {whole(peer, 'lag')} behind"),
        ("trades", f"{whole(peer, 'trades')} with a partner, {whole(peer, 'solo')} solo"),
        ("audits", f"{audits(peer)} of its segments stood: {whole(record, 'failed')} proven false,"
                   f" {whole(record, 'silent')} not shown"),
        ("checks", f"{whole(record, 'checked')} windows of others, {whole(record, 'missed')} missed"),
        ("stake", human_count(peer.get("stake"))),
        ("earned", human_count(peer.get("earned"))),
        ("version", text(peer, "version")),
        ("known", "measured by this node" if peer.get("measured") else "as it claims"),
        ("heard", f"{human_span(number(peer, 'age_s') or 0.0)} ago"),
    ]  # fmt: skip
    head = ink.paint("bold", name_of(peer) + (" (you)" if peer.get("me") is True else ""))
    return [head, *(f"  {ink.paint('dim', pad(label, 9))} {value}" for label, value in rows)]


def run_list(picture: Picture) -> list[str]:
    """``swarm run ls``: the run that a node follows, in a line."""
    run = part(picture, "run")
    return [f"{text(run, 'name')}  {headline(picture)}" if run else "no run yet"]


def run_lines(picture: Picture, ink: Ink) -> list[str]:
    """``swarm run show``: the run and who sits where."""
    run = part(picture, "run")
    if not run:
        return ["no run yet"]
    lines = [ink.paint("bold", text(run, "name")) + f"  {headline(picture)}"]
    lines.append(f"  digest    {text(run, 'digest')}")
    lines.append(
        f"  size      {human_count(run.get('parameters'))} parameters in"
        f" {counted(whole(run, 'num_stages'), 'stage')}"
    )
    lines.append(f"  phase     {phase_text(run)}")
    lines.append(f"  checks    {checking(picture)}")
    lines += [f"  false     {ink.paint('out', said)}" for said in conviction_lines(picture)]
    lines.append(f"  model     {quality(run)}")
    rows = [
        [
            f"{whole(seat, 'stage')}/{whole(seat, 'index')}",
            name_of(seat),
            "-"
            if whole(seat, "last_commit_round", -1) < 0
            else str(whole(seat, "last_commit_round")),
            human_count(seat.get("tokens")),
        ]
        for seat in parts(picture, "seats")
    ]
    heads = ["seat", "peer", "last commit", "tokens"]
    lines += ["", *table(heads, rows, numbers=frozenset({2, 3}), ink=ink)]
    checks = [text(check, "text") for check in parts(picture, "checks")[:CHECKS_SHOWN]]
    return [*lines, "", ink.paint("dim", "newest checks"), *checks] if checks else lines


def conviction_lines(picture: Picture) -> list[str]:
    """Who was proven false, where, and when."""
    return [
        text(one, "text")
        or f"segment {whole(one, 'round')}/{whole(one, 'stage')}/{whole(one, 'seat')} of {name_of(one)}"
        f" was proven false at height {whole(one, 'height')}"
        for one in parts(picture, "convictions")
    ]


def _ordered(picture: Picture) -> list[Picture]:
    """Me first, then by stage and name, those without a seat last."""
    return sorted(
        parts(picture, "peers"),
        key=lambda p: (p.get("me") is not True, min(_stages(p), default=1 << 30), name_of(p)),
    )


def _stages(peer: Picture) -> list[int]:
    return [stage for stage in items(peer, "stages") if isinstance(stage, int)]


def _seats(peer: Picture) -> str:
    pairs = [seat for seat in items(peer, "seats") if isinstance(seat, list | tuple)]
    return " ".join("/".join(str(number) for number in seat) for seat in pairs)


def _addresses(node: Picture) -> list[str]:
    return [str(address)[:80] for address in items(node, "addresses")[:2]]


def _finality(ledger: Picture) -> str:
    seconds = number(ledger, "finality_s")
    return f"final in {seconds:.1f} s, " if seconds is not None else ""
