// The peer map: one lane per stage, a mark per seat sized by tokens a second, arcs for the last trades.

import { drawFlashes, lostSeats } from "./checks.js";
import { svg, update } from "./dom.js";
import { count, counted } from "./format.js";
import { badge, conditionOf, glyph, remark, validates } from "./peers.js";

const GUTTER = 132, PAD = 18, GAP = 26, HEAD = 54, ROW = 112, DENSE_ROW = 46;
const NARROW = 560, LABEL = 34; // below so many pixels the name of a lane stands above its marks
const ARCS_MAX = 60;
const hueOf = (stage) => (stage === null ? "free" : `hue${stage % 6}`);

function lanesOf(state) {
  const peers = state.peers ?? [];
  const seated = peers.flatMap((peer) => (peer.seats ?? []).map(([stage]) => stage));
  const stages = Math.max(state.run?.num_stages ?? 0, ...seated.map((stage) => stage + 1), 0);
  const lanes = Array.from({ length: stages }, (_, stage) => ({ stage, marks: [] }));
  const free = { stage: null, marks: [] };
  const lost = lostSeats(state);
  for (const seat of lost) lanes[seat.stage]?.marks.push({ ...seat, isLost: true });
  for (const peer of peers) {
    const seats = peer.seats ?? [];
    for (const [stage, index] of seats) lanes[stage]?.marks.push({ peer, stage, index });
    if (!seats.length && !lost.some((seat) => seat.peer === peer)) free.marks.push({ peer, stage: null, index: 0 });
  }
  for (const lane of lanes) lane.marks.sort((a, b) => a.index - b.index);
  free.marks.sort((a, b) => (a.peer.peer < b.peer.peer ? -1 : 1));
  return free.marks.length || !lanes.length ? [...lanes, free] : lanes;
}

function place(lanes, width) {
  const isNarrow = width < NARROW, gutter = isNarrow ? 0 : GUTTER, label = isNarrow ? LABEL : 0;
  const most = Math.max(1, ...lanes.map((lane) => lane.marks.length));
  const dense = most > 24;
  const cell = dense ? 44 : isNarrow ? 112 : 128, inner = width - gutter - 2 * PAD;
  const capacity = Math.max(1, Math.floor(inner / cell));
  let top = 4;
  for (const lane of lanes) {
    const rows = Math.max(1, Math.ceil(lane.marks.length / capacity));
    lane.top = top;
    const head = (lane.stage === null ? 24 : HEAD) + label;
    lane.height = (dense ? 30 + label : head) + rows * (dense ? DENSE_ROW : ROW) - (dense ? 0 : 8);
    lane.marks.forEach((mark, i) => {
      const row = Math.floor(i / capacity);
      const inRow = Math.min(capacity, lane.marks.length - row * capacity);
      const pitch = Math.min(inner / inRow, cell * 1.7);
      mark.x = gutter + PAD + inner / 2 + (i - row * capacity - (inRow - 1) / 2) * pitch;
      mark.y = top + (dense ? 34 + label : head + 26) + row * (dense ? DENSE_ROW : ROW);
    });
    top += lane.height + GAP;
  }
  return { dense, isNarrow, height: top - GAP + 4 };
}

function radius(peer, fastest, dense, isLost) {
  if (isLost) return dense ? 9 : 18;
  const speed = Math.max(0, Number(peer.tokens_per_s) || 0);
  const [least, most] = dense ? [5, 15] : [11, 30];
  return least + (most - least) * Math.sqrt(fastest > 0 ? speed / fastest : 0);
}

function laneLabel(lane, state, isNarrow) {
  const y = isNarrow ? lane.top + 32 : lane.top + lane.height / 2;
  const last = (state.run?.num_stages ?? 0) - 1;
  const free = lane.stage === null, held = lane.marks.filter((mark) => !mark.isLost).length;
  const what = free ? "follow and validate" : last === 0 ? "the whole model" : lane.stage === 0 ? "embedding, first layers" : lane.stage === last ? "last layers, loss" : "middle layers";
  const speed = lane.marks.reduce((sum, { peer, isLost }) => sum + (isLost ? 0 : Number(peer.tokens_per_s) || 0) / Math.max(1, peer.seats?.length ?? 1), 0);
  return svg("g", { "data-key": `label ${lane.stage}` },
    svg("text", { class: "lane-name", x: PAD, y: y - 12 }, free ? "no seat" : `stage ${lane.stage}`),
    svg("text", { class: "lane-note", x: isNarrow ? PAD + 66 : PAD, y: isNarrow ? y - 12 : y + 5 }, what),
    svg("text", { class: "lane-note", x: PAD, y: isNarrow ? y + 5 : y + 21 }, free ? counted(lane.marks.length, "peer") : `${counted(held, "seat")}${speed > 0 ? ` · ${count(speed)} tok/s` : ""}`));
}

function arc(a, b, top) {
  const [left, right] = a.x <= b.x ? [a, b] : [b, a];
  const [y1, y2] = [left.y - left.r - 3, right.y - right.r - 3];
  const lift = Math.min(46, 16 + (right.x - left.x) * 0.09);
  const peak = Math.max(top + 8, Math.min(y1, y2) - lift);
  const bend = (right.x - left.x) * 0.22;
  return `M${left.x} ${y1}C${left.x + bend} ${2 * peak - y1 + (y1 - peak) * 0.66} ${right.x - bend} ${2 * peak - y2 + (y2 - peak) * 0.66} ${right.x} ${y2}`;
}

function drawTrades(state, lanes) {
  const group = svg("g", { class: "arcs" });
  const trades = (state.trades ?? []).slice(-ARCS_MAX);
  const newest = Math.max(...trades.map((trade) => trade.round ?? 0), 0);
  const drawn = new Set();
  for (const trade of [...trades].reverse()) {
    const age = newest - (trade.round ?? 0);
    const lane = lanes.find((other) => other.stage === trade.stage);
    if (age > 2 || !lane) continue;
    const find = (who) => lane.marks.find(({ peer }) => peer.peer === who || peer.name === who);
    const [a, b] = [find(trade.from), find(trade.to)];
    const key = [trade.stage, ...[trade.from, trade.to].sort()].join("|");
    if (!a || !b || a === b || drawn.has(key)) continue;
    drawn.add(key);
    const { from, to } = trade, kind = trade.ok ? "done" : trade.one_way ? "given" : "failed";
    const what = { done: `${from} and ${to} traded`, given: `${from} offered, ${to} only receives as yet`, failed: `${from} and ${to} did not trade` }[kind];
    group.append(svg("path", { "data-key": key, class: `arc ${kind} age${age}`, d: arc(a, b, lane.top) },
      svg("title", {}, `round ${trade.round}, fragment ${trade.fragment}: ${what}`)));
  }
  return group;
}

function drawMark(mark, state, dense, onPick) {
  const { peer, x, y, r } = mark;
  const condition = mark.isLost ? "out" : conditionOf(peer), note = mark.isLost ? "proven false, evicted" : remark(peer);
  const speech = mark.isLost ? `seat ${mark.index} of stage ${mark.stage} is taken from it` : `${count(peer.tokens_per_s)} tokens a second`;
  const about = `${peer.name}${peer.me ? " (you)" : ""}, ${note}, ${speech}`;
  const pick = () => onPick(peer.peer);
  const group = svg("g", {
    "data-key": `${peer.peer} ${mark.stage}/${mark.index}`, class: `mark ${condition}${peer.me ? " me" : ""} ${hueOf(mark.stage)}`, tabindex: 0, role: "button", "aria-label": about,
    on: { click: pick, keydown: (event) => (event.key === "Enter" || event.key === " ") && pick() },
  }, svg("title", {}, about));
  if (peer.me) group.append(svg("circle", { class: "ring", cx: x, cy: y, r: r + 6 }));
  group.append(glyph(condition, x, y, r));
  if (validates(state, peer)) group.append(badge(x + r * 0.74 + 3, y - r * 0.74 - 3, dense ? 4 : 6));
  if (!dense) {
    const under = y + 46, speed = Number(peer.tokens_per_s) > 0 ? `${count(peer.tokens_per_s)} tok/s` : "";
    group.append(
      svg("text", { class: "name", x, y: under }, String(peer.name ?? "?").slice(0, 22) + (peer.me ? " · you" : "")),
      svg("text", { class: `note ${condition}`, x, y: under + 15 }, condition === "ok" ? speed || note : note.slice(0, 28)));
  }
  return group;
}

export function drawMap(box, state, onPick) {
  const width = Math.max(300, box.clientWidth);
  const lanes = lanesOf(state);
  const { dense, isNarrow, height } = place(lanes, width);
  const fastest = Math.max(0, ...(state.peers ?? []).map((peer) => Number(peer.tokens_per_s) || 0));
  for (const lane of lanes) for (const mark of lane.marks) mark.r = radius(mark.peer, fastest, dense, mark.isLost);
  const picture = svg("svg", { class: "map", viewBox: `0 0 ${width} ${height}`, width: "100%", height, role: "group", "aria-label": "peers by stage" });
  lanes.forEach((lane, i) => {
    picture.append(svg("rect", { "data-key": `lane ${lane.stage}`, class: `lane ${hueOf(lane.stage)}`, x: 0.5, y: lane.top, width: width - 1, height: lane.height, rx: 12 }));
    picture.append(laneLabel(lane, state, isNarrow));
    const next = lanes[i + 1];
    if (next && next.stage !== null) {
      const y = lane.top + lane.height + GAP / 2 + 4;
      picture.append(svg("text", { "data-key": `flow ${lane.stage}`, class: "flow", x: PAD, y }, "↓ activations   ↑ gradients"));
    }
  });
  const links = svg("g", { class: "links" });
  for (const peer of state.peers ?? []) {
    const own = lanes.flatMap((lane) => lane.marks.filter((mark) => mark.peer === peer && !mark.isLost));
    for (let i = 1; i < own.length; i += 1) {
      const [a, b] = [own[i - 1], own[i]], middle = (a.y + b.y) / 2;
      links.append(svg("path", { class: "link", d: `M${a.x} ${a.y}C${a.x} ${middle} ${b.x} ${middle} ${b.x} ${b.y}` }));
    }
  }
  const { beams, signs } = drawFlashes(lanes);
  picture.append(links, drawTrades(state, lanes), beams);
  for (const lane of lanes) for (const mark of lane.marks) picture.append(drawMark(mark, state, dense, onPick));
  picture.append(signs);
  update(box, picture);
}
