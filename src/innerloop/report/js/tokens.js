// A trajectory's text, token by token, coloured by how much each one moved the loss.

const LEVELS = 8;
const CHUNK = 250; // tokens that the browser may skip together while they are off the screen

/** How far token k moved the loss: negative where it fell, null where there is nothing before it. */
function move(curve, k) {
  return k > 0 && defined(curve.loss[k]) && defined(curve.loss[k - 1]) ? curve.loss[k] - curve.loss[k - 1] : null;
}

/** The strength of a move, 0 to LEVELS. The square root keeps small moves visible; the key shows the same steps. */
function level(size, scale) {
  return scale > 0 ? Math.round(LEVELS * Math.sqrt(Math.min(1, Math.abs(size) / scale))) : 0;
}

function tokenClass(curve, k, scale) {
  const by = move(curve, k);
  if (by === null) return "tok unmeasured";
  const strength = level(by, scale);
  return strength ? `tok ${by < 0 ? "dn" : "up"} k${strength}` : "tok";
}

/** The 98th percentile of a curve's own moves. */
function ownScale(curve) {
  const moves = curve.loss.map((_, k) => move(curve, k)).filter((by) => by !== null).map(Math.abs).sort((a, b) => a - b);
  return moves.length ? moves[Math.floor(0.98 * (moves.length - 1))] : 0;
}

/** Text with line breaks that can be seen and symbols for the rest that cannot. */
function tokenText(text) {
  if (!text) return [el("i", { class: "void" })];
  return text.split(/(\n)/).filter(Boolean).map((part) => (part === "\n" ? el("i", { class: "nl" }, "\n") : plainText(part)));
}

function plainText(text) {
  if (!INVISIBLE.test(text)) return document.createTextNode(text);
  const parts = [...text].map((character) => (INVISIBLE.test(character) ? el("span", { class: "symbol" }, character) : document.createTextNode(character)));
  const whole = document.createDocumentFragment();
  whole.append(...parts);
  return whole;
}

/** The tokens of a curve as chunks of spans; `data-k` counts measured positions. */
function tokenChunks(curve, scale) {
  const chunks = [];
  let chunk = null;
  curve.tokens.forEach((text, k) => {
    if (k === 0 && !text) return;
    if (!chunk) chunks.push((chunk = el("div", { class: "chunk" })));
    const span = el("span", { class: tokenClass(curve, k, scale), "data-k": k, tabindex: -1 });
    span.append(...tokenText(text));
    chunk.append(span);
    // A chunk is a block, so it can only end where a line ends.
    if (text.endsWith("\n") && chunk.childElementCount >= CHUNK) chunk = null;
  });
  return chunks;
}

/** The key: the steps of colour, with the moves that they stand for. */
function rampKey(scale) {
  const steps = (direction, levels) => levels.map((k) => el("i", { class: `${direction} k${k}` }));
  const up = Array.from({ length: LEVELS }, (_, i) => i + 1);
  const bar = el("span", { class: "steps" }, ...steps("dn", [...up].reverse()), el("i"), ...steps("up", up));
  return [el("span", {}, `lowers the loss, −${scale.toFixed(2)}`), bar, el("span", {}, `+${scale.toFixed(2)}, raises it`)];
}

/** The numbers of token k, for the popover. */
function tokenNote(curve, k) {
  const at = (i) => (curve.position ? curve.position[i] : i);
  const last = at(curve.loss.length - 1);
  const before = k > 0 ? curve.loss[k - 1] : null;
  const chance = (loss) => (defined(loss) ? Math.exp(-loss * curve.answer_tokens) : null);
  const span = k > 0 && at(k) - at(k - 1) > 1 ? `tokens ${at(k - 1) + 1}–${at(k)} of ${last}` : `token ${at(k)} of ${last}`;
  const text = curve.tokens[k];
  const rows = [
    ["answer loss", `${fixed(before)} → ${fixed(curve.loss[k])}`],
    ["move Δ", `${fixed(move(curve, k), 3, true)} nats`],
    ["p(answer)", `${probability(chance(before))} → ${probability(chance(curve.loss[k]))}`],
    ...curve.candidates.map((candidate, c) => [`belief in “${candidate}”`, probability(curve.beliefs[k][c])]),
  ];
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return [el("div", { class: "what" }, shown.replace(/\n/g, "↵").replace(/ /g, "␣") || "part of a character"), el("div", { class: "muted" }, span), pairs(rows)];
}
