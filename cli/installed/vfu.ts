/**
 * The program of an installed `vfu`, as far as it is read at every start. `deno task build` makes a
 * bundle of it, and beside it one of each subcommand, with all that it needs.
 *
 * Lines that load a module of the user's run from the sources. Such a module imports `@vfu/vfu`
 * from there, and its classes have to be those of the server. So do pages of recordings, whose
 * program is the text of functions, which a bundler renames. So does what asks all commands.
 *
 * @module
 */

import { provideRequire } from "./require.ts";

/** The path from the bundle to main.ts, and the names of the other bundles. The build sets both. */
const [SOURCES, ...BUNDLES] = "vfu:sources".split(",");

/** The bundle of lines that call no subcommand. */
export const REST = "rest";

/** The exports of a bundle, and of the sources. */
interface Program {
  main(args: readonly string[]): Promise<number>;
}

/** Reports whether a command line runs from the sources. */
export function needsSources(args: readonly string[]): boolean {
  return args.some((arg) =>
    /^(serve|new|completion|man|(--serve|--html)(=.*)?)$|\.[cm]?[jt]sx?$/s.test(arg)
  );
}

/** Finds the bundle of a command line, as commander finds the subcommand. */
export function bundleOf(args: readonly string[], bundles: readonly string[]): string {
  const [first, second] = args.filter((arg) => !arg.startsWith("-"));
  const called = first === "help" ? second : first;
  return called !== undefined && bundles.includes(called) ? called : REST;
}

async function run(args: readonly string[]): Promise<number> {
  const isBundled = !needsSources(args);
  const file = isBundled ? `./${bundleOf(args, BUNDLES)}.js` : SOURCES!;
  const url = new URL(file, import.meta.url).href;
  let program: Program;
  try {
    if (isBundled) provideRequire();
    program = await import(url);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const text = `vfu: Cannot load ${url}: ${error.message}; run deno task build again\n`;
    Deno.stderr.writeSync(new TextEncoder().encode(text));
    return 1;
  }
  return await program.main(args);
}

if (import.meta.main) Deno.exit(await run(Deno.args));
