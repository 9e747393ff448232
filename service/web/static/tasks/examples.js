// The examples that a report names, with the beginnings of their texts or small pictures.

import { at, el } from "../dom.js";
import { capital } from "../measures.js";

document.head.append(el("link", { rel: "stylesheet", href: at("/static/tasks/examples.css") }));

const BASE64 = /^[A-Za-z0-9+/]+=*$/;

const line = (text) => el("p", { dir: "auto" }, text || "(empty)");
const picture = (one) => (BASE64.test(one.picture ?? "") ? el("img", { class: "thumbnail", src: `data:image/webp;base64,${one.picture}`, alt: one.name }) : "–");

// The first columns of a table of examples: {heads, cells}. `noun`: the noun for an example.
export function columnsOf(examples, noun) {
  const has = (field) => examples.some((one) => one[field] != null);
  const columns = [[has("text") ? "Place" : capital(noun), (one) => el("th", { scope: "row" }, one.name)]];
  if (has("text")) columns.push([capital(noun), (one) => el("td", { class: "excerpt" }, one.text == null ? "–" : [line(one.text), one.text_b == null ? null : line(one.text_b)])]);
  if (has("picture")) columns.push(["Picture", (one) => el("td", {}, picture(one))]);
  return { heads: columns.map(([name]) => [name]), cells: (one) => columns.map(([, draw]) => draw(one)) };
}
