// What is about single keys: the heaviest ones, and why one is denied. Only for who has signed in.

import { $, Rows, el, row, say } from "./dom.js";
import { get, post, session } from "./session.js";
import { count, counted, refill, seconds, visible } from "./words.js";

const EVERY_MS = 2000;
const TOP = 12;

export class Keys {
  constructor() {
    this.bucket = "";
    this.picked = null; // the key of a button, as a field for text may lack a part of it
    this.rows = new Rows($("key-rows"), (one) => this.#made(one), (made, one) => {
      say(made.asked, count(one.tokens));
      say(made.denied, count(one.denied), one.denied ? "n bad-text" : "n dim");
      say(made.left, count(one.remaining));
    });
    $("why-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
    $("why-key").addEventListener("input", () => { this.picked = null; });
    setInterval(() => this.#look(), EVERY_MS);
  }

  of(bucket) {
    this.bucket = bucket;
    say($("keys-of"), bucket);
    this.rows.show([], (one) => one.key);
    $("why-answer").replaceChildren();
    this.#look();
  }

  async ask() {
    const [key, cost] = [this.picked ?? $("why-key").value, Number($("why-cost").value)];
    try {
      this.#answer(await post("why", { bucket: this.bucket, key, cost }));
    } catch (error) {
      $("why-answer").replaceChildren(el("p", { class: "fault" }, error.message));
    }
  }

  async #look() {
    if (!session.signedIn || !this.bucket || document.hidden) return;
    const { bucket } = this;
    try {
      const { keys } = await get(`keys/${encodeURIComponent(bucket)}?top=${TOP}`);
      if (bucket === this.bucket) this.rows.show(keys, (one) => one.key);
      say($("keys-of"), keys.length ? bucket : `${bucket}: none was asked for here lately`);
    } catch (error) {
      say($("keys-of"), error.message);
    }
  }

  #made({ key }) {
    const made = row(["name", "name"], ["asked", "n"], ["denied", "n"], ["left", "n"], ["why"]);
    made.name.textContent = made.name.title = visible(key);
    made.why.append(el("button", {
      type: "button",
      onclick: () => {
        $("why-key").value = this.picked = key;
        this.ask();
      },
    }, "why?"));
    return made;
  }

  #answer(found) {
    const tiles = [
      ["answer", found.allowed ? "admitted" : "denied", found.allowed ? "good-text" : "bad-text"],
      [`left of ${count(found.limit)}`, count(found.remaining)],
      ["kept back", count(found.kept_back)],
      ["may pass", count(found.passes)],
      ["passes in", found.allowed ? "now" : seconds(found.retry_after)],
      ["full in", seconds(found.reset_after)],
    ];
    const parts = [
      el("dl", { class: "tiles" }, ...tiles.map(([name, text, kind]) =>
        el("div", {}, el("dt", {}, name), el("dd", kind ? { class: kind } : {}, text)))),
      el("ul", {}, ...found.reasons.map((text) => el("li", {}, text))),
    ];
    if (found.taken.length) {
      parts.push(el("table", {},
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "taken by"), el("th", { scope: "col", class: "n" }, "tokens so far"))),
        el("tbody", {}, ...found.taken.map(({ node, tokens }) =>
          el("tr", {}, el("td", {}, node), el("td", { class: "n" }, count(tokens)))))));
    }
    const lately = found.asked
      ? ` Lately asked for it here: ${counted(found.asked.tokens, "token")}, ${count(found.asked.denied)} of them denied.`
      : "";
    parts.push(el("p", { class: "dim" }, `Limited by ${found.limited_by}: ${counted(found.limit, "token")}, ${refill(found.refill_per_second)}, ${found.mode}.${lately}`));
    $("why-answer").replaceChildren(...parts);
  }
}
