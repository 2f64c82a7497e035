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
import { sessionMaps } from "../shared/session_maps.ts";

/** Options of {@linkcode writeSession}. */
export interface WriteSessionOptions {
  /** Names registers. */
  readonly locator: RegisterLocator | undefined;
  /** The maps as the user named them. */
  readonly maps: readonly string[];
}

/** Writes the session of the first client of a recording into a file; `-` is standard output. */
export async function writeSession(
  { out, err, signal }: Context,
  recording: string,
  path: string,
  { locator, maps }: WriteSessionOptions,
): Promise<void> {
  const events = readRecording(recording, { signal });
  const part = await learnPart(events, { signal });
  if (events.cut !== undefined) warnOfCut(err);
  // The session may be in another folder.
  const { include, notes } = sessionMaps(maps, (map) => Deno.realPathSync(map));
  const title = `As recorded in ${recording.replace(/^.*\//, "")}`;
  const text = await sessionText(part, { title, locator, include, signal });
  using destination = openDestination(path, out, false);
  destination.write(new TextEncoder().encode(text));
  destination.finish();
  for (const note of notes) err.write(`${note}\n`);
}
