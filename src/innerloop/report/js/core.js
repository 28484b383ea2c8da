// What every section uses: the page's data, safe text, numbers, messages between sections.

const byId = (id) => document.getElementById(id);

/** A block of page data, parsed now; null where the page has none. */
function block(id) {
  const node = byId(id);
  return node ? JSON.parse(node.textContent) : null;
}

const index = block("data-index");

/** What can be read of trajectory number i; the block that holds it was kept, or is parsed now. */
const texts = { first: null, entries: [] };
function textOf(i) {
  const first = index.texts.findLast((number) => number <= i);
  if (texts.first !== first) Object.assign(texts, { first, entries: block(`data-t${first}`) });
  return texts.entries[i - first];
}

// Sections: each script registers what brings its part to life; main.js starts those that the page has.
const sections = [];
function section(key, start) {
  sections.push({ key, start });
}

// Messages: "select" (a trajectory was chosen), "order" (the table's order changed), "theme".
const listeners = {};
const on = (name, listener) => (listeners[name] ??= []).push(listener);
const tell = (name, ...values) => (listeners[name] ?? []).forEach((listener) => listener(...values));

/** What is kept in "localStorage" or "sessionStorage", `value` if one is given; storage may be closed to a page that was opened as a file. */
function remembered(place, name, value) {
  try {
    if (value !== undefined) window[place].setItem(name, value);
    return window[place].getItem(name);
  } catch {
    return null;
  }
}

// State that sections share: the trajectory in the reader, and the order in which "next" walks.
const state = { selected: null, order: index.rows.map((_, i) => i) };

/** Choose trajectory number i; `reveal` brings the reader into view. */
function select(i, { reveal = false } = {}) {
  if (!index.rows[i]) return;
  state.selected = i;
  tell("select", i);
  if (reveal) byId("reader")?.scrollIntoView();
}

// Model text is untrusted: it enters the page through here, as text nodes, and what cannot be seen gets a symbol.
const INVISIBLE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/u;
const INVISIBLE_ALL = new RegExp(INVISIBLE, "gu");

function symbol(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? "␡" : `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/** `text` with a symbol in the place of each character that cannot be seen. */
const visible = (text) => (INVISIBLE.test(text) ? text.replace(INVISIBLE_ALL, symbol) : text);

/** An element with attributes and children; strings become text. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null).map((child) => (child instanceof Node ? child : visible(String(child)))));
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const MARKS = { circle: "M9 5a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", square: "M9 1h8v8h-8z", diamond: "M13 0l5 5l-5 5l-5 -5z", "triangle-up": "M13 0l5 9h-10z", x: "M9 1l8 8m0 -8l-8 8", "triangle-down": "M13 10l5 -9h-10z", cross: "M13 0.5v9m-4.5 -4.5h9", star: "M13 0l1.2 3.6h3.8l-3.1 2.3l1.2 3.6l-3.1 -2.2l-3.1 2.2l1.2 -3.6l-3.1 -2.3h3.8z" };

/** A sample of a group's line, as in the charts; `symbol` is a key of MARKS. */
function swatch(kind, symbol = null) {
  const mark = symbol ? [svg("path", { d: MARKS[symbol] })] : [];
  return svg("svg", { class: `swatch kind-${kind}`, width: 26, height: 10, "aria-hidden": "true" }, svg("line", { x1: 1, y1: 5, x2: 25, y2: 5 }), ...mark);
}

/** A function that works out its value when it is first asked for it. */
function once(make) {
  let made;
  return () => (made ??= make());
}

const defined = (value) => value !== null && value !== undefined;

/** A number with a true minus sign; a dash where it is undefined. */
function fixed(value, digits = 3, plus = false) {
  if (!defined(value)) return "–";
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return (value < 0 ? "−" : plus ? "+" : "") + text;
}

/** A power of ten in raised digits. */
const raised = (power) => `10${power < 0 ? "⁻" : ""}${[...String(Math.abs(power))].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`;

/** A number of any size, not negative: small and large ones with a power of ten. */
function scientific(value, digits = 3) {
  if (!defined(value)) return "–";
  if (!Number.isFinite(value)) return "undefined";
  if (value === 0) return "0";
  const power = Math.floor(Math.log10(value));
  if (power >= -3 && power < 4) return String(Number(value.toPrecision(digits)));
  const rest = Number((value / 10 ** power).toPrecision(Math.min(digits, 2)));
  return rest === 1 ? raised(power) : `${rest} × ${raised(power)}`;
}

/** A ratio as a percentage. */
const percentage = (value) => (defined(value) ? `${scientific(100 * value, 2)} %` : "–");

/** A probability as a percentage, small ones as a power of ten. */
function probability(value) {
  if (!defined(value)) return "–";
  if (value >= 0.001) return `${(100 * value).toFixed(value >= 0.1 ? 1 : 2)} %`;
  if (value === 0) return "0";
  const power = Math.floor(Math.log10(value));
  return `${(value / 10 ** power).toFixed(1)} × ${raised(power)}`;
}

const OUTCOMES = { right: "✓ right", wrong: "✗ wrong", undecided: "? undecided" };

/** A verdict as a word and a sign, coloured. */
function verdict(outcome) {
  return el("span", { class: `verdict kind-${outcome ?? "none"}` }, OUTCOMES[outcome] ?? "not judged");
}

/** A colour of the style sheet under the current theme. */
function colour(name) {
  const probe = el("span", { style: "display:none" });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// The one floating note with a token's or a line's numbers.
const popover = {
  show(rect, ...content) {
    const node = byId("popover");
    node.replaceChildren(...content);
    node.hidden = false;
    const { width, height } = node.getBoundingClientRect();
    const below = rect.bottom + 8 + height < innerHeight;
    node.style.left = `${Math.max(8, Math.min(rect.left, innerWidth - width - 8))}px`;
    node.style.top = `${Math.max(8, below ? rect.bottom + 8 : rect.top - height - 8)}px`;
  },
  hide() {
    byId("popover").hidden = true;
  },
};

/** The place of a note beside the pointer. */
const nearMouse = ({ clientX, clientY }) => ({ left: clientX + 12, top: clientY - 8, bottom: clientY + 8 });

/** Resolves when the reader comes near an element; what is far down is drawn only then, so that the page opens soon. */
const whenNear = (id) =>
  new Promise((resolve) => {
    const watch = new IntersectionObserver(
      (seen) => {
        if (!seen.some(({ isIntersecting }) => isIntersecting)) return;
        watch.disconnect();
        resolve();
      },
      { rootMargin: "600px" },
    );
    watch.observe(byId(id));
  });

/** Names and values as a definition list. */
function pairs(rows) {
  return el("dl", {}, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}
