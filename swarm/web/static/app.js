// Ask the node for its state document every second and draw it; event lines ask for a fresh one at once.

import { checkedOf, drawChecks, noteChecks } from "./checks.js";
import { byId, el, setText, svg, update } from "./dom.js";
import { DASH, count, counted, loss, perplexity, span } from "./format.js";
import { drawDrawer, drawEvents, drawLedger, drawPeers } from "./lists.js";
import { drawLoss } from "./loss.js";
import { drawMap } from "./map.js";
import { CONDITIONS, badge, conditionOf, icon } from "./peers.js";
import { STANDSTILL_S, measuredAt, phaseText, progressOf, progressText, silenced, verdictOf } from "./standing.js";

const POLL_MS = 1500, STALE_MS = 5000;
let state = null, picked = null, opener = null, answeredAt = Date.now(), asking = false;

function stat(name, value, note) {
  return el("div", { class: "stat", "data-key": name }, el("span", { class: "label" }, name), el("span", { class: "value" }, value), note ? el("span", { class: "of" }, note) : null);
}

function drawHead() {
  const { node = {}, run, ledger = {}, peers = [] } = state;
  setText("run-name", run?.name ?? "no run yet");
  const parts = run
    ? [`${count(run.parameters)} parameters`, counted(run.num_stages, "stage"), phaseText(state)]
    : [node.state ?? "starting"];
  setText("run-line", parts.filter(Boolean).join(" · "));
  document.title = run ? `${run.name} · ${progressText(run)} · ${loss(run.loss_nats)}` : "swarm";
  const { label, value, note } = progressOf(run), at = measuredAt(run, run?.heldout_round);
  const checked = checkedOf(run), gone = peers.filter((peer) => peer.gone_s !== null && peer.gone_s !== undefined).length;
  update(byId("stats"),
    stat(label, value, note),
    stat("training loss", loss(run?.loss_nats), "nats"),
    ...(Number.isFinite(run?.perplexity) ? [stat("perplexity", perplexity(run.perplexity), ["here", at].filter(Boolean).join(", "))] : []),
    stat("speed", count(run?.tokens_per_s), "tok/s"),
    stat("trained", count(run?.tokens), "tokens"),
    checked.all ? stat("checks passed", count(checked.passed), [`of ${count(checked.all)}`, checked.share].filter(Boolean).join(", ")) : stat("checks passed", DASH),
    stat("peers", count(peers.length - gone), gone ? `+ ${count(gone)} gone` : null),
    stat("ledger", `#${count(ledger.height)}`, ledger.is_still ? `still for ${span(ledger.age_s)}` : null));
  const share = run?.rounds ? Math.max(0, Math.min(1, run.round / run.rounds)) : 0;
  byId("round-bar").firstElementChild.style.width = `${(share * 100).toFixed(1)}%`;
  drawHealth();
}

// Whose word makes a block final; with fewer than four validators it is the launcher's.
function trusted({ validators = [] }) {
  if (!validators.length) return null;
  const all = validators.length;
  return all < 4 ? `trusted launcher: ${all} of ${all} validators` : `${all} validators`;
}

// What stands still and what helps comes first; then who is missing. "healthy" is only what progresses.
function drawHealth() {
  const { peers = [], ledger = {} } = state, verdict = verdictOf(state);
  const of = (condition) => peers.filter((peer) => conditionOf(peer) === condition);
  const gone = of("gone"), slow = of("slow"), out = of("out").length, missing = ledger.validators_missing ?? [];
  const faults = [];
  if (ledger.supply_conserved === false) faults.push("supply not conserved");
  if (gone.length) faults.push(gone.length === 1 ? `${gone[0].name} gone` : `${gone.length} peers gone`);
  if (slow.length && verdict.isWell) faults.push(slow.length === 1 ? `${slow[0].name} behind or silent` : `${slow.length} behind or silent`);
  const isLost = ledger.supply_conserved === false, parts = verdict.isWell && faults.length ? faults : [verdict.text, ...faults];
  setText("health", [...parts, ...(out ? [`${out} evicted`] : [])].join(" · "));
  byId("health").className = `chip ${isLost || gone.length || verdict.isBad ? "gone" : slow.length || !verdict.isWell ? "slow" : "ok"}`;
  document.body.classList.toggle("is-still", !verdict.isWell);
  byId("trouble").hidden = verdict.isWell || !verdict.cause;
  update(byId("trouble"), verdict.cause, ledger.is_still && missing.length ? ` · not heard: ${missing.join(", ")}` : null,
    verdict.command ? [" · try ", el("code", {}, verdict.command)] : null);
}

function drawLegend() {
  const entries = Object.entries(CONDITIONS).map(([condition, { label }]) => el("span", {}, icon(condition, false), label));
  const sample = (...inside) => svg("svg", { class: "icon", viewBox: "0 0 26 20", width: 24, height: 18 }, ...inside);
  update(byId("legend"), entries,
    el("span", {}, sample(badge(13, 10, 6)), "validator"),
    el("span", {}, sample(svg("circle", { class: "flash passed still", cx: 13, cy: 10, r: 7 })), "check just passed"),
    el("span", {}, sample(svg("path", { class: "arc done age0", d: "M3 15C8 3 18 3 23 15" })), "traded"),
    el("span", {}, sample(svg("path", { class: "arc failed age0", d: "M3 15C8 3 18 3 23 15" })), "trade missed"),
    el("span", {}, sample(svg("path", { class: "arc given age0", d: "M3 15C8 3 18 3 23 15" })), "one way"),
    el("span", { class: "quiet" }, "size = tokens a second"));
}

function draw() {
  if (!state) return;
  noteChecks(state);
  drawHead();
  drawMap(byId("map"), state, pick);
  setText("map-note", tradesNote(state.trades ?? []));
  drawLoss(byId("loss"), state);
  setText("loss-note", "nats per token, mean of the live peers");
  drawChecks(byId("checks-bar"), byId("checks"), byId("checks-note"), state);
  drawLedger(byId("ledger"), state.ledger);
  setText("ledger-note", ledgerNote(state.ledger ?? {}));
  drawPeers(byId("peers"), state, pick);
  drawEvents(byId("events"), state.events);
  setText("node-note", `${state.node?.name ?? ""} · up ${span(state.node?.uptime_s)}`);
  drawDrawer(state, picked, () => pick(null));
}

// A solo step by draw missed no partner.
function tradesNote(trades) {
  const given = trades.filter((trade) => trade.one_way).length;
  const meant = trades.filter((trade) => trade.to && !trade.one_way), solo = trades.length - meant.length - given;
  const found = meant.length ? `${meant.filter((trade) => trade.ok).length} of the last ${meant.length} trades found their partner` : "";
  return [found, given ? `${given} went one way, to a peer that only receives as yet` : "", solo ? `${solo} solo ${solo === 1 ? "step" : "steps"} by draw` : ""].filter(Boolean).join(" · ");
}

function ledgerNote(ledger) {
  if (ledger.is_still) return `stands still for ${span(ledger.age_s)}`;
  const final = typeof ledger.finality_s === "number" ? `final in ${ledger.finality_s.toFixed(1)} s` : null;
  return [final, trusted(ledger), ledger.supply_conserved ? `supply conserved: ${count(ledger.supply)}` : null].filter(Boolean).join(" · ");
}

// The drawer takes the focus, and gives it back to where it was.
function pick(id) {
  const before = picked;
  picked = id;
  if (state) drawDrawer(state, picked, () => pick(null));
  if (id !== null && !byId("drawer").hidden) {
    if (before === null) opener = document.activeElement;
    byId("drawer").querySelector(".close")?.focus();
  } else if (opener?.isConnected) opener.focus();
}

async function ask() {
  if (asking || document.hidden) return;
  asking = true;
  try {
    const answer = await fetch("/api/v1/state", { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    state = await answer.json();
    answeredAt = Date.now();
    draw();
  } catch {
    // The note about a silent node is drawn below, from the time of the last answer.
  } finally {
    asking = false;
    const silent = Date.now() - answeredAt, stale = byId("stale");
    stale.hidden = silent < STALE_MS;
    document.body.classList.toggle("is-stale", silent >= STALE_MS);
    if (silent >= STALE_MS) setText("stale", `The node has not answered for ${span(silent / 1000)}: these are its last figures. It stopped, or it is very busy; try swarm status.`);
    if (state && silent >= STANDSTILL_S * 1000) {
      state = silenced(state, silent / 1000);
      draw();
    }
  }
}

drawLegend();
ask();
setInterval(ask, POLL_MS);
new EventSource("/api/v1/events").addEventListener("message", ask);
new ResizeObserver(draw).observe(byId("map"));
document.addEventListener("visibilitychange", ask);
document.addEventListener("keydown", (event) => event.key === "Escape" && pick(null));
