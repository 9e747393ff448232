// Selects for the parameters of a figure: one for the slice plot, two for contour and rank plots.

import { el } from "../dom.js";

function choice(label, names, value, changed) {
  const options = names.map(([name, text]) => el("option", { value: name, selected: name === value }, text));
  return el("label", { class: "select" }, label, el("select", { "data-choice": label, onchange: (event) => changed(event.target.value) }, options));
}

const named = (names) => names.map((name) => [name, name]);

// `wanted`: parameters chosen by the user; `shown`: parameters that the server used; `choose(params)` is called with a new choice.
export function parameterChoices({ pick }, names, wanted, shown, choose) {
  if (pick === 1) {
    const options = [["", "the most important"], ...named(names)];
    return [choice("Parameter", options, wanted.length === 1 ? wanted[0] : "", (name) => choose(name ? [name] : []))];
  }
  if (pick === 2 && names.length > 1) {
    const [x, y] = shown.length === 2 ? shown : [wanted[0] ?? names[0], wanted[1] ?? names.find((name) => name !== wanted[0])];
    return [
      choice("Across", named(names), x, (name) => choose([name, name === y ? x : y])),
      choice("Up", named(names), y, (name) => choose([name === x ? y : x, name])),
    ];
  }
  return [];
}
