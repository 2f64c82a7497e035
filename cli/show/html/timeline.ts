/**
 * The timeline of a report: lanes on a canvas, with an overview of all.
 *
 * Drawing takes time by the pixels, not by the messages: where many share a pixel, they are counted
 * by two binary searches.
 *
 * @module
 */

import { timeText } from "../text.ts";
import type { PageCanvas, PageContext2d, PageElement, PageWindow } from "./dom.ts";
import { type Lane, lowerBound, type Model } from "./model.ts";

/** Colours of the page, by what they are for. */
export interface Colours {
  /** The ground behind all. */
  readonly ground: string;
  /** The ground of every other lane. */
  readonly stripe: string;
  /** Texts. */
  readonly text: string;
  /** Texts and lines that matter less. */
  readonly dim: string;
  /** Items. */
  readonly item: string;
  /** Items that a search found, and what is selected. */
  readonly accent: string;
  /** Errors. */
  readonly error: string;
  /** Texts on items. */
  readonly label: string;
}

/** Finds the colours by their names in the style of the page. */
export function coloursBy(of: (name: string) => string): Colours {
  return {
    ground: of("ground"),
    stripe: of("stripe"),
    text: of("text"),
    dim: of("dim"),
    item: of("item"),
    accent: of("accent"),
    error: of("error"),
    label: of("label"),
  };
}

/** A part of a canvas in which items are drawn, and the time that its width stands for. */
interface Band {
  readonly context: PageContext2d;
  readonly colours: Colours;
  /** Pixels from the top of the canvas. */
  readonly top: number;
  readonly height: number;
  readonly width: number;
  /** The time at the left edge, in nanoseconds since the first event. */
  readonly from: number;
  /** The time at the right edge. */
  readonly to: number;
}

/** The elements that a timeline draws on. */
export interface TimelineParts {
  /** The lanes. */
  readonly canvas: PageCanvas;
  /** All of the recording. */
  readonly overview: PageCanvas;
  /** Says what is shown. */
  readonly range: PageElement;
}

/** Draws the rows of a model by time, and lets the user move in it. */
export class Timeline {
  /** The time at the left, in nanoseconds since the first event. */
  from = 0;
  /** The time at the right. */
  to = 1;
  /** The row that is selected; -1 for none. */
  selected = -1;
  readonly #window: PageWindow;
  readonly #parts: TimelineParts;
  readonly #model: Model;
  readonly #select: (row: number) => void;
  readonly #colours: () => Colours;
  readonly #pointers = new Map<number, number>();
  #travel = 0;
  #isAsked = false;
  #tops: number[] = [];

  constructor(
    window: PageWindow,
    parts: TimelineParts,
    model: Model,
    colours: () => Colours,
    select: (row: number) => void,
  ) {
    this.#window = window;
    this.#parts = parts;
    this.#model = model;
    this.#colours = colours;
    this.#select = select;
    this.#listen();
    this.showAll();
  }

  /** Shows all of the recording. */
  showAll(): void {
    this.#show(0, this.#model.totalNs);
  }

  /**
   * Zooms: by 2, half as much is shown. `centre` is from 0, the left, to 1; by default it is where
   * the selected row is, if that is to be seen.
   */
  zoom(factor: number, centre = this.#centre()): void {
    const span = this.to - this.from;
    const at = this.from + span * centre;
    const { totalNs } = this.#model;
    // Below that, doubles do not tell one pixel's time from the next one's.
    const least = Math.max(100, totalNs * 1e-11);
    const wanted = Math.max(least, Math.min(span / factor, totalNs * 1.1));
    this.#show(at - wanted * centre, at + wanted * (1 - centre));
  }

  #centre(): number {
    if (this.selected < 0) return 0.5;
    const at = (this.#model.columns.time[this.selected]! - this.from) / (this.to - this.from);
    return at >= 0 && at <= 1 ? at : 0.5;
  }

  /** Moves by a share of what is shown. */
  pan(share: number): void {
    const by = (this.to - this.from) * share;
    this.#show(this.from + by, this.to + by);
  }

  /** Selects a row, and shows it. */
  reveal(row: number): void {
    this.selected = row;
    if (row >= 0) {
      const time = this.#model.columns.time[row]!;
      const span = this.to - this.from;
      if (time < this.from || time > this.to) this.#show(time - span / 2, time + span / 2);
    }
    this.draw();
  }

  /** Draws in the next frame. */
  draw(): void {
    if (this.#isAsked) return;
    this.#isAsked = true;
    this.#window.requestAnimationFrame(() => {
      this.#isAsked = false;
      this.drawNow();
    });
  }

  #show(from: number, to: number): void {
    const span = to - from;
    const total = this.#model.totalNs;
    const margin = span * 0.05;
    const first = span >= total
      ? (total - span) / 2
      : Math.max(-margin, Math.min(from, total + margin - span));
    this.from = first;
    this.to = first + span;
    const { range, canvas } = this.#parts;
    const shown = Math.min(this.to, total) - Math.max(this.from, 0);
    range.textContent = `${timeText(Math.max(0, this.from))} to ` +
      `${timeText(Math.min(total, this.to))}, ${timeText(Math.max(0, shown))}`;
    canvas.dataset.from = String(this.from);
    canvas.dataset.to = String(this.to);
    this.draw();
  }

  #listen(): void {
    const { canvas, overview } = this.#parts;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const isSideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
      const turn = event.deltaX || event.deltaY;
      if (isSideways) this.pan(turn / Math.max(1, canvas.clientWidth));
      else this.zoom(2 ** (-event.deltaY / 240), event.offsetX / Math.max(1, canvas.clientWidth));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, event.offsetX);
      this.#travel = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = this.#pointers.get(event.pointerId);
      if (before === undefined) return;
      this.#move(event.pointerId, before, event.offsetX);
    });
    canvas.addEventListener("pointerup", (event) => {
      const wasDown = this.#pointers.delete(event.pointerId);
      if (wasDown && this.#travel < 4) this.#pick(event.offsetX, event.offsetY);
    });
    canvas.addEventListener("pointercancel", (event) => {
      this.#pointers.delete(event.pointerId);
    });
    let isHeld = false;
    const centre = (x: number) => {
      const at = x / Math.max(1, overview.clientWidth) * this.#model.totalNs;
      const span = Math.min(this.to - this.from, this.#model.totalNs);
      this.#show(at - span / 2, at + span / 2);
    };
    overview.addEventListener("pointerdown", (event) => {
      isHeld = true;
      overview.setPointerCapture(event.pointerId);
      centre(event.offsetX);
    });
    overview.addEventListener("pointermove", (event) => {
      if (isHeld) centre(event.offsetX);
    });
    overview.addEventListener("pointerup", () => isHeld = false);
    overview.addEventListener("pointercancel", () => isHeld = false);
  }

  /** One pointer pans, two zoom. */
  #move(pointer: number, before: number, x: number): void {
    const width = Math.max(1, this.#parts.canvas.clientWidth);
    this.#travel += Math.abs(x - before);
    this.#pointers.set(pointer, x);
    if (this.#pointers.size === 1) return this.pan((before - x) / width);
    const [other] = [...this.#pointers].filter(([id]) => id !== pointer);
    const gap = Math.max(8, Math.abs(before - other![1]));
    this.zoom(Math.max(8, Math.abs(x - other![1])) / gap, (x + other![1]) / 2 / width);
  }

  /** Selects what is nearest to a place. */
  #pick(x: number, y: number): void {
    const lane = this.#model.lanes[this.#tops.findLastIndex((top) => top <= y)];
    if (lane === undefined) return;
    const perPixel = (this.to - this.from) / Math.max(1, this.#parts.canvas.clientWidth);
    const time = this.from + x * perPixel;
    const distance = (i: number) =>
      Math.max(0, lane.starts[i]! - time, time - lane.ends[i]!) +
      (lane.ends[i]! - lane.starts[i]!) * 1e-6;
    const at = lowerBound(lane.starts, time);
    const near = lane.visible(time - 4 * perPixel, time + 4 * perPixel);
    const candidates = near.length > 4096 ? [at - 1, at] : near;
    let best = -1;
    for (const i of candidates) {
      if (i < 0 || i >= lane.rows.length) continue;
      if (best < 0 || distance(i) < distance(best)) best = i;
    }
    if (best >= 0 && distance(best) <= 8 * perPixel) this.#select(lane.rows[best]!);
  }

  /** Draws at once. */
  drawNow(): void {
    const colours = this.#colours();
    const axisHeight = 20;
    const laneHeight = 38;
    const { canvas, overview } = this.#parts;
    const { lanes } = this.#model;
    const height = axisHeight + lanes.length * laneHeight;
    canvas.style.setProperty("height", `${height}px`);
    const [context, width] = this.#prepare(canvas, height, colours);
    this.#tops = lanes.map((_, i) => axisHeight + i * laneHeight);
    for (const [i, lane] of lanes.entries()) {
      if (i % 2 === 0) {
        context.fillStyle = colours.stripe;
        context.fillRect(0, this.#tops[i]!, width, laneHeight);
      }
      const band = { context, colours, width, top: this.#tops[i]! + 15, height: laneHeight - 18 };
      this.#drawLane(lane, { ...band, from: this.from, to: this.to });
    }
    this.#drawAxis(context, width, height, colours);
    this.#drawSelected(context, width, height, colours);
    this.#drawNames(context, colours);
    this.#drawOverview(overview, colours);
  }

  /** Sizes a canvas to its place and the screen, and clears it. */
  #prepare(
    canvas: PageCanvas,
    height: number,
    { ground }: Colours,
  ): [context: PageContext2d, width: number] {
    const width = Math.max(1, canvas.clientWidth);
    const ratio = this.#window.devicePixelRatio;
    const [pixelWidth, pixelHeight] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== pixelWidth) canvas.width = pixelWidth;
    if (canvas.height !== pixelHeight) canvas.height = pixelHeight;
    const context = canvas.getContext("2d")!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.globalAlpha = 1;
    context.fillStyle = ground;
    context.fillRect(0, 0, width, height);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    return [context, width];
  }

  #drawLane(lane: Lane, band: Band): void {
    const count = lowerBound(lane.starts, band.to) - lowerBound(lane.starts, band.from);
    if (count > band.width) this.#drawDensity(lane, band);
    else this.#drawItems(lane, band);
  }

  #drawItems(lane: Lane, { context, colours, top, height, width, from, to }: Band): void {
    const scale = width / (to - from);
    const levelHeight = height / lane.height;
    const { isSearching } = this.#model;
    for (const i of lane.visible(from, to)) {
      const row = lane.rows[i]!;
      const left = Math.max(-2, (lane.starts[i]! - from) * scale);
      const right = Math.min(width + 2, (lane.ends[i]! - from) * scale);
      const y = top + lane.levels[i]! * levelHeight;
      const isHit = isSearching && this.#model.isHit(row);
      const isSelected = row === this.selected || this.#model.reply[row] === this.selected;
      context.globalAlpha = isSearching && !isHit ? 0.3 : 1;
      context.fillStyle = this.#model.isError(row)
        ? colours.error
        : isHit || (isSelected && this.selected >= 0)
        ? colours.accent
        : colours.item;
      const span = Math.max(2, right - left);
      context.fillRect(left, y, span, Math.max(1, levelHeight - 1));
      if (span > 48 && levelHeight >= 12) {
        context.fillStyle = context.globalAlpha < 1 ? colours.text : colours.label;
        context.globalAlpha = 1;
        const place = this.#model.text("place", row);
        const text = `${place === "" ? this.#model.text("name", row) : place.split("  ")[0]}`;
        if (text.length * 7 < span - 8) {
          context.fillText(text, Math.max(left, 0) + 4, y + levelHeight / 2);
        }
      }
    }
    context.globalAlpha = 1;
  }

  /** Draws a bar a pixel, as high as there are items: each needs two searches. */
  #drawDensity(lane: Lane, { context, colours, top, height, width, from, to }: Band): void {
    const { isSearching } = this.#model;
    const perPixel = (to - from) / width;
    const edges = new Uint32Array(Math.ceil(width) + 1);
    let most = 1;
    for (let x = 0; x < edges.length; x++) {
      edges[x] = lowerBound(lane.starts, from + x * perPixel);
      if (x > 0) most = Math.max(most, edges[x]! - edges[x - 1]!);
    }
    const scale = (count: number) =>
      count === 0 ? 0 : Math.max(2, height * Math.log1p(count) / Math.log1p(most));
    for (let x = 0; x + 1 < edges.length; x++) {
      const [a, b] = [edges[x]!, edges[x + 1]!];
      if (a === b) continue;
      const bar = scale(b - a);
      context.fillStyle = colours.item;
      context.globalAlpha = isSearching ? 0.3 : 1;
      context.fillRect(x, top + height - bar, 1, bar);
      context.globalAlpha = 1;
      const hits = isSearching ? scale(lane.hits[b]! - lane.hits[a]!) : 0;
      if (hits > 0) {
        context.fillStyle = colours.accent;
        context.fillRect(x, top + height - hits, 1, hits);
      }
      if (lane.errors[b] !== lane.errors[a]) {
        context.fillStyle = colours.error;
        context.fillRect(x, top, 1, 5);
      }
    }
  }

  #drawAxis(
    context: PageContext2d,
    width: number,
    height: number,
    { text, dim }: Colours,
  ): void {
    const span = this.to - this.from;
    const least = span / Math.max(1, width / 110);
    const power = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least)!;
    const [unit, name] = step < 1e3
      ? [1, "ns"]
      : step < 1e6
      ? [1e3, "\u00b5s"]
      : step < 1e9
      ? [1e6, "ms"]
      : [1e9, "s"];
    const first = Math.max(0, Math.ceil(this.from / step));
    const last = Math.floor(this.to / step);
    for (let tick = first; tick <= last && tick - first < width; tick++) {
      const at = tick * step;
      const x = (at - this.from) / span * width;
      context.globalAlpha = 0.25;
      context.fillStyle = dim;
      context.fillRect(Math.round(x), 0, 1, height);
      context.globalAlpha = 1;
      context.fillStyle = text;
      context.fillText(`${Number((at / unit).toPrecision(12))} ${name}`, x + 4, 10);
    }
  }

  #drawSelected(
    context: PageContext2d,
    width: number,
    height: number,
    { accent }: Colours,
  ): void {
    if (this.selected < 0) return;
    const time = this.#model.columns.time[this.selected]!;
    if (time < this.from || time > this.to) return;
    context.fillStyle = accent;
    const x = Math.round((time - this.from) / (this.to - this.from) * width);
    context.fillRect(x - 1, 0, 2, height);
  }

  #drawNames(context: PageContext2d, { dim }: Colours): void {
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = dim;
    for (const [i, { name }] of this.#model.lanes.entries()) {
      context.fillText(name, 4, this.#tops[i]! + 8, 200);
    }
  }

  #drawOverview(canvas: PageCanvas, colours: Colours): void {
    const height = Math.max(1, canvas.clientHeight);
    const [context, width] = this.#prepare(canvas, height, colours);
    const total = this.#model.totalNs;
    const band = { context, colours, width, top: 2, height: height - 4 };
    this.#drawDensity(this.#model.all, { ...band, from: 0, to: total * 1.0001 });
    const left = Math.max(0, this.from / total * width);
    const right = Math.min(width, this.to / total * width);
    context.fillStyle = colours.dim;
    context.globalAlpha = 0.3;
    context.fillRect(0, 0, left, height);
    context.fillRect(right, 0, width - right, height);
    context.globalAlpha = 1;
    context.fillStyle = colours.accent;
    context.fillRect(left - 1, 0, 2, height);
    context.fillRect(Math.max(left, right - 1), 0, 2, height);
  }
}
