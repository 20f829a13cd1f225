// How work is checked: what an audit came to, which seats to flash, who is struck out.

import { el, svg, update } from "./dom.js";
import { DASH, count } from "./format.js";

const FLASH_MS = 3500, FLASHES_MAX = 64;
const PASSED = new Set(["verified", "within"]), FALSE = new Set(["guilty", "disputed", "doubted", "rejected"]);
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

const GROUPS = [["passed", ["verified"]], ["under way", ["posted", "sampled", "sealed", "revealed"]], ["within tolerance", ["within"]], ["disputed", ["disputed", "doubted"]], ["unchecked", ["unsampled"]], ["not shown", ["silent"]], ["false", ["guilty"]], ["rejected", ["rejected"]]];
const ROWS_MAX = 40;

export function checkedOf(run) {
  const phases = run?.checks ?? {}, replayed = run?.judged_steps > 0 ? (100 * number(run.replayed_steps)) / run.judged_steps : null;
  return { passed: number(phases.verified), all: Object.values(phases).reduce((sum, value) => sum + number(value), 0), share: replayed === null ? "" : `${Math.round(replayed)}% of steps ${run.way === "spots" ? "looked at" : "replayed"}` };
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
  update(bar, all ? picture : null);
  const said = groups.map(([name, value]) => `${count(value)} ${name === "passed" ? "passed a sampled check" : name}`);
  update(note, [...said, checkedOf(state.run).share].filter(Boolean).join(" · "));
  const rows = [...(state.convictions ?? []).map((conviction) => ({ ...conviction, phase: "guilty", text: convictionText(conviction) })), ...(state.checks ?? [])];
  const items = rows.slice(0, ROWS_MAX).map((check, i) => el("li", { class: FALSE.has(check.phase) ? "loud" : PASSED.has(check.phase) ? "" : "idle", "data-key": `${check.round}/${check.stage}/${check.seat}/${i < (state.convictions ?? []).length}` },
    el("span", { class: "mono time" }, `${check.round}/${check.stage}/${check.seat}`), el("p", {}, check.text)));
  update(list, items.length ? items : el("li", { class: "idle lone" }, "nothing is checked yet"));
}

export const convictionText = (conviction) => conviction.text || `${conviction.name} was proven false in stage ${conviction.stage}, round ${conviction.round}, and evicted at height ${conviction.height}`;

export function convictionOf(state, peer) {
  return (state.convictions ?? []).find((conviction) => conviction.name === peer.name) ?? null;
}

export const isConvicted = (state, peer) => auditsOf(peer).isBarred || convictionOf(state, peer) !== null;

// A seat that was taken away stays on the map where it was, struck out; its peer is not drawn a second time.
export function lostSeats(state) {
  const taken = new Set((state.peers ?? []).flatMap((peer) => (peer.seats ?? []).map(([stage, index]) => `${stage}/${index}`)));
  return (state.convictions ?? [])
    .filter((conviction, i, all) => !taken.has(`${conviction.stage}/${conviction.seat}`) && all.findIndex((other) => other.stage === conviction.stage && other.seat === conviction.seat) === i)
    .map((conviction) => ({ conviction, peer: (state.peers ?? []).find((peer) => peer.name === conviction.name) ?? { name: conviction.name, peer: conviction.peer ?? conviction.name }, stage: conviction.stage, index: conviction.seat }));
}

export function noteChecks(state) {
  const now = performance.now();
  for (const check of state.checks ?? []) {
    const key = `${check.round}/${check.stage}/${check.seat}`, before = seen.get(key);
    seen.set(key, check.phase);
    const kind = PASSED.has(check.phase) ? "passed" : FALSE.has(check.phase) ? "false" : null;
    if (!kind || before === check.phase || isFirst) continue;
    flashes.delete(`${check.stage}/${check.seat}`);
    flashes.set(`${check.stage}/${check.seat}`, { kind, at: now, verifiers: (check.verifiers ?? []).map((verifier) => verifier.name), text: check.text });
  }
  isFirst = isFirst && !state.checks;
  for (const [key, flash] of flashes) if (now - flash.at > FLASH_MS || flashes.size > FLASHES_MAX) flashes.delete(key);
  if (seen.size > 4096) seen.clear();
}

// A map that is drawn anew has the animation go on where it was; one that is kept does so by itself.
function going(shape, flash, part) {
  shape.setAttribute("data-key", `${part} ${flash.at}`);
  shape.style.animationDelay = `${Math.round(flash.at - performance.now())}ms`;
  return shape;
}

// What just came of a check: beams from the verifiers, which lie below the marks, and a ring and a sign above.
export function drawFlashes(lanes) {
  const beams = svg("g", { class: "beams" }), signs = svg("g", { class: "flashes" });
  const marks = lanes.flatMap((lane) => lane.marks);
  for (const [key, flash] of flashes) {
    const target = marks.find((mark) => mark.stage !== null && `${mark.stage}/${mark.index}` === key);
    if (!target) continue;
    for (const name of flash.verifiers) {
      const from = marks.find((mark) => mark.peer.name === name);
      if (from && from !== target) beams.append(going(svg("line", { class: `beam ${flash.kind}`, x1: from.x, y1: from.y, x2: target.x, y2: target.y }), flash, `beam ${name}`));
    }
    const k = 6, x = target.x - target.r - 21, y = target.y - target.r + 2;
    const sign = flash.kind === "passed" ? `M${x - k} ${y}l${k * 0.7} ${k * 0.8}l${k * 1.1} ${-k * 1.5}` : `M${x - k} ${y - k}l${2 * k} ${2 * k}M${x + k} ${y - k}l${-2 * k} ${2 * k}`;
    signs.append(
      going(svg("circle", { class: `flash ${flash.kind}`, cx: target.x, cy: target.y, r: target.r + 9 }, svg("title", {}, flash.text ?? "")), flash, "flash"),
      going(svg("path", { class: `sign ${flash.kind}`, d: sign }), flash, "sign"));
  }
  return { beams, signs };
}
