import { assert, assertEquals, assertThrows } from "@std/assert";
import { addHistory, readHistory } from "../../../cli/shell/history.ts";
import { DENO } from "../../_deno.ts";
import { temporaryFolder } from "../_cli.ts";

const ROOT = new URL("../../../", import.meta.url).pathname;

Deno.test("a history that can't be written stays as it was", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/history`;
  const before = Array.from({ length: 900 }, (_, i) => `line ${i}\n`).join("");
  Deno.writeTextFileSync(path, before);
  // The disk is full after 1 KiB.
  const script = `import { addHistory } from "${ROOT}cli/shell/history.ts";
    addHistory({ path: "${path}", isNamed: true }, ["new"]);`;
  const { code, stderr } = await new Deno.Command("sh", {
    args: ["-c", 'trap "" XFSZ; ulimit -f 2; exec "$0" "$@"', DENO, "eval", script],
    env: { NO_COLOR: "1" },
  }).output();
  assertEquals(code, 1);
  assert(new TextDecoder().decode(stderr).includes(`Cannot write the history ${path}`));
  assertEquals(Deno.readTextFileSync(path), before);
  assertEquals([...Deno.readDirSync(folder.path)].length, 1);
});

Deno.test("a history may be a link, but no folder and no pipe, and its user alone reads it", async () => {
  await using folder = temporaryFolder();
  const path = (name: string) => `${folder.path}/${name}`;
  const named = (name: string) => ({ path: path(name), isNamed: true });
  Deno.writeTextFileSync(path("file"), "old\n", { mode: 0o644 });
  Deno.symlinkSync("file", path("link"));
  addHistory(named("link"), ["new", "old"]);
  assertEquals(Deno.readTextFileSync(path("file")), "new\nold\n");
  assert(Deno.lstatSync(path("link")).isSymlink);
  assertEquals(Deno.statSync(path("file")).mode! & 0o777, 0o600);
  await new Deno.Command("mkfifo", { args: [path("pipe")] }).output();
  Deno.mkdirSync(path("folder"));
  for (const name of ["pipe", "folder"]) {
    assertEquals(readHistory(named(name)), []); // and waits for no writer
    assertThrows(() => addHistory(named(name), ["new"]), Error, "It is no file");
  }
  Deno.symlinkSync("nowhere/x", path("dangling"));
  assertThrows(() => addHistory(named("dangling"), ["new"]), Error, "Cannot write the history");
  addHistory({ path: "/dev/null", isNamed: true }, ["new"]);
  assert(Deno.statSync("/dev/null").isCharDevice);
  assertEquals([...Deno.readDirSync(folder.path)].length, 5);
});
