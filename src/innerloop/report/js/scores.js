// The scores: every series as a dot with its interval on one axis, and differences to the reference around zero.

/** Colour, symbol and dash of a series; verdicts made anew have those of the series that they are about, hollow. */
function seriesStyle(data, i) {
  const { name, ours } = data.series[i];
  const base = ours ? Math.max(0, data.series.findIndex((other) => !other.ours && name === `${other.name}, our verdicts`)) : i;
  return { colour: SERIES[base % SERIES.length], symbol: SYMBOLS[Math.floor(base / SERIES.length) % SYMBOLS.length], hollow: ours, dash: ours ? "dot" : SERIES_DASHES[Math.floor(base / SERIES.length) % SERIES_DASHES.length] };
}

/** The name of a series behind its colour. */
function seriesMark(data, i) {
  const style = seriesStyle(data, i);
  const mark = svg("path", { d: MARKS[style.symbol], style: style.hollow ? "fill:var(--paper)" : "" });
  return svg("svg", { class: "swatch", width: 26, height: 10, "aria-hidden": "true", style: `--kind:var(--${style.colour})` }, svg("line", { x1: 1, y1: 5, x2: 25, y2: 5, style: style.hollow ? "stroke-dasharray:2 3" : "" }), mark);
}

/** A number with one decimal as Python writes it: between two it takes the even one, where JavaScript goes up. */
function tenth(value, plus = false) {
  if (!defined(value)) return "–";
  return fixed(Math.abs(value * 4) % 4 === 1 ? value - 0.01 * Math.sign(value) : value, 1, plus);
}

const GROUP_NAMES = new Map([["all", "all"], ["generalisation", "within and across domains"]]);
const groupName = (group) => GROUP_NAMES.get(group) ?? `by ${group}`;

const pValue = (p) => (!defined(p) ? "–" : p < 0.001 ? "< 0.001" : fixed(p, 3));

/** Range and round ticks that hold every value. */
function niceAxis(values, least = -Infinity, most = Infinity) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) [low, high] = [low - 1, high + 1];
  const margin = 0.05 * (high - low);
  [low, high] = [Math.max(least, low - margin), Math.min(most, high + margin)];
  const power = 10 ** Math.floor(Math.log10((high - low) / 5));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= (high - low) / 5 - 1e-9);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9; i++) ticks.push(i * step);
  return { low, high, ticks, digits: Math.max(0, -Math.floor(Math.log10(step))) };
}

section("scores", () => {
  const data = block("data-scores");
  const unit = () => (data.measures[chosen()].share ? 100 : 1);
  const scaled = (value) => (defined(value) ? unit() * value : null);
  const chosen = () => Number(byId("scores-measure").value);
  const group = () => data.groups[Number(byId("scores-by").value)];

  function choices() {
    byId("scores-measure").append(...data.measures.map(({ name }, i) => el("option", { value: i, selected: name === data.chosen }, name)));
    byId("scores-by").append(...data.groups.map(({ group }, i) => el("option", { value: i }, groupName(group))));
    byId("scores-by-label").hidden = data.groups.length < 2;
    for (const id of ["scores-measure", "scores-by"]) byId(id).addEventListener("change", redraw);
  }

  // --- drawing -------------------------------------------------------------------------------------------------------

  const placeOn = (axis, value) => `${((100 * (value - axis.low)) / (axis.high - axis.low)).toFixed(3)}%`;

  function whisker(cell, axis, ink, hollow = false) {
    const at = (value) => placeOn(axis, unit() * value);
    const parts = axis.ticks.map((tick) => svg("line", { class: Math.abs(tick) < 1e-9 ? "zero" : "grid", x1: placeOn(axis, tick), x2: placeOn(axis, tick), y1: 0, y2: 34 }));
    if (defined(cell.if_wrong) && cell.if_right - cell.if_wrong > 1e-12) parts.push(svg("line", { class: "bounds", x1: at(cell.if_wrong), x2: at(cell.if_right), y1: 17, y2: 17 }));
    if (defined(cell.low)) {
      parts.push(svg("line", { class: "ci", x1: at(cell.low), x2: at(cell.high), y1: 17, y2: 17 }));
      for (const end of [cell.low, cell.high]) parts.push(svg("line", { class: "ci", x1: at(end), x2: at(end), y1: 12, y2: 22 }));
    }
    if (defined(cell.mean)) parts.push(svg("circle", { cx: at(cell.mean), cy: 17, r: 5 }));
    return svg("svg", { class: `whisker${hollow ? " hollow" : ""}`, width: "100%", height: 34, "aria-hidden": "true", style: `--kind:var(--${ink})` }, ...parts);
  }

  function ruler(axis, columns, tail) {
    const marks = axis.ticks.flatMap((tick) => [svg("line", { class: Math.abs(tick) < 1e-9 ? "zero" : "grid", x1: placeOn(axis, tick), x2: placeOn(axis, tick), y1: 0, y2: 6 }), svg("text", { x: placeOn(axis, tick), y: 20, "text-anchor": "middle" }, fixed(tick, axis.digits))]);
    return el("tfoot", { "aria-hidden": "true" }, el("tr", {}, el("td", {}), el("td", { class: "wide", colspan: columns }), el("td", { class: "plot" }, svg("svg", { class: "whisker axis", width: "100%", height: 26 }, ...marks)), el("td", { colspan: tail })));
  }

  /** The interval in words; a dash says why there is none. */
  function interval(cell, plus = false) {
    const text = defined(cell.low) ? `${tenth(unit() * cell.low, plus)} to ${tenth(unit() * cell.high, plus)}` : "–";
    return cell.reason ? el("abbr", { title: visible(cell.reason) }, text) : text;
  }

  const rowsOf = (part) => part.rows.map((row) => ({ ...row, cell: row.cells[chosen()] }));
  const ends = (cell) => ["mean", "low", "high", "if_wrong", "if_right"].map((name) => cell[name]).filter(defined).map((value) => unit() * value);
  const split = () => (["benchmark", "generalisation"].includes(group().group) ? group().values.map(({ value }) => value) : []);
  const differencesNow = () => data.differences.filter((one) => one.measure === data.measures[chosen()].name && (one.benchmark === null || split().includes(one.benchmark)));

  function forest() {
    const values = group().values.flatMap((part) => rowsOf(part).flatMap(({ cell }) => ends(cell)));
    const share = data.measures[chosen()].share;
    const axis = niceAxis(values.length ? values : [0, 100], 0, share ? 100 : Infinity);
    const grouped = group().group !== "all";
    const bodies = group().values.map((part) => {
      const title = grouped ? [el("tr", { class: "of" }, el("th", { colspan: 6, scope: "rowgroup" }, part.value))] : [];
      return el("tbody", {}, ...title, ...rowsOf(part).map((row) => seriesRow(row, axis)));
    });
    const table = byId("scores-forest");
    table.querySelectorAll("tbody, tfoot").forEach((part) => part.remove());
    table.append(...bodies, ruler(axis, 2, 2));
    const over = group().group === "generalisation" ? "mean over benchmarks, each counting once," : "mean over questions";
    const how = grouped ? ` ${groupName(group().group)}` : "";
    table.caption.textContent = `${data.measures[chosen()].name}${how}: ${over} with its 95 % interval.`;
    byId("scores-unit").textContent = share ? "Per cent" : "Tokens";
  }

  function seriesRow(row, axis) {
    const style = seriesStyle(data, row.series);
    const { name, reference } = data.series[row.series];
    const tag = reference ? [" ", el("span", { class: "tag" }, "reference")] : [];
    const undecided = row.undecided ? `${row.undecided} of ${row.samples}` : "0";
    return el("tr", {}, el("th", { scope: "row" }, seriesMark(data, row.series), name, ...tag), el("td", { class: "num wide" }, row.cell.questions), el("td", { class: "num wide" }, undecided), el("td", { class: "plot" }, whisker(row.cell, axis, style.colour, style.hollow)), el("td", { class: "num strong" }, tenth(scaled(row.cell.mean))), el("td", { class: "num" }, interval(row.cell)));
  }

  function differences() {
    const table = byId("scores-differences");
    if (!table) return;
    const shown = differencesNow();
    const alike = shown.length || !data.differences.length ? "" : " says the same as another measure here and is tested under its name";
    table.caption.textContent = shown.length ? "Difference to the reference, paired by question." : `${data.measures[chosen()].name}${alike}.`;
    table.tHead.hidden = !shown.length;
    table.querySelectorAll("tbody, tfoot").forEach((part) => part.remove());
    if (!shown.length) return;
    const axis = niceAxis([0, ...shown.flatMap(ends)]);
    const rows = shown.map((one) => {
      const name = [data.series[one.series].name, " − ", data.series[one.reference].name, ...(one.benchmark ? [`, ${one.benchmark}`] : [])];
      const clear = defined(one.low) && (one.low > 0 || one.high < 0) && one.p_holm < 0.05;
      return el("tr", {}, el("th", { scope: "row" }, seriesMark(data, one.series), ...name), el("td", { class: "num wide" }, one.questions), el("td", { class: "num wide" }, pValue(one.p)), el("td", { class: "plot" }, whisker(one, axis, clear ? seriesStyle(data, one.series).colour : "muted", !clear)), el("td", { class: "num strong" }, tenth(scaled(one.mean), true)), el("td", { class: "num" }, interval(one, true)), el("td", { class: "num holm" }, pValue(one.p_holm)));
    });
    table.append(el("tbody", {}, ...rows), ruler(axis, 2, 3));
    byId("scores-difference-unit").textContent = data.measures[chosen()].share ? "Points" : "Tokens";
  }

  function redraw() {
    forest();
    differences();
  }

  /** The dots as a figure that can be saved. */
  function figure() {
    const grouped = group().group !== "all";
    const rows = group().values.flatMap((part) => rowsOf(part).map((row) => ({ ...row, label: [...(grouped ? [part.value] : []), data.series[row.series].name].join(", ") }))).filter(({ cell }) => defined(cell.mean));
    const base = baseLayout();
    const traces = rows.map(({ cell, series }, i) => {
      const style = seriesStyle(data, series);
      const ink = colour(style.colour);
      const error = defined(cell.low) ? { array: [unit() * (cell.high - cell.mean)], arrayminus: [unit() * (cell.mean - cell.low)], symmetric: false, color: ink } : undefined;
      return { x: [unit() * cell.mean], y: [i], mode: "markers", marker: { color: style.hollow ? base.paper_bgcolor : ink, size: 11, symbol: style.symbol, line: { color: ink, width: 2 } }, error_x: error };
    });
    const title = `${data.measures[chosen()].name}, ${data.measures[chosen()].share ? "per cent" : "tokens"} (mean over questions, 95 % interval)`;
    const layout = { ...base, width: 820, height: 110 + 34 * rows.length, xaxis: { ...base.xaxis, title: titled(title) }, yaxis: { ...base.yaxis, tickvals: rows.map((_, i) => i), ticktext: rows.map(({ label }) => plainLabel(label, 48)), range: [rows.length - 0.5, -0.5] } };
    return { data: traces, layout };
  }

  choices();
  redraw();
  exportButtons("scores", figure);
  startQuestions(data);
  return Promise.all([startLines(data, "growth"), startLines(data, "stability")]);
});
