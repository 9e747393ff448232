// Swagger UI for /openapi.json. On a read-only server, only safe methods can be tried out.

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
  validatorUrl: null, // the default sends the document to a third-party host
  supportedSubmitMethods: "readOnly" in document.documentElement.dataset ? SAFE : METHODS,
});
