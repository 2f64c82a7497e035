import { assert, assertEquals, assertThrows } from "@std/assert";
import { addHistory, readHistory } from "../../../cli/shell/history.ts";
import { DENO } from "../../_deno.ts";
import { temporaryFolder } from "../_cli.ts";

const ROOT = new URL("../../../", import.meta.url).pathname;

Deno.test("a history that can't be written stays as it was", async () => {
  await using folder = temporaryFolder();
  const place = `${folder.path}/state`;
  Deno.mkdirSync(place);
  const path = `${place}/history`;
  const before = Array.from({ length: 900 }, (_, i) => `line ${i}\n`).join("");
  Deno.writeTextFileSync(path, before);
  const script = `${folder.path}/add.ts`;
  Deno.writeTextFileSync(
    script,
    `import { addHistory } from "${ROOT}cli/shell/history.ts";
    addHistory({ path: "${path}", isNamed: true }, ["new"]);`,
  );
  // A full disk: no file has more than 1 KiB. Deno's caches are not to be the ones of others.
  const { code, stderr } = await new Deno.Command("sh", {
    args: [
      ...["-c", 'trap "" XFSZ; ulimit -f 2; exec "$0" "$@"', DENO, "run", "-A"],
      ...["--no-code-cache", "--no-config", script],
    ],
    env: { NO_COLOR: "1", DENO_DIR: `${folder.path}/deno` },
  }).output();
  assertEquals(code, 1);
  const text = new TextDecoder().decode(stderr);
  assert(text.includes(`Cannot write the history ${path}`), text);
  assertEquals(Deno.readTextFileSync(path), before);
  assertEquals([...Deno.readDirSync(place)].length, 1);
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
