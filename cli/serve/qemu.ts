/**
 * QEMU's options that attach it to a device.
 *
 * @module
 */

import { jsonText } from "../shared/json.ts";
import { shellQuoted } from "../../lib/text/shell_word.ts";

/** QEMU's options for a device at a socket, quoted for a shell. */
export function qemuOption(socket: string): string {
  const device = { driver: "vfio-user-pci", socket: { type: "unix", path: absolute(socket) } };
  return `-device ${shellQuoted(jsonText(device))}`;
}

/** QEMU's options that share a guest's memory, without which each DMA access is a message. */
export const QEMU_MEMORY = [
  "-machine q35,memory-backend=mem",
  "-object memory-backend-memfd,id=mem,size=1G,share=on",
];

/** QEMU's options for devices at sockets: lines that a shell takes as one. */
export function qemuLines(sockets: readonly string[]): string[] {
  const options = [...QEMU_MEMORY, ...sockets.map(qemuOption)];
  return options.map((option, i) => i < options.length - 1 ? `${option} \\` : option);
}

/** The path from the root, as far as the folder of this process may be known. */
function absolute(path: string): string {
  const { state } = Deno.permissions.querySync({ name: "read", path: "." });
  if (path.startsWith("/") || state !== "granted") return path;
  return `${Deno.cwd()}/${path}`;
}
