// For the modules in service/web/static: what eslint recommends, with the names that a browser has.

import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  { languageOptions: { ecmaVersion: "latest", sourceType: "module", globals: globals.browser } },
];
