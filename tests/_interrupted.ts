/**
 * Programs that Ctrl-C ends in the midst of their work.
 *
 * @module
 */

import { DENO } from "./_deno.ts";
import { until } from "./_until.ts";

/**
 * Starts Deno, interrupts it once it is at its work, and waits for its end.
 *
 * @param isAtWork whether it is; a program that ends before is interrupted no more
 */
export async function interrupted(
  args: string[],
  env: Record<string, string>,
  isAtWork: () => boolean,
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const piped = { stdin: "null", stdout: "piped", stderr: "piped" } as const;
  const child = new Deno.Command(DENO, { args, env, ...piped }).spawn();
  const ended = child.output();
  let isOver = false;
  ended.then(() => isOver = true);
  await until(() => isOver || isAtWork(), "the work");
  if (!isOver) child.kill("SIGINT");
  const { code, stdout, stderr } = await ended;
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}
