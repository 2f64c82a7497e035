/**
 * Causes why there is no connection to a server.
 *
 * @module
 */

import { SystemError } from "../../../ffi/errno.ts";
import { readWhole } from "../../../ffi/fd.ts";
import { ConnectionError, ProtocolError, RemoteError, TimeoutError } from "../../base/errors.ts";
import { plural } from "../../text/plural.ts";
import type { Finding } from "./cause.ts";

/** Connections to a socket, as the kernel counts them. */
export interface SocketUse {
  /** Connections that the server has accepted. */
  readonly accepted: number;
  /** Connections that wait for the server. */
  readonly waiting: number;
}

/** The causes of a connection that can't be made, with their titles. */
export const CONNECTION_CAUSES = {
  "one-client": "the server serves one client at a time, and has one",
  "no-server": "no server listens at the path",
  "no-answer": "the server does not answer",
  "other-protocol": "the server speaks another protocol, or another version of this one",
  "enable-refused": "the server refuses what --pci-enable writes",
} as const;

/** The states of /proc/net/unix of connections: accepted, and not yet. */
const ACCEPTED = "03";
const WAITING = "02";

/**
 * Counts the connections to the socket at a path.
 *
 * @returns undefined if the kernel does not tell
 */
export function socketUse(path: string): SocketUse | undefined {
  try {
    return countUse(readWhole("/proc/net/unix"), path);
  } catch (error) {
    if (error instanceof SystemError) return undefined;
    throw error;
  }
}

/** Counts in the text of /proc/net/unix: Num RefCount Protocol Flags Type St Inode Path. */
export function countUse(table: string, path: string): SocketUse {
  let accepted = 0;
  let waiting = 0;
  for (const line of table.split("\n")) {
    const [, , , , , state, , ...words] = line.trim().split(/\s+/);
    const bound = words.join(" ");
    // A server may have bound it by a relative path.
    const isIt = bound === path || (bound !== "" && !bound.startsWith("/") &&
      bound.split("/").at(-1) === path.split("/").at(-1));
    if (!isIt) continue;
    if (state === ACCEPTED) accepted++;
    if (state === WAITING) waiting++;
  }
  return { accepted, waiting };
}

/**
 * The cause of a connection that could not be made.
 *
 * @param before the use of the socket before the attempt
 * @returns undefined if the error is another one
 */
export function connectionFinding(
  error: unknown,
  before: SocketUse | undefined,
): Finding | undefined {
  const isOurs = error instanceof ConnectionError || error instanceof TimeoutError ||
    error instanceof ProtocolError || error instanceof RemoteError;
  if (!isOurs) return undefined;
  const { accepted = 0, waiting = 0 } = before ?? {};
  const isSilence = error instanceof TimeoutError ||
    error instanceof ConnectionError && !isMissing(error);
  if (accepted > 0 && isSilence) {
    const others = waiting > 0 ? `, and ${waiting} more ${waiting === 1 ? "waits" : "wait"}` : "";
    return {
      cause: "one-client",
      evidence: `the server has ${plural(accepted, "client")} already (/proc/net/unix)${others}, ` +
        `and does not answer another one: ${error.message}`,
      remedy: "end the other client, or do all in one connection (vfu shell, vfu run)",
    };
  }
  return { cause: causeOf(error), evidence: error.message };
}

function causeOf(error: Error): keyof typeof CONNECTION_CAUSES {
  // Nothing else accesses a region before there is a connection to look at.
  if (error instanceof RemoteError && error.access !== undefined) return "enable-refused";
  if (error instanceof TimeoutError) return "no-answer";
  if (!(error instanceof ConnectionError)) return "other-protocol";
  return error.kind === "refused" ? "no-server" : "no-answer";
}

/** Reports whether there is no socket at all at the path. */
function isMissing({ cause }: ConnectionError): boolean {
  return cause instanceof SystemError && cause.code === "ENOENT";
}
