/**
 * The lines that a guard writes: of a device that holds the thread, and of a log that has gaps.
 *
 * @module
 */

import { jsonText } from "../shared/json.ts";
import { printable } from "../shared/printable.ts";
import { plural } from "../../lib/text/plural.ts";

/** The event of `vfu serve --json` about a device that holds the thread. */
export interface HoldJson {
  /** `busy` while it lasts, `free` when it is over. */
  event: "busy" | "free";
  /** null if it may be one of several. */
  device: string | null;
  /** A command, or another word for what it does; null for what no hook waits for. */
  doing: string | null;
  /** For how long at least. */
  seconds: number;
}

/**
 * A hold as a line for people.
 *
 * @param isAlone whether no other device is in the process
 */
export function holdText({ event, device, doing, seconds }: HoldJson, isAlone: boolean): string {
  const who = device === null ? "one of the devices" : printable(device);
  const at = doing === null ? "outside of any request" : `at ${doing}`;
  const long = `${seconds} s or more`;
  if (event === "free") return `${who}: no longer holds the thread ${at}; that took ${long}`;
  const others = isAlone ? "" : "; no device of this process is served meanwhile";
  const tip = device === null ? "; --isolate tells which" : "";
  return `${who}: has held the thread ${at} for ${long}${others}${tip}`;
}

/**
 * Makes the line that stands in a log for lines that were discarded.
 *
 * @param json writes an event
 * @param mark stands ahead of an event
 */
export function lostLine(lines: number, json: boolean, mark = ""): string {
  const event: LostJson = { event: "discarded", lines };
  return json ? eventLine(event, mark) : `${lostText(event)}\n`;
}

/** An event as a line of JSON behind a mark, which is empty but for a parent of `--isolate`. */
export function eventLine(event: object, mark: string): string {
  return `${mark}${jsonText(event)}\n`;
}

/** The same for people. */
export function lostText({ lines }: LostJson): string {
  const were = plural(lines, "line is", "lines are");
  return `${were} missing here: the log could not be written`;
}

/** The event of `vfu serve --json` in place of lines that it could not write. */
export interface LostJson {
  event: "discarded";
  lines: number;
}
