// Repaints the parts of the page that depend on ended trials and the filter, one part in each frame, so that the table stays responsive.

const REPAINT_MILLISECONDS = 1000; // minimum time between two repaints while trials arrive
const MANY = 300; // up to this number of trials, repaints are not delayed

const nextFrame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

export class Charts {
  // Each part is a function `(passes, filter)`: `passes(trial)` applies the filter, and `filter` is its text, for comparison.
  constructor(model, parts) {
    this.model = model;
    this.parts = parts;
    this.wanted = null;
    this.painted = null;
    this.painting = null; // a promise during a repaint
    this.later = null;
  }

  // Schedules a repaint, after the frame that shows the table.
  due(filter, passes) {
    this.wanted = { filter, passes };
    this.painting ??= this.paint();
  }

  // Resolves when scheduled repaints are complete.
  whole() {
    return this.painting ?? Promise.resolve();
  }

  async paint() {
    try {
      await nextFrame();
      while (this.behind()) {
        const { filter, passes } = this.wanted;
        const wait = this.painted?.filter === filter && this.model.list().length > MANY ? this.painted.at + REPAINT_MILLISECONDS - performance.now() : 0;
        if (wait > 0) return this.comeBack(wait);
        this.painted = { version: this.model.version, filter, at: performance.now() };
        for (const part of this.parts) {
          part(passes, filter);
          await nextFrame();
        }
      }
    } finally {
      this.painting = null;
    }
  }

  behind() {
    return this.painted?.version !== this.model.version || this.painted.filter !== this.wanted.filter;
  }

  comeBack(milliseconds) {
    this.later ??= setTimeout(() => {
      this.later = null;
      this.due(this.wanted.filter, this.wanted.passes);
    }, milliseconds);
  }
}
