/**
 * Programs that run apart: what would block, crash or starve the test process.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { DENO } from "../_deno.ts";

const FFI = new URL("../../ffi/", import.meta.url).href;

/** The way in which a program is run. */
export interface RunOptions {
  /** Flags for `deno run`, in place of all permissions. */
  flags?: string[];
  /** Descriptors that the process may have open. */
  maxFds?: number;
}

/**
 * Runs TypeScript in which `ffi/` stands for the directory under test.
 * Returns exit code, stdout, stderr.
 */
export async function run(
  code: string,
  { flags = ["-A"], maxFds }: RunOptions = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const deno = ["run", "--quiet", "--no-prompt", "--no-config", "--ext=ts", ...flags, "-"];
  const limit = maxFds === undefined ? "" : `ulimit -n ${maxFds}; `;
  await using child = new Deno.Command("sh", {
    args: ["-c", `${limit}exec "$0" "$@"`, DENO, ...deno],
    env: { NO_COLOR: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(code.replaceAll('"ffi/', `"${FFI}`)));
  await writer.close();
  const { code: exit, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
  return { code: exit, stdout: text(stdout), stderr: text(stderr) };
}

/** The same, where the program must end well; gives what it printed, as JSON. */
export async function runJson(code: string, options?: RunOptions): Promise<unknown> {
  const result = await run(code, options);
  assertEquals(result.code, 0, `exit code ${result.code}: ${result.stderr}`);
  return JSON.parse(result.stdout);
}
