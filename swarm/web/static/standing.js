// Where a run stands and how good its model is, in the words of `swarm status`.

import { DASH, count, span } from "./format.js";

export const STANDSTILL_S = 15; // health.STANDSTILL_S of the node

// The big number and the note beside it: no round is counted beyond the last one that trains.
export function progressOf(run) {
  if (!run) return { label: "round", value: DASH };
  const of = run.rounds ? `of ${count(run.rounds)}` : null;
  if (run.phase === "cooling") return { label: "final averaging", value: count(run.consensus_round), note: `of ${count(run.consensus_rounds)}, all ${count(run.rounds)} trained` };
  if (run.phase === "finished" || run.phase === "settled") return { label: "round", value: count(run.rounds), note: `done${run.consensus_rounds ? `, averaged in ${count(run.consensus_rounds)} more` : ""}` };
  if (run.phase === "open" && !run.round) return { label: "round", value: DASH, note: `${of ?? ""} begins soon`.trim() };
  const more = run.phase === "open" ? ", goes on soon" : run.phase === "paused" ? ", paused" : run.is_pausing ? ", then a pause" : "";
  return { label: "round", value: count(run.round), note: of ? `${of}${more}` : null };
}

export function progressText(run) {
  const { label, value, note } = progressOf(run);
  return [label, value, note].filter(Boolean).join(" ");
}

// A peer's round: `22+1` is the first of final averaging after 22 that trained.
export function roundOf(run, round) {
  if (typeof round !== "number" || round < 0) return DASH;
  const more = run?.consensus_rounds ? Math.min(round - run.rounds + 1, run.consensus_rounds) : 0;
  return more > 0 ? `${count(run.rounds)}+${more}` : count(run?.rounds ? Math.min(round, run.rounds) : round);
}

// A run that stands still is not said to train; "cooling" is the ledger's word for final averaging.
export function phaseText(state) {
  const { run, ledger } = state, isStill = ledger?.is_still || run.tokens_age_s >= STANDSTILL_S;
  if (run.phase === "cooling") return "final averaging";
  return run.phase === "training" && isStill ? "standing still" : run.phase;
}

// The verdict on the node in words, with its cause, its age and the one command that helps.
export function verdictOf(state) {
  const health = state.health ?? {}, age = health.age_s > 0 && /stalled|waiting/.test(health.verdict) ? ` for ${span(health.age_s)}` : "";
  const isWell = health.verdict === "progressing" && !state.ledger?.is_still;
  return { isWell, isBad: health.verdict === "stalled", text: isWell ? "healthy" : `${health.verdict ?? "unknown"}${age}`, cause: health.cause ?? "", command: health.command ?? "" };
}

// What is left of a document whose node does not answer: totals, and no rate or word of health.
export function silenced(state, silent_s) {
  const peers = (state.peers ?? []).map((peer) => ({ ...peer, tokens_per_s: null, loss_nats: null, rtt_ms: null, state: "unknown", reason: peer.gone_s > 0 ? peer.reason : "not known now", condition: peer.condition === "out" ? "out" : "gone" }));
  return { ...state, peers,
    health: { verdict: "stalled", cause: "this node does not answer", command: "swarm status", age_s: Math.round(silent_s) },
    node: { ...state.node, state: "silent", tokens_per_s: null },
    ledger: { ...state.ledger, finality_s: null },
    run: state.run && { ...state.run, tokens_per_s: null, loss_nats: null, tokens_age_s: Math.max(state.run.tokens_age_s ?? 0, silent_s) } };
}

// Of which weights a held-out figure is.
export function measuredAt(run, round) {
  if (typeof round !== "number") return "";
  if (round === 0) return "before training";
  const into = round - (run?.rounds || round);
  if (into <= 0) return `round ${count(round)}`;
  return into >= run.consensus_rounds ? "fully averaged" : `${into} of ${run.consensus_rounds} averaging rounds`;
}
