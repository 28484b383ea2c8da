// A table of many rows: sorted by its headers, walked with the arrow keys, and drawn only where it is looked at.

const ROW_HEIGHT = 36;
const ALL_ROWS = 400; // up to here every row is in the document, so that the browser's own search finds it
const OVERSCAN = 20;
const COLLATOR = new Intl.Collator(undefined, { numeric: true });

/**
 * Bring `<div id=box><table>` to life. `records` are drawn by `columns`: {key, label, hint, numeric, value(record),
 * cell(record)}. `open(i)` is told of a click or Enter on record i, `changed(order)` of another order; `selected()`
 * says which record is open. `first` compares two records where no column is chosen (by default their own order).
 */
function makeGrid({ box, table, columns, records, nothing, open, changed, selected, first = () => 0 }) {
  const [head, body] = [table.tHead, table.tBodies[0]];
  const sort = { column: null, descending: false };
  let kept = records.map((_, i) => i); // those that pass the filter
  let order = [];
  let drawn = [0, 0];

  function header() {
    const cells = columns.map((column) => {
      const button = el("button", { type: "button", title: column.hint }, ...(column.mark ? [column.mark(), column.label] : [column.label]));
      button.addEventListener("click", () => sortBy(column));
      return el("th", { scope: "col", class: column.numeric ? "num" : null, "aria-sort": "none", "data-column": column.key }, button);
    });
    head.replaceChildren(el("tr", {}, ...cells));
  }

  /** First click: text rising, numbers falling; second: the other way; third: the first order again. */
  function sortBy(column) {
    const falling = Boolean(column.numeric);
    if (sort.column !== column) Object.assign(sort, { column, descending: falling });
    else if (sort.descending === falling) sort.descending = !falling;
    else sort.column = null;
    for (const cell of head.querySelectorAll("th")) {
      const here = sort.column?.key === cell.dataset.column;
      cell.setAttribute("aria-sort", here ? (sort.descending ? "descending" : "ascending") : "none");
    }
    update();
  }

  function sorted(rows) {
    if (!sort.column) return rows.sort((i, j) => first(records[i], records[j]) || i - j);
    const read = sort.column.value ?? ((record) => record[sort.column.key]);
    const sign = sort.descending ? -1 : 1;
    return rows.sort((i, j) => {
      const [a, b] = [read(records[i]), read(records[j])];
      if (!defined(a) || !defined(b)) return Number(defined(b)) - Number(defined(a)) || i - j; // the undefined stay last
      return sign * (typeof a === "string" ? COLLATOR.compare(a, b) : a - b) || i - j;
    });
  }

  function update() {
    order = sorted([...kept]);
    table.setAttribute("aria-rowcount", order.length + 1);
    box.scrollTop = 0;
    render(true);
    changed(order);
  }

  function render(force = false) {
    const total = order.length;
    const all = total <= ALL_ROWS;
    const from = all ? 0 : Math.max(0, Math.floor(box.scrollTop / ROW_HEIGHT) - OVERSCAN);
    const to = all ? total : Math.min(total, from + Math.ceil(box.clientHeight / ROW_HEIGHT) + 2 * OVERSCAN);
    if (!force && from === drawn[0] && to === drawn[1]) return;
    const held = body.contains(document.activeElement) ? Number(document.activeElement.dataset.i) : null;
    drawn = [from, to];
    const gap = (rows) => (rows ? [el("tr", { class: "gap", "aria-hidden": "true" }, el("td", { colspan: columns.length, style: `height:${rows * ROW_HEIGHT}px` }))] : []);
    const none = total ? [] : [el("tr", { class: "gap" }, el("td", { class: "empty", colspan: columns.length }, nothing))];
    body.replaceChildren(...gap(from), ...order.slice(from, to).map((i, at) => rowOf(i, from + at)), ...gap(total - to), ...none);
    mark();
    if (held !== null) body.querySelector(`[data-i="${held}"]`)?.focus({ preventScroll: true });
  }

  function rowOf(i, at) {
    const cells = columns.map((column) => el("td", { class: column.numeric ? "num" : null }, ...column.cell(records[i])));
    return el("tr", { "data-i": i, tabindex: -1, "aria-rowindex": at + 2, "aria-selected": "false" }, ...cells);
  }

  /** Show which row is open, and let Tab reach exactly one row. */
  function mark() {
    for (const row of body.querySelectorAll("[data-i]")) row.setAttribute("aria-selected", Number(row.dataset.i) === selected());
    body.querySelector('[tabindex="0"]')?.setAttribute("tabindex", -1);
    (body.querySelector('[aria-selected="true"]') ?? body.querySelector("[data-i]"))?.setAttribute("tabindex", 0);
  }

  function goTo(at) {
    const target = Math.max(0, Math.min(order.length - 1, at));
    scrollTo(target);
    const row = body.querySelector(`[data-i="${order[target]}"]`);
    body.querySelector('[tabindex="0"]')?.setAttribute("tabindex", -1);
    row?.setAttribute("tabindex", 0);
    row?.focus({ preventScroll: true });
  }

  /** Scroll the box, not the page, until row number `at` can be seen. */
  function scrollTo(at) {
    const [above, below] = [at * ROW_HEIGHT, (at + 1) * ROW_HEIGHT + head.offsetHeight];
    if (above < box.scrollTop) box.scrollTop = above;
    else if (below > box.scrollTop + box.clientHeight) box.scrollTop = below - box.clientHeight;
    render();
  }

  body.addEventListener("click", (event) => {
    const row = event.target.closest("[data-i]");
    if (row) open(Number(row.dataset.i));
  });
  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("[data-i]");
    if (!row) return;
    const at = order.indexOf(Number(row.dataset.i));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 10, PageUp: at - 10, Home: 0, End: order.length - 1 }[event.key];
    if (event.key === "Enter") open(Number(row.dataset.i));
    else if (to !== undefined) goTo(to);
    else return;
    event.preventDefault();
  });
  box.addEventListener("scroll", () => requestAnimationFrame(() => render()), { passive: true });
  header();
  return {
    /** Keep these records, and sort again. */
    filter(rows) {
      kept = rows;
      update();
    },
    /** Mark the open record, and bring it into the box. */
    show(i) {
      const at = order.indexOf(i);
      if (at >= 0) scrollTo(at);
      mark();
    },
    /** Draw the rows again: what a cell shows has changed. */
    redraw: () => render(true),
  };
}
