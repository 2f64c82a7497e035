/**
 * Sources with edits: the compiler's words on what was forgotten, and devices with a bug.
 *
 * @module
 */

import { DENO, IS_EMULATED } from "./_deno.ts";
import { assert, assertEquals } from "@std/assert";

const ROOT = new URL("../", import.meta.url).pathname;

/** Copies a folder's files. */
function copyFolder(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copyFolder(`${from}/${name}`, `${to}/${name}`);
    else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}

/** An edit of a file: the text that is there once, and the text in its place. */
export type Edit = readonly [path: string, from: string, to: string];

/** A copy of an example, with edits. */
export interface EditedExample extends Disposable {
  /** The path of its main file. */
  readonly path: string;
}

/** Copies `examples/NAME.ts` and its folder, with edits; it uses the module of this checkout. */
export function editExample(name: string, edits: readonly Edit[]): EditedExample {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const path = `${folder}/${name}.ts`;
  Deno.copyFileSync(`${ROOT}examples/${name}.ts`, path);
  copyFolder(`${ROOT}examples/${name}`, `${folder}/${name}`);
  applyEdits(folder, edits);
  const files = [...Deno.readDirSync(`${folder}/${name}`)].map((each) => `${name}/${each.name}`);
  for (const file of [`${name}.ts`, ...files]) {
    const text = Deno.readTextFileSync(`${folder}/${file}`);
    const module = `from "file://${ROOT}mod.ts"`;
    Deno.writeTextFileSync(
      `${folder}/${file}`,
      text.replaceAll(/from "(\.\.\/)+mod\.ts"/g, module),
    );
  }
  return { path, [Symbol.dispose]: () => Deno.removeSync(folder, { recursive: true }) };
}

function applyEdits(folder: string, edits: readonly Edit[]): void {
  for (const [path, from, to] of edits) {
    const text = Deno.readTextFileSync(`${folder}/${path}`);
    assert(text.includes(from), `${path} has no ${from}`);
    Deno.writeTextFileSync(`${folder}/${path}`, text.replace(from, to));
  }
}

/** Returns the output of `deno check` for a copy of the sources with these edits. */
export async function checkEdited(edits: readonly Edit[]): Promise<string> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  try {
    for (const name of ["lib", "ffi"]) {
      copyFolder(`${ROOT}${name}`, `${folder}/${name}`);
    }
    Deno.mkdirSync(`${folder}/tests`);
    for (const name of ["deno.json", "deno.lock", "mod.ts", "tests/_assert.ts"]) {
      Deno.copyFileSync(`${ROOT}${name}`, `${folder}/${name}`);
    }
    applyEdits(folder, edits);
    const { code, stderr } = await new Deno.Command(DENO, {
      args: ["check", "--frozen", "mod.ts", "lib/wire/mod.ts"],
      cwd: folder,
      env: { NO_COLOR: "1" },
    }).output();
    assertEquals(code, 1);
    return new TextDecoder().decode(stderr).replaceAll(`file://${folder}/`, "");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** The file of each mistake, and the fields whose absence it is: "lib/client/device.ts ASKED". */
export function missingFields(text: string): string[] {
  const mistakes = text.split(/^TS\d+ /m).slice(1).map((mistake) => {
    const [, file] = /^\s+at (\S+?):\d+:\d+/m.exec(mistake)!;
    const [, one, many] =
      /Property '(\w+)' is missing|missing the following properties .*: (.*)/.exec(mistake) ??
        [];
    return `${file} ${one ?? many ?? mistake}`;
  });
  return [...new Set(mistakes)].sort();
}

// The compiler says the same on each machine, and takes minutes under an emulator.
/** Defines a test that asks the compiler. */
export const testCompiler = IS_EMULATED ? Deno.test.ignore : Deno.test;
