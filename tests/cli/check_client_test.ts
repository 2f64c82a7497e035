/** `vfu check-client`: our own clients keep every rule; wrong usage, and clients that end early. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { UnixSocket } from "../../ffi/socket.ts";
import { idle } from "../../ffi/poller.ts";
import { connect } from "../../lib/client/connect.ts";
import { CLIENT_CHECKS } from "../../lib/conformance/client/groups.ts";
import { DENO } from "../_deno.ts";
import { PATIENT as PATIENT_MS } from "../_until.ts";
import { runHere, temporaryFolder } from "./_cli.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** A slow machine is no deviation. */
const PATIENT = ["--timeout", "60s"];

const vfu = (args: string) => `${DENO} run -A ${ROOT}cli/main.ts ${args}`;

/** A session with whatever the protocol has for one. */
const SESSION = `${ROOT}tests/peers/client_session.yaml`;

/** Checks a client of ours, which has to keep each rule; returns the ids that were tried. */
async function keepsEach(command: string, groups: readonly string[]): Promise<string[]> {
  await using folder = temporaryFolder();
  const { code, out } = await runHere([
    ...["check-client", "--socket-path", `${folder.path}/s`, "--json", "--strict", ...PATIENT],
    ...groups.flatMap((group) => ["--only", group]),
    ...["--spawn", command],
  ]);
  const lines = out.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(lines.filter(({ outcome }) => outcome === "failed"), []);
  assertEquals(code, 0);
  return lines.filter(({ outcome }) => outcome === "passed").map(({ id }) => id);
}

/** Our clients, and the groups that each tries. */
const CLIENTS = [
  [vfu("probe {socket}"), ["negotiation", "framing", "info", "io_fds", "connection"]],
  [
    vfu(`run ${SESSION} {socket}`),
    ["dma", "dma_messages", "irqs", "region_write", "reset", "server_commands", "connection/7"],
  ],
  [vfu("read {socket} bar0"), ["region_read", "framing/2*"]],
  [
    `${DENO} run -A ${ROOT}tests/cli/_busy_client.ts {socket}`,
    ["dma/9", "dma/28", "region_write/1*", "region_read/1*"],
  ],
] as const;

Deno.test("vfu check-client: our own clients keep each rule, and each rule is tried", async () => {
  // All at once: nearly all of the time is the start of the clients' processes.
  const ids = await Promise.all(CLIENTS.map(([command, groups]) => keepsEach(command, groups)));
  const tried = new Set(ids.flat());
  assertEquals(CLIENT_CHECKS.map(({ id }) => id).filter((id) => !tried.has(id)), []);
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

/** The path that a run without --spawn waits at, and the text of standard error so far. */
interface Waiting {
  readonly path: string;
  readonly err: string;
}

/** Runs `vfu check-client` without --spawn; `come` is called each time it waits for a client. */
async function withoutSpawn(
  args: string[],
  come: (waiting: Waiting) => "interrupt" | Promise<unknown> | undefined,
) {
  await using folder = temporaryFolder();
  const path = `${folder.path}/s`;
  let waits = 0;
  const clients: (Promise<unknown> | undefined)[] = [];
  const outcome = await runHere(
    ["check-client", "--socket-path", path, ...PATIENT, ...args],
    {
      endWhen: ({ err }) => {
        const now = err.split("waiting for a client").length - 1;
        if (now === waits || !err.endsWith("\n")) return false;
        waits = now;
        const client = come({ path, err });
        if (client === "interrupt") return true;
        clients.push(client);
        return false;
      },
    },
  );
  await Promise.all(clients);
  await idle();
  assertEquals([...Deno.readDirSync(folder.path)], [], "the socket is gone");
  return { ...outcome, path };
}

/** A client that leaves after its first questions. */
async function visit(path: string): Promise<void> {
  const device = await connect(path, PATIENT_MS).catch(() => undefined);
  await device?.info().catch(() => undefined);
  device?.close();
}

Deno.test("vfu check-client without --spawn says for which check it waits", async () => {
  const { code, out, err, path } = await withoutSpawn(
    ["--only", "negotiation/1", "--only", "info/1"],
    ({ path }) => visit(path),
  );
  assertEquals(
    err,
    `waiting for a client at ${path} to see it with a plain device\n` +
      `waiting for a client at ${path} for client/negotiation/1, 1 of 2\n` +
      `waiting for a client at ${path} for client/info/1, 2 of 2\n`,
  );
  assertStringIncludes(out, "✔ client/negotiation/1");
  assertStringIncludes(out, "the client asks nothing after it: use --spawn");
  assertEquals(code, 0);
});

Deno.test("vfu check-client does not count a connection without a message as a client", async () => {
  const { code, out, err } = await withoutSpawn(["--only", "negotiation/1"], ({ path }) => {
    UnixSocket.connect(path)![Symbol.dispose]();
    return visit(path);
  });
  assertEquals([code, err.split("waiting").length - 1], [0, 2]);
  assertStringIncludes(out, "1 passed");
});

Deno.test("vfu check-client: Ctrl-C while it waits removes the socket", async () => {
  const { code, out } = await withoutSpawn(
    ["--only", "info"],
    ({ path, err }) => err.includes("client/info/2") ? "interrupt" : visit(path),
  );
  assertEquals(code, 130);
  assertStringIncludes(out, "ended early");
});

Deno.test("vfu check-client --wait bounds the wait for a client", async () => {
  const { code, out, err } = await withoutSpawn(
    ["--wait", "50ms", "--only", "negotiation"],
    () => undefined,
  );
  assertEquals([code, out], [1, ""]);
  assertStringIncludes(err, "none has connected to ");
  assertStringIncludes(err, "within 0.05 s; connect it for each check, or use --spawn");
});
