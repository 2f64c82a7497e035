/**
 * The command line under test.
 * It runs in this process with a context of memory, or as a process of its own.
 */

import { assertEquals } from "@std/assert";
import { type Context, Interrupted, type Output } from "../../cli/shared/context.ts";
import { main } from "../../cli/main.ts";
import { PLAIN, type Style } from "../../cli/shared/style.ts";
import { libc } from "../../ffi/libc.ts";
import { idle } from "../../ffi/poller.ts";
import { DENO } from "../_deno.ts";

libc(); // opened once for all tests, which then leave nothing open

const ROOT = new URL("../../", import.meta.url).pathname;
const GOLDEN = new URL("./golden/", import.meta.url);

/** The exit code and the output of a command line. */
export interface Outcome {
  code: number;
  out: string;
  err: string;
}

/** Runs a command line in this process. */
export async function runHere(
  args: string[],
  { style = PLAIN, signal, isWatched = false, endWhen, columns = 80 }: {
    style?: Style;
    /** The width of the screen. */
    columns?: number;
    signal?: AbortSignal;
    /** True once the output is such that Ctrl-C is to be pressed, a moment later. */
    endWhen?: (texts: { out: string; err: string }) => boolean;
    /** True if standard error is a terminal. */
    isWatched?: boolean;
  } = {},
): Promise<Outcome> {
  const texts = { out: "", err: "" };
  const controller = new AbortController();
  let isEnding = false;
  const add = (key: "out" | "err", text: string) => {
    texts[key] += text;
    if (isEnding || !endWhen?.(texts)) return;
    isEnding = true;
    setTimeout(() => controller.abort(new Interrupted("SIGINT")), 20);
  };
  const output = (key: "out" | "err"): Output => ({
    isTerminal: key === "err" && isWatched,
    columns,
    style,
    write: (text) => add(key, text),
    // One character a byte: what is no text stays what it is.
    writeBytes: (bytes) => add(key, String.fromCharCode(...bytes)),
  });
  const context: Context = {
    out: output("out"),
    err: output("err"),
    signal: signal ?? controller.signal,
  };
  return { code: await main(args, context), ...texts };
}

/**
 * Runs a command line with `--serve demo`.
 * Waits for the server in this process to be gone as well.
 */
export async function runServing(...args: Parameters<typeof runHere>): Promise<Outcome> {
  const [[command, ...rest], options] = args;
  const outcome = await runHere([command!, "--serve", "demo", ...rest], options);
  await idle();
  return outcome;
}

/** Options of a command line that runs as a process of its own. */
export interface SpawnOptions {
  /** The working directory. */
  cwd?: string;
  /** All of its environment that matters. */
  env?: Record<string, string>;
  /** The most blocks of 512 bytes that a file of its may have (RLIMIT_FSIZE). */
  fileBlocks?: number;
  /**
   * Deno's permissions; default those that the documentation asks for, with nothing else to read.
   */
  permissions?: string[];
  /** The content of standard input, which is empty otherwise. */
  input?: Uint8Array | string;
}

/** Starts a command line as a process of its own. */
export function spawn(args: string[], options: SpawnOptions = {}): Deno.ChildProcess {
  const permissions = options.permissions ?? ["--allow-ffi", `--allow-read=${ROOT}`];
  const run = ["run", "--no-prompt", "--frozen", `--config=${ROOT}deno.json`, ...permissions];
  const { fileBlocks } = options;
  // Deno's own cache of code is a file as well.
  const line = fileBlocks === undefined
    ? [DENO, ...run]
    : ["sh", "-c", `ulimit -f ${fileBlocks}; exec "$0" "$@"`, DENO, ...run, "--no-code-cache"];
  return new Deno.Command(line[0]!, {
    args: [...line.slice(1), `${ROOT}cli/main.ts`, ...args],
    stdin: options.input === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "", FORCE_COLOR: "", ...options.env },
    ...(options.cwd && { cwd: options.cwd }),
  }).spawn();
}

/** Runs a command line as a process of its own. */
export async function runThere(args: string[], options: SpawnOptions = {}): Promise<Outcome> {
  const child = spawn(args, options);
  const { input } = options;
  if (input !== undefined) {
    const writer = child.stdin.getWriter();
    const bytes = typeof input === "string" ? new TextEncoder().encode(input) : input;
    // What is not read breaks the pipe.
    writer.write(new Uint8Array(bytes)).then(() => writer.close()).catch(() => {});
  }
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/**
 * Compares with the file `golden/NAME`. After a change that is meant, write the files anew with
 * `VFU_UPDATE_GOLDEN=1 deno test -A tests/cli`, and read what changed.
 */
export function assertGolden(name: string, actual: string): void {
  const file = new URL(name, GOLDEN);
  if (Deno.env.get("VFU_UPDATE_GOLDEN") === "1") Deno.writeTextFileSync(file, actual);
  assertEquals(actual, Deno.readTextFileSync(file), `${name} differs`);
}

/** A folder that lasts as long as the test. The servers in it are closed before it goes. */
export function temporaryFolder(): { path: string } & AsyncDisposable {
  const path = Deno.makeTempDirSync({ prefix: "vfu-cli-" });
  return {
    path,
    async [Symbol.asyncDispose]() {
      await idle();
      Deno.removeSync(path, { recursive: true });
    },
  };
}
