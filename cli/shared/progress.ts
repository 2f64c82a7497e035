/**
 * A line that shows how work goes on. It is on standard error, if that is a terminal, and only once
 * the work takes over a second.
 *
 * @module
 */

import type { Output } from "./context.ts";
import { humanSize } from "./size.ts";

/** When a line is drawn. */
export interface ProgressOptions {
  /** The delay of the first time, in milliseconds; default 1000. */
  delayMs?: number;
  /** The delay of the next time, in milliseconds; default 100. */
  intervalMs?: number;
}

/** The progress of a transfer. */
export interface Transfer {
  /** Bytes that are through. */
  readonly done: number;
  /** Bytes in all. */
  readonly total: number;
  /** Since when, in milliseconds. */
  readonly elapsedMs: number;
}

const DELAY_MS = 1000;
const INTERVAL_MS = 100;
const SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏";
/** Eighths of a block, from the left. */
const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
const MAX_BAR_WIDTH = 30;

/** The line. It is gone when it is disposed of. */
export class Progress implements Disposable {
  readonly #output: Output;
  readonly #text: (elapsedMs: number) => string;
  readonly #startMs = performance.now();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #shown = 0;

  /**
   * @param text what to show, after so many milliseconds
   */
  constructor(
    output: Output,
    text: (elapsedMs: number) => string,
    { delayMs = DELAY_MS, intervalMs = INTERVAL_MS }: ProgressOptions = {},
  ) {
    this.#output = output;
    this.#text = text;
    if (!output.isTerminal) return;
    this.#timer = setTimeout(() => {
      this.#draw();
      this.#timer = setInterval(() => this.#draw(), intervalMs);
    }, delayMs);
  }

  /** Clears the line, and draws it no more. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.clear();
  }

  /** Clears the line for what is written next; the line comes back with its next drawing. */
  clear(): void {
    this.#show("");
  }

  #draw(): void {
    this.#show(this.#text(performance.now() - this.#startMs));
  }

  /** Writes over what is there, with spaces over the rest of it. */
  #show(text: string): void {
    // A line as wide as the screen would wrap.
    const line = [...text].slice(0, this.#output.columns - 1);
    const rest = Math.max(0, this.#shown - line.length);
    if (line.length + rest === 0) return;
    this.#output.write(`\r${line.join("")}${" ".repeat(rest)}\r`);
    this.#shown = line.length;
  }
}

/** A sign that turns with time. */
export function spinner(elapsedMs: number): string {
  return SPINNER[Math.floor(elapsedMs / INTERVAL_MS) % SPINNER.length]!;
}

/** A bar with share, rate, and the time that is left. */
export function transferText({ done, total, elapsedMs }: Transfer, columns: number): string {
  const share = total === 0 ? 1 : done / total;
  const percent = `${Math.floor(share * 100)}%`.padStart(4);
  const rate = done / Math.max(elapsedMs, 1) * 1000;
  const left = rate > 0 ? humanTime((total - done) / rate) : "--:--";
  const numbers = ` ${percent}  ${humanSize(BigInt(done))} of ${humanSize(BigInt(total))}` +
    `  ${humanSize(BigInt(Math.round(rate)))}/s  ${left} left`;
  const width = Math.min(MAX_BAR_WIDTH, columns - 1 - numbers.length);
  return width < 5 ? numbers.trimStart() : bar(share, width).padEnd(width, "░") + numbers;
}

/** A bar of blocks, `share` of `width` columns long. */
export function bar(share: number, width: number): string {
  const eighths = Math.round(Math.max(0, Math.min(1, share)) * width * 8);
  return "█".repeat(Math.floor(eighths / 8)) + EIGHTHS[eighths % 8]!;
}

/** Seconds as "0:07", "12:34" or "1:02:03"; rounded up, for time that is left. */
export function humanTime(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds > 359_999) return "--:--";
  const whole = Math.ceil(seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
