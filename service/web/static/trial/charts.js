// All metrics of a trial by epoch: one chart for metrics with the same scale, and a table.

import { el } from "../dom.js";
import { metric } from "../format.js";
import { lineChart } from "../lines.js";
import { examples, inOrder, measureIn } from "../measures.js";
import { toggleButton } from "../parts.js";
import { namesOf, pointsOf } from "./course.js";

const CHOSEN = "metric";

// The title of the metric's chart. All shares of which more are better have one chart, and all losses.
function groupOf(study, name) {
  const { share, direction, unit } = measureIn(study, name);
  if (share && direction === "maximize") return `Shares of the validation ${examples(study)}`;
  if (name.includes("loss")) return "Loss";
  return unit ? `${name} (${unit})` : name;
}

// Creates the charts in `node`; returns `draw(study, rows)`. The URL contains the choice of metrics.
export function metricCharts(node) {
  const toggles = el("div", { class: "toolbar", role: "group", "aria-label": "Metrics" });
  const charts = el("div", { class: "charts" });
  const region = el("div", { class: "scroll steps-scroll", tabindex: 0, role: "group", "aria-label": "Metrics by epoch" });
  const details = el("details", { class: "disclosure" }, el("summary", {}, "As a table"), region);
  const waiting = el("p", { class: "quiet" }, "Metrics appear after the first epoch.");
  const drawn = new Map(); // title → chart
  let study = null;
  let rows = [];
  let names = [];

  const chosen = () => {
    const asked = new URLSearchParams(location.search).getAll(CHOSEN).filter((name) => names.includes(name));
    return asked.length ? asked : names;
  };

  function choose(name) {
    const before = chosen();
    const after = before.includes(name) ? before.filter((other) => other !== name) : names.filter((other) => before.includes(other) || other === name);
    const address = new URL(location.href);
    address.searchParams.delete(CHOSEN);
    if (after.length < names.length) for (const one of after) address.searchParams.append(CHOSEN, one);
    history.replaceState(null, "", address);
    show();
    toggles.querySelectorAll("button")[names.indexOf(name)]?.focus();
  }

  function showCharts(shown) {
    const groups = Map.groupBy(shown, (name) => groupOf(study, name));
    const sections = [...groups].map(([title, members]) => {
      if (!drawn.has(title)) {
        const chart = lineChart();
        drawn.set(title, { chart, section: el("section", { class: "chart-group", "aria-label": title }, el("h3", {}, title), chart.node) });
      }
      return { ...drawn.get(title), title, members };
    });
    const wanted = sections.map(({ section }) => section);
    if (wanted.length !== charts.children.length || wanted.some((section, index) => charts.children[index] !== section)) charts.replaceChildren(...wanted);
    for (const { chart, title, members } of sections) {
      chart.draw(title, members.map((name) => ({ name, measure: measureIn(study, name), style: names.indexOf(name), points: pointsOf(rows, name) })), [rows[0].step, rows.at(-1).step]);
    }
  }

  function showTable(shown) {
    if (!details.open) return;
    const table = el("table", { class: "steps" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "number" }, "epoch"), shown.map((name) => el("th", { scope: "col", class: "number" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, el("th", { scope: "row", class: "number" }, String(row.step)), shown.map((name) => el("td", { class: "number" }, value(study, row, name)))))));
    region.replaceChildren(table);
  }

  function show() {
    const shown = chosen();
    toggles.replaceChildren(...names.map((name) => toggleButton(name, shown.includes(name), () => choose(name))));
    toggles.hidden = names.length < 2;
    waiting.hidden = names.length > 0;
    details.hidden = !names.length;
    showCharts(shown);
    showTable(shown);
  }

  details.addEventListener("toggle", () => showTable(chosen()));
  node.append(toggles, waiting, charts, details);
  return {
    draw(newStudy, newRows) {
      [study, rows] = [newStudy, newRows];
      names = inOrder(study.task, namesOf(rows), study.spec.objective.metric);
      const focused = [...toggles.children].indexOf(document.activeElement);
      show();
      if (focused >= 0) toggles.children[focused]?.focus();
    },
  };
}

function value(study, row, name) {
  if (!Object.hasOwn(row.metrics, name)) return "–";
  return row.metrics[name] === null ? "not finite" : metric(measureIn(study, name), row.metrics[name]);
}
