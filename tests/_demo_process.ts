/**
 * Devices that are served by another process.
 * They are for tests of calls that block this thread, and of `vfu serve` itself.
 *
 * @module
 */

import { DENO } from "./_deno.ts";

const ROOT = new URL("../", import.meta.url).pathname;

/** A served device. */
export interface ServeProcess extends AsyncDisposable {
  /** The socket of the first device, unless the arguments name others. */
  readonly path: string;
  /** Its folder, which is removed at the end. */
  readonly folder: string;
  /** Its process id. */
  readonly pid: number;
  /** The text that the process has written to standard error. */
  stderr(): string;
  /** The text that the process has written to standard output. */
  stdout(): string;
  /** Settled when it has ended: its exit code. */
  readonly ended: Promise<number>;
  /** Ends it with SIGTERM, if it runs. */
  stop(): Promise<void>;
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
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const path = `${folder}/${device.replace(/^.*\//, "").replace(/\..*/, "")}.sock`;
  const permissions = ["--allow-ffi", "--allow-read", "--allow-write"];
  const options = ["--no-prompt", "--frozen", `--config=${ROOT}deno.json`, ...permissions];
  const child = new Deno.Command(DENO, {
    args: ["run", ...options, `${ROOT}cli/main.ts`].concat(
      ["serve", device, "--socket-path", path],
      args.map((arg) => arg.replaceAll("FOLDER", folder)),
    ),
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  const ready = Promise.withResolvers<void>();
  const texts = { stdout: "", stderr: "" };
  const drain = async (name: "stdout" | "stderr") => {
    for await (const text of child[name].pipeThrough(new TextDecoderStream())) {
      texts[name] += text;
      if (/^Ready|"event":"ready"/m.test(texts[name])) ready.resolve();
    }
  };
  const ended = Promise.all([child.status, drain("stdout"), drain("stderr")])
    .then(([{ code }]) => code);
  ended.then(() => ready.reject(new Error(`vfu serve has ended: ${texts.stderr}`)));
  const stop = async () => {
    try {
      child.kill("SIGTERM");
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
  return {
    path,
    folder,
    pid: child.pid,
    stderr: () => texts.stderr,
    stdout: () => texts.stdout,
    ended,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
