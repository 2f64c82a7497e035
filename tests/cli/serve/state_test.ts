import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { startServe } from "../../_demo_process.ts";
import { startVfu } from "../../_vfu_process.ts";
import { runHere, temporaryFolder } from "../_cli.ts";

/** A device without hooks for its migration. */
const STATELESS = `import { callbacks, defineDevice } from "@vfu/vfu";
export default defineDevice({
  name: "stateless",
  pci: { vendor: 0x1234, device: 1 },
  create: () => ({
    regions: { bar0: callbacks({ size: 16, read: () => {}, write: () => {} }) },
  }),
});`;

for (const isolate of [[], ["--isolate"]]) {
  Deno.test(`serve ${isolate.join(" ")} --state has a device be what it was`, async () => {
    await using folder = temporaryFolder();
    const state = `${folder.path}/demo.state`;
    for (const [before, after] of [["0x00000000", "0x1234"], ["0x00001234", "0x5678"]]) {
      await using server = await startVfu({
        args: ["serve", "demo", "--socket-path", "FOLDER/s.sock", ...isolate, "--state", state],
        permissions: ["--allow-run"],
        signal: "SIGTERM",
      });
      const path = `${server.folder}/s.sock`;
      assertEquals((await runHere(["read", path, "bar0+8"])).out, `${before}\n`);
      await runHere(["write", path, `bar0+8=${after}`, "bar2+0x10=7"]);
    }
    const shown = JSON.parse((await runHere(["migrate", "show", state, "--json"])).out);
    assertEquals(shown.device.device, 0x0de5);
    // It is what vfu migrate takes, too.
    await using other = await startServe("demo");
    assertEquals((await runHere(["migrate", "restore", other.path, state])).code, 0);
    const { out } = await runHere(["read", other.path, "bar0+8", "bar2+0x10"]);
    assertEquals(out.match(/0x\w{8}/g), ["0x00005678", "0x00000007"]);
  });
}

Deno.test("serve --state refuses a state that is not the device's, before it listens", async () => {
  await using folder = temporaryFolder();
  const state = `${folder.path}/state`;
  const socket = `${folder.path}/s.sock`;
  const serve = (device: string) =>
    runHere(["serve", device, "--socket-path", socket, "--state", state]);
  await Deno.writeTextFile(state, "something else");
  const foreign = await serve("demo");
  assertEquals(foreign.code, 1);
  assertStringIncludes(foreign.err, `Cannot use ${state}: it is no state`);
  assertEquals(await Deno.readTextFile(state), "something else");
  await using gpio = await startServe("examples/gpio.ts");
  await runHere(["migrate", "save", gpio.path, "-o", state, "--force"]);
  const other = await serve("demo");
  assertEquals(other.code, 1);
  assertMatch(other.err, /Cannot restore [^:]+: it is of 494f:0dc8, .*; demo is 1234:0de5/);
  const whole = await Deno.readFile(state);
  whole[40]! ^= 1;
  await Deno.writeFile(state, whole);
  assertStringIncludes((await serve("examples/gpio.ts")).err, "its checksum is another");
  const module = `${folder.path}/stateless.ts`;
  await Deno.writeTextFile(module, STATELESS);
  const none = await serve(module);
  assertEquals(none.code, 1);
  assertStringIncludes(none.err, "Cannot keep the state of stateless: the device does not migrate");
});

Deno.test("serve --state says that it saved the state", async () => {
  await using folder = temporaryFolder();
  const state = `${folder.path}/state`;
  await using server = await startServe("demo", "--state", state);
  assertEquals(await server.end(), 0);
  assertStringIncludes(server.stderr(), `State saved in ${state}\n`);
});

Deno.test("serve --state says at the start where the state could not be saved", async () => {
  await using folder = temporaryFolder();
  const state = `${folder.path}/none/state`;
  const socket = `${folder.path}/s.sock`;
  const { code, err } = await runHere(["serve", "demo", "--socket-path", socket, "--state", state]);
  assertEquals(code, 1);
  assertStringIncludes(err, `Cannot make ${state}.partial: No such file or directory; make its`);
});

Deno.test("serve --state fails if the state can't be saved at the end", async () => {
  await using folder = temporaryFolder();
  const inner = `${folder.path}/inner`;
  await Deno.mkdir(inner);
  await using server = await startServe("demo", "--state", `${inner}/state`);
  await Deno.remove(inner);
  assertEquals(await server.end(), 1);
  assertStringIncludes(
    server.stderr(),
    `The state is not saved: Cannot make ${inner}/state.partial: `,
  );
});
