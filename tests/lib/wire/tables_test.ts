/**
 * The compiler's words on a capability or a message that is declared and then forgotten.
 */

import { DENO, IS_EMULATED } from "../../_deno.ts";
import { assert, assertEquals } from "@std/assert";

const ROOT = new URL("../../../", import.meta.url).pathname;

/** Copies a folder's files. */
function copyFolder(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copyFolder(`${from}/${name}`, `${to}/${name}`);
    else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}

/** Returns the output of `deno check` for a copy of the sources with these edits. */
async function checkEdited(
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
function missingFields(text: string): string[] {
  const mistakes = text.split(/^TS\d+ /m).slice(1).map((mistake) => {
    const [, file] = /^\s+at (\S+?):\d+:\d+/m.exec(mistake)!;
    const [, one, many] =
      /Property '(\w+)' is missing|missing the following properties [^:]*: (.*)/.exec(mistake) ??
        [];
    return `${file} ${one ?? many ?? mistake}`;
  });
  return [...new Set(mistakes)].sort();
}

// The compiler says the same on each machine, and takes minutes under an emulator.
const testCompiler = IS_EMULATED ? Deno.test.ignore : Deno.test;

testCompiler("the compiler asks for what a capability or a message lacks", async () => {
  const text = await checkEdited([
    [
      "lib/wire/version.ts",
      "  maxMsgFds?: number;",
      "  maxMsgFds?: number;\n  brandNew?: boolean;",
    ],
    [
      "lib/wire/command.ts",
      "  MIG_DATA_WRITE: 18,",
      "  MIG_DATA_WRITE: 18,\n  NAMED: 19,\n  SENT: 20,\n  ASKED: 21,",
    ],
    [
      "lib/wire/messages.ts",
      "export interface Messages {",
      `export interface Messages {
        readonly SENT: MessageCodecs<void, void, "client">;
        readonly ASKED: MessageCodecs<void, void, "server">;`,
    ],
  ]);
  assertEquals(missingFields(text), [
    "lib/client/connect.ts brandNew", // what a client says of it
    "lib/client/device.ts ASKED", // what a client answers to a server
    "lib/server/connection.ts brandNew", // what a server says of it
    "lib/server/handlers.ts SENT, ASKED", // what a server answers, or why it does not
    "lib/wire/messages.ts NAMED", // a number without a message
    "lib/wire/messages.ts SENT, ASKED", // the codecs
    "lib/wire/version.ts brandNew", // key, reader and writer of a capability
  ], text);
});
