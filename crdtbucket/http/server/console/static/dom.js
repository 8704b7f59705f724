// Elements, made without any HTML text: what a server says is shown as text and never parsed.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const el = (tag, attributes = {}, ...children) =>
  made(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  made(document.createElementNS(SVG, tag), attributes, children);

// Changes a text only where it differs, so that a selection of the reader stays.
export function say(element, text, className) {
  if (element.textContent !== text) element.textContent = text;
  if (className !== undefined && element.className !== className) element.className = className;
}

// Rows of a table by key: one that stays keeps its element, and with it the focus.
export class Rows {
  constructor(body, make, update) {
    this.body = body;
    this.make = make;
    this.update = update;
    this.rows = new Map();
  }

  show(items, keyOf) {
    const wanted = new Set(items.map(keyOf));
    for (const [key, row] of this.rows) {
      if (!wanted.has(key)) {
        row.element.remove();
        this.rows.delete(key);
      }
    }
    let before = this.body.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      let row = this.rows.get(key);
      if (row === undefined) {
        row = this.make(item);
        this.rows.set(key, row);
      }
      this.update(row, item);
      if (row.element === before) before = before.nextElementSibling;
      else this.body.insertBefore(row.element, before);
    }
  }
}

// A row of named cells.
export function row(...cells) {
  const made = { element: el("tr") };
  for (const [name, className] of cells) {
    made[name] = el("td", className ? { class: className } : {});
    made.element.append(made[name]);
  }
  return made;
}
