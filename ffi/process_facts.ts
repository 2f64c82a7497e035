/**
 * Facts about any process, as the kernel has them in /proc. Deno itself opens files of another
 * process there only with `--allow-all`.
 *
 * @module
 */

import { SystemError } from "./errno.ts";
import { OwnedFd, readWhole } from "./fd.ts";
import { check, libc } from "./libc.ts";
import { dirent64 } from "./structs.ts";
import { systemCalls } from "./system_calls.ts";

const O_RDONLY = 0;
const GONE: readonly string[] = ["ENOENT", "ESRCH"];
/** Each folder has "." and ".." too. */
const OWN_ENTRIES = 2;

/** Memory of a process, in bytes. */
export interface ProcessMemory {
  /** The memory in use now. */
  readonly resident: number;
  /** The most that was in use. */
  readonly peak: number;
}

/**
 * The number of descriptors that a process has open.
 *
 * @throws {SystemError} ENOENT or ESRCH if there is no such process, EACCES if it is another user's
 */
export function countDescriptors(process: number): number {
  using folder = OwnedFd.open(`/proc/${process}/fd`, O_RDONLY);
  const c = libc();
  const call = systemCalls().getdents64;
  const bytes = new Uint8Array(32 << 10);
  const view = new DataView(bytes.buffer);
  let entries = 0;
  for (;;) {
    const length = c.getdents64(call, folder.fd, bytes, BigInt(bytes.length));
    check(`Cannot count the descriptors of process ${process}`, "getdents64", length);
    if (length === 0) return entries - OWN_ENTRIES;
    for (let at = 0; at < length; at += view.getUint16(at + dirent64.reclen, true)) entries++;
  }
}

/**
 * The number of mappings that a process has of memfds with a name.
 *
 * @throws {SystemError} as {@linkcode countDescriptors}
 */
export function countMemfdMappings(process: number, name: string): number {
  const lines = readWhole(`/proc/${process}/maps`).split("\n");
  return lines.filter((line) => line.includes(`/memfd:${name}`)).length;
}

/**
 * The memory of a process.
 *
 * @returns undefined if it has none any more: it is gone, or its parent has not looked
 * @throws {SystemError} as open(2) fails: EACCES if /proc hides other users' processes
 */
export function processMemory(process: number): ProcessMemory | undefined {
  let status;
  try {
    status = readWhole(`/proc/${process}/status`);
  } catch (error) {
    if (error instanceof SystemError && GONE.includes(error.code)) return undefined;
    throw error;
  }
  const bytes = (name: string) => {
    const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
    return kib === undefined ? undefined : Number(kib) * 1024;
  };
  const resident = bytes("VmRSS");
  return resident === undefined ? undefined : { resident, peak: bytes("VmHWM") ?? resident };
}
