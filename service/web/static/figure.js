// The frame in which Plotly runs. It draws the figures that the parent page sends, in the page's colours.

/* global Plotly */

const ORIGIN = location.origin;
const AXIS = /^[xy]axis\d*$/;
const NARROW = 560; // px
const PAPER = 660; // width of a printed page in portrait format without margins
const COLUMN = 250; // minimum width of a subplot
const HEIGHTS = { row: 230, bar: 34, several: 96, lowest: 220, usual: 420, narrow: 360 };
const CLEAR = "rgba(0,0,0,0)";
const node = document.getElementById("figure");
const probe = document.createElement("span");

let paper = false;
let shown = null; // the last message: { name, title, figure }

function color(token) {
  probe.style.color = `var(--${token})`;
  return getComputedStyle(probe).color;
}

const palette = () => Object.fromEntries(["text", "quiet", "line", "surface", "raised"].map((token) => [token, color(token)]));

function themedAxis(axis, colors) {
  const title = axis.title ? { ...axis.title, font: { size: 12.5, color: colors.quiet }, standoff: 10 } : undefined;
  return { gridcolor: colors.line, zerolinecolor: colors.line, linecolor: colors.line, tickcolor: colors.line, automargin: true, ...axis, title };
}

function themed(layout, colors) {
  const axes = Object.entries(layout).filter(([name]) => AXIS.test(name)).map(([name, axis]) => [name, themedAxis(axis, colors)]);
  return {
    ...layout,
    ...Object.fromEntries(axes),
    paper_bgcolor: colors.surface,
    plot_bgcolor: CLEAR,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colors.quiet },
    hoverlabel: { bgcolor: colors.raised, bordercolor: colors.line, font: { size: 12.5, color: colors.text }, align: "left" },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: colors.text } },
    modebar: { bgcolor: CLEAR, color: colors.quiet, activecolor: colors.text },
    annotations: (layout.annotations ?? []).map((note) => ({ ...note, font: { ...note.font, color: colors.quiet } })),
  };
}

const numbered = (name, place) => (place ? `${name}${place + 1}` : name);

// Arranges subplots in rows, as many in each row as fit.
function arranged(layout, width) {
  const count = Object.keys(layout).filter((name) => name.startsWith("xaxis")).length;
  if (count < 2) return layout;
  const columns = Math.max(1, Math.min(count, Math.floor(width / COLUMN)));
  const rows = Math.ceil(count / columns);
  const across = columns > 1 ? 0.035 : 0;
  const between = rows > 1 ? Math.min(0.28 / (rows - 1), 66 / (rows * HEIGHTS.row)) : 0;
  const wide = (1 - across * (columns - 1)) / columns;
  const tall = (1 - between * (rows - 1)) / rows;
  const changes = {};
  for (let place = 0; place < count; place += 1) {
    const column = place % columns;
    const left = column * (wide + across);
    const top = 1 - Math.floor(place / columns) * (tall + between);
    const [x, y] = [numbered("xaxis", place), numbered("yaxis", place)];
    changes[x] = { ...layout[x], domain: [left, Math.min(1, left + wide)] };
    changes[y] = { ...layout[y], domain: [Math.max(0, top - tall), top], showticklabels: column === 0, title: column === 0 ? layout.yaxis.title : undefined };
  }
  return { ...layout, ...changes, height: rows * HEIGHTS.row + HEIGHTS.several };
}

// Only the first and last of text labels, since the others do not fit.
const sparse = ({ tickvals: values, ticktext: words }) =>
  words ? Object.fromEntries([["tickvals", values], ["ticktext", words]].map(([name, all]) => [name, [all[0], all.at(-1)]])) : {};

// Places the colour bar beside the plot, or above it on a narrow page.
function scaled(trace, narrow, colors) {
  const bar = trace.marker?.colorbar ?? trace.colorbar;
  if (!bar) return trace;
  const beside = { thickness: 11, outlinewidth: 0, tickfont: { color: colors.quiet } };
  const above = { ...beside, ...sparse(bar), orientation: "h", y: 1.02, yanchor: "bottom", x: 0.5, len: 0.72, thickness: 8, tickangle: 0 };
  const title = { ...bar.title, side: narrow ? "top" : undefined, font: { size: 12, color: colors.quiet } };
  const colorbar = { ...bar, ...(narrow ? above : beside), title };
  return trace.marker?.colorbar ? { ...trace, marker: { ...trace.marker, colorbar } } : { ...trace, colorbar };
}

function heightOf(figure, layout, narrow) {
  if (layout.height) return layout.height;
  if (layout.barmode === "overlay") return Math.min(HEIGHTS.usual, Math.max(HEIGHTS.lowest, layout.yaxis.range[0] * HEIGHTS.bar + HEIGHTS.several));
  if (figure.data[0]?.orientation === "h" && figure.data.length === 1 && !figure.data[0].base) return figure.data[0].y.length * HEIGHTS.bar + HEIGHTS.several;
  return narrow ? HEIGHTS.narrow : HEIGHTS.usual;
}

const config = (name) => ({
  displaylogo: false,
  displayModeBar: true,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  toImageButtonOptions: { format: "png", filename: name, scale: 2 },
  doubleClick: "reset",
});

async function draw() {
  if (!shown) return;
  const { name, figure } = shown;
  const width = Math.min(document.documentElement.clientWidth, paper ? PAPER : Infinity);
  const narrow = width < NARROW;
  const colors = palette();
  const layout = themed(arranged(figure.layout, width), colors);
  const scale = figure.data.some((trace) => trace.marker?.colorbar ?? trace.colorbar);
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom"; // on touch screens, dragging scrolls the page
  const margin = { ...layout.margin, t: narrow && (scale || layout.showlegend) ? 96 : 44, ...(narrow ? { l: 44 } : {}) };
  const height = heightOf(figure, layout, narrow);
  node.style.height = `${height}px`;
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", figure.layout.meta.summary);
  await Plotly.react(node, figure.data.map((trace) => scaled(trace, narrow, colors)), { ...layout, dragmode, margin, width, height }, config(name));
  post({ kind: "drawn", name, seq: figure.layout.meta.seq, height });
}

function post(message) {
  parent.postMessage(message, ORIGIN);
}

// Figures are drawn one after another; of the requests during a drawing, only the last is drawn.
let drawing = Promise.resolve();
let due = false;

function drawSoon() {
  if (due) return;
  due = true;
  drawing = drawing.then(() => {
    due = false;
    return draw();
  }).catch((error) => post({ kind: "failed", detail: String(error?.message ?? error) }));
}

// For printing, the figure is drawn at once in light colours and page width; afterwards it is drawn for the screen again.
function onPaper(is) {
  paper = is;
  document.documentElement.style.colorScheme = is ? "light" : "";
  draw().catch(() => {});
}

function receive(event) {
  if (event.origin !== ORIGIN || event.source !== parent || event.data?.kind !== "draw") return;
  if (shown && shown.name !== event.data.name) Plotly.purge(node);
  shown = event.data;
  drawSoon();
}

function start() {
  probe.hidden = true;
  document.body.append(probe);
  if (typeof Plotly === "undefined") {
    post({ kind: "failed", detail: "The server does not have Plotly's script." });
    return;
  }
  addEventListener("message", receive);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawSoon);
  addEventListener("beforeprint", () => onPaper(true));
  addEventListener("afterprint", () => onPaper(false));
  let width = document.documentElement.clientWidth;
  new ResizeObserver(() => {
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    drawSoon();
  }).observe(document.documentElement);
  post({ kind: "ready" });
}

start();
