/**
 * The compiler's words on sources to which something is added and then forgotten.
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

/** Returns the output of `deno check` for a copy of the sources with these edits. */
export async function checkEdited(
  edits: readonly (readonly [path: string, from: string, to: string])[],
): Promise<string> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  try {
    for (const name of ["lib", "ffi"]) {
      copyFolder(`${ROOT}${name}`, `${folder}/${name}`);
    }
    Deno.mkdirSync(`${folder}/tests`);
    for (const name of ["deno.json", "deno.lock", "mod.ts", "tests/_assert.ts"]) {
      Deno.copyFileSync(`${ROOT}${name}`, `${folder}/${name}`);
    }
    for (const [path, from, to] of edits) {
      const text = Deno.readTextFileSync(`${folder}/${path}`);
      assert(text.includes(from), `${path} has no ${from}`);
      Deno.writeTextFileSync(`${folder}/${path}`, text.replace(from, to));
    }
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
