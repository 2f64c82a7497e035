/**
 * Recorders in a process of their own, as a user starts them.
 *
 * @module
 */

import { readRecording } from "../lib/record/mod.ts";
import type { RecordedEvent } from "../lib/record/event.ts";
import { DENO } from "./_deno.ts";

const ROOT = new URL("../", import.meta.url).pathname;

/** A recorder that listens. */
export interface RecordProcess extends AsyncDisposable {
  /** Path of the socket for clients. */
  readonly path: string;
  /** Path of the side socket, for others that look at the device. */
  readonly side: string;
  /** The recording. */
  readonly file: string;
  /** Its process id. */
  readonly pid: number;
  /** The text that the process has written to standard error. */
  stderr(): string;
  /** Ends it with SIGINT, as Ctrl-C does; returns its exit code and all that it recorded. */
  finish(): Promise<{ code: number; events: RecordedEvent[] }>;
}

/** Starts `vfu record` with a side socket and further arguments, and waits until it listens. */
export async function startRecord(...args: string[]): Promise<RecordProcess> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const [path, side, file] = ["a.sock", "side.sock", "recording.pcapng"].map((name) =>
    `${folder}/${name}`
  ) as [string, string, string];
  const permissions = ["--allow-ffi", "--allow-read", "--allow-write", "--allow-run"];
  const options = ["--no-prompt", "--frozen", `--config=${ROOT}deno.json`, ...permissions];
  const child = new Deno.Command(DENO, {
    args: ["run", ...options, `${ROOT}cli/main.ts`, "record"].concat(
      ["--listen", path, "--side", side, "-o", file, ...args],
    ),
    stdin: "null",
    stdout: "null",
    stderr: "piped",
    // The folder of a server that it starts goes with the test's, should the recorder be killed.
    env: { NO_COLOR: "1", TMPDIR: folder },
  }).spawn();
  const ready = Promise.withResolvers<void>();
  let text = "";
  const drain = async () => {
    for await (const piece of child.stderr.pipeThrough(new TextDecoderStream())) {
      text += piece;
      if (text.includes("Recording ")) ready.resolve();
    }
  };
  const ended = Promise.all([child.status, drain()]).then(([{ code }]) => code);
  ended.then(() => ready.reject(new Error(`vfu record has ended: ${text}`)));
  const stop = async () => {
    try {
      child.kill("SIGINT");
    } catch { /* it has ended */ }
    return await ended;
  };
  const dispose = async () => {
    await stop();
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  };
  try {
    await ready.promise;
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    path,
    side,
    file,
    pid: child.pid,
    stderr: () => text,
    async finish() {
      const code = await stop();
      return { code, events: await Array.fromAsync(readRecording(file)) };
    },
    [Symbol.asyncDispose]: dispose,
  };
}
