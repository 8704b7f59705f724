// A chart of the last minutes: lines over time by uPlot, with their values in the caption.

import uPlot from "./vendor/uPlot.esm.js";

const SPANS_S = [60, 120, 300];
const SIZES = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** (power - 1))).flat();
const FONT = `11px ${getComputedStyle(document.body).fontFamily}`;

function ago(s) {
  const back = Math.round(-s);
  if (!back) return "now";
  return back % 60 ? `-${back} s` : `-${back / 60} min`;
}

const last = (values) => values[values.length - 1];

export class Chart {
  // lines: [{field, label, colour}], where the colour is a variable of the style sheet.
  constructor(figure, lines, { words, most = null }) {
    const host = figure.querySelector("div");
    Object.assign(this, { host, lines, words, span: SPANS_S[0] });
    const colour = (name) => () => getComputedStyle(host).getPropertyValue(`--${name}`);
    const axis = { stroke: colour("dim"), font: FONT, ticks: { show: false } };
    const step = () => (this.span > 60 ? 60 : 15);
    this.plot = new uPlot({
      width: 300,
      height: 100,
      padding: [8, 14, 0, 0],
      scales: {
        x: { time: false, range: () => [-this.span, 0] },
        y: { range: (_, low, high) => [Math.min(0, low), most ?? 1.05 * Math.max(1, high)] },
      },
      axes: [
        {
          ...axis, size: 22, gap: 6, grid: { show: false }, values: (_, splits) => splits.map(ago),
          splits: () => Array.from({ length: this.span / step() + 1 }, (_, n) => n * step() - this.span),
        },
        {
          ...axis, gap: 6, space: 22, incrs: SIZES, grid: { stroke: colour("line"), width: 1 },
          values: (_, splits) => splits.map(words),
          size: (_, told) => Math.max(46, ...(told ?? []).map((one) => 10 + 7 * one.length)),
        },
      ],
      series: [
        { value: (_, at) => ago(at ?? 0) },
        ...lines.map(({ label, colour: name }) => ({
          label, stroke: colour(name), width: 1.5, points: { show: false },
          value: (plot, value, place) => {
            const known = value ?? last(plot.data[place]);
            return known === undefined ? "–" : words(known);
          },
        })),
      ],
      legend: {
        mount: (_, table) => figure.querySelector("figcaption").append(table),
        markers: { stroke: (_, place) => `var(--${lines[place - 1].colour})` },
      },
      cursor: {
        y: false, drag: { x: false }, sync: { key: "detail" }, points: { size: 7 },
        bind: { click: () => null, dblclick: () => null }, // no line is hidden
      },
    }, [[], ...lines.map(() => [])], host);
    host.addEventListener("keydown", (event) => this.#move({ ArrowLeft: -1, ArrowRight: 1 }[event.key]));
    host.addEventListener("blur", () => this.plot.setCursor({ left: -10, top: -10 }, true, true));
    new ResizeObserver(() => this.#fit()).observe(host);
  }

  show(samples) {
    const now = last(samples)?.at ?? 0;
    const seen = samples.length ? now - samples[0].at : 0;
    this.span = SPANS_S.find((one) => one >= seen) ?? last(SPANS_S);
    const shown = samples.filter((one) => now - one.at <= this.span);
    const values = this.lines.map(({ field }) => shown.map((one) => one[field]));
    this.plot.setData([shown.map((one) => one.at - now), ...values]);
    const told = this.lines.map(({ label }, place) => {
      const words = [Math.min(...values[place]), Math.max(...values[place])].map(this.words);
      return `${label} from ${words.join(" to ")}`;
    });
    this.host.setAttribute("aria-label", shown.length ? `Since ${ago(shown[0].at - now)}: ${told.join(", ")}` : "Nothing yet");
  }

  draw() {
    this.plot.redraw(false);
  }

  // To the sample before or after the one that is pointed at.
  #move(by) {
    const [times] = this.plot.data;
    if (!by || !times.length) return;
    const place = (this.plot.cursor.idx ?? times.length - 1) + by;
    const at = times[Math.min(Math.max(place, 0), times.length - 1)];
    this.plot.setCursor({ left: this.plot.valToPos(at, "x"), top: 0 }, true, true);
  }

  #fit() {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width && height) this.plot.setSize({ width, height });
  }
}
