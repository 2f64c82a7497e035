import { assertEquals, assertThrows } from "@std/assert";
import type { Output } from "../../../cli/shared/context.ts";
import { openDestination } from "../../../cli/shared/destination.ts";
import { DENO } from "../../_deno.ts";
import { temporaryFolder } from "../_cli.ts";
import { until } from "../../_until.ts";

const NO_OUTPUT = {
  write: () => {},
  writeBytes: () => {},
  isTerminal: false,
  columns: 80,
  color: false,
} as unknown as Output;

const BYTES = new TextEncoder().encode("new");

function writeTo(path: string): void {
  using destination = openDestination(path, NO_OUTPUT);
  destination.write(BYTES);
  destination.finish();
}

function tryTo(act: () => void): boolean {
  try {
    act();
    return true;
  } catch {
    return false;
  }
}

async function inFolder(body: (path: string) => void | Promise<void>): Promise<void> {
  await using folder = temporaryFolder();
  await body(folder.path);
}

Deno.test("openDestination() keeps a symbolic link, and replaces the file that it names", () =>
  inFolder((folder) => {
    Deno.writeTextFileSync(`${folder}/file`, "old");
    Deno.symlinkSync("file", `${folder}/link`);
    writeTo(`${folder}/link`);
    assertEquals(Deno.lstatSync(`${folder}/link`).isSymlink, true);
    assertEquals(Deno.readTextFileSync(`${folder}/file`), "new");
    Deno.symlinkSync("absent", `${folder}/dangling`);
    assertThrows(() => writeTo(`${folder}/dangling`), Error, "it is a symbolic link to nothing");
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), [
      "dangling",
      "file",
      "link",
    ]);
  }));

Deno.test("openDestination() does not write through a link that has the name of its partial file", () =>
  inFolder((folder) => {
    Deno.writeTextFileSync(`${folder}/victim`, "old");
    Deno.symlinkSync("victim", `${folder}/out.partial`);
    assertThrows(() => writeTo(`${folder}/out`), Error, "what is there is no regular file");
    assertEquals(Deno.readTextFileSync(`${folder}/victim`), "old");
    Deno.removeSync(`${folder}/out.partial`);
    Deno.linkSync(`${folder}/victim`, `${folder}/out.partial`); // a second name of the same file
    writeTo(`${folder}/out`);
    assertEquals(Deno.readTextFileSync(`${folder}/victim`), "old");
    assertEquals(Deno.readTextFileSync(`${folder}/out`), "new");
  }));

Deno.test("openDestination() takes the place of what an earlier command left unfinished", () =>
  inFolder((folder) => {
    Deno.writeTextFileSync(`${folder}/out.partial`, "much longer than what comes now");
    writeTo(`${folder}/out`);
    assertEquals(Deno.readTextFileSync(`${folder}/out`), "new");
  }));

Deno.test("openDestination() keeps a part of use, and no other", () =>
  inFolder((folder) => {
    for (const keepsPart of [true, false]) {
      using destination = openDestination(`${folder}/${keepsPart}`, NO_OUTPUT, keepsPart);
      destination.write(BYTES);
    }
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["true.partial"]);
  }));

Deno.test("openDestination() refuses a file that is being written, and a finished one not", () =>
  inFolder((folder) => {
    const path = `${folder}/out`;
    using first = openDestination(path, NO_OUTPUT);
    for (const same of [path, `${folder}/./out`]) {
      assertThrows(() => openDestination(same, NO_OUTPUT), Error, "twice: name another file");
    }
    first.write(BYTES);
    first.finish();
    writeTo(path);
    assertEquals(Deno.readTextFileSync(path), "new");
  }));

Deno.test("openDestination() writes into a pipe, which stays one", () =>
  inFolder(async (folder) => {
    const path = `${folder}/pipe`;
    await new Deno.Command("mkfifo", { args: [path] }).output();
    assertThrows(() => writeTo(path), Error, "no process reads this pipe; start the reader first");
    const reader = new Deno.Command("cat", { args: [path], stdout: "piped" }).spawn();
    await until(() => tryTo(() => writeTo(path)), "the reader");
    assertEquals(new TextDecoder().decode((await reader.output()).stdout), "new");
    assertEquals(Deno.lstatSync(path).isFifo, true);
  }));

Deno.test("openDestination() refuses a folder and a socket, which stay as they are", () =>
  inFolder((folder) => {
    const path = `${folder}/socket`;
    using _listener = Deno.listen({ transport: "unix", path });
    assertThrows(() => writeTo(path), Error, `Cannot write ${path}: it is a socket; name a file`);
    assertThrows(() => writeTo(folder), Error, "it is a folder; name a file");
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["socket"]);
  }));

Deno.test("a file that can't be written to is named", () => {
  const folder = Deno.makeTempDirSync();
  const write = Deno.FsFile.prototype.writeSync;
  try {
    using destination = openDestination(`${folder}/x`, {} as Output);
    destination.write(new Uint8Array(2));
    Deno.FsFile.prototype.writeSync = () => {
      throw new Error("No space left on device (os error 28)");
    };
    const error = assertThrows(() => destination.write(new Uint8Array(3)), Error);
    assertEquals(
      error.message,
      `Cannot write ${folder}/x.partial: No space left on device (os error 28)`,
    );
  } finally {
    Deno.FsFile.prototype.writeSync = write;
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("standard output that can't be written to is named", async () => {
  const root = new URL("../../../", import.meta.url).pathname;
  const { code, stderr } = await new Deno.Command("sh", {
    args: [
      "-c",
      `exec "$0" run --no-prompt --frozen --config="$1deno.json" "$1cli/main.ts" --help >/dev/full`,
      DENO,
      root,
    ],
    env: { NO_COLOR: "1" },
  }).output();
  assertEquals(code, 1);
  assertEquals(
    new TextDecoder().decode(stderr),
    "vfu: Cannot write to standard output: No space left on device (os error 28)\n",
  );
});
