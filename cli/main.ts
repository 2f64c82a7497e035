/**
 * The command line: `vfu SUBCOMMAND`, from the sources.
 *
 * What is not needed is not loaded, so that `vfu probe` starts as fast as a shell command should.
 * The module of a subcommand is imported when that subcommand is called. For the same reason the
 * command line imports modules of `lib/` by name, not all of them through `mod.ts`. Commander
 * itself is loaded for all but the plainest lines.
 *
 * @module
 */

import { runLine } from "./program.ts";
import { type Context, processContext } from "./shared/context.ts";
import { loadSubcommand } from "./subcommands.ts";

/**
 * Runs one command line.
 *
 * @param args what follows the program's name
 * @param context where it runs; this process if it is left out
 * @returns the exit code
 */
export function main(
  args: readonly string[],
  context: Context = processContext(),
): Promise<number> {
  return runLine(args, context, {
    subcommand: loadSubcommand,
    // By a literal, which takes no permission to read.
    probe: () => import("./probe/run.ts"),
  });
}

if (import.meta.main) Deno.exit(await main(Deno.args));
