/**
 * Programs that a build runs: Deno itself, and its bundler.
 *
 * @module
 */

/** The folder of vfu's sources. */
export const ROOT: URL = new URL("../../", import.meta.url);

/** Ends the programs that run, and the work that they are part of. */
export const calledOff = new AbortController();

/** The end of a program. */
export interface Ended {
  /** Its exit code. */
  readonly code: number;
  /** Its output. */
  readonly stdout: string;
  /** Its messages. */
  readonly stderr: string;
}

/**
 * Runs a program to its end, whatever that is.
 *
 * @throws the reason of {@linkcode calledOff}
 */
export async function runToEnd(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: Record<string, string> } = {},
): Promise<Ended> {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    env: { NO_COLOR: "1", ...options.env },
    stdin: "null",
    signal: calledOff.signal,
  }).output();
  calledOff.signal.throwIfAborted();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/**
 * Runs this Deno.
 *
 * @returns its output
 * @throws {Error} with its messages, if it fails
 */
export async function run(what: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runToEnd(Deno.execPath(), args);
  if (code !== 0) throw new Error(`Cannot run ${what}:\n${stderr.trimEnd()}`);
  return stdout;
}

/** Runs Deno's bundler with options of its own. */
export async function runBundler(options: readonly string[]): Promise<void> {
  const config = new URL("deno.json", ROOT).pathname;
  const usual = ["--quiet", "--frozen", "--platform", "deno", "--config", config];
  await run("deno bundle", ["bundle", ...usual, ...options]);
}
