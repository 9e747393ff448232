// Names that scripts of other packages bring, and that no module imports.

declare const Plotly: any;

interface Window {
  SwaggerUIBundle: any;
}
