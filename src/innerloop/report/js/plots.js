// Charts: plotly.js, started after the page can be read, and what our charts have in common.

const KINDS = {
  solution: { colour: "blue", dash: "solid", symbol: "circle" },
  right: { colour: "green", dash: "solid", symbol: "triangle-up" },
  wrong: { colour: "vermillion", dash: "dash", symbol: "triangle-down" },
  undecided: { colour: "orange", dash: "dashdot", symbol: "diamond" },
  unjudged: { colour: "sky", dash: "dashdot", symbol: "diamond" },
  "other-question": { colour: "purple", dash: "5px,3px", symbol: "square" },
  shuffled: { colour: "grey", dash: "dot", symbol: "x" },
  filler: { colour: "olive", dash: "2px,2px", symbol: "cross" },
  untrained: { colour: "ink", dash: "dot", symbol: "star" },
};
// Series of samples that are compared, in their order; more than these begin again.
const SERIES = ["blue", "orange", "purple", "olive", "sky", "vermillion", "green", "grey"];
const SERIES_DASHES = ["solid", "dash", "dot", "dashdot"];
const SYMBOLS = Object.keys(MARKS);

/** plotly.js, once. It is 5 MB of script, so it starts when the text is on the screen. */
const plotly = new Promise((resolve, reject) => {
  setTimeout(() => {
    try {
      withReadableCanvas(() => document.head.append(Object.assign(document.createElement("script"), { textContent: byId("plotly").textContent })));
      resolve(window.Plotly);
    } catch (error) {
      reject(error);
    }
  }, 50);
});

/** Run `start` with canvases meant for reading: plotly.js reads its 3-D labels off one, and Chromium would log advice. */
function withReadableCanvas(start) {
  const own = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, options) {
    return own.call(this, kind, kind === "2d" ? { willReadFrequently: true, ...options } : options);
  };
  try {
    start();
  } finally {
    HTMLCanvasElement.prototype.getContext = own;
  }
}

/** Layout parts shared by the charts, in the colours of the theme. */
function baseLayout() {
  const axis = { gridcolor: colour("grid"), zeroline: false, linecolor: colour("hairline"), tickcolor: colour("hairline"), automargin: true };
  return {
    paper_bgcolor: colour("paper"),
    plot_bgcolor: colour("paper"),
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("muted") },
    margin: { l: 52, r: 12, t: 12, b: 44 },
    showlegend: false,
    hoverlabel: { namelength: 0 },
    xaxis: axis,
    yaxis: axis,
  };
}

/** Plotly reads a little markup in its labels; an untrusted one must stay text. */
const plainLabel = (label, most = 24) => visible(label.length > most ? `${label.slice(0, most)}…` : label).replace(/&/g, "&amp;").replace(/</g, "&lt;");

/** An axis title. */
const titled = (text) => ({ text, font: { size: 13 }, standoff: 8 });

const PLOT_CONFIG = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false, // a page asks the network for nothing, and offers nothing that would
  scrollZoom: false, // the wheel scrolls the page
  modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
};

const pause = () => new Promise((resolve) => setTimeout(resolve));

/** Draw or redraw a chart in the element `id`. */
async function draw(id, traces, layout) {
  const area = byId(id);
  try {
    const Plotly = await plotly;
    await pause(); // each chart is a task of its own, so that the page answers in between
    area.querySelector(".waiting")?.remove();
    await Plotly.react(area, traces, layout, PLOT_CONFIG);
  } catch (error) {
    area.replaceChildren(el("p", { class: "waiting" }, `The chart could not be drawn: ${error.message}`));
  }
  return area;
}

/** Whether this chart was drawn and nobody listens to it yet: it stays the same element however often it is redrawn. */
function firstTime(area) {
  if (!area.on || area.dataset.heard) return false;
  area.dataset.heard = "yes";
  return true;
}

/** A layer over a chart for what moves with the pointer; `point` gives pixels of data coordinates. */
function overlay(area) {
  let layer = area.querySelector(":scope > .overlay");
  if (!layer) {
    layer = svg("svg", { class: "overlay", "aria-hidden": "true" });
    area.append(layer);
  }
  const axes = area._fullLayout;
  const point = (x, y, yaxis = "yaxis") => [axes.xaxis._offset + axes.xaxis.l2p(x), axes[yaxis]._offset + axes[yaxis].l2p(y)];
  return { layer, point, top: axes._size.t, bottom: axes._size.t + axes._size.h };
}

/** Buttons that save a figure; `figure` returns plotly's data and layout, or a drawn chart. */
function exportButtons(key, figure) {
  const place = document.querySelector(`[data-export="${key}"]`);
  if (!place) return;
  const save = (format) => async () => {
    const Plotly = await plotly;
    const made = figure();
    const size = made instanceof Element ? { width: made.clientWidth, height: made.clientHeight } : { width: made.layout.width, height: made.layout.height };
    await Plotly.downloadImage(made, { format, ...size, scale: format === "png" ? 2 : 1, filename: `innerloop-${key}` });
  };
  for (const format of ["png", "svg"]) {
    const button = el("button", { type: "button", class: "quiet", "aria-label": `Save this figure as ${format.toUpperCase()}` }, `Save ${format.toUpperCase()}`);
    button.addEventListener("click", save(format));
    place.append(button);
  }
}
