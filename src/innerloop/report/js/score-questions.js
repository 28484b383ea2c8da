// Question by question: a table in which disagreements come first, and the samples of the question that is opened.

const SAMPLES_SHOWN = 16; // of a series at once
const SAMPLE_LENGTH = 4000; // characters of a text at once

function startQuestions(data) {
  const { questions } = block("data-scores-questions");
  const many = data.series.length > 1;
  const own = data.series.map((_, i) => i).filter((i) => !data.series[i].ours);
  const pair = many ? [1, 0] : null; // the difference is the first of them minus the second, the reference
  let order = [];
  let opened = null;

  const several = (name) => new Set(questions.map((row) => row[name])).size > 1;
  /** A series' name with its middle left out: what tells names apart mostly stands at their ends. */
  const short = (i, most = 24) => {
    const { name } = data.series[i];
    return name.length > most ? `${name.slice(0, 8)}…${name.slice(9 - most)}` : name;
  };
  /** Share of the decided samples that are right; null where none is decided. */
  const share = (row, i) => (row.counts[i] && row.counts[i][0] + row.counts[i][1] ? row.counts[i][0] / (row.counts[i][0] + row.counts[i][1]) : null);
  const gap = (row) => (pair && defined(share(row, pair[0])) && defined(share(row, pair[1])) ? share(row, pair[0]) - share(row, pair[1]) : null);
  const total = (counts) => counts[0] + counts[1] + counts[2];
  const sum = (row, at) => row.counts.reduce((all, counts, i) => all + (counts && !data.series[i].ours ? counts[at] : 0), 0);
  const differing = new Set(data.disagreements.map(({ question }) => question));

  // --- the table -----------------------------------------------------------------------------------------------------

  /** Right, undecided and wrong samples as a bar, and in numbers. */
  function tally(row, i) {
    const counts = row.counts[i];
    if (!counts) return ["–"];
    const n = Math.max(1, total(counts));
    const piece = (count, from, name) => (count ? [svg("rect", { class: name, x: (48 * from) / n, width: (48 * count) / n, y: 0, height: 9 })] : []);
    const bar = svg("svg", { class: "tally", width: 48, height: 9, "aria-hidden": "true" }, ...piece(counts[0], 0, "right"), ...piece(counts[2], counts[0], "undecided"), ...piece(counts[1], counts[0] + counts[2], "wrong"));
    return [bar, el("span", { class: "count" }, `${counts[0]}/${total(counts)}`), ...(counts[2] ? [el("span", { class: "muted" }, ` ${counts[2]} ?`)] : [])];
  }

  function majority(row, i) {
    const found = row.majority[i];
    if (!found) return ["–"];
    const sign = { right: "✓", wrong: "✗" }[found.outcome] ?? "?";
    const tied = found.tied ? ` and ${found.tied} tied` : "";
    return [el("span", { class: "cut", title: visible(`${found.answer}: ${found.votes} votes${tied}`) }, el("span", { class: `verdict kind-${found.outcome ?? "undecided"}` }, `${sign} `), found.answer, ...(tied ? [el("span", { class: "muted" }, tied)] : []))];
  }

  const count = (at, key, label) => questions.some((row) => sum(row, at)) && { key, label, numeric: true, value: (row) => sum(row, at), cell: (row) => [String(sum(row, at) || "–")] };
  const columns = [
    { key: "id", label: "Question", cell: (row) => [el("span", { class: `cut ${many ? (data.series.length > 3 ? "" : "middle") : "long"}`, title: visible(row.question || row.id) }, row.question || row.id)] },
    ...["benchmark", "domain", "level"].map((key) => several(key) && { key, label: key[0].toUpperCase() + key.slice(1), cell: (row) => [el("span", { class: "cut short" }, row[key] ?? "–")] }),
    ...data.series.map((_, i) => ({ key: `right-${i}`, label: many ? short(i, 20) : "Right", hint: `${visible(data.series[i].name)}: right of all samples`, mark: many ? () => seriesMark(data, i) : null, numeric: true, value: (row) => share(row, i), cell: (row) => tally(row, i) })),
    many && { key: "gap", label: "Difference", hint: "share right, in points: the first series chosen above minus the second", numeric: true, value: (row) => gap(row), cell: (row) => [defined(gap(row)) ? tenth(100 * gap(row), true) : "–"] },
    ...own.map((i) => questions.some((row) => row.majority[i]) && { key: `majority-${i}`, label: "Most frequent answer", hint: visible(data.series[i].name), mark: many ? () => seriesMark(data, i) : null, value: (row) => row.majority[i]?.answer ?? null, cell: (row) => majority(row, i) }),
    count(3, "truncated", "Truncated"),
    count(4, "failed", "Failed"),
  ].filter(Boolean);

  /** What can be asked for; `keep` says whether a row is it. */
  function choices() {
    const found = [{ label: "all questions", keep: () => true }];
    if (pair) {
      const single = questions.every((row) => pair.every((i) => !row.counts[i] || total(row.counts[i]) === 1));
      const [a, b] = pair.map((i) => short(i));
      const than = (x, y) => (single ? `${x} right, ${y} wrong` : `${x} right more often than ${y}`);
      found.push({ label: "where they differ", keep: (row) => Boolean(gap(row)) }, { label: than(a, b), keep: (row) => gap(row) > 0 }, { label: than(b, a), keep: (row) => gap(row) < 0 });
      if (!single) {
        const only = (i, j) => (row) => share(row, i) > 0 && share(row, j) === 0;
        found.push({ label: `${a} sometimes right, ${b} never`, keep: only(...pair) }, { label: `${b} sometimes right, ${a} never`, keep: only(pair[1], pair[0]) });
      }
    } else {
      found.push({ label: "never right", keep: (row) => share(row, 0) === 0 }, { label: "sometimes right", keep: (row) => share(row, 0) > 0 && share(row, 0) < 1 }, { label: "always right", keep: (row) => share(row, 0) === 1 });
    }
    if (differing.size) found.push({ label: "recorded and our verdicts differ", keep: (row) => differing.has(row.id) });
    if (questions.some((row) => sum(row, 2))) found.push({ label: "with undecided samples", keep: (row) => sum(row, 2) > 0 });
    return found;
  }

  let asked = choices();
  const haystack = once(() => questions.map((row) => `${row.id}\n${row.question}`.toLowerCase()));

  function update() {
    const words = byId("scores-text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const { keep } = asked[Number(byId("scores-show").value)] ?? asked[0];
    const rows = questions.map((_, i) => i).filter((i) => keep(questions[i]) && words.every((word) => haystack()[i].includes(word)));
    byId("scores-count").textContent = rows.length === questions.length ? `${rows.length} questions` : `${rows.length} of ${questions.length} questions`;
    grid.filter(rows);
  }

  function fillShow() {
    const before = byId("scores-show").value || 0;
    asked = choices();
    byId("scores-show").replaceChildren(...asked.map(({ label }, i) => el("option", { value: i }, label)));
    byId("scores-show").value = before;
  }

  /** Which two series the difference is of, where there are more. */
  function pairChoice() {
    if (data.series.length < 3) return;
    const choice = (at, label) => {
      const made = el("select", { "aria-label": label }, ...data.series.map((_, i) => el("option", { value: i, selected: i === pair[at] }, short(i, 32))));
      made.addEventListener("change", () => {
        pair[at] = Number(made.value);
        fillShow();
        update();
      });
      return made;
    };
    byId("scores-pair").append(el("span", { class: "pair" }, choice(0, "Difference of"), " − ", choice(1, "minus")));
  }

  const grid = makeGrid({
    box: byId("scores-box"),
    table: byId("scores-grid"),
    columns,
    records: questions,
    nothing: "No question passes this filter.",
    first: (a, b) => Math.abs(gap(b) ?? 0) - Math.abs(gap(a) ?? 0), // disagreements first
    open: (i) => open(i),
    selected: () => opened,
    changed: (now) => {
      order = now;
      if (opened !== null) place();
    },
  });

  // --- the samples of one question -----------------------------------------------------------------------------------

  const panel = byId("scores-samples");

  function open(i, sample = null) {
    opened = i;
    const row = questions[i];
    const step = (name, by) => el("button", { type: "button", "data-step": by }, name);
    const told = [...["benchmark", "domain", "level"].filter((name) => row[name]).map((name) => [name, row[name]]), ["reference answer", row.answer]].filter(([, value]) => defined(value));
    panel.replaceChildren(
      el("div", { class: "tools reader-bar" }, step("‹ Previous", -1), step("Next ›", 1), el("output", { class: "muted" })),
      el("h3", {}, row.id),
      ...(row.question ? [el("div", { class: "quote", tabindex: 0, dir: "auto", role: "group", "aria-label": "Question" }, row.question)] : []),
      el("p", { class: "chips" }, ...told.map(([name, value]) => el("span", {}, `${name} `, el("b", {}, value)))),
      el("div", { class: "series" }, ...own.map((k) => seriesPart(row, k))),
    );
    panel.hidden = false;
    place();
    grid.show(i);
    const target = sample === null ? panel : panel.querySelector(`[data-sample="${sample}"]`) ?? panel;
    target.scrollIntoView({ block: "start" });
    (target === panel ? panel : target.querySelector("[tabindex], button") ?? panel).focus({ preventScroll: true });
  }

  function place() {
    const at = order.indexOf(opened);
    panel.querySelector("output").textContent = at < 0 ? "outside the filter" : `${at + 1} of ${order.length}`;
    panel.querySelector('[data-step="-1"]').disabled = at <= 0;
    panel.querySelector('[data-step="1"]').disabled = at === order.length - 1;
  }

  function seriesPart(row, k) {
    const numbers = row.samples[k];
    const title = el("h4", {}, ...(many ? [seriesMark(data, k)] : []), data.series[k].name, el("span", { class: "muted" }, row.counts[k] ? ` ${row.counts[k][0]} of ${total(row.counts[k])} right` : " no samples"));
    const list = el("ol", { class: "sample-list" });
    let shown = 0;
    const more = el("button", { type: "button" });
    const add = (count) => {
      list.append(...numbers.slice(shown, shown + count).map((number, at) => card(number, shown + at + 1)));
      shown = Math.min(numbers.length, shown + count);
      more.hidden = shown >= numbers.length;
      more.textContent = `${numbers.length - shown} more samples`;
    };
    add(data.disagreements.some(({ question }) => question === row.id) ? numbers.length : SAMPLES_SHOWN);
    more.addEventListener("click", () => add(numbers.length));
    const none = row.counts[k] && !numbers.length ? [el("p", { class: "muted" }, "The run folder holds the counts of these samples, not the samples.")] : [];
    return el("div", {}, title, ...none, list, more);
  }

  /** One sample: verdict, answer, length, how it ended, why; its text, as far as it is asked for. */
  function card(number, at) {
    const row = index.rows[number];
    const sample = textOf(number);
    const disputed = data.disagreements.find((one) => one.sample === number);
    const badge = disputed ? [el("span", { class: "badge some" }, `recorded as ${disputed.recorded}`)] : [];
    const facts = [verdict(row.outcome), ...badge, ...(defined(sample.answer) ? [el("span", {}, "answer ", el("b", {}, sample.answer))] : [])];
    if (defined(row.tokens)) facts.push(el("span", {}, `${row.tokens} tokens`));
    if (row.status !== "complete") facts.push(el("span", { class: "verdict kind-undecided" }, row.status));
    if (data.readable) facts.push(el("button", { type: "button", class: "quiet", "data-read": number }, "Reader ›"));
    const why = [sample.outcome_reason, sample.reason].filter(Boolean).join("; ");
    const measured = sample.curve ? sample.curve.tokens.join("") : "";
    return el("li", { "data-sample": number }, el("p", { class: "chips" }, el("span", { class: "muted" }, `${at}`), ...facts), ...(why ? [el("p", { class: "muted why" }, why)] : []), ...body(measured + sample.rest, "Text"), ...(sample.final ? [el("h5", {}, "shown after the thinking"), ...body(sample.final, "Final part")] : []));
  }

  function body(text, label) {
    if (!text) return [];
    const node = el("div", { class: "sample-text", tabindex: 0, dir: "auto", role: "group", "aria-label": label }, text.slice(0, SAMPLE_LENGTH));
    if (text.length > SAMPLE_LENGTH) {
      const rest = el("button", { type: "button", class: "quiet" }, `… all ${text.length.toLocaleString("en")} characters`);
      rest.addEventListener("click", () => {
        node.replaceChildren(visible(text));
        node.focus({ preventScroll: true });
      });
      node.append(" ", rest);
    }
    return [node];
  }

  panel.addEventListener("click", (event) => {
    const [read, step] = ["read", "step"].map((name) => event.target.closest(`[data-${name}]`));
    if (read) select(Number(read.dataset.read), { reveal: true });
    if (step) open(order[order.indexOf(opened) + Number(step.dataset.step)] ?? opened);
  });
  for (const row of document.querySelectorAll("[data-disagreement]")) {
    const { question, sample } = data.disagreements[Number(row.dataset.disagreement)];
    const show = () => open(questions.findIndex(({ id }) => id === question), sample);
    row.addEventListener("click", show);
    row.addEventListener("keydown", (event) => event.key === "Enter" && show());
  }
  pairChoice();
  fillShow();
  byId("scores-show").addEventListener("change", update);
  byId("scores-text").addEventListener("input", update);
  update();
}
