/**
 * `vfu show --session`: a recording as a session file.
 *
 * @module
 */

import { readRecording } from "../../lib/record/reader.ts";
import type { RegisterLocator } from "../../lib/registers/locate.ts";
import { learnPart } from "../../lib/replay/part.ts";
import { sessionText } from "../../lib/replay/session_text.ts";
import { warnOfCut } from "./cut.ts";
import type { Context } from "../shared/context.ts";
import { openDestination } from "../shared/destination.ts";

/** Options of {@linkcode writeSession}. */
export interface WriteSessionOptions {
  /** Names registers. */
  readonly locator: RegisterLocator | undefined;
  /** The names of the maps. */
  readonly include: readonly string[];
}

/** Writes the session of the first client of a recording into a file; `-` is standard output. */
export async function writeSession(
  { out, err, signal }: Context,
  recording: string,
  path: string,
  { locator, include }: WriteSessionOptions,
): Promise<void> {
  const events = readRecording(recording, { signal });
  const part = await learnPart(events);
  if (events.cut !== undefined) warnOfCut(err);
  using destination = openDestination(path, out, false);
  const title = `As recorded in ${recording.replace(/^.*\//, "")}`;
  destination.write(
    new TextEncoder().encode(sessionText(part, { title, locator, include: include.map(included) })),
  );
  destination.finish();
}

/** The name of a map for a session, which may be in another folder. */
function included(map: string): string {
  return /[./]/.test(map) ? Deno.realPathSync(map) : map;
}
