// The overview chart: a thin line per trajectory, a thick one and a band per group.
// The lines of a group are one trace with gaps, which keeps hundreds of them quick.

section("curves", () => {
  const data = block("data-curves");
  const place = data.lines[0].loss.map((_, i) => i / (data.points - 1));
  const meanPlace = data.means[0].loss.mean.map((_, i) => i / (data.mean_points - 1));
  const shown = new Set(data.means.map((mean) => mean.group));
  const linesOf = (group) => data.lines.filter((line) => line.group === group);
  const option = (name) => byId(`curves-${name}`).checked;
  /** A line's losses, or their change since the start. */
  const values = (line) => (option("change") ? line.loss.map((loss) => (defined(loss) && defined(line.loss[0]) ? loss - line.loss[0] : null)) : line.loss);
  const curveOf = (line) => shape(values(line), data.window);

  function linesTrace(group) {
    const lines = linesOf(group);
    const style = KINDS[index.groups[group].kind];
    return {
      x: lines.flatMap(() => [...place, null]),
      y: lines.flatMap((line) => [...curveOf(line), null]),
      customdata: lines.flatMap((line) => Array(data.points + 1).fill(line.entry)),
      mode: "lines",
      line: { color: colour(style.colour), width: 1, dash: option("means") ? "solid" : style.dash },
      opacity: (data.lines.length > 100 ? 0.3 : data.lines.length > 30 ? 0.45 : 0.6) * (index.groups[group].control ? 0.6 : 1),
      hoverinfo: "none",
    };
  }

  /** Mean, low and high of a group as they are shown now. */
  function bandOf(mean) {
    const band = option("change") ? mean.change : mean.loss;
    const window = Math.max(1, Math.round((data.window / data.points) * data.mean_points));
    return { mean: shape(band.mean, window), low: shape(band.low, window), high: shape(band.high, window) };
  }

  function bandTraces(mean) {
    const { low, high } = bandOf(mean);
    if (!low.every(defined)) return [];
    const ink = colour(KINDS[index.groups[mean.group].kind].colour);
    return [
      {
        x: [...meanPlace, ...[...meanPlace].reverse()],
        y: [...high, ...[...low].reverse()],
        fill: "toself",
        fillcolor: ink,
        opacity: index.groups[mean.group].control ? 0.07 : 0.14,
        mode: "lines",
        line: { width: 0 },
        hoverinfo: "skip",
      },
    ];
  }

  function meanTrace(mean) {
    const style = KINDS[index.groups[mean.group].kind];
    const ink = colour(style.colour);
    const symbol = symbolOf(mean.group);
    return {
      x: meanPlace,
      y: bandOf(mean).mean,
      customdata: meanPlace.map(() => -1 - mean.group),
      mode: symbol ? "lines+markers" : "lines",
      line: { color: ink, width: 3, dash: style.dash },
      marker: { symbol: symbol ?? "circle", size: meanPlace.map((_, i) => (i % 8 ? 0 : 9)), color: ink, opacity: 1 },
      hoverinfo: "none",
    };
  }

  /** Groups that share a colour (other source, other mode) are told apart by a symbol; null for a colour of its own. */
  function symbolOf(group) {
    const alike = data.means.filter((other) => index.groups[other.group].kind === index.groups[group].kind);
    return alike.length > 1 ? SYMBOLS[alike.findIndex((other) => other.group === group) % SYMBOLS.length] : null;
  }

  /** Values, or their moving average where smoothing is on. */
  function shape(line, window) {
    if (!option("smooth")) return line;
    const half = Math.floor(window / 2);
    return line.map((value, i) => {
      if (!defined(value)) return value;
      const near = line.slice(Math.max(0, i - half), i + half + 1).filter(defined);
      return near.reduce((sum, one) => sum + one, 0) / near.length;
    });
  }

  function redraw() {
    const means = data.means.filter((mean) => shown.has(mean.group));
    const traces = [
      ...(option("lines") ? means.map((mean) => linesTrace(mean.group)) : []),
      ...(option("means") ? [...means.flatMap(bandTraces), ...means.map(meanTrace)] : []),
    ];
    const base = baseLayout();
    return draw("curves-plot", traces, {
      ...base,
      hovermode: "closest",
      uirevision: option("change"),
      xaxis: { ...base.xaxis, title: titled("position in the trajectory, from start (0) to end (1)"), range: [-0.005, 1.005] },
      yaxis: {
        ...base.yaxis,
        title: titled(option("change") ? "change of the answer loss, nats per answer token" : "answer loss, nats per answer token"),
        rangemode: option("change") ? "normal" : "tozero",
        zeroline: option("change"),
        zerolinecolor: base.font.color,
      },
    });
  }

  const quantity = () => (option("change") ? "change" : "loss");

  function hover(area, event) {
    const { customdata, x, y, data: trace } = event.points[0];
    const rect = nearMouse(event.event);
    const { layer, point } = overlay(area);
    if (customdata < 0) {
      layer.replaceChildren();
      popover.show(rect, el("div", {}, `Mean: ${index.groups[-1 - customdata].label}`), pairs([["position", fixed(x, 2)], [quantity(), fixed(y)]]));
      return;
    }
    const row = index.rows[customdata];
    const line = data.lines.find((one) => one.entry === customdata);
    const path = curveOf(line).flatMap((loss, i) => (defined(loss) ? [point(place[i], loss).join(" ")] : []));
    layer.replaceChildren(svg("path", { d: `M${path.join("L")}`, style: `stroke:${trace.line.color}` }));
    popover.show(rect, el("div", {}, row.id), el("div", { class: "muted" }, index.groups[row.group].label), pairs([["position", fixed(x, 2)], [quantity(), fixed(y)], ["gain", fixed(row.gain)]]));
  }

  function legend() {
    for (const { group } of data.means) {
      const { kind, label } = index.groups[group];
      const button = el("button", { type: "button", "aria-pressed": "true" }, swatch(kind, symbolOf(group)), label);
      button.addEventListener("click", () => {
        shown[shown.has(group) ? "delete" : "add"](group);
        button.setAttribute("aria-pressed", shown.has(group));
        redraw();
      });
      byId("curves-legend").append(button);
    }
  }

  legend();
  for (const name of ["lines", "means", "change", "smooth"]) byId(`curves-${name}`).addEventListener("change", redraw);
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
