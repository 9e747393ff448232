// The examples that a report names, with the beginnings of their texts or small pictures.

import { at, el } from "../dom.js";

document.head.append(el("link", { rel: "stylesheet", href: at("/static/tasks/examples.css") }));

const BASE64 = /^[A-Za-z0-9+/]+=*$/;

const line = (text) => el("p", { dir: "auto" }, text || "(empty)");
const picture = (one) => (BASE64.test(one.picture ?? "") ? el("img", { class: "thumbnail", src: `data:image/webp;base64,${one.picture}`, alt: one.name }) : "–");

// The columns after the names of the examples: {heads, cells}. Without any if the report has neither texts nor pictures.
export function contents(examples) {
  const has = (field) => examples.some((one) => one[field] != null);
  const columns = [];
  if (has("text")) columns.push(["Text", (one) => el("td", { class: "excerpt" }, one.text == null ? "–" : [line(one.text), one.text_b == null ? null : line(one.text_b)])]);
  if (has("picture")) columns.push(["Picture", (one) => el("td", {}, picture(one))]);
  return { heads: columns.map(([name]) => [name]), cells: (one) => columns.map(([, draw]) => draw(one)) };
}
