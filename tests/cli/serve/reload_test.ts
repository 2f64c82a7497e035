import { assertEquals, assertMatch } from "@std/assert";
import { LOAD_MS, loadDevice } from "../../../cli/serve/load.ts";
import { Reloader, type Watched } from "../../../cli/serve/reload.ts";
import { thrownText } from "../../../lib/base/thrown.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import type { ServedDevice } from "../../../lib/server/served_device.ts";
import { until } from "../../_until.ts";
import { temporaryFolder } from "../_cli.ts";

Deno.test("a device that is made too late is closed when it comes", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/late.ts`;
  await Deno.writeTextFile(path, "export default () => {};");
  const coming = Promise.withResolvers<ServedDevice>();
  const told: string[] = [];
  let closed = 0;
  let isMaking = false;
  const watched = {
    device: path,
    server: { replaceDevice: (make: () => Promise<unknown>) => make() },
    step: (work: () => Promise<unknown>) => work(),
    make() {
      isMaking = true;
      return coming.promise;
    },
    tell: (done: { failed: unknown }) => told.push(thrownText(done.failed)),
  } as unknown as Watched;
  const scope = globalThis as { setTimeout: unknown };
  const wait = globalThis.setTimeout;
  try {
    using reloader = await Reloader.begin();
    await loadDevice(path, { versions: reloader.versions(path) });
    reloader.watch(watched);
    scope.setTimeout = (call: () => void, ms: number) =>
      wait(call, isMaking && ms === LOAD_MS ? 0 : ms);
    await Deno.writeTextFile(path, "export default () => {}; // changed");
    await until(() => told.length > 0, "the report");
  } finally {
    scope.setTimeout = wait;
  }
  assertMatch(told[0]!, /It has not made its device within 10 s/);
  coming.resolve(Object.assign(new DemoDevice(), { close: () => void closed++ }));
  await until(() => closed > 0, "the end of the device");
  assertEquals(closed, 1);
});
