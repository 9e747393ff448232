// What follows from the ended trials and the filter: painted a part a frame, so that the table can be used meanwhile.

const REPAINT_MILLISECONDS = 1000; // while trials arrive, painted anew no more often than an eye needs
const MANY = 300; // trials; fewer are painted at once

const nextFrame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

export class Charts {
  // Each part is `(passes, filter) => undefined`: whether the filter takes a trial, and a text that tells filters apart.
  constructor(model, parts) {
    this.model = model;
    this.parts = parts;
    this.wanted = null;
    this.painted = null;
    this.painting = null; // a promise while parts are being painted
    this.later = null;
  }

  // The page shows these trials now. Painting begins behind the frame that shows the table.
  due(filter, passes) {
    this.wanted = { filter, passes };
    this.painting ??= this.paint();
  }

  // When what was due is painted.
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
