/**
 * Commands of vfu that serve until they are ended, in processes of their own.
 *
 * @module
 */

import { DENO } from "./_deno.ts";

const ROOT = new URL("../", import.meta.url).pathname;
/** The line that says, in each command's way, that sockets are listened on. */
const READY = /^(Ready|Recording )|"event":"ready"/m;

/** A command that runs. */
export interface VfuProcess extends AsyncDisposable {
  /** Its folder, which is removed at the end. */
  readonly folder: string;
  /** Its process id. */
  readonly pid: number;
  /** The text that the process has written to standard output. */
  stdout(): string;
  /** The text that the process has written to standard error. */
  stderr(): string;
  /** Settled when it has ended: its exit code. */
  readonly ended: Promise<number>;
  /** Ends it with a signal, if it runs; returns its exit code. */
  end(): Promise<number>;
  /** Ends it, and removes its folder. */
  stop(): Promise<void>;
}

/** The way in which a command is started and ended. */
export interface VfuProcessOptions {
  /** The command line. In its words FOLDER stands for a folder of the process. */
  readonly args: readonly string[];
  /** Permissions beside those for sockets and files. */
  readonly permissions?: readonly string[];
  /** The signal that ends it. */
  readonly signal: "SIGINT" | "SIGTERM";
}

/** Starts a command as a user would, and waits until it says that it is ready. */
export async function startVfu(
  { args, permissions = [], signal }: VfuProcessOptions,
): Promise<VfuProcess> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const allowed = ["--allow-ffi", "--allow-read", "--allow-write", ...permissions];
  const options = ["--no-prompt", "--frozen", `--config=${ROOT}deno.json`, ...allowed];
  const child = new Deno.Command(DENO, {
    args: ["run", ...options, `${ROOT}cli/main.ts`].concat(
      args.map((arg) => arg.replaceAll("FOLDER", folder)),
    ),
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    // What it leaves when it is killed goes with its folder.
    env: { NO_COLOR: "1", TMPDIR: folder },
  }).spawn();
  const ready = Promise.withResolvers<void>();
  const texts = { stdout: "", stderr: "" };
  const drain = async (name: "stdout" | "stderr") => {
    for await (const text of child[name].pipeThrough(new TextDecoderStream())) {
      texts[name] += text;
      if (READY.test(texts[name])) ready.resolve();
    }
  };
  const ended = Promise.all([child.status, drain("stdout"), drain("stderr")])
    .then(([{ code }]) => code);
  ended.then(() => ready.reject(new Error(`vfu ${args[0]} has ended: ${texts.stderr}`)));
  const end = async () => {
    try {
      child.kill(signal);
    } catch { /* it has ended */ }
    return await ended;
  };
  const stop = async () => {
    await end();
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  };
  try {
    await ready.promise;
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    folder,
    pid: child.pid,
    stdout: () => texts.stdout,
    stderr: () => texts.stderr,
    ended,
    end,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
