import { assertEquals, assertRejects } from "@std/assert";
import { LOAD_MS, loadDevice } from "../../../cli/serve/load.ts";
import { makeDevice } from "../../../cli/serve/make.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { temporaryFolder } from "../_cli.ts";

Deno.test("a module that takes long to load is reported, and waited for", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/late.ts`;
  await Deno.writeTextFile(path, "await globalThis.gate;\nexport default () => {};");
  const gate = Promise.withResolvers<void>();
  const scope = globalThis as { gate?: Promise<void>; setTimeout: unknown };
  const wait = globalThis.setTimeout;
  scope.gate = gate.promise;
  scope.setTimeout = (call: () => void, ms: number) => wait(call, ms === LOAD_MS ? 0 : ms);
  const told: string[] = [];
  const write = (text: string) => {
    told.push(text);
    gate.resolve();
  };
  try {
    assertEquals((await loadDevice(path, { err: { write } })).name, "late");
  } finally {
    scope.setTimeout = wait;
    delete scope.gate;
  }
  assertEquals(told, [`${path} is not loaded after 10 s: it awaits something\n`]);
});

Deno.test("a device by hand is told which of its parts is none", async () => {
  const region = { flags: 3, size: 4, read() {}, write() {} };
  const make = (parts: object) => {
    const device = { flags: 1, regions: [undefined, region], irqs: [], reset() {}, ...parts };
    return makeDevice({ name: "odd", source: device }, [], {});
  };
  await make({});
  const { size: _, ...rest } = region;
  const wrong: [parts: object, message: string][] = [
    [{ regions: [region, rest] }, "odd: its regions[1] is not { flags, size, read, write }"],
    [{ regions: [null] }, "its regions[0] is not"],
    [{ irqs: [{ flags: 1 }] }, "odd: its irqs[0] is not { flags, count }"],
  ];
  for (const [parts, message] of wrong) await assertRejects(() => make(parts), Error, message);
  await makeDevice({ name: "demo", source: new DemoDevice() }, [], {});
});
