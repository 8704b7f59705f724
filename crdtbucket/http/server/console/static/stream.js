// The server's events. A browser connects again by itself, but not after a refusal: then this does.

const AGAIN_MS = 3000;
const SILENT_MS = 5000;

export class Stream {
  // onState(state) for each look; onLive(text) with "" while events come, else with what is wrong.
  constructor(onState, onLive) {
    Object.assign(this, { onState, onLive, source: null, last: 0 });
    setInterval(() => {
      const silent = performance.now() - this.last;
      if (this.last && silent > SILENT_MS) this.onLive(`no update for ${Math.round(silent / 1000)} s`);
    }, 1000);
  }

  close() {
    this.source?.close();
    this.source = null;
    this.last = 0;
  }

  open() {
    this.source?.close();
    const source = new EventSource(new URL("events", import.meta.url));
    this.source = source;
    source.addEventListener("node", (event) => {
      this.onState(JSON.parse(event.data)); // first: what cannot be shown is no update
      this.last = performance.now();
      this.onLive("");
    });
    source.addEventListener("end", (event) => {
      this.onLive(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      if (!this.last) this.onLive("no answer");
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(() => source === this.source && this.open(), AGAIN_MS);
      }
    });
  }
}
