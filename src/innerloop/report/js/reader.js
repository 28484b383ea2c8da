// The reader: one trajectory with its question, its curve and its numbers.

const CANDIDATE_COLOURS = ["blue", "vermillion", "green", "purple", "orange", "sky", "grey"];
const DASHES = ["solid", "dash", "dot", "dashdot"];

section("reader", () => {
  const text = byId("reader-text");
  let current = null; // the block that is open
  let focused = null; // measured position with the keyboard's focus

  // --- what stands around the text -----------------------------------------------------------------------------

  function title(row, question) {
    byId("reader-name").textContent = visible(row.id);
    const chips = [verdictOf(row), ["group", index.groups[row.group].label], ["tokens", row.tokens], ["loss", row.end === undefined ? null : `${fixed(row.start)} → ${fixed(row.end)}`], ["gain", row.gain === undefined ? null : fixed(row.gain)], ["model", row.model], ["level", question.level]];
    byId("reader-facts").replaceChildren(
      ...chips.filter(([, value]) => defined(value)).map(([name, value]) => (value instanceof Node ? value : el("span", {}, `${name} `, el("b", {}, value)))),
    );
    const at = state.order.indexOf(state.selected);
    byId("reader-place").textContent = at < 0 ? "outside the filter" : `${at + 1} of ${state.order.length}`;
    byId("reader-previous").disabled = at === 0;
    byId("reader-next").disabled = at === state.order.length - 1;
  }

  const verdictOf = (row) => ["verdict", row.outcome ? verdict(row.outcome) : null];

  function aside(row, question) {
    const found = current.answer ?? null;
    const part = (name, node) => (node === null ? [] : [el("h4", {}, name), node]);
    byId("reader-aside").replaceChildren(
      ...part("Question", el("div", { class: "quote", tabindex: 0, dir: "auto" }, question.question || "(not in this run)")),
      ...part("Reference answer", el("div", { class: "answer" }, question.answer || "–")),
      ...part("Verdict", el("div", {}, verdict(row.outcome), ...(current.outcome_reason ? [`: ${current.outcome_reason}`] : []))),
      ...part("Answer found in the text", found === null ? null : el("div", { class: "answer" }, found)),
      ...part("How it ended", row.status === "complete" && !current.reason ? null : el("div", {}, [row.status, current.reason].filter(Boolean).join(": "))),
      ...part("Sampling", current.seed === null && current.logprob === null ? null : el("div", {}, samplingLine())),
      ...part("Same question", siblings(row)),
    );
  }

  function samplingLine() {
    const parts = [];
    if (current.seed !== null) parts.push(`seed ${current.seed}`);
    if (defined(current.generated)) parts.push(`${current.generated} tokens generated`);
    if (current.logprob !== null) parts.push(`log p ${fixed(current.logprob, 1)} nats`);
    return parts.join(", ");
  }

  function siblings(row) {
    const others = index.rows.map((_, i) => i).filter((i) => index.rows[i].question === row.question && i !== state.selected);
    if (!others.length) return null;
    const shown = others.slice(0, 12).map((i) => {
      const { kind, label } = index.groups[index.rows[i].group];
      return el("button", { type: "button", "data-open": i, title: visible(index.rows[i].id) }, swatch(kind), label);
    });
    return el("div", { class: "siblings" }, ...shown, ...(others.length > 12 ? [`and ${others.length - 12} more`] : []));
  }

  // --- the text --------------------------------------------------------------------------------------------------

  const scale = () => (byId("reader-scale").value === "own" ? ownScale(current.curve) : index.scale);

  function fillText() {
    const rest = current.rest ? [el("div", { class: current.curve ? "unmeasured" : "" }, ...tokenText(current.rest))] : [];
    const chunks = current.curve ? tokenChunks(current.curve, scale()) : [];
    const final = current.final ? [el("h4", {}, "What the model showed after its thinking (not measured)"), el("div", {}, ...tokenText(current.final))] : [];
    const nothing = chunks.length || rest.length ? [] : [el("span", { class: "muted" }, "(empty)")];
    text.replaceChildren(...chunks, ...rest, ...nothing, ...final);
    text.scrollTop = 0;
    focused = null;
    text.querySelector("[data-k]")?.setAttribute("tabindex", 0);
    byId("reader-key").replaceChildren(...(current.curve ? rampKey(scale()) : []));
  }

  function recolour() {
    if (!current?.curve) return;
    const full = scale();
    for (const span of text.querySelectorAll("[data-k]")) span.className = tokenClass(current.curve, Number(span.dataset.k), full);
    byId("reader-key").replaceChildren(...rampKey(full));
  }

  const spanAt = (k) => text.querySelector(`[data-k="${k}"]`);
  const tokenOf = (event) => event.target.closest?.("[data-k]");

  function note(span) {
    const k = Number(span.dataset.k);
    popover.show(span.getClientRects()[0] ?? span.getBoundingClientRect(), ...tokenNote(current.curve, k));
    cursor(k);
  }

  function leave() {
    popover.hide();
    if (focused !== null && document.activeElement === spanAt(focused)) cursor(focused);
    else cursor(null);
  }

  function focusToken(k) {
    const span = spanAt(k);
    if (!span) return;
    if (focused !== null) spanAt(focused)?.setAttribute("tabindex", -1);
    else text.querySelector('[tabindex="0"][data-k]')?.setAttribute("tabindex", -1);
    focused = k;
    span.setAttribute("tabindex", 0);
    span.focus({ preventScroll: true });
    span.scrollIntoView({ block: "nearest" });
    note(span);
  }

  /** The token above or below: on the next line in that direction, the nearest one sideways. */
  function vertical(span, down) {
    const start = (token) => token.getClientRects()[0]; // a token may reach over a line's end
    const from = start(span);
    let best = null;
    for (let next = neighbour(span, down); next; next = neighbour(next, down)) {
      const rect = start(next);
      if (!rect) continue;
      if (Math.abs(rect.top - from.top) < from.height / 2) continue;
      if (best && Math.abs(rect.top - best.top) > from.height / 2) break;
      const far = Math.abs(rect.left - from.left);
      if (!best || far < best.far) best = { far, top: rect.top, k: Number(next.dataset.k) };
    }
    return best?.k ?? null;
  }

  function neighbour(span, forward) {
    const next = forward ? span.nextElementSibling : span.previousElementSibling;
    if (next) return next;
    const chunk = forward ? span.parentElement.nextElementSibling : span.parentElement.previousElementSibling;
    if (!chunk?.classList.contains("chunk")) return null;
    return forward ? chunk.firstElementChild : chunk.lastElementChild;
  }

  function keys(event) {
    const span = tokenOf(event);
    if (!span || event.altKey || event.ctrlKey || event.metaKey) return;
    const k = Number(span.dataset.k);
    const first = Number(text.querySelector("[data-k]").dataset.k);
    const last = current.curve.loss.length - 1;
    const to = { ArrowRight: k + 1, ArrowLeft: k - 1, Home: first, End: last }[event.key];
    const target = event.key === "ArrowDown" || event.key === "ArrowUp" ? vertical(span, event.key === "ArrowDown") : to;
    if (event.key === "Escape") popover.hide();
    if (target === undefined) return;
    event.preventDefault();
    if (target !== null) focusToken(Math.max(first, Math.min(last, target)));
  }

  // --- the curve ---------------------------------------------------------------------------------------------------

  const positionOf = (k) => (current.curve.position ? current.curve.position[k] : k);

  function plot() {
    const { curve } = current;
    const many = curve.candidates.length > 0;
    const base = baseLayout();
    const x = curve.loss.map((_, k) => positionOf(k));
    const style = KINDS[index.groups[index.rows[state.selected].group].kind];
    const traces = [{ x, y: curve.loss, mode: x.length > 1 ? "lines" : "markers", line: { color: colour(style.colour), width: 1.8 }, hoverinfo: "none" }];
    const written = curve.written === null ? [] : [positionOf(curve.written)];
    const layout = {
      ...base,
      hovermode: "x",
      margin: { ...base.margin, t: 20 },
      shapes: written.map((at) => ({ type: "line", x0: at, x1: at, yref: "paper", y0: 0, y1: 1, line: { color: base.font.color, width: 1 } })),
      annotations: written.map((at) => ({ x: at, yref: "paper", y: 1, xanchor: at > positionOf(x.length - 1) / 2 ? "right" : "left", yanchor: "bottom", showarrow: false, text: "answer written", font: { size: 12 } })),
      xaxis: { ...base.xaxis, title: titled("position, tokens read"), anchor: many ? "y2" : "y" },
      yaxis: { ...base.yaxis, title: titled("loss, nats"), rangemode: "tozero", domain: many ? [0.5, 1] : [0, 1] },
    };
    if (many) {
      layout.yaxis2 = { ...base.yaxis, title: titled("belief"), range: [-0.02, 1.02], domain: [0, 0.4] };
      layout.showlegend = true;
      layout.legend = { orientation: "h", y: 0.4, yanchor: "bottom" };
      traces[0].showlegend = false;
      curve.candidates.forEach((candidate, c) => {
        const line = { color: colour(CANDIDATE_COLOURS[c % CANDIDATE_COLOURS.length]), dash: DASHES[c % DASHES.length], width: 1.6 };
        traces.push({ x, y: curve.beliefs.map((row) => row[c]), yaxis: "y2", mode: "lines", line, name: plainLabel(candidate), hoverinfo: "none" });
      });
    }
    const area = byId("reader-plot");
    area.classList.toggle("with-beliefs", many);
    const before = area.on;
    draw("reader-plot", traces, layout).then(() => {
      if (area.on && !before) listen(area);
      if (area.on) cursor(null);
    });
  }

  function listen(area) {
    area.on("plotly_hover", (event) => {
      const k = event.points[0].pointNumber;
      text.querySelector(".here")?.classList.remove("here");
      const span = spanAt(k);
      span?.classList.add("here");
      cursor(k);
      popover.show(nearMouse(event.event), ...tokenNote(current.curve, k));
    });
    area.on("plotly_unhover", () => {
      text.querySelector(".here")?.classList.remove("here");
      leave();
    });
    area.on("plotly_click", (event) => focusToken(event.points[0].pointNumber));
  }

  function cursor(k) {
    const area = byId("reader-plot");
    if (!area._fullLayout || !current?.curve) return;
    const { layer, point, top, bottom } = overlay(area);
    if (k === null || !defined(current.curve.loss[k])) {
      layer.replaceChildren();
      return;
    }
    const [x, y] = point(positionOf(k), current.curve.loss[k]);
    layer.replaceChildren(svg("line", { x1: x, x2: x, y1: top, y2: bottom }), svg("circle", { cx: x, cy: y, r: 4 }));
  }

  // --- opening -------------------------------------------------------------------------------------------------------

  function open(i) {
    const row = index.rows[i];
    const question = index.questions[row.question];
    current = textOf(i);
    popover.hide();
    title(row, question);
    aside(row, question);
    byId("reader-measured").hidden = !current.curve;
    byId("reader-note").textContent = explain(row);
    fillText();
    if (current.curve) plot();
  }

  function explain(row) {
    if (!current.curve) return "This trajectory was not probed: its text stands here without colours.";
    const spans = current.curve.position ? " The loss was not measured at every token: a coloured span is what was read between two measurements." : "";
    const foreign = current.foreign ? " The probed model did not write this text itself: levels are telling, the moves of single tokens less so." : "";
    const copied = current.curve.written === null ? "" : " From “answer written” on, the reference answer stands in the text and can be copied; the fall before it is what copying does not explain.";
    return `Colour: how much each token moved the answer loss. Hover, or arrow keys, for the numbers.${spans}${copied}${foreign}`;
  }

  const step = (by) => {
    const at = state.order.indexOf(state.selected);
    const to = state.order[at < 0 ? 0 : at + by];
    if (to !== undefined) select(to);
  };

  on("select", open);
  on("order", () => current && title(index.rows[state.selected], index.questions[index.rows[state.selected].question]));
  on("theme", () => current?.curve && plot());
  byId("reader-previous").addEventListener("click", () => step(-1));
  byId("reader-next").addEventListener("click", () => step(1));
  byId("reader-scale").addEventListener("change", recolour);
  byId("reader-aside").addEventListener("click", (event) => {
    const button = event.target.closest("[data-open]");
    if (button) select(Number(button.dataset.open));
  });
  text.addEventListener("pointerover", (event) => {
    const span = tokenOf(event);
    if (span) note(span);
    else leave();
  });
  text.addEventListener("pointerleave", leave);
  text.addEventListener("click", (event) => tokenOf(event) && !String(getSelection()) && focusToken(Number(tokenOf(event).dataset.k)));
  text.addEventListener("focusin", (event) => {
    const span = tokenOf(event);
    if (!span) return;
    focused = Number(span.dataset.k);
    note(span);
  });
  text.addEventListener("focusout", leave);
  text.addEventListener("keydown", keys);
  text.addEventListener("scroll", popover.hide, { passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches?.("input[type=search], select, textarea")) return;
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  exportButtons("reader", () => byId("reader-plot"));
});
