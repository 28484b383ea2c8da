// The training: every number of its steps and looks as a small chart; runs are overlaid, a colour each.

section("training", () => {
  const data = block("data-training");
  const { runs } = data;
  const shown = new Set(runs.map((_, i) => i));
  const drawn = new Set(); // figures that have come near
  const axes = { step: "step", minutes: "minutes of training", tokens: "tokens" };
  const along = () => byId("training-x").value;
  const smooth = () => byId("training-smooth").checked;
  const other = () => ({ key: "other", kind: "train", unit: "", metrics: [byId("training-any").value], labels: [""], band: [] });

  const inkOf = (run) => SERIES[run % SERIES.length];
  /** Lines of one run in one figure share its colour; with a single run every line has a colour of its own. */
  const styleOf = (run, line) => (runs.length > 1 ? { ink: inkOf(run), dash: SERIES_DASHES[line % SERIES_DASHES.length] } : { ink: inkOf(line), dash: SERIES_DASHES[Math.floor(line / SERIES.length) % SERIES_DASHES.length] });
  const mark = ({ ink, dash }) => svg("svg", { class: "swatch", width: 26, height: 10, "aria-hidden": "true", style: `--kind:var(--${ink})` }, svg("line", { x1: 1, y1: 5, x2: 25, y2: 5, style: { dash: "stroke-dasharray:8 3", dot: "stroke-dasharray:2 3", dashdot: "stroke-dasharray:8 3 2 3" }[dash] ?? "" }));

  /** Means over what is near, as many on both sides as there are. */
  function averaged(values) {
    const half = Math.max(1, Math.round(values.length / 40));
    return values.map((value, i) => {
      if (!defined(value)) return null;
      const reach = Math.min(half, i, values.length - 1 - i);
      const near = values.slice(i - reach, i + reach + 1).filter(defined);
      return near.reduce((sum, one) => sum + one, 0) / near.length;
    });
  }

  function ends(figure, values) {
    const [low, high] = figure.band.map((name) => values[name]);
    const middle = values[figure.metrics[0]];
    if (!low || !middle) return null;
    return high ? [low, high] : [-1, 1].map((side) => middle.map((value, i) => (defined(value) && defined(low[i]) ? value + side * low[i] : null)));
  }

  function traces(figure) {
    const found = [];
    for (const run of shown) {
      const records = runs[run][figure.kind];
      const x = records[along()];
      const calm = smooth() && figure.kind === "train" && x.length > 20;
      const soft = (values) => (calm ? averaged(values) : values);
      const band = ends(figure, records.values);
      if (band && shown.size < 4) {
        const ink = colour(styleOf(run, 0).ink);
        const edge = { x, mode: "lines", line: { width: 0, color: ink }, hoverinfo: "skip" };
        found.push({ ...edge, y: soft(band[0]) }, { ...edge, y: soft(band[1]), fill: "tonexty", fillcolor: pale(ink, 0.14) });
      }
      figure.metrics.forEach((name, line) => {
        const values = records.values[name];
        if (!values) return;
        const { ink, dash } = styleOf(run, line);
        const points = figure.kind === "watch" || x.length < 12;
        if (calm) found.push({ x, y: values, mode: "lines", line: { color: pale(colour(ink), 0.3), width: 1 }, hoverinfo: "skip" });
        found.push({ x, y: soft(values), meta: { run, name, label: figure.labels[line] ?? "", calm }, mode: points ? "lines+markers" : "lines", line: { color: colour(ink), width: 2, dash }, marker: { size: 6, color: colour(ink) }, hoverinfo: "none" });
      });
    }
    return found;
  }

  const canvas = document.createElement("canvas").getContext("2d");
  function pale(ink, opacity) {
    canvas.fillStyle = ink;
    return `rgba(${[1, 3, 5].map((at) => parseInt(canvas.fillStyle.slice(at, at + 2), 16)).join(",")},${opacity})`;
  }

  function redraw(figure) {
    const id = `training-${figure.key}`;
    const base = baseLayout();
    const layout = { ...base, hovermode: "x", uirevision: along(), margin: { ...base.margin, l: 60 }, xaxis: { ...base.xaxis, title: titled(axes[along()]), rangemode: "tozero" }, yaxis: { ...base.yaxis, rangemode: figure.unit === "share" ? "tozero" : "normal", exponentformat: "power" } };
    return draw(id, traces(figure), layout).then((area) => {
      if (!firstTime(area)) return;
      area.on("plotly_hover", hover);
      area.on("plotly_unhover", popover.hide);
    });
  }

  function hover(event) {
    const rows = event.points.filter((point) => point.data.meta).map((point) => {
      const { run, label, calm } = point.data.meta;
      const name = [runs.length > 1 ? runs[run].name : "", label].filter(Boolean).join(", ");
      return el("div", {}, ...(name ? [`${name}: `] : []), el("b", {}, number(point.y)), ...(calm ? [" (smoothed)"] : []));
    });
    popover.show(nearMouse(event.event), el("div", { class: "muted" }, `${axes[along()]} ${number(event.points[0].x)}`), ...rows);
  }

  function number(value) {
    if (Math.abs(value) >= 1e4) return Math.round(value).toLocaleString("en");
    return value < 0 ? `−${scientific(-value, 4)}` : scientific(value, 4);
  }

  function legend() {
    if (runs.length < 2) return;
    runs.forEach(({ name, recipe }, run) => {
      const button = el("button", { type: "button", "aria-pressed": "true" }, mark(styleOf(run, 0)), recipe ? `${name} · ${recipe}` : name);
      button.addEventListener("click", () => {
        shown[shown.has(run) ? "delete" : "add"](run);
        button.setAttribute("aria-pressed", shown.has(run));
        all();
      });
      byId("training-legend").append(button);
    });
  }

  /** A page that loads itself again while the training goes on keeps what was chosen in it. */
  function keep(control) {
    const name = `innerloop ${location.pathname} ${control.id}`;
    const before = remembered("sessionStorage", name);
    const box = control.type === "checkbox";
    if (box && before !== null) control.checked = before === "true";
    if (!box && [...control.options].some(({ value }) => value === before)) control.value = before;
    control.addEventListener("change", () => {
      remembered("sessionStorage", name, box ? control.checked : control.value);
      all();
    });
  }

  function start(figure) {
    const key = () => (figure.key === "other" ? other() : figure);
    for (const place of document.querySelectorAll(`[data-lines="${figure.key}"]`)) {
      if (figure.labels.length > 1) place.append(...figure.labels.flatMap((label, line) => [mark(styleOf(0, line)), label, " "]).map((part) => (part instanceof Node ? part : visible(part))));
    }
    exportButtons(`training-${figure.key}`, () => byId(`training-${figure.key}`));
    whenNear(`training-${figure.key}`).then(() => {
      drawn.add(key);
      redraw(key());
    });
  }

  const all = () => drawn.forEach((key) => redraw(key()));
  legend();
  keep(byId("training-x"));
  keep(byId("training-smooth"));
  data.figures.forEach(start);
  if (data.others.length) {
    byId("training-any").append(...data.others.map((name) => el("option", { value: name }, name)));
    keep(byId("training-any"));
    start(other());
  }
  on("theme", all);
});
