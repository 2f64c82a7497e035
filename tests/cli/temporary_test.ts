/** Temporary folders where none can be, as a user's command line says it. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { runThere, temporaryFolder } from "./_cli.ts";

const PERMISSIONS = ["--allow-ffi", "--allow-read", "--allow-write", "--allow-run"];
const SPAWN = ["--spawn", "vfu serve demo --socket-path={socket}"];
const CLIENT = ["fuzz", "--client", "--spawn", "vfu probe {socket}", "--messages", "1"];

Deno.test("a command that finds no place for a socket says where another may be", async (test) => {
  await using folder = temporaryFolder();
  const long = `${folder.path}/${"l".repeat(100)}`;
  await Deno.mkdir(long);
  await Deno.writeTextFile(`${folder.path}/a.pcapng`, "");
  const absent =
    "Cannot make a temporary folder: No such file or directory; set TMPDIR to a folder";
  const cases: [args: string[], tmpdir: string, why: string][] = [
    [["check", ...SPAWN], `${folder.path}/none`, absent],
    [["fuzz", ...SPAWN, "--messages", "1"], `${folder.path}/none`, absent],
    [["replay", "a.pcapng", ...SPAWN], `${folder.path}/none`, absent],
    [CLIENT, `${folder.path}/none`, absent],
    [["check", ...SPAWN], long, "the path is too long; set TMPDIR to a shorter one"],
    [CLIENT, long, "the path is too long; set TMPDIR to a shorter one"],
    [["load", "x.sock", "bar0", "-"], `${folder.path}/none`, "Cannot make a temporary file: "],
  ];
  for (const [args, TMPDIR, why] of cases) {
    await test.step(args.join(" "), async () => {
      const { code, out, err } = await runThere(args, {
        cwd: folder.path,
        env: { TMPDIR },
        permissions: PERMISSIONS,
        input: "",
      });
      assertEquals([code, out], [1, ""], err);
      assertStringIncludes(err, why);
      assertEquals([...Deno.readDirSync(long)], []);
    });
  }
});
