/** `vfu check-client`: our own clients keep every rule; wrong usage, and clients that end early. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { CLIENT_CHECKS } from "../../lib/conformance/client/groups.ts";
import { DENO } from "../_deno.ts";
import { runHere, temporaryFolder } from "./_cli.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** A slow machine is no deviation. */
const PATIENT = ["--timeout", "60s"];

const vfu = (args: string) => `${DENO} run -A ${ROOT}cli/main.ts ${args}`;

/** Fewest checks that a client of this command is tried with. */
const CLIENTS = [
  ["probe {socket}", 60],
  ["read {socket} bar0", 40],
] as const;

for (const [args, fewest] of CLIENTS) {
  Deno.test(`vfu check-client: vfu ${args} keeps each rule`, async () => {
    await using folder = temporaryFolder();
    const { code, out } = await runHere([
      ...["check-client", "--socket-path", `${folder.path}/s`, "--json", "--strict", ...PATIENT],
      ...["--spawn", vfu(args)],
    ]);
    const lines = out.trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(lines.filter(({ outcome }) => outcome === "failed"), []);
    assertEquals(code, 0);
    assertEquals(lines.length, CLIENT_CHECKS.length + 1);
    assert(lines.at(-1).passed >= fewest);
  });
}

Deno.test("vfu check-client: a session keeps each rule about reads and the device", async () => {
  await using folder = temporaryFolder();
  const session = `${folder.path}/session.yaml`;
  Deno.writeTextFileSync(session, "steps:\n  - expect: bar0+0.l\n    equals: 0x64756676\n");
  const { code, out } = await runHere([
    ...["check-client", "--socket-path", `${folder.path}/s`, "--json", "--strict", ...PATIENT],
    ...["--only", "region_read", "--only", "server_commands"],
    ...["--spawn", vfu(`run ${session} {socket}`)],
  ]);
  const lines = out.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(lines.filter(({ outcome }) => outcome !== "passed").slice(0, -1), []);
  assertEquals([code, lines.at(-1).passed], [0, 16]);
});

Deno.test("vfu check-client --list shows each check, and --explain its rule", async () => {
  const { out } = await runHere(["check-client", "--list", "--json"]);
  assertEquals(JSON.parse(out).map(({ id }: { id: string }) => id), CLIENT_CHECKS.map((c) => c.id));
  const told = await runHere(["check-client", "--explain", "client/framing/4"]);
  assertStringIncludes(told.out, "MUST: Data with another message id is not taken.");
  assertStringIncludes(told.out, "The client may close the connection.");
});

Deno.test("vfu check-client: wrong usage ends with 2", async () => {
  for (
    const args of [
      [],
      ["--socket-path", "/tmp/x.sock", "--spawn", "x"],
      ["--socket-path", "/tmp/x.sock", "--only", "nonsense"],
      ["--explain", "client/none/1"],
    ]
  ) {
    assertEquals((await runHere(["check-client", ...args])).code, 2, args.join(" "));
  }
});

Deno.test("vfu check-client: a client that never connects is reported", async () => {
  await using folder = temporaryFolder();
  const { code, err } = await runHere([
    ...["check-client", "--socket-path", `${folder.path}/s`],
    ...["--spawn", "sh -c 'echo sorry >&2; exit 3' {socket}"],
  ]);
  assertEquals(code, 1);
  assertStringIncludes(err, "ended with code 3");
  assertStringIncludes(err, "sorry");
});
