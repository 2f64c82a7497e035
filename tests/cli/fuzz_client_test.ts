/** `vfu fuzz --client`: what it finds in clients, how that is sent again, and that it ends. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { DENO } from "../_deno.ts";
import { runHere, temporaryFolder } from "./_cli.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** A slow machine is no hang. */
const PATIENT = ["--timeout", "60s"];
const TRUSTING = `${DENO} run -A ${ROOT}tests/lib/fuzz/_trusting_client.ts {socket}`;
const vfu = (args: string) => `${DENO} run -A ${ROOT}cli/main.ts ${args}`;

function linesOf(out: string) {
  return out.trim().split("\n").map((line) => JSON.parse(line));
}

Deno.test("vfu fuzz --client finds a crash, makes it short, and it happens again", async () => {
  await using folder = temporaryFolder();
  const falling = `${TRUSTING} 'the address of a DMA_READ'`;
  const { code, out } = await runHere([
    ...["fuzz", "--client", "--spawn", falling, "--seed", "1", "-o", folder.path, "--json"],
    ...["--socket-path", `${folder.path}/s`, ...PATIENT],
  ], { endWhen: ({ out }) => out.includes('"kind":"crash"') });
  assert(code === 1 || code === 130);
  const crash = linesOf(out).find(({ kind }) => kind === "crash");
  assert(crash !== undefined, out);
  assertEquals(crash.client_end.signal, "SIGKILL");
  assertEquals(crash.client_end.last_words, ["trusted too much"]);
  assertEquals([crash.repeatable, crash.changes, crash.message], [true, 1, "DMA_READ"]);
  const sent = crash.conversation.filter(({ text }: { text: string }) =>
    text.includes("(DMA_READ")
  );
  assertEquals(sent.length, 1);
  assertStringIncludes(crash.again, `--again ${crash.file}`);
  const again = ["fuzz", "--client", "--again", crash.file, ...PATIENT, "--spawn"];
  const fallen = await runHere([...again, falling]);
  assertEquals(fallen.code, 1);
  assertStringIncludes(fallen.out, "✘ crash: it was ended by SIGKILL; trusted too much");
  const mended = await runHere([...again, TRUSTING]);
  assertEquals(mended.code, 0);
  assertStringIncludes(mended.out, "✔ nothing is wrong");
  const shown = await runHere(["show", crash.file]);
  assertEquals([shown.code, shown.err], [0, ""]);
  assertStringIncludes(shown.out, "DMA_READ");
});

Deno.test("vfu fuzz --client: our own clients survive", async () => {
  await using folder = temporaryFolder();
  const session = `${ROOT}tests/peers/client_session.yaml`;
  for (const command of [vfu("probe {socket}"), vfu(`run ${session} {socket}`)]) {
    const { code, out, err } = await runHere([
      ...["fuzz", "--client", "--spawn", command, "--seed", "5", "--messages", "250"],
      ...["-o", folder.path, "--json", ...PATIENT],
    ]);
    const [end] = linesOf(out);
    assertEquals([code, err, end.type, end.findings], [0, "", "end", 0], out);
    const info = end.coverage.find(({ name }: { name: string }) =>
      name === "DEVICE_GET_REGION_INFO"
    );
    assert(info.success > 0);
  }
});

Deno.test("vfu fuzz --client: wrong usage ends with 2, a client that never connects with 1", async () => {
  for (
    const args of [
      ["--client"],
      ["--client", "/tmp/x.sock", "--spawn", "x {socket}"],
      ["--client", "--spawn", "x"],
      ["--client", "--spawn", "x {socket}", "--corpus", "c"],
      ["/tmp/x.sock", "--socket-path", "/tmp/y.sock"],
    ]
  ) {
    assertEquals((await runHere(["fuzz", ...args])).code, 2, args.join(" "));
  }
  const ended = await runHere([
    "fuzz",
    "--client",
    "--spawn",
    "sh -c 'echo sorry; exit 3' {socket}",
  ]);
  assertEquals(ended.code, 1);
  assertStringIncludes(ended.err, "ended with code 3 before it connected");
  assertStringIncludes(ended.err, "sorry");
});

Deno.test("vfu fuzz --client --again refuses a finding about a server", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/f.pcapng`;
  const { writeCase } = await import("../../lib/fuzz/case_file.ts");
  writeCase(file, [{ messages: [], answers: [], window: 1 }]);
  const args = ["fuzz", "--client", "--spawn", TRUSTING, "--again", file];
  const { code, err } = await runHere(args);
  assertEquals(code, 1);
  assertStringIncludes(err, "no change of a device is in it");
});

Deno.test("vfu fuzz --client: Ctrl-C tells what was done, and ends the client", async () => {
  await using folder = temporaryFolder();
  const { code, out } = await runHere([
    ...["fuzz", "--client", "--spawn", TRUSTING, "--socket-path", `${folder.path}/s`],
    ...["-o", `${folder.path}/f`, ...PATIENT],
  ], { endWhen: ({ out }) => out.includes("Seed") });
  assertEquals(code, 130);
  assertStringIncludes(out, "ended early");
  assertEquals([...Deno.readDirSync(folder.path)], [], "the socket is gone");
});
