/**
 * Recordings whose server's part is taken by a process of its own.
 *
 * @module
 */

import { startVfu, type VfuProcess } from "./_vfu_process.ts";

/** A mock that listens. */
export interface ReplayProcess extends VfuProcess {
  /** The path of its socket. */
  readonly path: string;
}

/** Starts `vfu replay FILE --serve SOCKET ARGS...`, and waits until it listens. */
export async function startReplay(file: string, ...args: string[]): Promise<ReplayProcess> {
  const child = await startVfu({
    args: ["replay", file, "--serve", "FOLDER/mock.sock", ...args],
    signal: "SIGINT",
  });
  return { ...child, path: `${child.folder}/mock.sock` };
}
