// The panel "Analysis" of a study: one figure at a time, drawn by Plotly in a frame of its own, and what it shows in words.

import { getFigure } from "./api.js";
import { at, el } from "./dom.js";
import { showNotice } from "./parts.js";
import { readChoice, writeChoice } from "./figures/address.js";
import { parameterChoices } from "./figures/choices.js";
import { openFrame } from "./figures/frame.js";
import { TABS, tabList } from "./figures/tabs.js";

const PACE_MILLISECONDS = 5000; // while trials come, a figure is drawn no more often
const MOST = [0, 8, 2]; // parameters, by how many are chosen
const NEAR = "400px 0px"; // of the viewport: then the figure is fetched

// Puts the panel in `node`. Call `update(study, parameterNames)` whenever the study has changed.
export function mountFigures(node, key) {
  const chosen = readChoice(TABS.map((tab) => tab.name));
  const notice = el("p", { class: "notice", role: "alert", hidden: true });
  const choices = el("div", { class: "choices" });
  const words = el("p", { class: "words" });
  const table = el("details", { class: "disclosure", hidden: true }, el("summary", {}, "As a table"));
  const holder = el("div", {});
  const tabs = tabList(chosen.name, choose);
  const body = el("div", { id: "figure-panel", role: "tabpanel", "aria-labelledby": `figure-tab-${chosen.name}` }, choices, notice, holder, words, table);
  document.head.append(el("link", { rel: "stylesheet", href: at("/static/figures.css") }));
  node.append(el("section", { class: "panel analysis", "aria-labelledby": "analysis-title" }, el("header", {}, el("h2", { id: "analysis-title" }, "Analysis")), tabs.node, body));

  let study = null;
  let names = [];
  let frame = null;
  let near = false;
  let drawn = null; // what was asked for last, and the study's last event then
  let askedAt = -Infinity;
  let timer = null;
  let turn = 0; // of the latest question: an older answer is not shown

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

  // What an address names and there is not is left out.
  const taken = ({ name, params }) => params.filter((param) => names.includes(param)).slice(0, MOST[TABS.find((tab) => tab.name === name).pick]);
  const asked = () => JSON.stringify([chosen.name, chosen.params]);
  const fresh = () => drawn?.asked === asked() && drawn.seq >= study.seq;
  // Reports alone change no figure but the timeline, which can wait for the next end of a trial.
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
    words.textContent = summary;
    table.hidden = rows.length === 0;
    table.replaceChildren(table.firstChild, tableOf(tab.title, rows));
    choices.replaceChildren(...parameterChoices(tab, names, chosen.params, params, (wanted) => choose(name, wanted)));
    frame.show(tab.title, name, figure);
  }

  function fail(error, wanted) {
    drawn = { ...wanted, whole: true };
    showNotice(notice, error.message);
    words.textContent = "";
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
