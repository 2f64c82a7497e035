/**
 * The session by which a device copies memory for checks.
 *
 * @module
 */

import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import type { Session } from "../../lib/session/model.ts";
import { loadAll } from "../run/sessions.ts";
import type { Context } from "../shared/context.ts";

/** Loads it. A file that can't be read, has mistakes or is for no copy is wrong usage. */
export async function loadCopy(
  context: Context,
  self: CommandUnknownOpts,
  file: string,
): Promise<Session> {
  const [session] = await loadAll(context, self, [file], {});
  const { copySessionOf } = await import("../../lib/conformance/copy_session.ts");
  try {
    copySessionOf(session!);
  } catch (error) {
    if (error instanceof RangeError) self.error(`error: option '--copy <file>': ${error.message}`);
    throw error;
  }
  return session!;
}
