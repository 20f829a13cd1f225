"""Peers as tables that fit the terminal: text gives way where it is narrow, a number never.

Core: the document of /api/v1/state in, lines out.
"""

from swarm.cli.state_reader import audits, remark
from swarm.cli.style import Ink, cut, fitted, human_bytes, human_count, table, wrapped
from swarm.node.api.schema import PeerRow, StateDocument

LANE_COLUMNS = (9, 3)
"""Of a bar that marks a seat: wide, and where that does not fit."""
NAME_COLUMNS_MIN = 12
"""A name is cut to this: enough to tell two peers apart, and `swarm peers show` finds one by its beginning."""
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
    """Heads and rows; a ``lane`` of no width is told in one column that lists the stages."""
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
        told = [bar if stage in peer.stages else "" for stage in range(num_stages)]
        rows.append([
            ink.paint(kind, _SHAPES.get(kind, "●")) + mark,
            ink.paint("bold", peer.name) if peer.me else peer.name,
            *(told if lane else [",".join(map(str, peer.stages)) or "-"]),
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
        said = [f"{shape} {name}", role, f"seats {seats}", *([path] if path != "-" else [])]
        lines += [cut("  ".join([*said, remark(peer)]), columns)]
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
