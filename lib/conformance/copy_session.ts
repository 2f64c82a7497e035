/**
 * Sessions that stand for a copy.
 *
 * @module
 */

import { constantOf } from "../session/file/definitions.ts";
import type { Session } from "../session/model.ts";
import { type CopySession, LEAST_COPIED, MOST_COPIED } from "./copying.ts";

/** Variables of the session that each copy sets. */
const COPY_VARIABLES = ["source", "destination", "length"] as const;

/**
 * Looks whether a session can stand for a copy.
 *
 * @throws {RangeError} if it lacks a variable, or has memory that the device would ask for
 */
export function copySessionOf(session: Session): CopySession {
  const { file, variables, buffers } = session;
  const missing = COPY_VARIABLES.filter((name) => !variables.some((each) => each.name === name));
  if (missing.length > 0) {
    throw new RangeError(
      `${file} has no ${missing.length === 1 ? "variable" : "variables"} ${missing.join(", ")}: ` +
        "each copy sets source, destination and length; declare them, length with the most bytes " +
        "that the device copies at once",
    );
  }
  const length = variables.find(({ name }) => name === "length")!;
  const most = constantOf(length.value, session);
  if (most === undefined || most < BigInt(LEAST_COPIED)) {
    throw new RangeError(
      `${file} has ${most ?? "a value that steps change"} for length: write the most bytes that ` +
        `the device copies at once, ${LEAST_COPIED} at least`,
    );
  }
  const asked = buffers.find(({ share }) => share === "message");
  if (asked !== undefined) {
    throw new RangeError(
      `${file} has a buffer ${asked.name} to be asked for by message: checks count such ` +
        "requests; leave out its share",
    );
  }
  return { session, most: Math.min(Number(most), MOST_COPIED) };
}
