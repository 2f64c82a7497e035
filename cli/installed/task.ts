/**
 * The end of a task of `deno.json`: a line, or the reason of its failure.
 *
 * @module
 */

import { thrownText } from "../../lib/base/thrown.ts";
import { Interrupted } from "../shared/context.ts";
import { calledOff } from "./deno.ts";

/**
 * Does a task, writes the text that it returns, or fails with its error as a line. A signal ends
 * the programs that the task runs; the task then takes its files with it.
 */
export async function task(work: () => Promise<string>): Promise<void> {
  let code = 1;
  for (const name of ["SIGHUP", "SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(name, () => {
      code = new Interrupted(name).exitCode;
      calledOff.abort(new Error(`Called off by ${name}`));
    });
  }
  const say = (stream: typeof Deno.stdout, text: string) =>
    stream.writeSync(new TextEncoder().encode(`${text}\n`));
  try {
    say(Deno.stdout, await work());
  } catch (error) {
    say(Deno.stderr, thrownText(error));
    Deno.exit(code);
  }
}
