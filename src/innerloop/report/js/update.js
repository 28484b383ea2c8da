// The update section: predicted against actual change over all trajectories, and one trajectory's steps layer by layer.

section("update", () => {
  const data = block("data-update");
  const { groups, items, points } = data;
  const symbols = groupSymbols(groups);
  const nameOf = (item) => `${item.id}${item.untrained ? ", untrained model" : ""}`;
  let shown = null; // the item in the map
  let current = null; // its block
  let near = false; // whether the section has come near: its figures are drawn only then
  let cell = null; // the map's cell with the keyboard's focus

  // --- what stands in the text --------------------------------------------------------------------------------------

  function summary() {
    const { exact } = data;
    const count = `${exact.positions} position${exact.positions === 1 ? "" : "s"} of ${exact.trajectories} trajector${exact.trajectories === 1 ? "y" : "ies"}`;
    const parts = ["largest residual max |Δ log p| = ", el("b", {}, scientific(exact.residual)), ` nats (${exact.id}, position ${exact.position}), over ${count}`];
    if (exact.deficient) parts.push(`; at ${exact.deficient} a layer's solve was of less than full rank`);
    if (defined(exact.untrained)) parts.push(`; untrained model ${scientific(exact.untrained)}`);
    byId("update-exact").replaceChildren(...parts.map((part) => (part instanceof Node ? part : visible(part))));
    byId("update-size").textContent = defined(exact.relative) ? `‖θ′ − θ‖ / ‖θ‖ over the patched weights: ${percentage(exact.relative)} in the median, ${percentage(exact.relative_most)} at most; rank up to ${exact.rank}` : `rank up to ${exact.rank}`;
    if (exact.error) byId("update-error").textContent = visible(`per layer ${scientific(exact.error.median)} in the median, ${scientific(exact.error.most)} at most (layer ${exact.error.layer}, ${exact.error.id}, position ${exact.error.position})`);
    for (const place of document.querySelectorAll("#update [data-swatch]")) place.replaceWith(swatch(groups[place.dataset.swatch].kind, symbols[place.dataset.swatch]));
  }

  // --- predicted against actual -------------------------------------------------------------------------------------

  const visibleGroups = new Set(groups.map((_, i) => i));
  const each = points ? points.item.map((_, i) => i) : [];

  function legend() {
    groups.forEach(({ kind, label }, i) => {
      if (!each.some((at) => items[points.item[at]].group === i)) return;
      const button = el("button", { type: "button", "aria-pressed": "true" }, swatch(kind, symbols[i]), label);
      button.addEventListener("click", () => {
        visibleGroups[visibleGroups.has(i) ? "delete" : "add"](i);
        button.setAttribute("aria-pressed", visibleGroups.has(i));
        scatter();
      });
      byId("update-legend").append(button);
    });
  }

  function scatterTrace(i) {
    const own = each.filter((at) => items[points.item[at]].group === i);
    const ink = colour(KINDS[groups[i].kind].colour);
    const hollow = groups[i].control;
    return {
      x: own.map((at) => points.predicted[at]),
      y: own.map((at) => points.actual[at]),
      customdata: own,
      mode: "markers",
      marker: { symbol: `${symbols[i]}${hollow ? "-open" : ""}`, color: ink, size: each.length > 800 ? 6 : 8, opacity: each.length > 800 ? 0.6 : 0.8, line: { color: ink, width: hollow ? 1.4 : 0 } },
      hoverinfo: "none",
    };
  }

  /** A ring around the points of the trajectory in the map. */
  function ring() {
    const own = each.filter((at) => points.item[at] === shown && visibleGroups.has(items[shown].group));
    return { x: own.map((at) => points.predicted[at]), y: own.map((at) => points.actual[at]), mode: "markers", marker: { symbol: "circle-open", size: 15, color: colour("ink"), line: { width: 1.6 } }, hoverinfo: "skip" };
  }

  function scatter() {
    const base = baseLayout();
    const all = [...points.predicted, ...points.actual].filter(defined);
    const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
    const identity = { x: [low, high], y: [low, high], mode: "lines", line: { color: base.font.color, width: 1.2, dash: "dash" }, hoverinfo: "skip" };
    const axis = { zeroline: true, zerolinecolor: colour("hairline"), zerolinewidth: 1 };
    return draw("update-scatter", [identity, ...[...visibleGroups].sort((a, b) => b - a).map(scatterTrace), ring()], {
      ...base,
      hovermode: "closest",
      uirevision: "scatter",
      xaxis: { ...base.xaxis, ...axis, title: titled("predicted ⟨θ′ᵢ − θ, ∇L⟩, nats per answer token") },
      yaxis: { ...base.yaxis, ...axis, title: titled("actual change, nats") },
    });
  }

  function pointNote(event) {
    const at = event.points[0].customdata;
    if (!defined(at)) return;
    const item = items[points.item[at]];
    const z = points.null_sd[at] ? -points.predicted[at] / points.null_sd[at] : null;
    const rows = [["position", String(points.position[at])], ["predicted", `${fixed(points.predicted[at], 3, true)} nats`], ["actual", `${fixed(points.actual[at], 3, true)} nats`]];
    if (defined(z)) rows.push(["z against random patches", fixed(z, 1, true)]);
    if (defined(points.cosine[at])) rows.push(["cos(Δ, −∇L)", fixed(points.cosine[at], 4, true)]);
    popover.show(nearMouse(event.event), el("div", {}, item.id), el("div", { class: "muted" }, groups[item.group].label), pairs(rows));
  }

  function listenToScatter(area) {
    if (!firstTime(area)) return;
    area.on("plotly_hover", pointNote);
    area.on("plotly_unhover", popover.hide);
    area.on("plotly_click", (event) => {
      const at = event.points[0].customdata;
      if (defined(at)) pick(points.item[at]);
    });
  }

  // --- one trajectory: layers by positions --------------------------------------------------------------------------

  const VIEWS = {
    layer_step: { label: "step since the position before", short: "step", title: "‖θ′ᵢ − θ′ⱼ‖", digits: null },
    layer_norm: { label: "distance from θ", title: "‖θ′ᵢ − θ‖", digits: null },
    layer_predicted: { label: "predicted change", title: "⟨Δ, ∇L⟩, nats", signed: true },
    layer_cosine: { label: "cosine with −∇L", title: "cos(Δ, −∇L)", signed: true },
    layer_error: { label: "error of the approximation", title: "error" },
  };
  const has = (key) => current[key].some((row) => row !== null);
  const size = (value, view) => (view.signed ? `${value < 0 ? "−" : "+"}${scientific(Math.abs(value))}` : scientific(value));

  /** The map as it is drawn: columns between the edges, layers from the first up. */
  function map() {
    const key = byId("update-show").value;
    const columns = current.position.map((_, k) => k).filter((k) => current[key][k] !== null);
    const left = (k) => (k > 0 ? current.position[k - 1] : current.position[0] > 0 ? 0 : -Math.max(0.5, 0.02 * current.last));
    return { key, view: VIEWS[key], columns, left, layers: Math.max(...columns.map((k) => current[key][k].length)) };
  }

  function heatTraces({ key, view, columns, left, layers }, log) {
    const values = Array.from({ length: layers }, (_, layer) => columns.map((k) => current[key][k][layer] ?? null));
    const all = values.flat().filter(defined);
    const most = Math.max(...all.map(Math.abs), 1e-300);
    const shade = log ? values.map((row) => row.map((value) => (value > 0 ? Math.log10(value) : null))) : values;
    const ticks = log ? logTicks(all.filter((value) => value > 0)) : {};
    return {
      type: "heatmap",
      x: [left(columns[0]), ...columns.map((k) => current.position[k])],
      y: values.map((_, layer) => layer),
      z: shade,
      ...(view.signed ? { zmin: -most, zmax: most, colorscale: divergingScale() } : { colorscale: "Cividis", ...(log ? {} : { zmin: 0 }) }),
      hoverinfo: "none",
      hoverongaps: false,
      colorbar: { title: { text: view.title, side: "right" }, thickness: 12, outlinewidth: 0, len: 0.72, y: 0, yanchor: "bottom", tickfont: { size: 12 }, exponentformat: "power", ...ticks },
    };
  }

  /** One position has no course, only a profile: a bar per layer. */
  function barTraces({ key, view, columns }) {
    const values = current[key][columns[0]];
    return { type: "bar", x: values.map((_, layer) => layer), y: values, marker: { color: view.signed ? values.map((value) => colour(value < 0 ? "blue" : "vermillion")) : colour("blue") }, hoverinfo: "none" };
  }

  function heat() {
    const drawn = map();
    const base = baseLayout();
    const single = drawn.columns.length === 1;
    const log = byId("update-log").checked && !drawn.view.signed && !single;
    byId("update-log-label").hidden = drawn.view.signed || single;
    byId("update-heat").setAttribute("aria-label", `${drawn.view.label}, per layer${single ? "" : " and position; arrow keys move from cell to cell"}`);
    if (single) {
      return draw("update-heat", [barTraces(drawn)], { ...base, bargap: 0.25, xaxis: { ...base.xaxis, title: titled("layer"), dtick: drawn.layers > 12 ? undefined : 1 }, yaxis: { ...base.yaxis, title: titled(`${drawn.view.title} at position ${current.position[drawn.columns[0]]}`), rangemode: "tozero", zeroline: true, zerolinecolor: base.font.color } });
    }
    const loss = { x: current.position, y: current.full_loss, yaxis: "y2", mode: "lines+markers", line: { color: colour(KINDS[groups[items[shown].group].kind].colour), width: 1.8 }, marker: { size: current.position.length > 60 ? 0 : 5 }, hoverinfo: "none" };
    return draw("update-heat", [heatTraces(drawn, log), loss], {
      ...base,
      hovermode: "closest",
      margin: { ...base.margin, r: 4 },
      xaxis: { ...base.xaxis, title: titled("position, tokens of the trajectory read"), range: [Math.min(0, drawn.left(drawn.columns[0])), current.last], showgrid: false },
      yaxis: { ...base.yaxis, title: titled("layer"), domain: [0, 0.72], showgrid: false, range: [-0.5, drawn.layers - 0.5], dtick: drawn.layers > 12 ? undefined : 1 },
      yaxis2: { ...base.yaxis, title: titled("loss, nats"), domain: [0.79, 1], rangemode: "tozero", nticks: 4 },
    });
  }

  /** The text read since the stored position before, cut where it is long. */
  function textOf(k) {
    const text = current.tokens[k];
    if (text === null || text === "") return null;
    const tail = text.length > 90 ? `…${text.slice(-90)}` : text;
    return el("div", { class: "what" }, tail.replace(/\n/g, "↵").replace(/ /g, "␣"));
  }

  function positionRows(k) {
    const rows = [["answer loss", `${fixed(current.full_loss[k])} nats`]];
    if (defined(current.step_norm[k])) rows.push(["step, all layers", scientific(current.step_norm[k])]);
    rows.push(["‖θ′ᵢ − θ‖, all layers", scientific(current.norm[k])], ["residual", scientific(current.residual[k])]);
    return rows;
  }

  function note(rect, k, layer) {
    const before = k > 0 ? current.position[k - 1] : 0;
    const read = current.position[k] - before > 1 ? `tokens ${before + 1}–${current.position[k]} of ${current.last}` : `token ${current.position[k]} of ${current.last}`;
    const own = layer === null ? [] : Object.entries(VIEWS).flatMap(([key, view]) => (defined(current[key][k]?.[layer]) ? [[view.short ?? view.label, size(current[key][k][layer], view)]] : []));
    popover.show(rect, ...[textOf(k), el("div", { class: "muted" }, `${layer === null ? "" : `layer ${layer}, `}${read}`), pairs([...own, ...positionRows(k)])].filter(Boolean));
  }

  function frame(area, column, layer) {
    const { layer: over, point } = overlay(area);
    const { columns, left } = map();
    const [x0, y0] = point(left(columns[column]), layer - 0.5);
    const [x1, y1] = point(current.position[columns[column]], layer + 0.5);
    over.replaceChildren(svg("rect", { x: x0, y: y1, width: Math.max(1, x1 - x0), height: Math.max(1, y0 - y1) }));
    const box = area.getBoundingClientRect();
    return { left: box.left + x1 + 4, top: box.top + y1, bottom: box.top + y0 };
  }

  function leave() {
    popover.hide();
    const area = byId("update-heat");
    if (area._fullLayout) overlay(area).layer.replaceChildren();
  }

  function hover(area, event) {
    const [point] = event.points;
    const { columns } = map();
    if (point.data.type === "heatmap") {
      const [layer, column] = point.pointNumber;
      frame(area, column, layer);
      note(nearMouse(event.event), columns[column], layer);
    } else if (point.data.type === "bar") note(nearMouse(event.event), columns[0], point.pointNumber);
    else note(nearMouse(event.event), point.pointNumber, null);
  }

  function listenToMap(area) {
    if (!firstTime(area)) return;
    area.on("plotly_hover", (event) => hover(area, event));
    area.on("plotly_unhover", leave);
  }

  function heatKeys(event) {
    if (!current || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape") return leave();
    const { columns, layers } = map();
    const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const step = columns.length === 1 && event.key.startsWith("Arrow") ? [0, { ArrowRight: 1, ArrowUp: 1 }[event.key] ?? -1] : steps[event.key];
    const area = byId("update-heat");
    if (!step || !area._fullLayout) return;
    event.preventDefault();
    const clamp = (value, most) => Math.max(0, Math.min(most - 1, value));
    cell = cell ? [clamp(cell[0] + step[0], columns.length), clamp(cell[1] + step[1], layers)] : [0, 0];
    const rect = columns.length === 1 ? area.getBoundingClientRect() : frame(area, ...cell);
    note(rect, columns[cell[0]], cell[1]);
  }

  // --- opening --------------------------------------------------------------------------------------------------------

  function chips() {
    const end = current.position.length - 1;
    const worst = Math.max(...current.residual.map((value) => value ?? Infinity));
    const facts = [
      ["group", groups[items[shown].group].label],
      ["positions", current.position.length],
      ["rank", current.rank],
      ["‖θ′ − θ‖/‖θ‖ at the end", percentage(current.relative[end])],
      ["largest residual", Number.isFinite(worst) ? scientific(worst) : "undefined"],
      ["worst condition", scientific(Math.max(...current.condition.map((value) => value ?? Infinity)))],
      ["loss", `${fixed(current.base_loss[end])} → ${fixed(current.loss[end])}`],
    ];
    byId("update-facts").replaceChildren(...facts.map(([name, value]) => el("span", {}, `${name} `, el("b", {}, value))));
  }

  /** What can be shown of this trajectory; the choice stays where it can. */
  function choices() {
    const choice = byId("update-show");
    const before = choice.value;
    const keys = Object.keys(VIEWS).filter(has);
    choice.replaceChildren(...keys.map((key) => el("option", { value: key }, VIEWS[key].label)));
    choice.value = keys.includes(before) ? before : keys[0];
    return keys.length > 0;
  }

  function explain() {
    if (!has("layer_step")) return "One stored position has no step from another: this is the distance from θ, layer by layer.";
    const texts = current.tokens.some(defined) ? "A column ends at its position and holds the text read since the one before; hover, or arrow keys, for the numbers." : "A column ends at its position; the run holds no token texts for it.";
    return `${texts} The line above is the answer loss after reading that far.`;
  }

  function show(i) {
    shown = i;
    cell = null;
    current = block(`data-u${i}`);
    leave();
    byId("update-pick").value = i;
    const at = walk.indexOf(i);
    byId("update-place").textContent = `${at + 1} of ${items.length}`;
    byId("update-previous").disabled = at === 0;
    byId("update-next").disabled = at === walk.length - 1;
    chips();
    byId("update-note").textContent = explain();
    byId("update-map").hidden = !choices();
  }

  /** Choose an item; its trajectory is chosen in the reader too, where the run holds it. */
  function pick(i) {
    const { row } = items[i];
    shown = i;
    if (row === null || row === state.selected) redraw();
    else select(row);
  }

  function redraw() {
    show(shown);
    if (near && points) scatter().then(listenToScatter);
    if (near && !byId("update-map").hidden) heat().then(listenToMap);
  }

  const walk = items.map((_, i) => i);
  const step = (by) => {
    const to = walk[walk.indexOf(shown) + by];
    if (to !== undefined) pick(to);
  };

  function follow(row) {
    if (items[shown]?.row !== row) {
      const found = items.findIndex((item) => item.row === row);
      if (found < 0) return;
      shown = found;
    }
    redraw();
  }

  summary();
  byId("update-pick").append(...items.map((item, i) => el("option", { value: i }, nameOf(item))));
  byId("update-pick").addEventListener("change", (event) => pick(Number(event.target.value)));
  byId("update-previous").addEventListener("click", () => step(-1));
  byId("update-next").addEventListener("click", () => step(1));
  for (const name of ["show", "log"]) byId(`update-${name}`).addEventListener("change", () => (leave(), heat()));
  byId("update").addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("select") || !["j", "k"].includes(event.key)) return;
    event.stopPropagation(); // here the keys walk through the updates, not through the table
    step(event.key === "j" ? 1 : -1);
  });
  const area = byId("update-heat");
  area.addEventListener("keydown", heatKeys);
  area.addEventListener("blur", leave);
  exportButtons("update-heat", () => area);
  if (points) {
    legend();
    exportButtons("update-scatter", () => byId("update-scatter"));
  }
  on("select", follow);
  on("theme", redraw);
  shown = 0;
  whenNear("update").then(() => {
    near = true;
    redraw();
  });
});

/** A symbol per group: the kind's own, and another one where two groups share a kind. */
function groupSymbols(groups) {
  const used = new Set();
  return groups.map(({ kind }) => {
    const own = KINDS[kind].symbol;
    const symbol = used.has(own) ? (SYMBOLS.find((other) => !used.has(other)) ?? own) : own;
    used.add(symbol);
    return symbol;
  });
}

/** Blue below zero, paper at zero, vermillion above: the page's own pair, safe for colour-blind eyes. */
const divergingScale = () => [[0, colour("blue")], [0.5, colour("paper")], [1, colour("vermillion")]];

/** Ticks at whole and half powers of ten for a colour bar over logarithms. */
function logTicks(values) {
  const [low, high] = [Math.log10(Math.min(...values)), Math.log10(Math.max(...values))];
  const factors = high - low > 2 ? [1] : high - low > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  const ticks = [];
  for (let power = Math.floor(low); power <= high; power++) for (const factor of factors) ticks.push(Math.log10(factor) + power);
  const inside = ticks.filter((tick) => tick >= low - 1e-9 && tick <= high + 1e-9);
  return { tickvals: inside, ticktext: inside.map((tick) => scientific(10 ** tick, 2)) };
}
