// Where a run stands and how good its model is, in the words of `swarm status`.

import { DASH, count } from "./format.js";

// The big number and the note beside it: no round is counted beyond the last one that trains.
export function progressOf(run) {
  if (!run) return { label: "round", value: DASH };
  const of = run.rounds ? `of ${count(run.rounds)}` : null;
  if (run.phase === "cooling") return { label: "agreeing", value: count(run.consensus_round), note: `of ${count(run.consensus_rounds)}, all ${count(run.rounds)} trained` };
  if (run.phase === "finished" || run.phase === "settled") return { label: "round", value: count(run.rounds), note: `done${run.consensus_rounds ? `, agreed in ${count(run.consensus_rounds)} more` : ""}` };
  if (run.phase === "open" && !run.round) return { label: "round", value: DASH, note: `${of ?? ""} begins soon`.trim() };
  const more = run.phase === "open" ? ", goes on soon" : run.phase === "paused" ? ", paused" : run.is_pausing ? ", then a pause" : "";
  return { label: "round", value: count(run.round), note: of ? `${of}${more}` : null };
}

export function progressText(run) {
  const { label, value, note } = progressOf(run);
  return [label, value, note].filter(Boolean).join(" ");
}

// A peer's round: `22+1` is the first in which the replicas agree after 22 that trained.
export function roundOf(run, round) {
  if (!(round >= 0)) return DASH;
  const more = run?.consensus_rounds ? Math.min(round - run.rounds + 1, run.consensus_rounds) : 0;
  return more > 0 ? `${count(run.rounds)}+${more}` : count(run?.rounds ? Math.min(round, run.rounds) : round);
}

// "cooling" is the ledger's word for it.
export const phaseText = (run) => (run.phase === "cooling" ? "replicas become one" : run.phase);

// Of which weights a held-out figure is.
export function measuredAt(run, round) {
  if (typeof round !== "number") return "";
  if (round === 0) return "before training";
  const into = round - (run?.rounds || round);
  if (into <= 0) return `round ${count(round)}`;
  return into >= run.consensus_rounds ? "all agreed" : `${into} of ${run.consensus_rounds} rounds agreed`;
}
