// The panel "Analysis" of a study: one figure at a time, drawn by Plotly in a frame, with a text summary.

import { getFigure } from "./api.js";
import { at, el } from "./dom.js";
import { showNotice } from "./parts.js";
import { readChoice, writeChoice } from "./figures/address.js";
import { parameterChoices } from "./figures/choices.js";
import { openFrame } from "./figures/frame.js";
import { TABS, tabList } from "./figures/tabs.js";

const PACE_MILLISECONDS = 5000; // minimum time between two drawings while trials change
const MOST = [0, 8, 2]; // maximum number of parameters, by the tab's `pick`
const NEAR = "400px 0px"; // the figure is fetched when the panel is within this distance of the viewport

// Creates the panel in `node`. `update(study, parameterNames)` must be called when the study has changed.
export function mountFigures(node, key) {
  const chosen = readChoice(TABS.map((tab) => tab.name));
  const notice = el("p", { class: "notice", role: "alert", hidden: true });
  const choices = el("div", { class: "choices" });
  const caption = el("p", { class: "words" });
  const table = el("details", { class: "disclosure", hidden: true }, el("summary", {}, "As a table"));
  const holder = el("div", {});
  const tabs = tabList(chosen.name, choose);
  const body = el("div", { id: "figure-panel", role: "tabpanel", "aria-labelledby": `figure-tab-${chosen.name}` }, choices, notice, holder, caption, table);
  document.head.append(el("link", { rel: "stylesheet", href: at("/static/figures.css") }));
  node.append(el("section", { class: "panel analysis", "aria-labelledby": "analysis-title" }, el("header", {}, el("h2", { id: "analysis-title" }, "Analysis")), tabs.node, body));

  let study = null;
  let names = [];
  let frame = null;
  let near = false;
  let drawn = null; // the last request, with the study's last event at that time
  let askedAt = -Infinity;
  let timer = null;
  let turn = 0; // number of the latest request; older responses are dropped

  new IntersectionObserver(([entry], observer) => {
    if (!entry.isIntersecting) return;
    near = true;
    observer.disconnect();
    refresh();
  }, { rootMargin: NEAR }).observe(node);

  function choose(name, params = []) {
    Object.assign(chosen, { name, params });
    writeChoice(chosen);
    tabs.select(name);
    body.setAttribute("aria-labelledby", `figure-tab-${name}`);
    askedAt = -Infinity;
    refresh();
  }

  // The chosen parameters that exist; the URL can name others.
  const taken = ({ name, params }) => params.filter((param) => names.includes(param)).slice(0, MOST[TABS.find((tab) => tab.name === name).pick]);
  const asked = () => JSON.stringify([chosen.name, chosen.params]);
  const fresh = () => drawn?.asked === asked() && drawn.seq >= study.seq;
  // Figures are drawn again only when a trial ends: reports change only the timeline, which can wait.
  const ends = () => JSON.stringify([study.counts, study.state]);

  function refresh() {
    if (!near || !study || timer !== null || fresh()) return;
    if (drawn?.asked === asked() && drawn.ends === ends() && drawn.whole) return;
    const wait = askedAt + PACE_MILLISECONDS - performance.now();
    if (wait > 0) timer = setTimeout(() => { timer = null; refresh(); }, wait);
    else ask();
  }

  async function ask() {
    turn += 1;
    const own = turn;
    const wanted = { asked: asked(), seq: study.seq, ends: ends() };
    const { name, params } = chosen;
    clearTimeout(timer);
    timer = null;
    askedAt = performance.now();
    frame ??= openFrame(holder, (fault) => showNotice(notice, fault));
    frame.wait(drawn?.asked !== wanted.asked);
    try {
      const figure = await getFigure(key, name, params);
      if (own !== turn) return;
      const { seq } = figure.layout.meta;
      drawn = { ...wanted, seq, whole: seq >= wanted.seq };
      show(name, figure);
    } catch (error) {
      if (own === turn) fail(error, wanted);
    }
    if (own === turn && near) refresh();
  }

  function show(name, figure) {
    const { summary, rows, params } = figure.layout.meta;
    const tab = TABS.find((each) => each.name === name);
    showNotice(notice, null);
    caption.textContent = summary;
    table.hidden = rows.length === 0;
    table.replaceChildren(table.firstChild, tableOf(tab.title, rows));
    choices.replaceChildren(...parameterChoices(tab, names, chosen.params, params, (wanted) => choose(name, wanted)));
    frame.show(tab.title, name, figure);
  }

  function fail(error, wanted) {
    drawn = { ...wanted, whole: true };
    showNotice(notice, error.message);
    caption.textContent = "";
    table.hidden = true;
    frame.clear();
    const tab = TABS.find((each) => each.name === chosen.name);
    choices.replaceChildren(...parameterChoices(tab, names, chosen.params, [], (params) => choose(tab.name, params)));
  }

  return {
    update(latest, parameterNames) {
      study = latest;
      names = parameterNames.filter((name) => Object.hasOwn(latest.spec.search_space, name));
      chosen.params = taken(chosen);
      refresh();
    },
  };
}

function tableOf(title, rows) {
  const lines = rows.map(([name, ...values]) => el("tr", {}, el("th", { scope: "row" }, name), values.map((value) => el("td", { class: "number" }, value))));
  return el("table", { class: "values", "aria-label": title }, el("tbody", {}, lines));
}
