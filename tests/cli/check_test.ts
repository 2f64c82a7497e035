/** `vfu check`: our own servers keep every rule; reports, choices and exit codes. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { SERVER_CHECKS } from "../../lib/conformance/server/groups.ts";
import { DENO } from "../_deno.ts";
import { runHere } from "./_cli.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** A command that serves a device. */
const serve = (device: string) =>
  `${DENO} run -A ${ROOT}cli/main.ts serve ${device} --socket-path {socket}`;

for (const device of ["demo", `${ROOT}examples/nvme.ts`]) {
  Deno.test(`vfu check: ${device.split("/").at(-1)} keeps each rule`, async () => {
    const { code, out } = await runHere(["check", "--json", "--strict", "--spawn", serve(device)]);
    const lines = out.trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(lines.filter(({ outcome }) => outcome === "failed"), []);
    assertEquals(code, 0);
    assertEquals(lines.length, SERVER_CHECKS.length + 1);
    assert(lines.at(-1).passed > 100);
  });
}

Deno.test("vfu check --list shows each check, and --explain its rule", async () => {
  const { code, out } = await runHere(["check", "--list", "--json"]);
  assertEquals(code, 0);
  assertEquals(JSON.parse(out).map(({ id }: { id: string }) => id), SERVER_CHECKS.map((c) => c.id));
  const told = await runHere(["check", "--explain", "server/framing/11"]);
  assertStringIncludes(told.out, "MUST: An unknown command with a payload");
  assertStringIncludes(told.out, "Section: Header");
});

Deno.test("vfu check: wrong usage ends with 2", async () => {
  for (
    const args of [
      [],
      ["/tmp/x.sock", "--spawn", "x {socket}"],
      ["--spawn", "x"],
      ["--only", "nonsense", "/tmp/x.sock"],
      ["--explain", "server/none/1"],
      ["--fresh", "/tmp/x.sock"],
    ]
  ) {
    assertEquals((await runHere(["check", ...args])).code, 2, args.join(" "));
  }
});

Deno.test("vfu check: a server that can't be reached, or started, is reported", async () => {
  const absent = await runHere(["check", "/tmp/vfu-no-such.sock"]);
  assertEquals(absent.code, 1);
  assertStringIncludes(absent.err, "/tmp/vfu-no-such.sock");
  const ended = await runHere(["check", "--spawn", "sh -c 'echo sorry >&2; exit 3' {socket}"]);
  assertEquals(ended.code, 1);
  assertStringIncludes(ended.err, "ended with code 3");
  assertStringIncludes(ended.err, "sorry");
});
