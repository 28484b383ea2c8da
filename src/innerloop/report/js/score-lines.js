// The score against the number of samples k, and against the share τ of them that must be right.

function startLines(data, kind) {
  const figures = data[kind];
  if (!figures.length) return null;
  const id = `scores-${kind}`;
  const pick = byId(`${id}-figure`);
  const steps = kind === "stability"; // constant between two thresholds
  const figure = () => figures[Number(pick.value)];
  const per = (values) => values.map((value) => (defined(value) ? 100 * value : null));
  pick.append(...figures.map(({ label }, i) => el("option", { value: i, selected: steps ? i === figures.length - 1 : i === 0 }, label)));

  function traces(line, i) {
    const style = seriesStyle(data, i);
    const ink = colour(style.colour);
    const x = steps ? [0, ...figure().x] : figure().x;
    const along = (name) => (steps ? [per(line[name])[0], ...per(line[name])] : per(line[name]));
    const edge = { x, mode: "lines", line: { width: 0, shape: steps ? "vh" : "linear" }, hoverinfo: "skip" };
    const pale = (name) => Object.assign(document.createElement("canvas").getContext("2d"), { fillStyle: name }).fillStyle;
    const band = (low, high, opacity) => [
      { ...edge, y: along(low) },
      { ...edge, y: along(high), fill: "tonexty", fillcolor: faint(pale(ink), opacity) },
    ];
    const open = line.if_wrong.some((value, k) => line.if_right[k] - value > 1e-12);
    return [
      ...(open ? band("if_wrong", "if_right", 0.1) : []),
      ...(line.low.every(defined) ? band("low", "high", data.series.length > 3 ? 0.1 : 0.16) : []),
      { x, y: along("mean"), mode: figure().x.length > 24 || steps ? "lines" : "lines+markers", line: { color: ink, width: 2.4, dash: style.dash, shape: steps ? "vh" : "linear" }, marker: { symbol: style.symbol, size: 7, color: style.hollow ? colour("paper") : ink, line: { color: ink, width: 1.5 } }, hoverinfo: "none" },
    ];
  }

  const faint = (hex, opacity) => `rgba(${[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(",")},${opacity})`;

  function growthAxis() {
    const most = Math.max(...figures.flatMap(({ x }) => x));
    const ticks = [];
    for (let k = 1; k <= most; k *= 2) ticks.push(k);
    if (most / ticks.at(-1) > 1.3) ticks.push(most);
    return { type: "log", tickvals: ticks, ticktext: ticks.map(String), range: [Math.log10(0.92), Math.log10(most * 1.08)], title: titled("k, samples drawn per question") };
  }

  function redraw() {
    byId(`${id}-about`).textContent = figure().about;
    const base = baseLayout();
    const xaxis = steps ? { range: [-0.01, 1.02], title: titled("τ, share of the samples that must be right") } : growthAxis();
    return draw(id, figure().lines.flatMap(traces), {
      ...base,
      hovermode: "x",
      uirevision: pick.value,
      xaxis: { ...base.xaxis, ...xaxis, showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "dot", spikecolor: base.font.color },
      yaxis: { ...base.yaxis, title: titled("per cent"), rangemode: "tozero" },
    });
  }

  function hover(event) {
    const at = figure().x.findIndex((x) => x >= event.points[0].x - 1e-9);
    const rows = figure().lines.map((line, i) => {
      const [mean, low, high] = ["mean", "low", "high"].map((name) => per(line[name])[at]);
      const open = line.if_right[at] - line.if_wrong[at] > 1e-12 ? `, ${tenth(100 * line.if_wrong[at])} … ${tenth(100 * line.if_right[at])} with the undecided` : "";
      return el("div", {}, seriesMark(data, i), `${data.series[i].name}: `, el("b", {}, tenth(mean)), ` [${tenth(low)}, ${tenth(high)}]${open}`);
    });
    const x = figure().x[at];
    popover.show(nearMouse(event.event), el("div", { class: "muted" }, steps ? `${figure().label}, τ up to ${fixed(x, 2)}: at least ${at + 1} right` : `k = ${x}, ${figure().label}`), ...rows);
  }

  pick.addEventListener("change", redraw);
  on("theme", redraw);
  exportButtons(id, () => byId(id));
  return redraw().then((area) => {
    if (!firstTime(area)) return;
    area.on("plotly_hover", hover);
    area.on("plotly_unhover", popover.hide);
  });
}
