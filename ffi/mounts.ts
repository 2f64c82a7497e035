/**
 * Mounts of this process, as the kernel lists them.
 *
 * @module
 */

import { type FileStat, readWhole } from "./fd.ts";

/**
 * Finds the type of the file system that a file is on, without a call that the file system answers.
 * For one, statfs(2) waits for a server of FUSE or NFS.
 *
 * @param stat which file it is
 * @returns the name, as "ext4" or "fuse"; undefined if this process sees no mount of it
 */
export function mountedType({ mount, device }: FileStat): string | undefined {
  const number = `${device >> 32n}:${device & 0xffff_ffffn}`;
  let found: string | undefined; // another mount of the same file system
  for (const line of readWhole("/proc/self/mountinfo").split("\n")) {
    const [id, , deviceOf] = line.split(" ", 3);
    const end = line.indexOf(" - "); // spaces within fields are escaped
    if (end < 0) continue;
    const [type] = line.slice(end + 3).split(" ", 1);
    if (BigInt(id!) === mount) return type;
    if (deviceOf === number) found = type;
  }
  return found;
}
