// The table of trajectories: sorted, filtered, and drawn only where it is looked at.

const ROW_HEIGHT = 36;
const ALL_ROWS = 400; // up to here every row is in the document, so that the browser's own search finds it
const OVERSCAN = 20;

section("table", () => {
  const box = byId("table-box");
  const grid = byId("table-grid");
  const [head, body] = [grid.tHead, grid.tBodies[0]];
  const several = (name) => new Set(index.rows.map((row) => row[name])).size > 1;
  const probed = index.rows.some((row) => row.spark);
  const questionOf = (row) => index.questions[row.question];
  const number = (key, label, hint, digits = 2) => ({ key, label, hint, numeric: true, cell: (row) => [fixed(row[key], digits)] });
  const columns = [
    { key: "id", label: "Trajectory", cell: (row) => [el("span", { class: "cut", title: visible(row.id) }, row.id)] },
    { key: "question", label: "Question", value: (row) => questionOf(row).question || questionOf(row).id, cell: (row) => [el("span", { class: "cut", title: visible(questionOf(row).question) }, questionOf(row).question || questionOf(row).id)] },
    { key: "group", label: "Group", cell: (row) => [swatch(index.groups[row.group].kind), index.groups[row.group].label] },
    several("outcome") && { key: "outcome", label: "Verdict", value: (row) => row.outcome ?? null, cell: (row) => [row.outcome ? verdict(row.outcome) : "–"] },
    number("tokens", "Tokens", "length, in tokens", 0),
    ...(probed
      ? [
          number("start", "Start", "loss before the trajectory, nats per answer token"),
          number("end", "End", "loss after the trajectory, nats per answer token"),
          number("gain", "Gain", "start − end"),
          number("before", "Before", "gain before the trajectory writes the answer itself; all of the gain where it never does"),
          { ...number("area", "Area", "mean loss over the normalised position"), cell: (row) => [...(row.spark ? [spark(row)] : []), fixed(row.area, 2)] },
          number("downward", "Downward", "share of steps that lower the loss"),
          number("trend", "Trend", "rank correlation of position and loss"),
        ]
      : []),
    several("model") && { key: "model", label: "Model", cell: (row) => [el("span", { class: "cut" }, row.model ?? "–")] },
    several("status") && { key: "status", label: "Ended", cell: (row) => [row.status] },
  ].filter(Boolean);
  const filters = [
    { key: "source", label: "source" },
    { key: "outcome", label: "verdict", name: (value) => value ?? "not judged" },
    { key: "mode", label: "mode" },
  ].filter(({ key }) => several(key));
  const sort = { column: null, descending: false };
  const haystack = index.rows.map((row) => `${row.id}\n${questionOf(row).id}\n${questionOf(row).question}`.toLowerCase());

  /** A curve in the size of a word, all on one scale (a tenth of the peaks may be cut off). */
  const tops = index.rows.filter((row) => row.spark).map((row) => Math.max(...row.spark.filter(defined), 0)).sort((a, b) => a - b);
  const top = tops[Math.floor(0.9 * (tops.length - 1))] || 1;
  function spark(row) {
    const points = row.spark.flatMap((loss, i) => (defined(loss) ? [`${((60 * i) / (row.spark.length - 1)).toFixed(1)} ${(23 - (22 * Math.min(top, Math.max(0, loss))) / top).toFixed(1)}`] : []));
    return svg("svg", { class: `spark kind-${index.groups[row.group].kind}`, width: 60, height: 24, "aria-hidden": "true" }, svg("path", { d: `M${points.join("L")}` }));
  }

  function header() {
    const cells = columns.map((column) => {
      const button = el("button", { type: "button", title: column.hint }, column.label);
      button.addEventListener("click", () => sortBy(column));
      return el("th", { scope: "col", class: column.numeric ? "num" : null, "aria-sort": "none", "data-column": column.key }, button);
    });
    head.replaceChildren(el("tr", {}, ...cells));
  }

  /** First click: text rising, numbers falling; second: the other way; third: the run's own order. */
  function sortBy(column) {
    const first = Boolean(column.numeric);
    if (sort.column !== column) Object.assign(sort, { column, descending: first });
    else if (sort.descending === first) sort.descending = !first;
    else sort.column = null;
    for (const cell of head.querySelectorAll("th")) {
      const here = sort.column?.key === cell.dataset.column;
      cell.setAttribute("aria-sort", here ? (sort.descending ? "descending" : "ascending") : "none");
    }
    update();
  }

  function controls() {
    for (const { key, label, name = String } of filters) {
      const values = [...new Set(index.rows.map((row) => row[key] ?? null))].sort();
      const choice = el("select", { "data-filter": key, "aria-label": label }, el("option", { value: "" }, `any ${label}`), ...values.map((value) => el("option", { value: JSON.stringify(value) }, name(value))));
      choice.addEventListener("change", update);
      byId("table-selects").append(choice);
    }
    byId("table-text").addEventListener("input", update);
  }

  function chosen() {
    const words = byId("table-text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = [...document.querySelectorAll("[data-filter]")].filter((choice) => choice.value).map((choice) => [choice.dataset.filter, JSON.parse(choice.value)]);
    const keep = (i) => words.every((word) => haystack[i].includes(word)) && wanted.every(([key, value]) => (index.rows[i][key] ?? null) === value);
    return index.rows.map((_, i) => i).filter(keep);
  }

  function sorted(rows) {
    if (!sort.column) return rows;
    const read = sort.column.value ?? ((row) => row[sort.column.key]);
    const sign = sort.descending ? -1 : 1;
    return rows.sort((i, j) => {
      const [a, b] = [read(index.rows[i]), read(index.rows[j])];
      if (!defined(a) || !defined(b)) return Number(defined(b)) - Number(defined(a)); // the undefined stay last
      return sign * (typeof a === "string" ? COLLATOR.compare(a, b) : a - b) || i - j;
    });
  }

  function update() {
    state.order = sorted(chosen());
    byId("table-count").textContent = state.order.length === index.rows.length ? `${index.rows.length} trajectories` : `${state.order.length} of ${index.rows.length} trajectories`;
    grid.setAttribute("aria-rowcount", state.order.length + 1);
    box.scrollTop = 0;
    render(true);
    tell("order");
  }

  // --- rows ---------------------------------------------------------------------------------------------------------

  let drawn = [0, 0];

  function render(force = false) {
    const total = state.order.length;
    const all = total <= ALL_ROWS;
    const from = all ? 0 : Math.max(0, Math.floor(box.scrollTop / ROW_HEIGHT) - OVERSCAN);
    const to = all ? total : Math.min(total, from + Math.ceil(box.clientHeight / ROW_HEIGHT) + 2 * OVERSCAN);
    if (!force && from === drawn[0] && to === drawn[1]) return;
    const held = body.contains(document.activeElement) ? Number(document.activeElement.dataset.i) : null;
    drawn = [from, to];
    const gap = (rows) => (rows ? [el("tr", { class: "gap", "aria-hidden": "true" }, el("td", { colspan: columns.length, style: `height:${rows * ROW_HEIGHT}px` }))] : []);
    const nothing = total ? [] : [el("tr", { class: "gap" }, el("td", { class: "empty", colspan: columns.length }, "No trajectory passes this filter."))];
    body.replaceChildren(...gap(from), ...state.order.slice(from, to).map((i, at) => rowOf(i, from + at)), ...gap(total - to), ...nothing);
    mark();
    if (held !== null) body.querySelector(`[data-i="${held}"]`)?.focus({ preventScroll: true });
  }

  function rowOf(i, at) {
    const cells = columns.map((column) => el("td", { class: column.numeric ? "num" : null }, ...column.cell(index.rows[i])));
    return el("tr", { "data-i": i, tabindex: -1, "aria-rowindex": at + 2, "aria-selected": "false" }, ...cells);
  }

  /** Show which row is open, and let Tab reach exactly one row. */
  function mark() {
    for (const row of body.querySelectorAll("[data-i]")) row.setAttribute("aria-selected", Number(row.dataset.i) === state.selected);
    body.querySelector('[tabindex="0"]')?.setAttribute("tabindex", -1);
    (body.querySelector('[aria-selected="true"]') ?? body.querySelector("[data-i]"))?.setAttribute("tabindex", 0);
  }

  function goTo(at) {
    const target = Math.max(0, Math.min(state.order.length - 1, at));
    show(target);
    const row = body.querySelector(`[data-i="${state.order[target]}"]`);
    body.querySelector('[tabindex="0"]')?.setAttribute("tabindex", -1);
    row?.setAttribute("tabindex", 0);
    row?.focus({ preventScroll: true });
  }

  /** Scroll the box, not the page, until row number `at` can be seen. */
  function show(at) {
    const [above, below] = [at * ROW_HEIGHT, (at + 1) * ROW_HEIGHT + head.offsetHeight];
    if (above < box.scrollTop) box.scrollTop = above;
    else if (below > box.scrollTop + box.clientHeight) box.scrollTop = below - box.clientHeight;
    render();
  }

  body.addEventListener("click", (event) => {
    const row = event.target.closest("[data-i]");
    if (row) select(Number(row.dataset.i), { reveal: true });
  });
  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("[data-i]");
    if (!row) return;
    const at = state.order.indexOf(Number(row.dataset.i));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 10, PageUp: at - 10, Home: 0, End: state.order.length - 1 }[event.key];
    if (event.key === "Enter") select(Number(row.dataset.i), { reveal: true });
    else if (to !== undefined) goTo(to);
    else return;
    event.preventDefault();
  });
  box.addEventListener("scroll", () => requestAnimationFrame(() => render()), { passive: true });
  on("select", (i) => {
    const at = state.order.indexOf(i);
    if (at >= 0) show(at);
    mark();
  });

  header();
  controls();
  update();
});

const COLLATOR = new Intl.Collator(undefined, { numeric: true });
