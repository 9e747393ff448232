// The iframe in which figures are drawn. It isolates Plotly, which needs a looser content security policy than the page.

import { at, el } from "../dom.js";

const PATIENCE_MILLISECONDS = 20000; // long, because Plotly's script is large

// Creates the frame in `holder`. `failed(message)` is called if the frame cannot draw.
export function openFrame(holder, failed) {
  const node = el("iframe", { class: "frame waiting", src: at("/figure"), title: "Figure", tabindex: 0 });
  let ready = false;
  let latest = null; // the last message to draw
  const alarm = setTimeout(() => failed("The figure's frame did not load; check that the package plotly is installed on the server."), PATIENCE_MILLISECONDS);

  const send = () => ready && latest && node.contentWindow.postMessage(latest, location.origin);
  const handlers = {
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
    if (event.origin === location.origin && event.source === node.contentWindow && Object.hasOwn(handlers, event.data?.kind)) handlers[event.data.kind](event.data);
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
