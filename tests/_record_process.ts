/**
 * Recorders in a process of their own, as a user starts them.
 *
 * @module
 */

import { readRecording } from "../lib/record/mod.ts";
import type { RecordedEvent } from "../lib/record/event.ts";
import { startVfu, type VfuProcess } from "./_vfu_process.ts";

/** A recorder that listens. */
export interface RecordProcess extends VfuProcess {
  /** Path of the socket for clients. */
  readonly path: string;
  /** Path of the side socket, for others that look at the device. */
  readonly side: string;
  /** The recording, unless the arguments name another one. */
  readonly file: string;
  /** Ends it with SIGINT, as Ctrl-C does; returns its exit code and all that it recorded. */
  finish(): Promise<{ code: number; events: RecordedEvent[] }>;
}

/** Starts `vfu record` with a side socket and further arguments, and waits until it listens. */
export async function startRecord(...args: string[]): Promise<RecordProcess> {
  const places = ["--listen", "FOLDER/a.sock", "--side", "FOLDER/side.sock"];
  const child = await startVfu({
    args: ["record", ...places, "-o", "FOLDER/recording.pcapng", ...args],
    permissions: ["--allow-run"],
    signal: "SIGINT",
  });
  const file = `${child.folder}/recording.pcapng`;
  return {
    ...child,
    path: `${child.folder}/a.sock`,
    side: `${child.folder}/side.sock`,
    file,
    async finish() {
      const code = await child.end();
      return { code, events: await Array.fromAsync(readRecording(file)) };
    },
  };
}
