/** Checks that a program brings along, by the public entry alone. */

import { assertEquals, assertRejects } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { idle } from "../../../ffi/poller.ts";
import {
  checkClient,
  checkServer,
  type CheckServerOptions,
  clientGroup,
  group,
  join,
  read,
} from "../../../lib/conformance/api/mod.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { Server } from "../../../lib/server/server.ts";
import { Command } from "../../../lib/wire/command.ts";
import { testFds } from "../../_fds.ts";
import { PATIENT } from "../../_until.ts";
import { RawClient } from "./_raw_client.ts";

libc(); // opened once for all tests

async function inFolder<T>(act: (path: string) => Promise<T>): Promise<T> {
  const folder = Deno.makeTempDirSync();
  try {
    return await act(`${folder}/s`);
  } finally {
    await idle();
    Deno.removeSync(folder, { recursive: true });
  }
}

const MINE = group("mine", "My device", [
  [1, "MUST", "My manual", "The device says who it is.", async (t) => {
    const { payload } = await t.accepts(read(0, 0, 4));
    t.expect(payload[16] === 0x76, "the ID register", `${payload[16]}`);
  }],
  [2, "SHOULD", "My manual", "The device says who I am.", async (t) => {
    const { payload } = await t.accepts(read(0, 0, 4));
    t.expect(payload[16] === 0, "my id", `${payload[16]}`);
  }],
  [3, "MAY", "My manual", "The device has a hundred vectors.", (t) => {
    t.irq(0, 100);
    return Promise.resolve();
  }],
]);

testFds("checkServer() does the checks of a program", async () => {
  const results = await inFolder(async (path) => {
    using _server = Server.listen(path, new DemoDevice());
    return await Array.fromAsync(checkServer({ path, groups: [MINE], ...PATIENT }));
  });
  assertEquals(results.map(({ check, verdict, came }) => [check.id, verdict, came]), [
    ["server/mine/1", "passed", undefined],
    ["server/mine/2", "failed", "118"],
    ["server/mine/3", "not applicable", undefined],
  ]);
});

testFds("checkClient() does the checks of a program", async () => {
  const mine = clientGroup("mine", "My client", [
    [1, "MUST", "My manual", "Data of a page too many is taken.", "goes on", Command.REGION_READ, (
      answer,
    ) => {
      answer.payload = join(answer.payload, new Uint8Array(4096));
    }],
    [
      2,
      "MUST",
      "My manual",
      "A late answer is taken.",
      "goes on",
      Command.REGION_READ,
      (_, t) => t.pause(),
    ],
  ]);
  const results = await inFolder((path) =>
    Array.fromAsync(checkClient({
      path,
      start: (socket) => new RawClient(socket, undefined),
      groups: [mine],
      ...PATIENT,
    }))
  );
  assertEquals(results.map(({ check, verdict }) => [check.id, verdict]), [
    ["client/mine/1", "failed"],
    ["client/mine/2", "passed"],
  ]);
});

Deno.test("checkServer() wants either a path or a command", async () => {
  const both: CheckServerOptions = { path: "/tmp/x", spawn: "x {socket}" };
  for (const options of [{}, both]) {
    await assertRejects(() => Array.fromAsync(checkServer(options)), TypeError);
  }
});
