/**
 * The real `vfu`, in a process of its own, on a peer.
 *
 * @module
 */

import { type QemuDeviceName, startQemu } from "./peers.ts";
import { DENO } from "../_deno.ts";
import { PATIENCE_MS } from "../_until.ts";

const CLI = new URL("../../cli/main.ts", import.meta.url).pathname;

/** The exit code of a command, and its output. */
export interface Outcome {
  code: number;
  out: string;
  err: string;
}

/** Runs a command on a fresh device of QEMU's, whose server ends with it. */
export async function vfu(
  device: QemuDeviceName,
  command: string,
  ...args: string[]
): Promise<Outcome> {
  await using peer = await startQemu(device);
  return await vfuAt(peer.socketPath, command, ...args);
}

/** Runs a command on the server at `path`. */
export function vfuAt(path: string, command: string, ...args: string[]): Promise<Outcome> {
  return vfuLine(command, path, ...args);
}

/** Runs a session on a fresh device of QEMU's. */
export async function vfuRun(
  device: QemuDeviceName,
  file: string,
  ...args: string[]
): Promise<Outcome> {
  await using peer = await startQemu(device);
  return await vfuLine("run", file, peer.socketPath, ...args);
}

/** Runs any command line. */
export async function vfuLine(...args: string[]): Promise<Outcome> {
  const permissions = ["--no-prompt", "--allow-ffi", "--allow-read", "--allow-write"];
  const { code, stdout, stderr } = await new Deno.Command(DENO, {
    args: ["run", ...permissions, CLI, ...args],
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}
