// The loss by round: training loss as a line, held-out loss as dashes and dots, a reading under the pointer.

import { handle, svg, update } from "./dom.js";
import { loss as show, perplexity } from "./format.js";
import { measuredAt } from "./standing.js";

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

function thin(points) {
  if (points.length <= POINTS_MAX) return points;
  const stride = Math.ceil(points.length / POINTS_MAX);
  return points.filter((_, i) => i % stride === 0 || i === points.length - 1);
}

// What there is to say before there is anything to draw.
function nothingYet(state) {
  const { run, node } = state, now = Number.isFinite(run?.loss_nats) ? `training loss ${show(run.loss_nats)}` : "";
  if (!run) return "no run yet";
  if (node?.seats?.length === 0) return now ? `no seat here; the others report ${now}` : "no seat here, and no loss reported yet";
  return now ? `${now} so far, the first round is still running` : "the first step is still running";
}

export function drawLoss(box, state) {
  const run = state.run, isPair = (pair) => Number.isFinite(pair?.[0]) && Number.isFinite(pair?.[1]);
  const points = thin((state.loss_curve ?? []).filter(isPair));
  const measured = thin((run?.evaluations ?? []).map((evaluation) => [evaluation.round, evaluation.loss_nats]).filter(isPair));
  const all = [...points, ...measured];
  const width = Math.max(260, box.clientWidth);
  const picture = svg("svg", { class: "loss", viewBox: `0 0 ${width} ${HEIGHT}`, width: "100%", height: HEIGHT, role: "img", "aria-label": "training and held-out loss by round" });
  drawInto(picture, { state, run, points, measured, all, width });
  update(box, picture);
}

function drawInto(picture, { state, run, points, measured, all, width }) {
  if (points.length === 0 && measured.length < 2) {
    picture.append(svg("text", { class: "empty", x: width / 2, y: HEIGHT / 2 }, nothingYet(state)));
    if (measured.length) picture.append(svg("text", { class: "heldout-text", x: width / 2, y: HEIGHT / 2 + 24, "text-anchor": "middle" }, heldoutText(run, measured[0])));
    return;
  }
  const values = all.map((pair) => pair[1]), rounds = all.map((pair) => pair[0]);
  const pad = Math.max(0.08, (Math.max(...values) - Math.min(...values)) * 0.08);
  const [low, high] = [Math.max(0, Math.min(...values) - pad), Math.max(...values) + pad];
  const first = Math.min(...rounds), last = Math.max(...rounds, first + 1);
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
  const path = (pairs) => pairs.map(([round, value], i) => `${i ? "L" : "M"}${x(round).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  if (points.length) drawTraining(picture, points, path(points), x, y);
  if (measured.length) {
    picture.append(
      svg("path", { class: "heldout", d: path(measured) }),
      ...measured.map(([round, value]) => svg("circle", { class: "heldout-dot", cx: x(round), cy: y(value), r: 2.6 })));
  }
  drawKey(picture, width, points, measured, run);
  picture.append(svg("g", { "data-own": true }, svg("line", { class: "hair", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" }), svg("text", { class: "reading", visibility: "hidden", y: HEIGHT - BOTTOM - 8 })));
  onPointer(picture, width, { all, points, measured, run, x });
}

function drawTraining(picture, points, line, x, y) {
  const [endRound, endLoss] = points[points.length - 1];
  picture.append(
    svg("defs", {}, svg("linearGradient", { id: "under", x1: 0, y1: 0, x2: 0, y2: 1 }, svg("stop", { class: "under-top", offset: "0" }), svg("stop", { class: "under-bottom", offset: "1" }))),
    svg("path", { class: "area", d: `${line}L${x(endRound)} ${HEIGHT - BOTTOM}L${x(points[0][0])} ${HEIGHT - BOTTOM}Z`, fill: "url(#under)" }),
    svg("path", { class: "curve", d: line }),
    svg("circle", { class: "tip", cx: x(endRound), cy: y(endLoss), r: 4 }));
}

const heldoutText = (run, [round, value]) => `held-out ${show(value)}, perplexity ${perplexity(Math.exp(value))}: ${measuredAt(run, round)}`;

// Which line is which, in the corner that a falling loss leaves free.
function drawKey(picture, width, points, measured, run) {
  const right = width - RIGHT;
  if (points.length) picture.append(svg("text", { class: "training-text", x: right, y: TOP + 8, "text-anchor": "end" }, `training ${show(run?.loss_nats)}`));
  if (measured.length) picture.append(svg("text", { class: "heldout-text", x: right, y: TOP + 24, "text-anchor": "end" }, heldoutText(run, measured[measured.length - 1])));
}

// The hair and its reading belong to the pointer: a redraw leaves them where they are.
function onPointer(picture, width, { all, points, measured, run, x }) {
  const reveal = (box, visibility) => { for (const shape of box.querySelectorAll(".hair, .reading")) shape.setAttribute("visibility", visibility); };
  const move = (event) => {
    const box = event.currentTarget, bounds = box.getBoundingClientRect();
    const hair = box.querySelector(".hair"), reading = box.querySelector(".reading");
    const at = ((event.clientX - bounds.left) / bounds.width) * width;
    const [round] = all.reduce((best, pair) => (Math.abs(x(pair[0]) - at) < Math.abs(x(best[0]) - at) ? pair : best));
    const of = (pairs) => pairs.find((pair) => pair[0] === round)?.[1];
    const said = [["training", of(points)], ["held-out", of(measured)]].filter(([, value]) => value !== undefined);
    const right = x(round) > width * 0.6;
    reveal(box, "visible");
    hair.setAttribute("x1", x(round));
    hair.setAttribute("x2", x(round));
    reading.setAttribute("x", x(round) + (right ? -8 : 8));
    reading.setAttribute("text-anchor", right ? "end" : "start");
    const place = run?.rounds && round > run.rounds ? measuredAt(run, round) : `round ${round}`;
    reading.textContent = `${place}: ${said.map(([name, value]) => `${name} ${show(value)}`).join(", ")}`;
  };
  handle(picture, { pointermove: move, pointerleave: (event) => reveal(event.currentTarget, "hidden") });
}
