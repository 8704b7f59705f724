// The table of buckets, and the one that is chosen.

import { $, Rows, el, row, say, svg } from "./dom.js";
import { Chart } from "./chart.js";
import { inWords } from "./history.js";
import { count, counted, percent, rate, refill, round, seconds } from "./words.js";

const LOW = 0.1;
const HALF = 0.5;
const SPARK = 60;

const modeClass = (mode) => ({ fallback: "chip bad", strong: "chip good" })[mode] ?? "chip";

const line = (field, colour, label = field) => ({ field, colour, label });

export class Buckets {
  constructor(history, onChoice) {
    this.history = history;
    this.onChoice = onChoice;
    this.chosen = "";
    this.all = [];
    this.rows = new Rows($("bucket-rows"), (one) => this.#made(one), (made, one) => this.#update(made, one));
    $("find").addEventListener("input", () => this.#list());
    const fraction = { words: percent, most: 1 };
    this.charts = [
      new Chart($("rates"), [line("allowed", "good"), line("denied", "bad")], { words: round }),
      new Chart($("levels"), [line("fill", "mute", "mean"), line("lowest", "accent", "emptiest key")], fraction),
      new Chart($("over"), [line("bound", "mute"), line("over", "bad", "measured")], { words: count }),
    ];
  }

  show(buckets) {
    this.all = buckets;
    if (!buckets.some((one) => one.name === this.chosen)) this.choose(buckets[0]?.name ?? "");
    else this.#list();
  }

  choose(name) {
    this.chosen = name;
    this.#list();
    this.onChoice(name);
  }

  // To the next row, or with -1 to the one before.
  step(by) {
    const names = this.#found().map((one) => one.name);
    if (!names.length) return;
    const next = Math.min(Math.max(names.indexOf(this.chosen) + by, 0), names.length - 1);
    this.choose(names[next]);
    this.rows.rows.get(names[next]).button.focus();
  }

  redraw() {
    for (const chart of this.charts) chart.draw();
  }

  #found() {
    const wanted = $("find").value.trim().toLowerCase();
    return this.all.filter((one) => one.name.toLowerCase().includes(wanted));
  }

  #list() {
    const found = this.#found();
    say($("bucket-count"), found.length === this.all.length ? `${found.length}` : `${found.length} of ${this.all.length}`);
    this.rows.show(found, (one) => one.name);
    this.#detail();
  }

  #made({ name }) {
    const made = row(["name", "name"], ["mode", "mid"], ["fill"], ["allowed", "n"], ["denied", "n"], ["spark", "wide"], ["forecast", "mid"], ["over", "n mid"], ["keys", "n wide"]);
    made.button = el("button", { type: "button", title: name }, name);
    made.name.append(made.button);
    made.chip = el("span", { class: "chip" });
    made.mode.append(made.chip);
    made.level = svg("rect", { class: "level", height: 10, width: 0 });
    made.mean = svg("rect", { class: "mean", height: 10, width: 1.5 });
    made.share = el("span");
    made.bar = svg("svg", { class: "fill", viewBox: "0 0 80 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "track", width: 80, height: 10 }), made.level, made.mean);
    made.fill.append(made.bar, made.share);
    made.lines = ["good", "bad"].map((kind) => svg("polyline", { class: kind }));
    made.spark.append(svg("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" }, ...made.lines));
    made.element.addEventListener("click", () => this.choose(name));
    return made;
  }

  #update(made, one) {
    const { history } = this;
    const lowest = Math.max(0, one.lowest);
    made.element.classList.toggle("chosen", one.name === this.chosen);
    made.button.setAttribute("aria-current", one.name === this.chosen);
    say(made.chip, one.mode, modeClass(one.mode));
    made.level.setAttribute("width", 80 * lowest);
    made.level.setAttribute("class", `level ${lowest < LOW ? "bad" : lowest < HALF ? "warn" : ""}`);
    made.mean.setAttribute("x", Math.min(78.5, 80 * Math.max(0, one.fill)));
    made.bar.style.visibility = one.slots === null ? "" : "hidden"; // of a slot nothing refills
    say(made.share, one.slots === null ? percent(one.lowest) : `${count(one.slots_held)} held`);
    const denied = history.lately(one.name, "denied");
    say(made.allowed, rate(history.lately(one.name, "allowed")));
    say(made.denied, rate(denied), denied ? "n bad-text" : "n dim");
    const forecast = this.#forecast(one);
    const soon = forecast.kind === "empty" || (forecast.kind === "empties" && forecast.in < 60);
    say(made.forecast, inWords(forecast, seconds), soon ? "mid warn-text" : "mid");
    const over = one.over_admission > one.bound;
    const measured = one.slots === null ? `${count(one.over_admission)} / ${count(one.bound)}` : "–";
    say(made.over, measured, over ? "n mid bad-text" : "n mid");
    say(made.keys, count(one.keys));
    this.#spark(made.lines, history.of(one.name).slice(-SPARK));
  }

  #forecast(one) {
    return one.slots === null ? this.history.forecast(one.name) : { kind: "unknown" };
  }

  #levels(one) {
    return [
      ["granted/s", rate(this.history.lately(one.name, "granted"))],
      ["emptiest key", percent(one.lowest)],
      ["keys", count(one.keys)],
      ["empty keys", count(one.empty)],
      ["forecast", inWords(this.#forecast(one), seconds)],
    ];
  }

  #spark(lines, samples) {
    const top = Math.max(1e-9, ...samples.map((one) => Math.max(one.allowed, one.denied)));
    const from = SPARK - samples.length;
    ["allowed", "denied"].forEach((field, which) => {
      const points = samples.map((one, place) =>
        `${((from + place) * 100) / (SPARK - 1)},${(19 - (18 * one[field]) / top).toFixed(1)}`);
      const any = samples.some((one) => one[field] > 0); // a red line that says "none" alarms for nothing
      lines[which].setAttribute("points", any ? points.join(" ") : "");
    });
  }

  #detail() {
    const one = this.all.find((bucket) => bucket.name === this.chosen);
    $("detail").hidden = one === undefined;
    if (one === undefined) return;
    say($("h-detail"), one.name);
    const tokens = one.slots === null;
    say($("definition"), tokens ? `${counted(one.capacity, "token")}, ${refill(one.refill_per_second)}` : `${counted(one.slots, "slot")} a key`);
    const asked = one.allowed + one.denied;
    const tiles = [
      ["allowed", count(one.allowed)],
      ["denied", count(one.denied)],
      ["denied share", percent(asked ? one.denied / asked : 0)],
      ...(tokens ? this.#levels(one) : [["slots held here", count(one.slots_held)]]),
    ];
    const list = $("tiles");
    if (list.children.length !== tiles.length) {
      list.replaceChildren(...tiles.map(([name]) => el("div", {}, el("dt", {}, name), el("dd"))));
    }
    tiles.forEach(([, text], place) => say(list.children[place].lastChild, text));
    $("over").hidden = !tokens || (one.bound === 0 && one.over_admission === 0);
    $("levels").hidden = !tokens;
    for (const chart of this.charts) chart.show(this.history.of(one.name));
  }
}
