/**
 * Recordings whose server's part is taken by a process of its own.
 *
 * @module
 */

import { DENO } from "./_deno.ts";

const ROOT = new URL("../", import.meta.url).pathname;

/** A mock that listens. */
export interface ReplayProcess extends AsyncDisposable {
  /** The path of its socket. */
  readonly path: string;
  /** The text that the process has written to standard output. */
  stdout(): string;
  /** Settled when it has ended: its exit code. */
  readonly ended: Promise<number>;
}

/** Starts `vfu replay FILE --serve SOCKET ARGS...`, and waits until it listens. */
export async function startReplay(file: string, ...args: string[]): Promise<ReplayProcess> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const path = `${folder}/mock.sock`;
  const permissions = ["--allow-ffi", "--allow-read", "--allow-write"];
  const options = ["--no-prompt", "--frozen", `--config=${ROOT}deno.json`, ...permissions];
  const child = new Deno.Command(DENO, {
    args: ["run", ...options, `${ROOT}cli/main.ts`, "replay"].concat(
      [file, "--serve", path, ...args],
    ),
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
    env: { NO_COLOR: "1" },
  }).spawn();
  const ready = Promise.withResolvers<void>();
  let text = "";
  const drain = async () => {
    for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
      text += piece;
      if (/^Ready|"event":"ready"/m.test(text)) ready.resolve();
    }
  };
  const ended = Promise.all([child.status, drain()]).then(([{ code }]) => code);
  ended.then(() => ready.reject(new Error(`vfu replay has ended: ${text}`)));
  const stop = async () => {
    try {
      child.kill("SIGINT");
    } catch { /* it has ended */ }
    await ended;
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  };
  try {
    await ready.promise;
  } catch (error) {
    await stop();
    throw error;
  }
  return { path, stdout: () => text, ended, [Symbol.asyncDispose]: stop };
}
