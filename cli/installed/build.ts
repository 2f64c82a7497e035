/**
 * Makes the bundle that an installed `vfu` runs: `deno task build [FOLDER]`, default `dist/`.
 *
 * @module
 */

import { SUBCOMMANDS } from "../subcommands.ts";
import { thrownText } from "../../lib/base/thrown.ts";
import { needsSources } from "./vfu.ts";

const ROOT = new URL("../../", import.meta.url);
const ENTRY = "vfu.js";
/** Folders of data, which stand beside the code that reads them. */
const DATA: Readonly<Record<string, string>> = { "lib/registers/maps": "maps" };
/** The place in the entry where the path of the sources belongs. */
const PLACEHOLDER = "vfu:sources";

/**
 * Builds into a folder, in place of an earlier build.
 *
 * @throws {Error} if the folder has anything else, or the bundler fails
 */
export async function build(folder: string): Promise<void> {
  await assertReplaceable(folder);
  await Deno.mkdir(folder, { recursive: true });
  const target = await Deno.realPath(folder);
  const fresh = await Deno.makeTempDir({
    dir: target.replace(/[^/]*$/, ""),
    prefix: ".vfu-build-",
  });
  try {
    await bundle(fresh);
    for (const [from, to] of Object.entries(DATA)) {
      await copy(new URL(from, ROOT), `${fresh}/${to}`);
    }
    await Deno.chmod(fresh, 0o755); // a temporary folder is the user's alone
    await Deno.remove(target, { recursive: true });
    await Deno.rename(fresh, target);
  } catch (error) {
    await Deno.remove(fresh, { recursive: true }).catch(() => {});
    throw error;
  }
}

/** A folder that is not there, is empty, or has an earlier build. */
async function assertReplaceable(folder: string): Promise<void> {
  try {
    const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
    if (names.length === 0 || names.includes(ENTRY)) return;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  throw new Error(`Cannot build into ${folder}: it has other files; name a new folder`);
}

/**
 * Bundles each subcommand as a file of its own. Files that share parts would be less to store, but
 * more to read at each start: a probe would read 46.
 */
async function bundle(folder: string): Promise<void> {
  const names = SUBCOMMANDS.map(({ name }) => name).filter((name) => !needsSources([name]));
  const entries = await Deno.makeTempDir({ prefix: "vfu-build-" });
  try {
    for (const name of names) await Deno.writeTextFile(`${entries}/${name}.ts`, entryOf(name));
    await Deno.writeTextFile(`${entries}/rest.ts`, REST_ENTRY);
    const files = [...names, "rest"].map((name) => `${entries}/${name}.ts`);
    await runBundler(folder, files);
  } finally {
    await Deno.remove(entries, { recursive: true });
  }
  await runBundler(folder, [new URL("cli/installed/vfu.ts", ROOT).pathname]);
  const text = await Deno.readTextFile(`${folder}/${ENTRY}`);
  const sources = pathFrom(folder, new URL("cli/main.ts", ROOT).pathname);
  const set = text.replace(PLACEHOLDER, [sources, ...names].join(","));
  if (set === text) throw new Error("Cannot bundle: the entry has no place for the path");
  await Deno.writeTextFile(`${folder}/${ENTRY}`, set);
}

/** Returns the text of a module whose bundle has all of a subcommand. */
function entryOf(name: string): string {
  const probe = name === "probe" ? `import("${ROOT.href}cli/probe/run.ts")` : "Promise.reject()";
  return `import "${ROOT.href}cli/installed/require.ts";
import { runLine } from "${ROOT.href}cli/program.ts";
import { processContext } from "${ROOT.href}cli/shared/context.ts";
const parts = {
  subcommand: () => import("${ROOT.href}cli/commands/${name}.ts"),
  probe: () => ${probe},
};
export const main = (args) => runLine(args, processContext(), parts);
`;
}

/** The same of lines without a subcommand: helps, and mistakes. */
const REST_ENTRY = `import "${ROOT.href}cli/installed/require.ts";
import { runLine } from "${ROOT.href}cli/program.ts";
import { processContext } from "${ROOT.href}cli/shared/context.ts";
const nothing = () => Promise.reject(new Error("There is no such part"));
export const main = (args) => runLine(args, processContext(), { subcommand: nothing, probe: nothing });
`;

async function runBundler(folder: string, files: readonly string[]): Promise<void> {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["bundle", "--quiet", "--frozen", "--platform", "deno", "--minify"],
      ...["--config", new URL("deno.json", ROOT).pathname, "--outdir", folder, ...files],
    ],
    env: { NO_COLOR: "1" },
    stdout: "null",
  }).output();
  if (code !== 0) throw new Error(`Cannot bundle:\n${new TextDecoder().decode(stderr).trimEnd()}`);
  for await (const { name } of Deno.readDir(folder)) {
    if (name.endsWith(".js")) await useOwnRequire(`${folder}/${name}`);
  }
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

async function copy(from: URL, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name } of Deno.readDir(from)) {
    await Deno.copyFile(new URL(`${from.href}/${name}`), `${to}/${name}`);
  }
}

if (import.meta.main) {
  const [folder = new URL("dist", ROOT).pathname] = Deno.args;
  const say = (stream: typeof Deno.stdout, text: string) =>
    stream.writeSync(new TextEncoder().encode(`${text}\n`));
  try {
    await build(folder);
    say(Deno.stdout, `Built ${folder}/${ENTRY}`);
  } catch (error) {
    say(Deno.stderr, thrownText(error));
    Deno.exit(1);
  }
}
