/**
 * The npm packages that vfu is made with: their licences, and modules that need no registry.
 *
 * @module
 */

import { pathToFileURL } from "node:url";
import manifest from "../../deno.json" with { type: "json" };
import { ROOT, run, runBundler } from "./deno.ts";

/** An npm package in Deno's cache. */
interface NpmPackage {
  readonly name: string;
  readonly version: string;
  /** The folder that it was unpacked to. */
  readonly localPath: string;
  /** Packages that it needs, as `commander@14.0.3`. */
  readonly dependencies: readonly string[];
}

/** A package that the sources import. */
interface Imported {
  /** The name by which they do. */
  readonly name: string;
  /** The file of its module and types in a package of ours. */
  readonly file: string;
  /** The file of its types, in its own folder; undefined if it has none. */
  readonly types?: string;
  /** The file of its ES modules, in its own folder, if its name leads to CommonJS. */
  readonly modules?: string;
  /** Loads it: its exports have to be named one by one. CommonJS may have a default alone. */
  readonly load: () => Promise<object>;
}

const IMPORTED: readonly Imported[] = [
  {
    name: "@commander-js/extra-typings",
    file: "commander",
    types: "index.d.ts",
    load: () => import("@commander-js/extra-typings"),
  },
  {
    name: "@valibot/to-json-schema",
    file: "valibot_json_schema",
    types: "dist/index.d.mts",
    load: () => import("@valibot/to-json-schema"),
  },
  { name: "sax", file: "sax", load: () => import("sax") },
  { name: "valibot", file: "valibot", types: "dist/index.d.mts", load: () => import("valibot") },
  {
    name: "yaml",
    file: "yaml",
    types: "dist/index.d.ts",
    modules: "browser/index.js",
    load: () => import("yaml"),
  },
];

/** Writes the licence of each package that is bundled, and ours, into a new folder. */
export async function writeLicences(folder: string): Promise<void> {
  await Deno.mkdir(folder);
  await Deno.copyFile(new URL("LICENSE", ROOT), `${folder}/vfu.txt`);
  for (const { name, version, localPath } of await bundled()) {
    const names = (await Array.fromAsync(Deno.readDir(localPath))).map((entry) => entry.name);
    const file = names.find((each) => /^licen[cs]e(\.\w+)?$/i.test(each));
    if (file === undefined) throw new Error(`Cannot find the licence of ${name} in ${localPath}`);
    const text = await Deno.readTextFile(`${localPath}/${file}`);
    await Deno.writeTextFile(
      `${folder}/${name.replace(/^@/, "").replaceAll("/", "-")}.txt`,
      `${name} ${version}\n\n${text}`,
    );
  }
}

/**
 * Writes each package that the sources import as one module, with its types, into a new folder.
 *
 * @returns the path of each module in the folder, by the name that the sources import
 */
export async function writeModules(folder: string): Promise<Record<string, string>> {
  await Deno.mkdir(folder);
  const all = Object.values(await cached());
  for (const { name, file, types, load } of IMPORTED) {
    const entry = `${folder}/${file}.ts`;
    const names = Object.keys(await load())
      .filter((each) => each !== "default" && /^[\w$]+$/.test(each));
    const exported = names.length === 0 ? "default" : names.join(", ");
    await Deno.writeTextFile(entry, `export { ${exported} } from "${name}";\n`);
    const others = IMPORTED.map((each) => each.name).filter((each) => each !== name);
    await runBundler([
      "--outdir",
      folder,
      ...others.map((each) => `--external=${each}`),
      entry,
    ]);
    await Deno.remove(entry);
    if (types === undefined) continue;
    const module = `${folder}/${file}.js`;
    const text = await Deno.readTextFile(module);
    await Deno.writeTextFile(module, `// @ts-self-types="./${file}/${types}"\n${text}`);
    const { localPath } = all.find((each) => each.name === name)!;
    await copyTypes(localPath, `${folder}/${file}`);
  }
  return Object.fromEntries(IMPORTED.map(({ name, file }) => [name, `${file}.js`]));
}

/**
 * Writes an import map for bundles: that of the sources, but with ES modules where a package has
 * them. CommonJS is functions in a bundle, of which Deno's cache has no code.
 */
export async function writeImports(path: string): Promise<void> {
  const imports: Record<string, string> = {};
  for (const [name, target] of Object.entries(manifest.imports)) {
    imports[name] = target.startsWith("./") ? new URL(target, ROOT).href : target;
  }
  const all = Object.values(await cached());
  for (const { name, modules } of IMPORTED) {
    if (modules === undefined) continue;
    const { localPath } = all.find((each) => each.name === name)!;
    imports[name] = pathToFileURL(`${localPath}/${modules}`).href;
  }
  await Deno.writeTextFile(path, JSON.stringify({ imports }));
}

/** The packages that the sources import, and those that these need. */
async function bundled(): Promise<NpmPackage[]> {
  const all = Object.entries(await cached());
  const found = new Map<string, NpmPackage>();
  const add = (id: string, each: NpmPackage) => {
    if (found.has(id)) return;
    found.set(id, each);
    for (const [other, needed] of all) if (each.dependencies.includes(other)) add(other, needed);
  };
  for (const [id, each] of all) if (IMPORTED.some(({ name }) => name === each.name)) add(id, each);
  return [...found.values()];
}

/** All packages of the lock file, as Deno has them in its cache. */
async function cached(): Promise<Record<string, NpmPackage>> {
  const file = new URL("lib/yaml/document.ts", ROOT).pathname;
  const config = new URL("deno.json", ROOT).pathname;
  const text = await run("deno info", ["info", "--frozen", "--json", `--config=${config}`, file]);
  return JSON.parse(text).npmPackages;
}

/** Copies declarations of types. Their imports lack endings that Deno wants of files. */
async function copyTypes(from: string, to: string): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyTypes(`${from}/${name}`, `${to}/${name}`);
    if (!/\.d\.m?ts$/.test(name)) continue;
    const text = (await Deno.readTextFile(`${from}/${name}`)).replaceAll(
      /(\bfrom |\bimport\()(['"])(\.[^'"]*)\2/g,
      (_, before, quote, path) => `${before}${quote}${declarationAt(from, path)}${quote}`,
    );
    await Deno.mkdir(to, { recursive: true });
    await Deno.writeTextFile(`${to}/${name}`, text);
  }
}

/** Finds the declaration that an import of types means, as TypeScript does for Node.js. */
function declarationAt(folder: string, path: string): string {
  const stem = path.replace(/\.js$/, "");
  for (const each of [`${stem}.d.ts`, `${stem}/index.d.ts`]) {
    try {
      if (Deno.statSync(`${folder}/${each}`).isFile) return each;
    } catch { /* the next one may be there */ }
  }
  return path;
}
