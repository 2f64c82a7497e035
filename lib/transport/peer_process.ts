/**
 * The process at the other end of a socket.
 *
 * @module
 */

import { SystemError } from "../../ffi/errno.ts";
import { readWhole } from "../../ffi/fd.ts";
import type { UnixSocket } from "../../ffi/socket.ts";

/** A process that has connected. */
export interface PeerProcess {
  /** Its process id. */
  readonly id: number;
  /** The name of its program, 15 bytes at most; null if the kernel does not say. */
  readonly program: string | null;
}

/** The process that connected a socket, by SO_PEERCRED; null if the kernel does not say. */
export function peerProcess(socket: UnixSocket): PeerProcess | null {
  const id = socket.peerProcess();
  if (id === undefined) return null;
  try {
    return { id, program: readWhole(`/proc/${id}/comm`).trim() };
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return { id, program: null };
  }
}

/** As "qemu-system-x86 (4711)". */
export function peerProcessText({ id, program }: PeerProcess): string {
  return program === null ? `process ${id}` : `${program} (${id})`;
}
