// How work is checked: what an audit came to, which seats to flash, who is struck out.

import { el, svg } from "./dom.js";
import { DASH, count } from "./format.js";

const FLASH_MS = 3500, FLASHES_MAX = 64;
const PASSED = new Set(["verified", "cleared"]), FALSE = new Set(["guilty", "disputed"]);
const seen = new Map(), flashes = new Map();
let isFirst = true;

const number = (value) => (Number.isFinite(value) ? value : 0);

export function auditsOf(peer) {
  const { verified, failed, silent, checked, missed, barred } = peer.audits ?? {};
  const judged = number(verified) + number(failed) + number(silent);
  return { verified: number(verified), failed: number(failed), silent: number(silent), checked: number(checked), missed: number(missed), isBarred: barred === true, judged };
}

export function auditsText(peer) {
  const { verified, judged } = auditsOf(peer);
  return judged ? `${count(verified)}/${count(judged)}` : DASH;
}

const GROUPS = [["verified", ["verified", "cleared"]], ["under way", ["posted", "sampled", "sealed", "revealed"]], ["disputed", ["disputed"]], ["unchecked", ["unsampled"]], ["not shown", ["silent"]], ["false", ["guilty"]]];
const ROWS_MAX = 40;

export function checkedOf(run) {
  const phases = run?.checks ?? {};
  return { verified: number(phases.verified) + number(phases.cleared), all: Object.values(phases).reduce((sum, value) => sum + number(value), 0) };
}

export function drawChecks(bar, list, note, state) {
  const phases = state.run?.checks ?? {};
  const groups = GROUPS.map(([name, parts]) => [name, parts.reduce((sum, part) => sum + number(phases[part]), 0)]).filter(([, value]) => value > 0);
  const all = groups.reduce((sum, [, value]) => sum + value, 0);
  let left = 0;
  const picture = svg("svg", { class: "shares", viewBox: "0 0 100 3", width: "100%", height: 10, preserveAspectRatio: "none", role: "img", "aria-label": "segments by how far their check is" });
  for (const [name, value] of groups) {
    const width = (100 * value) / all;
    picture.append(svg("rect", { class: `share ${name.replaceAll(" ", "-")}`, x: left, y: 0, width, height: 3 }, svg("title", {}, `${value} ${name}`)));
    left += width;
  }
  bar.replaceChildren(...(all ? [picture] : []));
  note.textContent = groups.map(([name, value]) => `${count(value)} ${name}`).join(" · ");
  const rows = [...(state.convictions ?? []).map((one) => ({ ...one, phase: "guilty", text: convictionText(one) })), ...(state.checks ?? [])];
  const items = rows.slice(0, ROWS_MAX).map((one) => el("li", { class: FALSE.has(one.phase) ? "loud" : PASSED.has(one.phase) ? "" : "idle" },
    el("span", { class: "mono time" }, `${one.round}/${one.stage}/${one.seat}`), el("p", {}, one.text)));
  list.replaceChildren(...(items.length ? items : [el("li", { class: "idle lone" }, "nothing is checked yet")]));
}

export const convictionText = (one) => one.text ?? `${one.name} was proven false in stage ${one.stage}, round ${one.round}, and evicted at height ${one.height}`;

export function convictionOf(state, peer) {
  return (state.convictions ?? []).find((one) => one.name === peer.name) ?? null;
}

export const isConvicted = (state, peer) => auditsOf(peer).isBarred || convictionOf(state, peer) !== null;

// A seat that was taken away stays on the map where it was, struck out; its peer is not drawn a second time.
export function lostSeats(state) {
  const taken = new Set((state.peers ?? []).flatMap((peer) => (peer.seats ?? []).map(([stage, index]) => `${stage}/${index}`)));
  return (state.convictions ?? [])
    .filter((one, i, all) => !taken.has(`${one.stage}/${one.seat}`) && all.findIndex((other) => other.stage === one.stage && other.seat === one.seat) === i)
    .map((one) => ({ conviction: one, peer: (state.peers ?? []).find((peer) => peer.name === one.name) ?? { name: one.name, peer: one.peer ?? one.name }, stage: one.stage, index: one.seat }));
}

export function noteChecks(state) {
  const now = performance.now();
  for (const one of state.checks ?? []) {
    const key = `${one.round}/${one.stage}/${one.seat}`, before = seen.get(key);
    seen.set(key, one.phase);
    const kind = PASSED.has(one.phase) ? "passed" : FALSE.has(one.phase) ? "false" : null;
    if (!kind || before === one.phase || isFirst) continue;
    flashes.delete(`${one.stage}/${one.seat}`);
    flashes.set(`${one.stage}/${one.seat}`, { kind, at: now, verifiers: (one.verifiers ?? []).map((check) => check.name), text: one.text });
  }
  isFirst = isFirst && !state.checks;
  for (const [key, flash] of flashes) if (now - flash.at > FLASH_MS || flashes.size > FLASHES_MAX) flashes.delete(key);
  if (seen.size > 4096) seen.clear();
}

// Drawn anew with every picture: the delay makes it go on where it was.
function going(node, flash) {
  node.style.animationDelay = `${Math.round(flash.at - performance.now())}ms`;
  return node;
}

export function drawFlashes(lanes) {
  const group = svg("g", { class: "flashes" });
  const marks = lanes.flatMap((lane) => lane.marks);
  for (const [key, flash] of flashes) {
    const target = marks.find((mark) => mark.stage !== null && `${mark.stage}/${mark.index}` === key);
    if (!target) continue;
    for (const name of flash.verifiers) {
      const from = marks.find((mark) => mark.peer.name === name);
      if (from && from !== target) group.append(going(svg("line", { class: `beam ${flash.kind}`, x1: from.x, y1: from.y, x2: target.x, y2: target.y }), flash));
    }
    const k = 6, x = target.x - target.r - 21, y = target.y - target.r + 2;
    const sign = flash.kind === "passed" ? `M${x - k} ${y}l${k * 0.7} ${k * 0.8}l${k * 1.1} ${-k * 1.5}` : `M${x - k} ${y - k}l${2 * k} ${2 * k}M${x + k} ${y - k}l${-2 * k} ${2 * k}`;
    group.append(
      going(svg("circle", { class: `flash ${flash.kind}`, cx: target.x, cy: target.y, r: target.r + 9 }, svg("title", {}, flash.text ?? "")), flash),
      going(svg("path", { class: `sign ${flash.kind}`, d: sign }), flash));
  }
  return group;
}
