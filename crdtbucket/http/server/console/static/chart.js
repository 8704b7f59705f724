// A chart of the last minutes on a canvas: lines over time, a scale, and values at the pointer.

const SPANS_S = [60, 120, 300];
const PAD = { left: 46, right: 8, top: 8, bottom: 18 };

export class Chart {
  // lines: [{field, colour}], where the colour is a variable of the style sheet.
  constructor(canvas, lines, { words, least = 0, most = null }) {
    Object.assign(this, { canvas, lines, words, least, most, samples: [], pointer: null });
    canvas.setAttribute("role", "img");
    canvas.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    canvas.addEventListener("pointerleave", () => this.#point(null));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(samples) {
    this.samples = samples;
    const last = samples[samples.length - 1];
    const told = this.lines.map(({ field }) => `${field} ${last ? this.words(last[field]) : "unknown"}`);
    this.canvas.setAttribute("aria-label", `Now: ${told.join(", ")}`);
    this.draw();
  }

  #point(x) {
    this.pointer = x;
    this.draw();
  }

  draw() {
    const { canvas, samples } = this;
    const [width, height, dots] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
    if (!width || !height) return;
    const [across, down] = [Math.round(width * dots), Math.round(height * dots)];
    if (canvas.width !== across) canvas.width = across;
    if (canvas.height !== down) canvas.height = down;
    const pen = canvas.getContext("2d");
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    pen.font = `11px ${style.fontFamily}`;

    const values = samples.flatMap((one) => this.lines.map(({ field }) => one[field]));
    const low = Math.min(this.least, ...values);
    const { top, step } = scale(low, this.most ?? Math.max(...values, 1));
    const now = samples.length ? samples[samples.length - 1].at : 0;
    const seen = samples.length ? now - samples[0].at : 0;
    const span = SPANS_S.find((one) => one >= seen) ?? SPANS_S[SPANS_S.length - 1];
    const x = (at) => PAD.left + (1 - (now - at) / span) * (width - PAD.left - PAD.right);
    const y = (v) => PAD.top + ((top - v) / (top - low || 1)) * (height - PAD.top - PAD.bottom);

    pen.textBaseline = "middle";
    pen.lineWidth = 1;
    for (let n = Math.ceil(low / step - 1e-9) || 0; n * step <= top + step / 1e6; n += 1) {
      const value = n * step;
      pen.strokeStyle = colour("line");
      line(pen, [[PAD.left, Math.round(y(value)) + 0.5], [width - PAD.right, Math.round(y(value)) + 0.5]]);
      pen.fillStyle = colour("dim");
      pen.textAlign = "right";
      pen.fillText(this.words(value), PAD.left - 6, y(value));
    }
    for (let back = span; back >= 0; back -= span > 60 ? 60 : 15) {
      pen.textAlign = back === span ? "left" : back ? "center" : "right";
      const text = back % 60 ? `-${back} s` : `-${back / 60} min`;
      pen.fillText(back ? text : "now", x(now - back), height - 7);
    }
    const shown = samples.filter((one) => now - one.at <= span);
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    for (const { field, colour: name } of this.lines) {
      pen.strokeStyle = colour(name);
      line(pen, shown.map((one) => [x(one.at), y(one[field])]));
    }
    if (this.pointer !== null && shown.length) this.#values(pen, shown, x, y, colour, width);
  }

  #values(pen, shown, x, y, colour, width) {
    const near = shown.reduce((a, b) =>
      Math.abs(x(b.at) - this.pointer) < Math.abs(x(a.at) - this.pointer) ? b : a);
    const at = x(near.at);
    pen.strokeStyle = colour("mute");
    pen.lineWidth = 1;
    line(pen, [[at, PAD.top], [at, this.canvas.clientHeight - PAD.bottom]]);
    const right = at < width - 110;
    pen.textAlign = right ? "left" : "right";
    this.lines.forEach(({ field, colour: name }, place) => {
      pen.fillStyle = colour(name);
      pen.beginPath();
      pen.arc(at, y(near[field]), 3, 0, 7);
      pen.fill();
      pen.fillText(`${this.words(near[field])} ${field}`, at + (right ? 7 : -7), PAD.top + 7 + 14 * place);
    });
  }
}

function line(pen, points) {
  pen.beginPath();
  points.forEach(([x, y], place) => (place ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}

// The top of a scale and its step: 1, 2 or 5 times a power of ten, three or four steps.
function scale(low, high) {
  const span = Math.max(high - low, 1e-3);
  const power = 10 ** Math.floor(Math.log10(span / 3));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => span / n <= 4);
  return { top: Math.ceil((high - 1e-9) / step) * step || step, step };
}
