// The ledger tail, the node's events, the table of peers and the drawer of one peer.

import { auditsOf, auditsText, convictionOf, convictionText } from "./checks.js";
import { byId, el, svg, update } from "./dom.js";
import { DASH, bytes, clock, count, loss, ms, short, span } from "./format.js";
import { conditionOf, icon, remark, validates } from "./peers.js";
import { roundOf } from "./standing.js";

const ROWS_MAX = 400;

export function drawLedger(list, ledger) {
  const blocks = [...(ledger?.tail ?? [])].sort((a, b) => b.height - a.height);
  const items = blocks.map((block) => {
    const transactions = block.transactions ?? [];
    return el("li", { class: transactions.length ? "" : "idle", "data-key": block.height },
      el("span", { class: "mono height" }, `#${block.height}`),
      el("div", {},
        el("p", { class: "by" }, `by ${block.leader ?? DASH}`, transactions.length ? null : " · empty"),
        transactions.map((transaction) => el("p", { class: "tx" }, el("b", { class: `kind ${kindClass(transaction.kind)}` }, String(transaction.kind).replaceAll("_", " ")), " ", transaction.text))));
  });
  update(list, items.length ? items : el("li", { class: "idle lone" }, "no block yet"));
}

function kindClass(kind) {
  const name = String(kind ?? "").toLowerCase();
  if (/dispute|report$/.test(name)) return "dispute";
  if (/verify|reveal|data_request/.test(name)) return "check";
  if (name.includes("commit")) return "commit";
  if (name.includes("checkpoint")) return "checkpoint";
  if (/join|leave|open|close/.test(name)) return "run";
  return "other";
}

export function drawEvents(list, events) {
  const seen = new Map();
  const items = (events ?? []).map((report) => {
    const twin = seen.get(report.at) ?? 0;
    seen.set(report.at, twin + 1);
    return el("li", { class: /error|warn/.test(report.kind) ? "loud" : "", "data-key": `${report.at}/${twin}` },
      el("span", { class: "mono time" }, clock(report.at)),
      el("p", {}, report.text));
  });
  update(list, items.length ? items.reverse() : el("li", { class: "idle lone" }, "nothing yet"));
}

const HEADS = [["", ""], ["peer", ""], ["stage", ""], ["state", ""], ["path", ""], ["up / down", "n"], ["tok/s", "n"], ["round", "n"], ["trades + solo", "n"], ["audits", "n"], ["stake", "n"], ["earned", "n"]];

function speedBar(value, fastest) {
  const share = fastest > 0 ? Math.max(0, Math.min(1, (Number(value) || 0) / fastest)) : 0;
  return svg("svg", { class: "bar", viewBox: "0 0 34 6", width: 34, height: 6, "aria-hidden": "true" },
    svg("rect", { class: "bar-back", width: 34, height: 6, rx: 3 }),
    share > 0 && svg("rect", { class: "bar-fill", width: Math.max(4, 34 * share), height: 6, rx: 3 }));
}

function peerRow(peer, state, fastest, onPick) {
  const condition = conditionOf(peer);
  const stages = peer.stages?.length ? peer.stages.join(", ") : DASH;
  const pick = () => onPick(peer.peer);
  return el("tr", { class: peer.me ? "me" : "", "data-key": peer.peer, tabindex: 0, on: { click: pick, keydown: (event) => event.key === "Enter" && pick() } },
    el("td", { class: "shape" }, icon(condition, validates(state, peer))),
    el("td", { class: "who" }, peer.name, peer.me ? el("i", { class: "you" }, "you") : null),
    cell("stage", "", stages),
    cell("state", `state ${condition}`, remark(peer)),
    cell("path", "", pathOf(peer)),
    cell("up / down", "n", peer.me ? DASH : `${bytes(peer.up_bytes)} / ${bytes(peer.down_bytes)}`),
    cell("tok/s", "n speed", count(peer.tokens_per_s), " ", speedBar(peer.tokens_per_s, fastest)),
    cell("round", "n", roundOf(state.run, peer.round), peer.lag > 0 ? el("span", { class: "lag" }, ` −${peer.lag}`) : null),
    cell("trades + solo", "n", count(peer.trades), peer.solo > 0 ? el("span", { class: "lag" }, ` +${peer.solo}`) : null),
    cell("audits", "n", auditsText(peer)),
    cell("stake", "n", peer.stake ? count(peer.stake) : DASH),
    cell("earned", "n", peer.earned ? count(peer.earned) : DASH));
}

// The way to it, and the round trip where there is one.
const pathOf = (peer) => (peer.me || !peer.path || peer.path === "-" ? DASH : [peer.path, Number.isFinite(peer.rtt_ms) ? ms(peer.rtt_ms) : ""].join(" "));

// A narrow page shows the head of the column beside each cell.
const cell = (head, kind, ...inside) => el("td", { class: kind, "data-head": head }, ...inside);

export function drawPeers(table, state, onPick) {
  const peers = [...(state.peers ?? [])].sort((a, b) => Number(b.me) - Number(a.me) || (a.stages?.[0] ?? 99) - (b.stages?.[0] ?? 99) || (a.name < b.name ? -1 : 1));
  const fastest = Math.max(0, ...peers.map((peer) => Number(peer.tokens_per_s) || 0));
  update(table.tHead, el("tr", {}, HEADS.map(([name, kind]) => el("th", { class: kind, scope: "col" }, name))));
  update(table.tBodies[0], peers.slice(0, ROWS_MAX).map((peer) => peerRow(peer, state, fastest, onPick)));
}

function pair(name, value) {
  return [el("dt", {}, name), el("dd", {}, value)];
}

export function drawDrawer(state, id, onClose) {
  const drawer = byId("drawer"), peer = (state.peers ?? []).find((another) => another.peer === id);
  drawer.hidden = !peer;
  if (!peer) return;
  const condition = conditionOf(peer);
  const trades = (state.trades ?? []).filter((trade) => [trade.from, trade.to].some((who) => who === peer.peer || who === peer.name)).slice(-8).reverse();
  const other = (trade) => (trade.from === peer.peer || trade.from === peer.name ? trade.to : trade.from);
  const audits = auditsOf(peer), conviction = convictionOf(state, peer);
  const seen = (state.checks ?? []).filter((check) => check.name === peer.name || (check.verifiers ?? []).some((verifier) => verifier.name === peer.name)).slice(0, 8);
  const nameOf = (who) => (state.peers ?? []).find((another) => another.peer === who)?.name ?? short(who);
  update(drawer, [
    el("button", { class: "close", "aria-label": "close", on: { click: onClose } }, "×"),
    el("h2", {}, icon(condition, validates(state, peer)), " ", peer.name, peer.me ? el("i", { class: "you" }, "you") : null),
    el("p", { class: `state ${condition}` }, remark(peer)),
    conviction ? el("p", { class: "verdict" }, convictionText(conviction)) : null,
    el("p", { class: "mono id" }, peer.peer),
    el("dl", {},
      pair("role", `${peer.role ?? DASH}${validates(state, peer) ? ", validator" : ""}`),
      pair("seats", peer.seats?.length ? peer.seats.map(([stage, index]) => `stage ${stage} #${index}`).join(", ") : "none"),
      pair("speed", `${count(peer.tokens_per_s)} tok/s`),
      pair("training loss", peer.loss_nats > 0 ? `${loss(peer.loss_nats)} nats` : DASH),
      pair("round", `${roundOf(state.run, peer.round)}${peer.lag > 0 ? `, ${peer.lag} behind` : ""}`),
      pair("path", pathOf(peer)),
      pair("sent / received", `${bytes(peer.up_bytes)} / ${bytes(peer.down_bytes)}`),
      pair("trades", `${count(peer.trades)} with a partner${peer.solo === null || peer.solo === undefined ? "" : `, ${count(peer.solo)} solo`}`),
      pair("last partner", peer.last_partner ? nameOf(peer.last_partner) : DASH),
      pair("audits", audits.judged ? `${count(audits.verified)} of ${count(audits.judged)} passed a sampled check${audits.failed ? `, ${count(audits.failed)} proven false` : ""}${audits.silent ? `, ${count(audits.silent)} not shown` : ""}` : "none yet"),
      pair("checked others", audits.checked || audits.missed ? `${count(audits.checked)} windows${audits.missed ? `, ${count(audits.missed)} missed` : ""}` : "none yet"),
      pair("stake", conviction && !peer.stake ? "0: taken" : count(peer.stake)),
      pair("earned", count(peer.earned)),
      pair("shares", peer.audits?.shares ? `${count(peer.audits.shares)} tokens that stand` : "none yet"),
      peer.audits?.strikes ? pair("strikes", `${count(peer.audits.strikes)} of 3`) : null,
      pair("version", peer.version || DASH),
      pair("heard of", peer.me ? "this node" : `${span(peer.age_s)} ago, ${peer.measured ? "measured by this node" : "as it claims"}`)),
    seen.length ? el("h3", {}, "Last audits") : null,
    seen.length ? el("ul", {}, seen.map((check) => el("li", { class: check.phase === "guilty" ? "bad" : "" }, check.text))) : null,
    trades.length ? el("h3", {}, "Last trades") : null,
    trades.length ? el("ul", {}, trades.map((trade) => el("li", {}, `round ${trade.round}, stage ${trade.stage}, fragment ${trade.fragment}: ${nameOf(other(trade))} ${trade.ok ? "✓" : "✗ solo"}`))) : null,
  ]);
}
