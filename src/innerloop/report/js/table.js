// The table of trajectories: what its columns and filters are.

section("table", () => {
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
  const haystack = once(() => index.rows.map((row) => `${row.id}\n${questionOf(row).id}\n${questionOf(row).question}`.toLowerCase()));

  /** A curve in the size of a word, all on one scale (a tenth of the peaks may be cut off). */
  const tops = index.rows.filter((row) => row.spark).map((row) => Math.max(...row.spark.filter(defined), 0)).sort((a, b) => a - b);
  const top = tops[Math.floor(0.9 * (tops.length - 1))] || 1;
  function spark(row) {
    const points = row.spark.flatMap((loss, i) => (defined(loss) ? [`${((60 * i) / (row.spark.length - 1)).toFixed(1)} ${(23 - (22 * Math.min(top, Math.max(0, loss))) / top).toFixed(1)}`] : []));
    return svg("svg", { class: `spark kind-${index.groups[row.group].kind}`, width: 60, height: 24, "aria-hidden": "true" }, svg("path", { d: `M${points.join("L")}` }));
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
    const keep = (i) => words.every((word) => haystack()[i].includes(word)) && wanted.every(([key, value]) => (index.rows[i][key] ?? null) === value);
    return index.rows.map((_, i) => i).filter(keep);
  }

  function update() {
    const rows = chosen();
    byId("table-count").textContent = rows.length === index.rows.length ? `${rows.length} trajectories` : `${rows.length} of ${index.rows.length} trajectories`;
    grid.filter(rows);
  }

  const grid = makeGrid({
    box: byId("table-box"),
    table: byId("table-grid"),
    columns,
    records: index.rows,
    nothing: "No trajectory passes this filter.",
    open: (i) => select(i, { reveal: true }),
    selected: () => state.selected,
    changed: (order) => {
      state.order = order;
      tell("order");
    },
  });
  on("select", grid.show);
  controls();
  update();
});
