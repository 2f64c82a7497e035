/**
 * Makes a program of one file: `deno task compile [FILE]`, default `release/vfu`. It takes Deno's
 * runtime, denort, which `deno compile` downloads, or finds where DENORT_BIN says.
 *
 * @module
 */

import { SUBCOMMANDS } from "../subcommands.ts";
import { ROOT, runToEnd } from "./deno.ts";
import { layOut, permissions } from "./package.ts";
import { task } from "./task.ts";

/** Modules and data that are found by names which are put together: a bundler sees none of them. */
const INCLUDED = ["cli", "ffi", "lib", "mod.ts"];

/**
 * Compiles the sources of a package that is laid out.
 *
 * @param folder the package
 * @param file the program to make
 * @param env variables for `deno compile`, as DENORT_BIN
 * @throws {Error} if the runtime can't be had, or the program lacks a part
 */
export async function compile(
  folder: string,
  file: string,
  env: Record<string, string> = {},
): Promise<void> {
  const source = `${folder}/src`;
  const { code, stdout, stderr } = await runToEnd(Deno.execPath(), [
    ...["compile", "--no-check", `--config=${source}/deno.json`, `--output=${file}`],
    ...permissions(),
    ...INCLUDED.flatMap((each) => ["--include", `${source}/${each}`]),
    `${source}/cli/main.ts`,
  ], { env });
  if (code !== 0) throw new Error(reasonOf(stderr));
  const missing = notEmbedded(stdout + stderr, await wanted(source));
  if (missing.length > 0) throw new Error(`Cannot compile: ${missing.join(", ")} is not embedded`);
}

/** Says why `deno compile` failed: mostly there is no runtime. */
function reasonOf(stderr: string): string {
  const [told] = stderr.split("\nStack backtrace:");
  const said = told!.trimEnd().split("\n");
  if (!said.some((line) => line.includes("/denort"))) {
    return `Cannot compile:\n${said.join("\n")}`;
  }
  return "Cannot compile: Deno's runtime, denort, can't be had here; set DENORT_BIN to a copy. " +
    `deno compile said:\n${said.join("\n")}`;
}

/** The files that the program has to have: subcommands, maps, and the thread of a server. */
async function wanted(source: string): Promise<string[]> {
  const maps = await Array.fromAsync(Deno.readDir(`${source}/lib/registers/maps`));
  return [
    ...SUBCOMMANDS.map(({ name }) => `cli/commands/${name}.ts`),
    ...maps.map(({ name }) => `lib/registers/maps/${name}`),
    "cli/serve/guard_thread.ts",
  ];
}

/**
 * Compares files with the tree in which `deno compile` lists what is embedded.
 *
 * @returns those that are not in the tree
 */
export function notEmbedded(listing: string, files: readonly string[]): string[] {
  const paths: string[] = [];
  const above: string[] = [];
  for (const line of listing.split("\n")) {
    const row = /^((?:[│ ] )*)[├└]─[┬─] (.+) \([^()]*\)$/.exec(line);
    if (row === null) continue;
    above.length = row[1]!.length / 2;
    above.push(row[2]!);
    paths.push(above.join("/"));
  }
  // A folder that is embedded as a whole is one row: `lib/*`.
  const has = (path: string): boolean => {
    if (paths.includes(path)) return true;
    const folders = path.split("/").slice(0, -1);
    return folders.some((_, i) => paths.includes(`${folders.slice(0, i + 1).join("/")}/*`));
  };
  return files.filter((path) => !has(path));
}

/** Starts the program: a runtime of another release may not. */
async function assertStarts(file: string): Promise<void> {
  const { code, stdout, stderr } = await runToEnd(file, ["--version"]);
  if (code === 0 && stdout.startsWith("vfu ")) return;
  throw new Error(`Cannot use ${file}: it does not start as vfu does:\n${stdout}${stderr}`);
}

if (import.meta.main) {
  await task(async () => {
    const [file = new URL("release/vfu", ROOT).pathname] = Deno.args;
    const folder = await Deno.makeTempDir({ prefix: "vfu-compile-" });
    try {
      await layOut(folder);
      await compile(folder, file);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
    await assertStarts(file);
    return `Compiled ${file}, with all subcommands and maps`;
  });
}
