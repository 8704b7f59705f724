// What this page has seen of each bucket: rates and levels of the last minutes, and what follows.
// The server counts; here are only differences of its counts.

const KEPT = 300;
const TREND_S = 20;
const STEADY = 0.0005; // a change of the fill in a second that is none
const FAR_S = 3600;

export class History {
  constructor() {
    this.node = "";
    this.at = 0;
    this.before = new Map();
    this.samples = new Map();
  }

  add({ node, at, buckets }) {
    if (node !== this.node || at < this.at) { // behind one address another answers, or its host was started again
      this.before.clear();
      this.samples.clear();
    }
    Object.assign(this, { node, at });
    for (const bucket of buckets) {
      const before = this.before.get(bucket.name);
      this.before.set(bucket.name, { at, bucket });
      const passed = before ? at - before.at : 0;
      const restarted = before && bucket.allowed < before.bucket.allowed;
      if (passed <= 0 || restarted) continue;
      const a_second = (field) => Math.max(0, bucket[field] - before.bucket[field]) / passed;
      const samples = this.samples.get(bucket.name) ?? [];
      samples.push({
        at,
        allowed: a_second("allowed"),
        denied: a_second("denied"),
        granted: a_second("granted"),
        lowest: bucket.lowest,
        fill: bucket.fill,
        over: bucket.over_admission,
        bound: bucket.bound,
      });
      if (samples.length > KEPT) samples.shift();
      this.samples.set(bucket.name, samples);
    }
  }

  of(name) {
    return this.samples.get(name) ?? [];
  }

  // A rate of the last few seconds, null before there is one.
  lately(name, field) {
    const last = this.of(name).slice(-3);
    return last.length ? last.reduce((sum, one) => sum + one[field], 0) / last.length : null;
  }

  // Where the emptiest key goes if it goes on so: a line through the last 20 s of its level.
  forecast(name) {
    const all = this.of(name);
    if (all.length < 5) return { kind: "unknown" };
    const last = all[all.length - 1];
    const part = all.filter((one) => one.at >= last.at - TREND_S);
    const mean = (field) => part.reduce((sum, one) => sum + one[field], 0) / part.length;
    const middle = mean("at");
    const level = mean("lowest");
    const spread = part.reduce((sum, one) => sum + (one.at - middle) ** 2, 0);
    const slope = spread
      ? part.reduce((sum, one) => sum + (one.at - middle) * (one.lowest - level), 0) / spread
      : 0;
    if (last.lowest >= 0.9995) return { kind: "full" };
    if (slope < -STEADY && last.lowest > 0.01) return { kind: "empties", in: last.lowest / -slope };
    if (slope > STEADY) return { kind: "fills", in: (1 - last.lowest) / slope };
    return { kind: last.lowest <= 0.01 ? "empty" : "steady" };
  }
}

export function inWords(forecast, seconds) {
  if (forecast.kind === "unknown") return "–";
  if (forecast.in === undefined) return forecast.kind === "empty" ? "stays empty" : forecast.kind;
  if (forecast.in > FAR_S) return "steady";
  return `${forecast.kind === "fills" ? "full" : "empty"} in ${seconds(forecast.in)}`;
}
