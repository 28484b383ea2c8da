// The landscape section: the answer loss around θ as a surface and as contours, with the trajectory's path in it.

section("landscape", () => {
  const data = block("data-landscape");
  const { questions, items } = data;
  const itemsOf = (question) => items.map((_, i) => i).filter((i) => items[i].question === question);
  const solid = hasWebGL();
  let shown = null; // the item on the screen
  let current = null; // its block
  let near = false; // whether the section has come near: its figures are drawn only then
  let turned = null; // where the surface is looked at from
  let pointer = { clientX: 0, clientY: 0 };

  const ALPHA = { path: "α, first principal direction of the path", other: "α, first direction" };
  const BETA = { path: "β, second principal direction", other: "β, second direction" };
  const axisName = (names) => (Object.hasOwn(names, items[shown].plane) ? names[items[shown].plane] : names.other);
  const drawn = (name) => byId(`landscape-${name}`).checked && !byId(`landscape-${name}-label`).hidden;
  const pathInk = () => colour("path");

  // --- the two planes -----------------------------------------------------------------------------------------------

  /** The path's points in the order of time; `of` says what a point is called. */
  function path() {
    return { x: current.path_alpha, y: current.path_beta, z: current.path_loss, of: current.position.map((position) => `position ${position}`) };
  }

  function paperPath() {
    const { alpha, beta, loss } = current.overlay;
    return { x: alpha, y: beta, z: loss, of: alpha.map((_, i) => `time ${i + 1} of ${alpha.length}`), paper: true };
  }

  const paths = () => [...(drawn("path") ? [path()] : []), ...(drawn("overlay") ? [paperPath()] : [])];

  function lossRange() {
    const all = current.loss.flat().filter(defined);
    return [Math.min(...all), Math.max(...all)];
  }

  function contourTraces() {
    const plane = {
      type: "contour",
      x: current.alpha,
      y: current.beta,
      z: current.loss,
      colorscale: "Cividis",
      contours: { coloring: "heatmap", showlabels: true, labelfont: { size: 11, color: "#fff" } },
      line: { width: 0.7, color: "rgba(255,255,255,0.55)" },
      colorbar: { title: { text: "loss, nats", side: "right" }, thickness: 12, outlinewidth: 0, tickfont: { size: 12 } },
      hoverinfo: "none",
    };
    return [plane, ...paths().flatMap(flatPath), { x: [0], y: [0], mode: "markers", marker: { symbol: "cross-thin", size: 11, line: { color: "#fff", width: 2 } }, hoverinfo: "skip" }];
  }

  /** A line with a pale rim, so that it shows on any colour; its last point is larger. */
  function flatPath(way) {
    const line = { width: 2.4, color: way.paper ? "#fff" : pathInk(), dash: way.paper ? "dot" : "solid" };
    const rim = { x: way.x, y: way.y, mode: "lines", line: { width: 5, color: "rgba(255,255,255,0.85)" }, hoverinfo: "skip" };
    const marker = { opacity: 1, size: way.x.map((_, i) => (i === way.x.length - 1 ? 11 : way.x.length > 60 ? 4 : 6)), symbol: way.paper ? "square" : "circle", color: way.paper ? "#fff" : pathInk(), line: { color: way.paper ? "#222" : "#fff", width: 1.2 } };
    return [...(way.paper ? [] : [rim]), { x: way.x, y: way.y, mode: "lines+markers", line, marker, cliponaxis: false, customdata: way.of.map((of, i) => [of, way.z[i]]), hoverinfo: "none" }];
  }

  function surfaceTraces() {
    const [cmin, cmax] = lossRange();
    const plane = { type: "surface", x: current.alpha, y: current.beta, z: current.loss, colorscale: "Cividis", cmin, cmax, showscale: false, opacity: 0.94, lighting: { ambient: 0.75, diffuse: 0.5, specular: 0.05, roughness: 0.9 }, contours: { z: { show: true, width: 1, color: "rgba(255,255,255,0.4)", highlight: false }, x: { highlight: false }, y: { highlight: false } }, hoverinfo: "none" };
    return [plane, ...paths().map(solidPath)];
  }

  function solidPath(way) {
    const ink = way.paper ? colour("ink") : pathInk();
    const marker = { opacity: 1, size: way.x.map((_, i) => (i === way.x.length - 1 ? 7 : 3.5)), color: ink, symbol: way.paper ? "square" : "circle", line: { color: "#fff", width: 1 } };
    return { type: "scatter3d", x: way.x, y: way.y, z: way.z, mode: "lines+markers", line: { width: 7, color: ink, dash: way.paper ? "dot" : "solid" }, marker, customdata: way.of.map((of, i) => [of, way.z[i]]), hoverinfo: "none" };
  }

  /** The grid's range, wider where the path leaves it. */
  const reach = (grid, way) => [Math.min(...grid, ...way.filter(defined)), Math.max(...grid, ...way.filter(defined))];

  function contour() {
    const base = baseLayout();
    const way = drawn("path") ? path() : { x: [], y: [] };
    return draw("landscape-contour", contourTraces(), {
      ...base,
      hovermode: "closest",
      margin: { ...base.margin, r: 4 },
      xaxis: { ...base.xaxis, title: titled(axisName(ALPHA)), range: reach(current.alpha, way.x), showgrid: false },
      yaxis: { ...base.yaxis, title: titled(axisName(BETA)), range: reach(current.beta, way.y), showgrid: false },
    });
  }

  function surface() {
    const base = baseLayout();
    const axis = (text) => ({ title: { text, font: { size: 12 } }, gridcolor: colour("hairline"), zeroline: false, showbackground: false, linecolor: colour("hairline"), tickfont: { size: 11 }, showspikes: false });
    return draw("landscape-surface", surfaceTraces(), {
      ...base,
      margin: { l: 0, r: 0, t: 0, b: 0 },
      uirevision: "turned",
      scene: { xaxis: axis("α"), yaxis: axis("β"), zaxis: axis("loss, nats"), aspectmode: "manual", aspectratio: { x: 1.1, y: 1.1, z: 0.75 }, camera: { eye: turned ?? { x: -1.35, y: -1.45, z: 0.85 }, center: { x: 0, y: 0, z: -0.12 } }, dragmode: "turntable" },
    });
  }

  /** Arrow keys turn the surface about its axis and tilt it. */
  function turn(event) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const area = byId("landscape-surface");
    if (!by || !area._fullLayout?.scene) return;
    event.preventDefault();
    const { x, y, z } = area._fullLayout.scene.camera.eye;
    const far = Math.hypot(x, y, z);
    const around = Math.atan2(y, x) + (by[0] * Math.PI) / 18;
    const up = Math.max(-1.4, Math.min(1.4, Math.asin(z / far) + (by[1] * Math.PI) / 24));
    turned = { x: far * Math.cos(up) * Math.cos(around), y: far * Math.cos(up) * Math.sin(around), z: far * Math.sin(up) };
    window.Plotly.relayout(area, { "scene.camera.eye": turned });
  }

  // --- lines ----------------------------------------------------------------------------------------------------------

  const WAYS = { "path-line": { label: "along the path, θ′ₙ − θ", colour: "blue", dash: "solid", symbol: "circle" }, "gradient-line": { label: "along −∇L(θ), to the same length", colour: "vermillion", dash: "dash", symbol: "square" } };

  function lines() {
    const base = baseLayout();
    const traces = current.lines.map(({ plane, alpha, loss }) => {
      const { label, colour: ink, dash, symbol } = WAYS[plane];
      return { x: alpha, y: loss, name: label, mode: "lines+markers", line: { color: colour(ink), dash, width: 2.2 }, marker: { symbol, size: 6 }, customdata: alpha.map(() => [label, null]), hoverinfo: "none" };
    });
    const own = current.lines.filter(({ plane }) => plane === "path-line").flatMap((line) => (line.position.length ? [{ x: line.path_alpha, y: line.path_loss, name: "the path's points, at their own loss", mode: "markers", marker: { symbol: "circle-open", size: 10, color: colour("ink"), line: { width: 2 } }, customdata: line.position.map((position) => [`position ${position}`, null]), hoverinfo: "none" }] : []));
    return draw("landscape-lines", [...traces, ...own], {
      ...base,
      hovermode: "closest",
      showlegend: true,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      margin: { ...base.margin, t: 44 },
      xaxis: { ...base.xaxis, title: titled("way along the line, in lengths of θ′ₙ − θ (θ at 0)"), zeroline: true, zerolinecolor: base.font.color },
      yaxis: { ...base.yaxis, title: titled("answer loss, nats") },
    });
  }

  // --- notes ----------------------------------------------------------------------------------------------------------

  function note(event) {
    const [point] = event.points;
    const mouse = event.event?.clientX === undefined ? pointer : event.event;
    const [name, loss] = point.customdata ?? [null, null];
    const place = [["α", fixed(point.x, 3)], ...(items[shown].kind === "lines" ? [] : [["β", fixed(point.y, 3)]])];
    const height = items[shown].kind === "lines" ? point.y : (loss ?? point.z);
    popover.show(nearMouse(mouse), ...[name ? el("div", {}, name) : null, pairs([...place, ["loss", `${fixed(height)} nats`]])].filter(Boolean));
  }

  function listen(area) {
    if (!firstTime(area)) return;
    area.on("plotly_hover", note);
    area.on("plotly_unhover", popover.hide);
    area.on("plotly_relayout", (change) => {
      if (change["scene.camera"]) turned = change["scene.camera"].eye;
    });
  }

  function facts() {
    const item = items[shown];
    const chips = [["trajectory", item.trajectory], ["seed", item.seed], ["the plane holds", defined(current.captured) ? `${percentage(current.captured)} of the path` : null], ...(current.lines ?? []).map(({ plane, captured }) => [`the line ${{ "path-line": "along the path", "gradient-line": "along −∇L" }[plane]} holds`, defined(captured) ? `${percentage(captured)} of the path` : null]), ["grid", item.kind === "plane" ? `${current.alpha.length} × ${current.beta.length}` : null]];
    byId("landscape-facts").replaceChildren(...chips.filter(([, value]) => defined(value)).map(([name, value]) => el("span", {}, `${name} `, el("b", {}, value))));
  }

  function explain() {
    const item = items[shown];
    if (current.lines?.length === 1) return "The line starts at θ; the path's points, where there are some, stand where they fall on it, at their own loss.";
    if (item.kind === "lines") return "Both lines start at θ and are scaled to the same length, so they can be compared point by point. The path's points stand where they fall on the line along it, at their own loss: where the line does not hold the path, they lie off it.";
    const parts = ["The white cross is θ."];
    if (item.plane === "path") parts.push("The path stands at its true coordinates and carries its own loss: where the plane does not hold all of it, its points lie off the surface.");
    else parts.push("The directions are random: the path does not lie in this plane.");
    if (drawn("overlay")) parts.push(`Dotted, the paper's drawing (RaML fig. 2)${current.overlay.of ? ` of ${current.overlay.of}` : ""}: time along α, and along β the grid point whose loss is nearest; it says nothing about where the path lies.`);
    if (!solid) parts.push("The surface needs WebGL, which this browser does not offer; the contours show the same data.");
    return visible(parts.join(" "));
  }

  function sharpness() {
    const rows = questions[items[shown].question].sharpness;
    const names = [["top_eigenvalue", "highest eigenvalue"], ["low_eigenvalue", "lowest eigenvalue"], ["trace", "trace"]];
    const size = (value) => (value < 0 ? "−" : "") + scientific(Math.abs(value), 4);
    const facts = rows.flatMap((row) => names.filter(([key]) => defined(row[key])).map(([key, name]) => el("div", {}, el("dt", {}, name), el("dd", {}, size(row[key]), ...(key === "trace" && defined(row.trace_error) ? [el("span", { class: "muted" }, ` ± ${scientific(row.trace_error, 2)} (standard error)`)] : [])))));
    const weights = rows.map((row) => row.weights).filter(Boolean).join("; ");
    const title = el("h3", {}, "Sharpness at θ");
    byId("landscape-sharpness").replaceChildren(...(facts.length ? [title, el("p", { class: "muted" }, `Hessian of this question's answer loss${weights ? `, over ${weights}` : ""}.`), el("dl", { class: "facts" }, ...facts)] : []));
  }

  // --- choosing -------------------------------------------------------------------------------------------------------

  function redraw() {
    popover.hide();
    const item = items[shown];
    const flat = item.kind === "plane";
    byId("landscape-planes").hidden = !flat;
    byId("landscape-line").hidden = flat;
    if (flat) {
      byId("landscape-path-label").hidden = !current.position.length || !current.path_alpha.length;
      byId("landscape-overlay-label").hidden = !current.overlay;
    }
    byId("landscape-note").textContent = explain();
    if (!near) return;
    if (!flat) return void lines().then(listen);
    contour().then(listen);
    if (solid) surface().then(listen);
  }

  function show(i) {
    shown = i;
    current = block(`data-l${i}`);
    const { question } = items[i];
    byId("landscape-question").value = question;
    byId("landscape-plane").replaceChildren(...itemsOf(question).map((other) => el("option", { value: other }, figureName(other))));
    byId("landscape-plane").value = i;
    byId("landscape-place").textContent = `${question + 1} of ${questions.length}`;
    byId("landscape-previous").disabled = question === 0;
    byId("landscape-next").disabled = question === questions.length - 1;
    facts();
    sharpness();
    redraw();
  }

  /** What tells the figures of a question apart: the plane, and where that is not enough the seed or the trajectory. */
  function figureName(i) {
    const { label, seed, trajectory, question } = items[i];
    const alike = itemsOf(question).filter((other) => items[other].label === label);
    const more = alike.length > 1 ? [seed === null ? null : `seed ${seed}`, trajectory].filter(defined) : [];
    return [label, ...more].join(", ");
  }

  /** Another question, the same kind of figure where it has one. */
  function ask(question) {
    const own = itemsOf(question);
    if (!own.length) return;
    show(own.find((i) => items[i].label === items[shown].label) ?? own[0]);
  }

  function follow(row) {
    const own = items.findIndex((item) => item.row === row && item.label === items[shown].label);
    const question = questions.findIndex(({ id }) => id === index.questions[index.rows[row].question].id);
    if (own >= 0) show(own);
    else if (question >= 0 && question !== items[shown].question) ask(question);
  }

  const title = ({ id, question }) => (question ? `${id}: ${question.length > 90 ? `${question.slice(0, 90)}…` : question}` : id);
  byId("landscape-question").append(...questions.map((question, i) => el("option", { value: i }, title(question))));
  byId("landscape-question").addEventListener("change", (event) => ask(Number(event.target.value)));
  byId("landscape-plane").addEventListener("change", (event) => show(Number(event.target.value)));
  byId("landscape-previous").addEventListener("click", () => ask(items[shown].question - 1));
  byId("landscape-next").addEventListener("click", () => ask(items[shown].question + 1));
  for (const name of ["path", "overlay"]) byId(`landscape-${name}`).addEventListener("change", redraw);
  byId("landscape").addEventListener("pointermove", (event) => (pointer = event), { passive: true });
  byId("landscape").addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("select") || !["j", "k"].includes(event.key)) return;
    event.stopPropagation(); // here the keys walk through the questions
    ask(items[shown].question + (event.key === "j" ? 1 : -1));
  });
  byId("landscape-surface").addEventListener("keydown", turn);
  byId("landscape-surface").addEventListener("pointerleave", popover.hide);
  byId("landscape-solid").hidden = !solid;
  for (const name of ["surface", "contour", "lines"]) exportButtons(`landscape-${name}`, () => byId(`landscape-${name}`));
  on("select", follow);
  on("theme", redraw);
  show(0);
  whenNear("landscape").then(() => {
    near = true;
    redraw();
  });
});

function hasWebGL() {
  const context = document.createElement("canvas").getContext("webgl");
  context?.getExtension("WEBGL_lose_context")?.loseContext(); // a page may hold only a few
  return Boolean(context);
}
