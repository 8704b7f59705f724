// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const count = (n) => (Math.abs(n) < 100_000 ? whole.format(n) : short.format(n));

export const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

export function rate(n) {
  if (n === null) return "–";
  if (n === 0) return "0";
  return n < 100 ? one.format(n) : count(n);
}

export const round = (n) => (n < 10 ? String(Number(n.toFixed(1))) : count(n));

export const percent = (share) => `${count(share * 100 + 0)}%`;

export const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

export function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 100) return `${s < 10 ? one.format(s) : whole.format(s)} s`;
  if (s < 6000) return `${whole.format(s / 60)} min`;
  return s < 360_000 ? `${whole.format(s / 3600)} h` : `${whole.format(s / 86_400)} d`;
}

const NAMED = 5;

export function names(some) {
  const named = some.slice(0, NAMED).map((one) => one.name).join(", ");
  return some.length > NAMED ? `${named} and ${some.length - NAMED} more` : named;
}

// A key as it is told from others: what cannot be seen, or turns the text around it, by its number.
export const visible = (key) => key.replace(/\p{C}|\p{Zl}|\p{Zp}|[^\S ]|^ +| +$/gu, (part) =>
  [...part].map((one) => `\\u{${one.codePointAt(0).toString(16)}}`).join(""));

// "5 a second", "600 a minute", "10 a day": the longest unit in which it is not below one.
export function refill(perSecond) {
  for (const [unit, length] of [["s", 1], ["min", 60], ["h", 3600], ["d", 86_400]]) {
    if (perSecond * length >= 1) return `${rate(perSecond * length)}/${unit}`;
  }
  return `${rate(perSecond * 86_400)}/d`;
}

export function version(config) {
  if (!config || !config.hash) return "";
  const number = config.version ? `v${config.version} ` : "";
  const stage = config.stage ? ` stage ${config.stage}` : "";
  return `${number}${config.hash.slice(0, 8)}${stage}`;
}
