/** Files that come by standard input, as "-", with the permissions that a user's vfu has. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { writeRecording } from "../lib/record/_events.ts";
import { Talk } from "../lib/record/_talk.ts";
import { runHere, runThere, spawn, temporaryFolder } from "./_cli.ts";

const PERMISSIONS = ["--allow-ffi", "--allow-read", "--allow-write", "--allow-run"];
const MAP = "name: t\nregisters:\n- { name: HEAD, region: bar2, offset: 0, width: 4 }\n";
const SESSION = "include: demo\nvariables: { x: 1 }\nsteps:\n- write: { SCRATCH: '${x}' }\n";
const SVD = new URL("../lib/registers/import/samples/engine.xml", import.meta.url);

Deno.test("commands that read a file take it from standard input as well", async (test) => {
  await using folder = temporaryFolder();
  using _server = Server.listen(`${folder.path}/demo.sock`, new DemoDevice());
  const recording = `${folder.path}/a.pcapng`;
  const talk = new Talk();
  talk.read(0x1cn, 1);
  writeRecording(recording, talk.events);
  const state = `${folder.path}/state`;
  const saved = await runHere(["migrate", "save", `${folder.path}/demo.sock`, "-o", state]);
  assertEquals(saved.code, 0, saved.err);
  const probe = (await runHere(["probe", `${folder.path}/demo.sock`, "--json"])).out;
  const regs = ["regs", `${folder.path}/demo.sock`, "--map", "demo", "--json"];
  const registers = (await runHere(regs)).out;
  /** Lines, what they are given, and a part of what they write. */
  const cases: [line: string, input: Uint8Array | string, part: string][] = [
    ["show -", Deno.readFileSync(recording), "REGION_READ"],
    ["show - --stats", Deno.readFileSync(recording), "REGION_READ"],
    ["run - demo.sock --set x=5", SESSION, "1 passed"],
    ["run --check -", SESSION, "-: no mistakes, 1 step"],
    ["probe -", probe, "1234:0de5"],
    ["probe --summary - demo.sock", probe, "1234:0de5"],
    ["probe --diff demo.sock -", probe, ""],
    ["regs demo.sock --map -", MAP, "t.HEAD"],
    ["regs demo.sock --map demo ID --diff -", registers, ""],
    ["map check -", MAP, "-: no mistakes"],
    ["map doc -", MAP, "HEAD"],
    ["map list - --names", MAP, "HEAD"],
    ["map import -", Deno.readFileSync(SVD), "registers:"],
    ["load demo.sock bar2+0..4 -", "abcd", ""],
    ["read demo.sock bar2.l", "", "0x64636261"],
    ["dma demo.sock --map 1M:4K --fill 1M:4=- --dump 1M:4=-", "efgh", "efgh"],
    ["migrate show -", Deno.readFileSync(state), "1234:0de5"],
    ["migrate restore demo.sock -", Deno.readFileSync(state), ""],
    ["check demo.sock --only server/info/1 --expect -", "# none\n", "1 passed"],
  ];
  for (const [line, input, part] of cases) {
    await test.step(line, async () => {
      const options = { cwd: folder.path, permissions: PERMISSIONS, input };
      const { code, out, err } = await runThere(line.split(" "), options);
      assertEquals([code, err], [0, ""], out);
      assertStringIncludes(out, part);
    });
  }
});

Deno.test("standard input that is no such file, or a folder, is refused by its name", async () => {
  const options = { permissions: PERMISSIONS, input: "hello\n" };
  for (
    const [line, part] of [
      ["show -", "Cannot read -: it is no pcapng file"],
      ["probe -", "Cannot decode -: it is not a socket, no output of lspci -x"],
      ["migrate show -", "Cannot use -: it is no state that vfu migrate save has written"],
      ["map check -", '-:1:1: The file is "hello"'],
    ] as const
  ) {
    const { code, out, err } = await runThere(line.split(" "), options);
    assertEquals(code, 1, line);
    assertStringIncludes(out + err, part);
  }
});

Deno.test("a probe, and a session with --set, come by a pipe of a shell", async () => {
  await using folder = temporaryFolder();
  using _server = Server.listen(`${folder.path}/demo.sock`, new DemoDevice());
  const probe = (await runHere(["probe", `${folder.path}/demo.sock`, "--json"])).out;
  await Deno.writeTextFile(`${folder.path}/probe`, probe);
  await Deno.writeTextFile(`${folder.path}/session`, SESSION);
  for (
    const [line, file, part] of [
      ["probe PIPE", "probe", "1234:0de5"],
      ["run PIPE demo.sock --set x=5", "session", "=> 0x00000005"],
    ] as const
  ) {
    const pipe = `${folder.path}/${file}.fifo`;
    assertEquals((await new Deno.Command("mkfifo", { args: [pipe] }).output()).code, 0);
    await using writer = new Deno.Command("sh", {
      args: ["-c", `cat ${file} > ${pipe}`],
      cwd: folder.path,
    })
      .spawn();
    const args = line.replace("PIPE", pipe).split(" ");
    const { code, out, err } = await runThere(args, { cwd: folder.path, permissions: PERMISSIONS });
    assertEquals([code, err], [0, ""], out);
    assertStringIncludes(out, part);
    await writer.status;
  }
});

Deno.test("Ctrl-C ends the wait for standard input", async () => {
  await using folder = temporaryFolder();
  using _server = Server.listen(`${folder.path}/demo.sock`, new DemoDevice());
  const more = new Uint8Array(1 << 20).fill(0x20); // a pipe holds less
  for (const line of ["probe -", "run - demo.sock", "map import -", "load demo.sock bar2 -"]) {
    await using child = spawn(line.split(" "), {
      cwd: folder.path,
      permissions: PERMISSIONS,
      input: "",
    });
    const writer = child.stdin.getWriter();
    await writer.write(more);
    child.kill("SIGINT");
    const { code } = await child.status;
    assertEquals(code, 130, line);
    await writer.close().catch(() => {}); // the pipe is broken
    await child.stdout.cancel();
    await child.stderr.cancel();
  }
});
