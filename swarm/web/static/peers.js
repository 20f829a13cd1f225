// What a peer looks like: its condition as a shape and a colour, the same in map, legend and table.

import { svg } from "./dom.js";

export const CONDITIONS = {
  ok: { label: "working" },
  busy: { label: "syncing, verifying" },
  slow: { label: "behind, silent or stalled" },
  gone: { label: "gone" },
  out: { label: "proven false" },
};

// The node decides, in one place for every screen.
export const conditionOf = (peer) => (peer.condition in CONDITIONS ? peer.condition : "ok");

export const remark = (peer) => {
  if (conditionOf(peer) === "out") return "proven false, evicted";
  const reason = String(peer.reason ?? "");
  return reason && reason !== "ok" ? reason : String(peer.state ?? "");
};

export function glyph(condition, x, y, r, attributes = {}) {
  const common = { class: `glyph ${condition}`, ...attributes };
  if (condition === "slow") {
    const h = r * 1.18;
    return svg("path", { ...common, d: `M${x} ${y - h}L${x + h * 0.98} ${y + h * 0.72}H${x - h * 0.98}Z`, "stroke-linejoin": "round" });
  }
  if (condition === "gone") {
    const k = r * 0.4;
    return svg("g", common,
      svg("rect", { x: x - r * 0.88, y: y - r * 0.88, width: r * 1.76, height: r * 1.76, rx: 3 }),
      svg("path", { class: "cross", d: `M${x - k} ${y - k}L${x + k} ${y + k}M${x + k} ${y - k}L${x - k} ${y + k}` }));
  }
  if (condition === "out") {
    const k = r * 1.25;
    return svg("g", common,
      svg("circle", { cx: x, cy: y, r: r * 0.92 }),
      svg("path", { class: "strike", d: `M${x - k} ${y + k}L${x + k} ${y - k}` }));
  }
  return svg("circle", { ...common, cx: x, cy: y, r });
}

export function badge(x, y, size = 5.5) {
  return svg("path", { class: "badge", d: `M${x} ${y - size}L${x + size} ${y}L${x} ${y + size}L${x - size} ${y}Z` });
}

export function icon(condition, validates) {
  const box = svg("svg", { class: "icon", viewBox: "0 0 20 20", width: 18, height: 18, "aria-hidden": "true" }, glyph(condition, 10, 10, 6.5));
  if (validates) box.append(badge(15.5, 4.5, 4));
  return box;
}

export function validates(state, peer) {
  const validators = state.ledger?.validators ?? [];
  return validators.includes(peer.name) || validators.includes(peer.peer);
}
