import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { parseRegisterMap } from "../../../lib/registers/mod.ts";
import { startServe } from "../../_demo_process.ts";
import { runHere, temporaryFolder } from "../_cli.ts";

const TIMER = new URL("../../../examples/timer.ts", import.meta.url).pathname;

Deno.test("--map takes a device's module, for reading and for all registers", async () => {
  await using server = await startServe(TIMER);
  const read = await runHere(["read", server.path, "timer.CTRL", "--map", TIMER, "--pci-enable"]);
  assertEquals([read.code, read.err], [0, ""]);
  assertEquals(read.out, "0x00000000\n  EN=0 PERIODIC=0\n");
  const write = await runHere(["write", server.path, "PERIOD=7", "--map", TIMER, "--verify"]);
  assertEquals([write.code, write.err], [0, ""]);
  const regs = await runHere(["regs", server.path, "--map", TIMER]);
  assertEquals([regs.code, regs.err], [0, ""]);
  assertMatch(regs.out, /timer\.PERIOD {2}bar0\+0x4 {2}0x00000007/);
});

Deno.test("--map refuses a module that defines no device, or one without registers", async () => {
  await using folder = temporaryFolder();
  const fail = async (name: string, code: string) => {
    const path = `${folder.path}/${name}`;
    await Deno.writeTextFile(path, code);
    const { code: exit, out, err } = await runHere(["read", "/none", "X", "--map", path]);
    assertEquals([exit, out], [1, ""]);
    return err;
  };
  assertStringIncludes(
    await fail("none.ts", "export default 7;"),
    "its default export is a number, not a device",
  );
  const mod = new URL("../../../mod.ts", import.meta.url).href;
  assertStringIncludes(
    await fail(
      "plain.ts",
      `import { defineDevice } from "${mod}";\nexport default defineDevice({ name: "m", ` +
        "pci: { vendor: 1, device: 2 }, " +
        "create: ({ memory }) => ({ regions: { bar0: memory({ size: 4096 }) } }) });",
    ),
    "it declares none; make its regions with registers()",
  );
});

Deno.test("vfu serve --export-map writes the map that --map reads", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/timer.yaml`;
  const { code, out, err } = await runHere(["serve", TIMER, "--export-map", file]);
  assertEquals([code, out, err], [0, `${file}: 4 registers\n`, ""]);
  const text = await Deno.readTextFile(file);
  const { map } = await parseRegisterMap(text, file);
  assertEquals(map?.registers.map(({ name }) => name), ["CTRL", "PERIOD", "COUNT", "STATUS"]);
  assertEquals((await runHere(["serve", TIMER, "--export-map", "-"])).out, text);
  const json = await runHere(["serve", TIMER, "--export-map", file, "--json"]);
  assertEquals(JSON.parse(json.out), { device: "timer", file, registers: 4 });
});

Deno.test("vfu serve --export-map refuses what it can't be used with", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/m.yaml`;
  const refused = async (...args: string[]) => {
    const { code, err } = await runHere(["serve", ...args]);
    assertEquals(code, 2);
    return err;
  };
  assertStringIncludes(
    await refused("demo", "--export-map", file, TIMER),
    `'--export-map <file>' is missing behind ${TIMER}`,
  );
  assertStringIncludes(
    await refused("demo", "--export-map", file, "--check"),
    "'--check' cannot be used with option '--export-map <file>'",
  );
  assertStringIncludes(await refused(TIMER, "--export-map", TIMER), "would replace");
  assertEquals([...Deno.readDirSync(folder.path)], []);
});
