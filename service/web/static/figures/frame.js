// The frame in which a figure is drawn. Nothing else of the page runs there, and nothing of it runs here.

import { at, el } from "../dom.js";

const PATIENCE_MILLISECONDS = 20000; // the script is large

// Opens it in `holder`; `failed(sentence)` is called when it cannot draw.
export function openFrame(holder, failed) {
  const node = el("iframe", { class: "frame waiting", src: at("/figure"), title: "Figure", tabindex: 0 });
  let ready = false;
  let latest = null; // what is to be drawn
  const alarm = setTimeout(() => failed("The figure's frame does not answer; is the package plotly installed on the server?"), PATIENCE_MILLISECONDS);

  const send = () => ready && latest && node.contentWindow.postMessage(latest, location.origin);
  const heard = {
    ready() {
      ready = true;
      clearTimeout(alarm);
      send();
    },
    drawn({ name, seq, height }) {
      node.style.height = `${height}px`;
      node.classList.remove("waiting");
      Object.assign(node.dataset, { drawn: name, seq });
    },
    failed({ detail }) {
      clearTimeout(alarm);
      failed(`The figure cannot be drawn: ${detail}`);
    },
  };

  addEventListener("message", (event) => {
    if (event.origin === location.origin && event.source === node.contentWindow && Object.hasOwn(heard, event.data?.kind)) heard[event.data.kind](event.data);
  });
  holder.append(node);

  return {
    wait: (pale) => node.classList.toggle("waiting", pale),
    show(title, name, figure) {
      node.hidden = false;
      node.title = `Figure: ${title}`;
      latest = { kind: "draw", name, figure };
      send();
    },
    clear() {
      latest = null;
      node.hidden = true;
    },
  };
}
