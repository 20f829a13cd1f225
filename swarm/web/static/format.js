// Numbers as people read them. Unknown is a dash, never a guess.

export const DASH = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);

export function count(value) {
  if (!known(value)) return DASH;
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toFixed(2)}G`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(2)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  return Math.round(value).toLocaleString("en").replaceAll(",", "\u202f");
}

// `1 stage`, `2 stages`.
export const counted = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

export function bytes(value) {
  if (!known(value)) return DASH;
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)} GB`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} MB`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(0)} kB`;
  return `${Math.round(value)} B`;
}

export const loss = (value) => (known(value) ? value.toFixed(3) : DASH);
export const perplexity = (value) => (known(value) ? (value < 1000 ? value.toFixed(2) : count(value)) : DASH);
export const ms = (value) => (known(value) ? `${Math.round(value)} ms` : DASH);

export function span(seconds) {
  if (!known(seconds)) return DASH;
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const short = (text) => (typeof text === "string" && text.length > 14 ? `${text.slice(0, 6)}…${text.slice(-6)}` : text ?? DASH);

export function clock(at) {
  if (typeof at === "string") return at.slice(0, 8);
  if (!known(at)) return "";
  const date = new Date(at > 1e11 ? at : at * 1000);
  return date.toLocaleTimeString("en-GB");
}
