// The documentation of the interface, drawn by Swagger UI from /openapi.json. A server that is read-only offers no call that changes something.

import { at } from "./dom.js";

const METHODS = ["get", "head", "post", "put", "patch", "delete"];
const SAFE = ["get", "head"];

const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", colour);
colour();

window.SwaggerUIBundle({
  url: at("/openapi.json"),
  domNode: document.getElementById("api"),
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // the default asks a foreign host
  supportedSubmitMethods: "readOnly" in document.documentElement.dataset ? SAFE : METHODS,
});
