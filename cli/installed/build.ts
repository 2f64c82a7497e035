/**
 * Makes what an installed `vfu` runs and shows: `deno task build [FOLDER]`, default `dist/`. It has
 * a bundle of each subcommand, register maps, completions, manual pages, and licences of what is
 * bundled.
 *
 * @module
 */

import { inLanes } from "../../lib/base/lanes.ts";
import { SUBCOMMANDS } from "../subcommands.ts";
import { programVersion } from "../version.ts";
import { ROOT, runBundler } from "./deno.ts";
import { writeMaps } from "./maps.ts";
import { writeImports, writeLicences } from "./npm_packages.ts";
import { writeCompletions, writeManual } from "./shell_files.ts";
import { task } from "./task.ts";
import { needsSources, REST } from "./vfu.ts";

/**
 * Options of the bundler. Not --minify: that of Deno 2.9 puts the value of a `using` into the one
 * place that uses it, and then nothing disposes of it. Starts take as long without it.
 */
export const BUNDLING: readonly string[] = ["--code-splitting"];
/** Bundlers that run at a time. */
const BUNDLERS = 4;
const ENTRY = "vfu.js";
/** The folders of a build. */
const FOLDERS: ReadonlySet<string> = new Set(["completions", "licences", "man", "maps"]);
/** The place in the entry where the path of the sources belongs. */
const SOURCES_PLACE = "vfu:sources";
/** The place in version.ts where the commit belongs. */
const COMMIT_PLACE = "vfu:commit";

/**
 * Builds into a folder, in place of an earlier build.
 *
 * @param main the file of the sources that the build goes to for some lines; default is this
 * checkout's
 * @throws {Error} if the folder has anything else, or the bundler fails
 */
export async function build(
  folder: string,
  main: string = new URL("cli/main.ts", ROOT).pathname,
): Promise<void> {
  await assertReplaceable(folder);
  await Deno.mkdir(folder, { recursive: true });
  const target = await Deno.realPath(folder);
  const fresh = await Deno.makeTempDir({
    dir: target.replace(/[^/]*$/, ""),
    prefix: ".vfu-build-",
  });
  try {
    await bundle(fresh, main);
    await writeMaps(`${fresh}/maps`);
    await writeCompletions(`${fresh}/completions`);
    await writeManual(`${fresh}/man`);
    await writeLicences(`${fresh}/licences`);
    await Deno.chmod(fresh, 0o755); // a temporary folder is the user's alone
    await Deno.remove(target, { recursive: true });
    await Deno.rename(fresh, target);
  } catch (error) {
    await Deno.remove(fresh, { recursive: true }).catch(() => {});
    throw error;
  }
}

/** A folder that is not there, is empty, or has an earlier build and nothing else. */
async function assertReplaceable(folder: string): Promise<void> {
  try {
    const entries = await Array.fromAsync(Deno.readDir(folder));
    const isBuilt = entries.some(({ name }) => name === ENTRY) &&
      entries.every(({ name, isFile }) => isFile ? name.endsWith(".js") : FOLDERS.has(name));
    if (entries.length === 0 || isBuilt) return;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  throw new Error(`Cannot build into ${folder}: it has other files; name a new folder`);
}

/**
 * Bundles each subcommand by itself, in files that share nothing with those of another: a probe
 * would read 80 files else, and reads 26. What is imported later is a file of its own. In one file
 * it would be a function, as would be all that it imports: Deno caches no code of functions.
 */
async function bundle(folder: string, main: string): Promise<void> {
  const names = SUBCOMMANDS.map(({ name }) => name).filter((name) => !needsSources([name]));
  const entries = await Deno.makeTempDir({ prefix: "vfu-build-" });
  try {
    const imports = `${entries}/imports.json`;
    await writeImports(imports);
    const options = [...BUNDLING, "--import-map", imports, "--outdir", folder];
    await inLanes(BUNDLERS, [...names, REST], async (name) => {
      const path = `${entries}/${name}.ts`;
      await Deno.writeTextFile(path, entryOf(name));
      await runBundler([...options, path]);
    });
  } finally {
    await Deno.remove(entries, { recursive: true });
  }
  await runBundler(["--outdir", folder, new URL("cli/installed/vfu.ts", ROOT).pathname]);
  await removeUnused(folder, [...names.map((name) => `${name}.js`), `${REST}.js`, ENTRY]);
  for await (const { name } of Deno.readDir(folder)) {
    await useOwnRequire(`${folder}/${name}`);
    await setCommit(`${folder}/${name}`);
  }
  const text = await Deno.readTextFile(`${folder}/${ENTRY}`);
  const set = text.replace(SOURCES_PLACE, [pathFrom(folder, main), ...names].join(","));
  if (set === text) throw new Error("Cannot bundle: the entry has no place for the path");
  await Deno.writeTextFile(`${folder}/${ENTRY}`, set);
}

/**
 * Removes the files to which no entry leads: the bundler writes one for each dynamic import, also
 * of functions that it then drops.
 */
async function removeUnused(folder: string, entries: readonly string[]): Promise<void> {
  const files = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  const used = new Set(entries);
  for (const name of used) {
    const text = await Deno.readTextFile(`${folder}/${name}`);
    for (const other of files) if (text.includes(`"./${other}"`)) used.add(other);
  }
  for (const name of files) if (!used.has(name)) await Deno.remove(`${folder}/${name}`);
}

/** Returns the text of a module whose bundle has all of a subcommand, or of lines without one. */
function entryOf(name: string): string {
  if (name === REST) return entry("Promise.reject()", "Promise.reject()");
  // A plain probe does without the command, and so without commander.
  return name === "probe"
    ? `import * as work from "${ROOT.href}cli/probe/run.ts";
${entry(`import("${ROOT.href}cli/commands/probe.ts")`, "Promise.resolve(work)")}`
    : `import * as command from "${ROOT.href}cli/commands/${name}.ts";
${entry("Promise.resolve(command)", "Promise.reject()")}`;
}

/** Returns the text of a module that runs lines with these parts. */
function entry(subcommand: string, probe: string): string {
  return `import { runLine } from "${ROOT.href}cli/program.ts";
import { processContext } from "${ROOT.href}cli/shared/context.ts";
const parts = { subcommand: () => ${subcommand}, probe: () => ${probe} };
export const main = (args) => runLine(args, processContext(), parts);
`;
}

/** Writes the commit of this checkout into a copy of version.ts, or what has it. */
export async function setCommit(path: string): Promise<void> {
  const text = await Deno.readTextFile(path);
  const set = text.replace(`"${COMMIT_PLACE}"`, `"${programVersion().commit ?? ""}"`);
  if (set !== text) await Deno.writeTextFile(path, set);
}

/** Has a bundle use require.ts, in place of the loader of Node.js that the bundler imports. */
async function useOwnRequire(path: string): Promise<void> {
  const text = await Deno.readTextFile(path);
  const own = text.replace(
    /import\s*\{\s*createRequire as (\w+)\s*\}\s*from\s*"node:module";/,
    "const $1=()=>(name)=>globalThis.require(name);",
  );
  if (own !== text) await Deno.writeTextFile(path, own);
}

/** Finds the path from a folder to a file. The bundle and the sources may move together. */
function pathFrom(folder: string, file: string): string {
  const [from, to] = [folder.split("/"), file.split("/")];
  let shared = 0;
  while (shared < from.length && from[shared] === to[shared]) shared++;
  return [...from.slice(shared).map(() => ".."), ...to.slice(shared)].map(encodeURIComponent)
    .join("/");
}

if (import.meta.main) {
  await task(async () => {
    const [folder = new URL("dist", ROOT).pathname] = Deno.args;
    await build(folder);
    return `Built ${folder}/${ENTRY}`;
  });
}
