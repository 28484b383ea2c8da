// The summary is drawn by the template; here its figure becomes one that can be saved.

section("headline", () => {
  const data = block("data-headline");
  if (data.groups.length) exportButtons("headline", () => forestFigure(data));
});

function forestFigure(data) {
  const rows = [...data.groups, ...data.differences.map((row) => ({ ...row, kind: null }))].filter((row) => defined(row.gain.mean));
  const base = baseLayout();
  const traces = rows.map((row, i) => {
    const ink = colour(KINDS[row.kind]?.colour ?? "ink");
    const { mean, low, high } = row.gain;
    return {
      x: [mean],
      y: [i],
      mode: "markers",
      marker: { color: row.kind && !row.control ? ink : base.paper_bgcolor, size: 11, line: { color: ink, width: 2 } },
      error_x: defined(low) ? { array: [high - mean], arrayminus: [mean - low], symmetric: false, color: ink } : undefined,
    };
  });
  const layout = {
    ...base,
    width: 820,
    height: 110 + 34 * rows.length,
    xaxis: { ...base.xaxis, title: titled("gain, nats per answer token (mean over questions, 95 % interval)"), zeroline: true, zerolinecolor: base.font.color },
    yaxis: { ...base.yaxis, tickvals: rows.map((_, i) => i), ticktext: rows.map((row) => plainLabel(row.label, 48)), range: [rows.length - 0.5, -0.5] },
  };
  return { data: traces, layout };
}
