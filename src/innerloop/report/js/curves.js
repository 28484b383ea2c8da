// The overview chart: a thin line per trajectory, a thick one and a band per group.
// The lines of a group are one trace with gaps, which keeps hundreds of them quick.

section("curves", () => {
  const data = block("data-curves");
  const place = data.lines[0].loss.map((_, i) => i / (data.points - 1));
  const meanPlace = data.means[0].mean.map((_, i) => i / (data.mean_points - 1));
  const shown = new Set(data.means.map((mean) => mean.group));
  const linesOf = (group) => data.lines.filter((line) => line.group === group);
  const option = (name) => byId(`curves-${name}`).checked;

  function linesTrace(group) {
    const lines = linesOf(group);
    const style = KINDS[index.groups[group].kind];
    return {
      x: lines.flatMap(() => [...place, null]),
      y: lines.flatMap((line) => [...shape(line.loss, data.window), null]),
      customdata: lines.flatMap((line) => Array(data.points + 1).fill(line.entry)),
      mode: "lines",
      line: { color: colour(style.colour), width: 1, dash: option("means") ? "solid" : style.dash },
      opacity: data.lines.length > 100 ? 0.3 : data.lines.length > 30 ? 0.45 : 0.6,
      hoverinfo: "none",
    };
  }

  function meanTraces({ group, mean, low, high }) {
    const style = KINDS[index.groups[group].kind];
    const ink = colour(style.colour);
    const window = Math.max(1, Math.round((data.window / data.points) * data.mean_points));
    const [middle, lower, upper] = [mean, low, high].map((values) => shape(values, window));
    const symbols = data.means.filter((other) => index.groups[other.group].kind === index.groups[group].kind);
    const marked = symbols.length > 1;
    const traces = [];
    if (lower.every(defined)) {
      traces.push({
        x: [...meanPlace, ...[...meanPlace].reverse()],
        y: [...upper, ...[...lower].reverse()],
        fill: "toself",
        fillcolor: ink,
        opacity: 0.16,
        mode: "lines",
        line: { width: 0 },
        hoverinfo: "skip",
      });
    }
    traces.push({
      x: meanPlace,
      y: middle,
      customdata: meanPlace.map(() => -1 - group),
      mode: marked ? "lines+markers" : "lines",
      line: { color: ink, width: 3, dash: style.dash },
      marker: { symbol: SYMBOLS[symbols.findIndex((other) => other.group === group) % SYMBOLS.length], size: meanPlace.map((_, i) => (i % 8 ? 0 : 9)), color: ink },
      hoverinfo: "none",
    });
    return traces;
  }

  /** Values, or their moving average where smoothing is on. */
  function shape(values, window) {
    if (!option("smooth")) return values;
    const half = Math.floor(window / 2);
    return values.map((value, i) => {
      if (!defined(value)) return value;
      const near = values.slice(Math.max(0, i - half), i + half + 1).filter(defined);
      return near.reduce((sum, one) => sum + one, 0) / near.length;
    });
  }

  function redraw() {
    const means = data.means.filter((mean) => shown.has(mean.group));
    const traces = [
      ...(option("lines") ? means.map((mean) => linesTrace(mean.group)) : []),
      ...(option("means") ? means.flatMap(meanTraces) : []),
    ];
    const base = baseLayout();
    return draw("curves-plot", traces, {
      ...base,
      hovermode: "closest",
      uirevision: "curves",
      xaxis: { ...base.xaxis, title: titled("position in the trajectory, from start (0) to end (1)"), range: [-0.005, 1.005] },
      yaxis: { ...base.yaxis, title: titled("answer loss, nats per answer token"), rangemode: "tozero" },
    });
  }

  function hover(area, event) {
    const { customdata, x, y, data: trace } = event.points[0];
    const mouse = event.event;
    const rect = { left: mouse.clientX + 12, top: mouse.clientY - 8, bottom: mouse.clientY + 8 };
    const { layer, point } = overlay(area);
    if (customdata < 0) {
      layer.replaceChildren();
      popover.show(rect, el("div", {}, `Mean: ${index.groups[-1 - customdata].label}`), pairs([["position", fixed(x, 2)], ["loss", fixed(y)]]));
      return;
    }
    const row = index.rows[customdata];
    const line = data.lines.find((one) => one.entry === customdata);
    const path = shape(line.loss, data.window).flatMap((loss, i) => (defined(loss) ? [point(place[i], loss).join(" ")] : []));
    layer.replaceChildren(svg("path", { d: `M${path.join("L")}`, style: `stroke:${trace.line.color}` }));
    popover.show(rect, el("div", {}, row.id), el("div", { class: "muted" }, index.groups[row.group].label), pairs([["position", fixed(x, 2)], ["loss", fixed(y)], ["gain", fixed(row.gain)]]));
  }

  function legend() {
    for (const { group } of data.means) {
      const { kind, label } = index.groups[group];
      const button = el("button", { type: "button", "aria-pressed": "true" }, swatch(kind), label);
      button.addEventListener("click", () => {
        shown[shown.has(group) ? "delete" : "add"](group);
        button.setAttribute("aria-pressed", shown.has(group));
        redraw();
      });
      byId("curves-legend").append(button);
    }
  }

  legend();
  for (const name of ["lines", "means", "smooth"]) byId(`curves-${name}`).addEventListener("change", redraw);
  on("theme", redraw);
  exportButtons("curves", () => byId("curves-plot"));
  return redraw().then((area) => {
    if (!area.on) return;
    area.on("plotly_hover", (event) => hover(area, event));
    area.on("plotly_unhover", () => {
      overlay(area).layer.replaceChildren();
      popover.hide();
    });
    area.on("plotly_click", (event) => {
      const { customdata } = event.points[0];
      if (customdata >= 0) select(customdata, { reveal: true });
    });
  });
});
