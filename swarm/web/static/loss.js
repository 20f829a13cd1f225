// The loss curve: training loss by round, the held-out value as a dashed line, a reading under the pointer.

import { svg } from "./dom.js";
import { loss as show } from "./format.js";

const LEFT = 40, RIGHT = 16, TOP = 12, BOTTOM = 26, HEIGHT = 214, POINTS_MAX = 400;

function niceStep(range, wanted) {
  const rough = range / wanted, power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
}

function ticks(low, high, wanted) {
  const step = niceStep(high - low || 1, wanted), found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return found;
}

// A node with several seats reports several losses for one round: the curve shows their mean.
function byRound(pairs) {
  const sums = new Map();
  for (const [round, value] of pairs) {
    const [sum, count] = sums.get(round) ?? [0, 0];
    sums.set(round, [sum + value, count + 1]);
  }
  return [...sums].map(([round, [sum, count]]) => [round, sum / count]).sort((a, b) => a[0] - b[0]);
}

function thin(points) {
  if (points.length <= POINTS_MAX) return points;
  const stride = Math.ceil(points.length / POINTS_MAX);
  return points.filter((_, i) => i % stride === 0 || i === points.length - 1);
}

export function drawLoss(box, curve, heldout) {
  const points = thin(byRound((curve ?? []).filter((pair) => Number.isFinite(pair?.[0]) && Number.isFinite(pair?.[1]))));
  const width = Math.max(260, box.clientWidth);
  const picture = svg("svg", { class: "loss", viewBox: `0 0 ${width} ${HEIGHT}`, width: "100%", height: HEIGHT, role: "img", "aria-label": "loss by round" });
  box.replaceChildren(picture);
  if (points.length === 0) {
    picture.append(svg("text", { class: "empty", x: width / 2, y: HEIGHT / 2 }, "the first round is still running"));
    return;
  }
  const values = points.map((pair) => pair[1]).concat(Number.isFinite(heldout) ? [heldout] : []);
  const pad = Math.max(0.08, (Math.max(...values) - Math.min(...values)) * 0.08);
  const [low, high] = [Math.max(0, Math.min(...values) - pad), Math.max(...values) + pad];
  const [first, last] = [points[0][0], Math.max(points[points.length - 1][0], points[0][0] + 1)];
  const x = (round) => LEFT + ((round - first) / (last - first)) * (width - LEFT - RIGHT);
  const y = (value) => TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  for (const value of ticks(low, high, 5)) {
    picture.append(
      svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick side", x: LEFT - 8, y: y(value) + 4 }, value.toFixed(value % 1 === 0 ? 1 : niceStep(high - low, 5) < 0.1 ? 2 : 1)));
  }
  for (const round of ticks(first, last, Math.min(6, width / 70))) {
    if (Number.isInteger(round)) picture.append(svg("text", { class: "tick", x: x(round), y: HEIGHT - 8 }, round));
  }
  const line = points.map(([round, value], i) => `${i ? "L" : "M"}${x(round).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const [endRound, endLoss] = points[points.length - 1];
  picture.append(
    svg("defs", {}, svg("linearGradient", { id: "under", x1: 0, y1: 0, x2: 0, y2: 1 }, svg("stop", { class: "under-top", offset: "0" }), svg("stop", { class: "under-bottom", offset: "1" }))),
    svg("path", { class: "area", d: `${line}L${x(endRound)} ${HEIGHT - BOTTOM}L${x(first)} ${HEIGHT - BOTTOM}Z`, fill: "url(#under)" }),
    svg("path", { class: "curve", d: line }),
    svg("circle", { class: "tip", cx: x(endRound), cy: y(endLoss), r: 4 }));
  if (Number.isFinite(heldout)) {
    picture.append(
      svg("line", { class: "heldout", x1: LEFT, x2: width - RIGHT, y1: y(heldout), y2: y(heldout) }),
      svg("text", { class: "heldout-text", x: LEFT + 6, y: y(heldout) - 6 }, `held-out ${show(heldout)}`));
  }
  const hair = svg("line", { class: "hair", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  const reading = svg("text", { class: "reading", visibility: "hidden", y: TOP + 8 });
  picture.append(hair, reading);
  picture.addEventListener("pointermove", (event) => {
    const at = ((event.clientX - picture.getBoundingClientRect().left) / picture.getBoundingClientRect().width) * width;
    const near = points.reduce((best, pair) => (Math.abs(x(pair[0]) - at) < Math.abs(x(best[0]) - at) ? pair : best));
    const right = x(near[0]) > width * 0.6;
    for (const node of [hair, reading]) node.setAttribute("visibility", "visible");
    hair.setAttribute("x1", x(near[0]));
    hair.setAttribute("x2", x(near[0]));
    reading.setAttribute("x", x(near[0]) + (right ? -8 : 8));
    reading.setAttribute("text-anchor", right ? "end" : "start");
    reading.textContent = `round ${near[0]}: ${show(near[1])}`;
  });
  picture.addEventListener("pointerleave", () => { for (const node of [hair, reading]) node.setAttribute("visibility", "hidden"); });
}
