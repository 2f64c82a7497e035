/**
 * The end of a task of `deno.json`: a line, or the reason of its failure.
 *
 * @module
 */

import { thrownText } from "../../lib/base/thrown.ts";

/** Does a task, writes the text that it returns, or fails with its error as a line. */
export async function task(work: () => Promise<string>): Promise<void> {
  const say = (stream: typeof Deno.stdout, text: string) =>
    stream.writeSync(new TextEncoder().encode(`${text}\n`));
  try {
    say(Deno.stdout, await work());
  } catch (error) {
    say(Deno.stderr, thrownText(error));
    Deno.exit(1);
  }
}
