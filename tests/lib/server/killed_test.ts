/**
 * Clients that are killed, at each stage of their life.
 */

import { assertEquals } from "@std/assert";
import { countOpenFds } from "../../../ffi/fd.ts";
import { Server } from "../../../lib/server/server.ts";
import { testFds } from "../../_fds.ts";
import { sleep, TestDevice } from "./_client.ts";
import { BASE } from "./_memory.ts";
import { DENO } from "../../_deno.ts";
import { until } from "../../_until.ts";

/** Starts a client that goes as far as `stage`, says so, and waits. */
async function startClient(path: string, stage: string): Promise<Deno.ChildProcess> {
  const child = new Deno.Command(DENO, {
    args: ["run", "-A", new URL("./_doomed_client.ts", import.meta.url).pathname, path, stage],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  assertEquals(new TextDecoder().decode(value).trim(), stage);
  reader.releaseLock();
  return child;
}

testFds(
  "a client that is killed at any stage is reported at once, and nothing of it is kept",
  async () => {
    const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
    const device = new TestDevice();
    let gone: (Error | undefined)[] = [];
    using server = Server.listen(`${folder}/dev.sock`, device, {
      onDisconnect: (cause) => gone.push(cause),
    });
    await sleep(5);
    const before = countOpenFds();
    for (const stage of ["connected", "agreed", "mapped", "listening", "asked", "twin"]) {
      const child = await startClient(server.path!, stage);
      const bus = device.bus;
      const view = bus?.dma.view(0n, 4096);
      const asked = stage === "asked" || stage === "twin"
        ? bus!.dma.read(BASE, 16).then(() => "read", (error) => error.name)
        : undefined;
      await sleep(10);
      assertEquals(gone.length, 0, stage);
      child.kill("SIGKILL");
      await child.status;
      await until(() => gone.length > 0, `the end of a client that was killed when ${stage}`);
      assertEquals([stage, gone.length], [stage, 1]);
      if (asked !== undefined) assertEquals(await asked, "ConnectionError");
      if (view !== undefined) assertEquals(view.length, 0);
      assertEquals(device.bus, undefined);
      await child.stdout.cancel();
      await until(() => countOpenFds() === before, `descriptors of ${stage} to be closed`);
      gone = [];
    }
    assertEquals(device.disconnects, 5);
    server.close();
    Deno.removeSync(folder, { recursive: true });
  },
);
