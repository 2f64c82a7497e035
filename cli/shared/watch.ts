/**
 * Values that are looked at again and again, until Ctrl-C.
 *
 * @module
 */

import { sleep } from "../../lib/base/sleep.ts";
import type { Context, Output } from "./context.ts";

/** Things that are watched. */
export interface Watched<T> {
  /** True for lines of JSON, which a terminal shows as another program takes them. */
  readonly isJson: boolean;
  /** Looks once. */
  look(): Promise<T>;
  /** All of it in lines, with what differs from `before` marked. */
  screen(now: T, before: T | undefined, output: Output): string[];
  /** A line for each thing that differs. */
  changes(now: T, before: T, output: Output, timeMs: number): string[];
}

/** Clears the screen, and goes to its start. */
const CLEAR = "\x1b[H\x1b[2J\x1b[3J";

/**
 * Shows values and their changes until the signal comes. A terminal with room for all of it is
 * written anew each time, with marks. Else all lines come first, then one for each change.
 *
 * @throws the reason of the signal
 */
export async function watch<T>(
  { out, signal }: Context,
  intervalMs: number,
  { isJson, look, screen, changes }: Watched<T>,
): Promise<never> {
  const startMs = performance.now();
  let before: T | undefined;
  let wasScreen = false;
  for (;;) {
    const now = await look();
    signal.throwIfAborted();
    const lines = screen(now, before, out);
    const fits = !isJson && out.isTerminal && lines.length < (out.rows ?? 0);
    if (fits) {
      out.write(`${CLEAR}${lines.join("\n")}\n`);
    } else if (before === undefined || wasScreen) {
      out.write(`${lines.join("\n")}\n`);
    } else {
      for (const line of changes(now, before, out, performance.now() - startMs)) {
        out.write(`${line}\n`);
      }
    }
    wasScreen = fits;
    before = now;
    await sleep(intervalMs, signal);
  }
}
