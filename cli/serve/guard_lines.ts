/**
 * The lines that a guard writes: of a device that holds the thread, and of a log that has gaps.
 *
 * @module
 */

import { doingName } from "../../lib/server/activity.ts";
import { jsonText } from "../json.ts";
import { printable } from "../printable.ts";

/** A device that holds the thread, or has held it. */
export interface Hold {
  /** The names of the devices that it may be: one, unless the thread is in no code that is known. */
  readonly devices: readonly string[];
  /** What the device does, as `Doing` and commands number it; undefined if that is not known. */
  readonly doing: number | undefined;
  /** For how long at least, in seconds. */
  readonly seconds: number;
}

/** What `vfu serve --json` writes of a hold: `busy` while it lasts, `free` when it is over. */
export interface HoldJson {
  event: "busy" | "free";
  /** null if it may be one of several. */
  device: string | null;
  /** null if it is not known: what no hook waits for. */
  doing: string | null;
  seconds: number;
}

/** A hold as a line of JSON. */
export function holdJson(event: "busy" | "free", { devices, doing, seconds }: Hold): string {
  const json: HoldJson = {
    event,
    device: devices.length === 1 ? devices[0]! : null,
    doing: doing === undefined ? null : doingName(doing),
    seconds,
  };
  return jsonText(json) + "\n";
}

/** A hold as a line for people. */
export function holdText(event: "busy" | "free", { devices, doing, seconds }: Hold): string {
  const who = devices.length === 1 ? printable(devices[0]!) : "one of the devices";
  const at = doing === undefined ? "outside of any request" : `at ${doingName(doing)}`;
  const long = `${seconds} s or more`;
  if (event === "free") return `${who}: no longer holds the thread ${at}; that took ${long}\n`;
  const tip = devices.length === 1 ? "" : "; --isolate tells which";
  return `${who}: has held the thread ${at} for ${long}; ` +
    `no device of this process is served meanwhile${tip}\n`;
}

/** What stands in a log for lines that were discarded. */
export function lostLine(lines: number, json: boolean): string {
  if (json) return jsonText({ event: "discarded", lines } satisfies LostJson) + "\n";
  const were = lines === 1 ? "1 line is" : `${lines} lines are`;
  return `${were} missing here: the log could not be written\n`;
}

/** What `vfu serve --json` writes in place of lines that it could not write. */
export interface LostJson {
  event: "discarded";
  lines: number;
}
