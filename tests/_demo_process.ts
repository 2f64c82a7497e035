/**
 * Devices that are served by another process.
 * They are for tests of calls that block this thread, and of `vfu serve` itself.
 *
 * @module
 */

import { startVfu, type VfuProcess } from "./_vfu_process.ts";

/** A served device. */
export interface ServeProcess extends VfuProcess {
  /** The socket of the first device, unless the arguments name others. */
  readonly path: string;
}

/** A served device, as {@linkcode startDemo} gives it. */
export type DemoProcess = ServeProcess;

/** Starts `vfu serve demo` as a user would, and waits until it listens. */
export function startDemo(): Promise<ServeProcess> {
  return startServe("demo");
}

/**
 * Starts `vfu serve DEVICE --socket-path PATH ARGS...` as a user would.
 * Waits until the server says that it is ready.
 * In the arguments FOLDER stands for the folder of the server.
 */
export async function startServe(device: string, ...args: string[]): Promise<ServeProcess> {
  const name = `${device.replace(/^.*\//, "").replace(/\..*/, "")}.sock`;
  const child = await startVfu({
    args: ["serve", device, "--socket-path", `FOLDER/${name}`, ...args],
    signal: "SIGTERM",
  });
  return { ...child, path: `${child.folder}/${name}` };
}
