import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { connect } from "../../../lib/client/connect.ts";
import { startVfu, type VfuProcess } from "../../_vfu_process.ts";
import { PATIENT, until } from "../../_until.ts";
import { runHere } from "../_cli.ts";

/** A device whose register holds a number of a file that it imports; a count is its state. */
function module({ value = "VALUE", top = "", size = 16, restore = "count = Number(saved)" } = {}) {
  return `
import { defineDevice, registers } from "@vfu/vfu";
import { VALUE } from "./value.ts";
${top}
export default defineDevice({
  name: "odd",
  pci: { vendor: 0x1234, device: 1 },
  create() {
    let count = 0;
    const bar0 = registers({
      registers: [
        { name: "VALUE", offset: 0, width: 4, access: "ro" },
        { name: "COUNT", offset: 4, width: 4, access: "ro" },
      ],
    }, { size: ${size} }).on({ VALUE: { read: () => ${value} }, COUNT: { read: () => ++count } });
    return {
      regions: { bar0 },
      state: { save: () => count, restore: (saved) => { ${restore} } },
    };
  },
});
`;
}

/** A folder with a module, which is served. */
async function serve(args: string[] = [], permissions: string[] = []) {
  const folder = await Deno.makeTempDir({ prefix: "vfu-watch-" });
  const inPlace = (source: string, name = "odd.ts") =>
    Deno.writeTextFile(`${folder}/${name}`, source);
  /** As editors do that write another file and rename it: no half of it is ever seen. */
  const write = async (source: string, name = "odd.ts") => {
    await inPlace(source, ".new");
    await Deno.rename(`${folder}/.new`, `${folder}/${name}`);
  };
  await write("export const VALUE = 1;", "value.ts");
  await write(module());
  const server: VfuProcess = await startVfu({
    args: ["serve", `${folder}/odd.ts`, "--socket-path", "FOLDER/s.sock", "--watch", ...args],
    permissions,
    signal: "SIGINT",
  });
  const client = await connect(`${server.folder}/s.sock`, PATIENT);
  await client.info();
  await client.regionInfo(0);
  const bar0 = client.region("bar0");
  return {
    folder,
    server,
    client,
    write,
    inPlace,
    bar0,
    value: () => bar0.read32Async(0, PATIENT),
    count: () => bar0.read32Async(4, PATIENT),
    said: (text: string) => until(() => server.stderr().includes(text), text),
    reloads: () => server.stderr().match(/Reloaded with its state/g)?.length ?? 0,
    async [Symbol.asyncDispose]() {
      client.close();
      await server.stop();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

Deno.test("serve --watch reloads a device under its client, also for what it imports", async () => {
  await using served = await serve();
  assertEquals([await served.value(), await served.count(), await served.count()], [1, 1, 2]);
  await served.write(module({ value: "VALUE + 10" }));
  await served.said("Reloaded with its state\n");
  assertEquals([await served.value(), await served.count()], [11, 3]);
  await served.write("export const VALUE = 2;", "value.ts");
  await until(() => served.reloads() === 2);
  assertEquals([await served.value(), await served.count()], [12, 4]);
  await served.inPlace("30", "value.txt");
  const top = 'import text from "./value.txt" with { type: "text" };';
  await served.inPlace(module({ top, value: "Number(text)" }));
  await until(() => served.reloads() === 3);
  assertEquals([await served.value(), await served.count()], [30, 5]);
  await served.inPlace("31", "value.txt");
  await until(() => served.reloads() === 4);
  assertEquals([await served.value(), await served.count()], [31, 6]);
  served.client.close();
  assertEquals(await served.server.end(), 0);
  assertEquals([...Deno.readDirSync(served.server.folder)].map(({ name }) => name), []);
});

Deno.test("serve --watch reloads a device for its register map, and beside a pipe", async () => {
  await using served = await serve();
  const map = (reset: number) =>
    `name: odd\nregisters: [{ name: VALUE, offset: 0, width: 4, reset: ${reset} }]\n`;
  await served.write(map(5), "map.yaml");
  await served.write(`
import { defineDevice, loadRegisterMap, registers } from "@vfu/vfu";
const map = await loadRegisterMap(import.meta.dirname + "/map.yaml");
export default defineDevice({
  name: "odd",
  pci: { vendor: 0x1234, device: 1 },
  create() {
    const bar0 = registers(map, { size: 16 });
    return { regions: { bar0: bar0.on({ VALUE: { read: () => Number(map.registers[0].reset) } }) } };
  },
});
`);
  await until(async () => await served.value() === 5);
  await new Deno.Command("mkfifo", { args: [`${served.folder}/pipe`] }).output();
  await served.write(map(6), "map.yaml");
  await until(async () => await served.value() === 6);
  await served.inPlace("name: [", "map.yaml");
  await served.said("Not reloaded, the old version is served on");
  await served.write(map(7), "map.yaml");
  await until(async () => await served.value() === 7);
});

Deno.test("serve --watch keeps the old device where the new one has a mistake", async () => {
  await using served = await serve();
  const { folder } = served;
  const keeps = async (source: string, expected: RegExp) => {
    const before = served.server.stderr().length;
    await served.write(source);
    const said = () => served.server.stderr().slice(before);
    await until(() => /Not reloaded, the old version is served on: .*\n/.test(said()));
    assertMatch(said().replaceAll(folder, "DIR"), expected);
    assertEquals(await served.value(), 1);
  };
  const whole = module({ value: "VALUE + 1" });
  await keeps(
    module({ top: "const x: = 1;" }),
    /^DIR\/odd\.ts:4:10: Not reloaded, .*: Cannot load .*SyntaxError: Unexpected token/m,
  );
  await keeps(whole.slice(0, whole.length / 2), /^DIR\/odd\.ts:\d+:\d+: Not reloaded, .*Syntax/m);
  await keeps("", /^DIR\/odd\.ts:1:1: Not reloaded, .*: it has no default export/m);
  await keeps(
    module({ top: "throw new Error('at the top')" }),
    /^DIR\/odd\.ts:4:7: Not reloaded, .*: at the top/m,
  );
  await keeps(
    whole.replace("state:", "stat:"),
    /^DIR\/odd\.ts:5:16: Not reloaded, .*: stat: unknown; did you mean "start"\?/m,
  );
  await keeps(
    whole.replace("./value.ts", "./valeu.ts"),
    /^DIR\/odd\.ts:3:23: Not reloaded, .*Module not found "file:\/\/DIR\/valeu\.ts"/m,
  );
  await served.write(whole);
  await served.said("Reloaded with its state");
  assertEquals(await served.value(), 2);
});

Deno.test("serve --watch: a new shape, and a refused state, are for the next client", async () => {
  await using served = await serve();
  assertEquals(await served.count(), 1);
  await served.write(module({ size: 32, value: "7" }));
  await served.said("the client knows the device as it was: bar0 has 32 bytes, had 16");
  assertStringIncludes(served.server.stderr(), "Not reloaded for this client; the next one gets");
  assertEquals([await served.value(), await served.count()], [1, 2]);
  await served.write(module({ restore: "throw new Error('not mine')", value: "8" }));
  await served.said("not mine");
  assertMatch(
    served.server.stderr(),
    /odd\.ts:\d+:\d+: Not reloaded for this client; .*: not mine/,
  );
  assertEquals([await served.value(), await served.count()], [1, 3]);
  served.client.close();
  await served.said("Reloaded, without its state:");
  const path = `${served.server.folder}/s.sock`;
  const { out } = await runHere(["read", path, "bar0", "bar0+4"]);
  assertEquals(out.match(/0x\w{8}/g), ["0x00000008", "0x00000001"]);
});

Deno.test("serve --watch --json tells what became of each change", async () => {
  await using served = await serve(["--json"]);
  const events = () =>
    served.server.stdout().split("\n").filter((line) => line.includes('"reload"'))
      .map((line) => JSON.parse(line));
  await served.write(module({ value: "3" }));
  await until(() => events().length === 1);
  const place = null;
  const done = { event: "reload", device: "odd", outcome: "done", message: null, place };
  assertEquals(events()[0], { ...done, lost: [], details: [] });
  await served.write("export default 3;");
  await until(() => events().length === 2);
  assertEquals([events()[1].outcome, events()[1].place.line], ["failed", 1]);
});

Deno.test("serve --watch survives a module that never loads, and a storm of changes", async () => {
  await using served = await serve();
  await served.write(module({ top: "await new Promise(() => {}); setInterval(() => {}, 1e6);" }));
  await served.said("It has not loaded within 10 s");
  assertEquals(await served.value(), 1);
  const startMs = performance.now();
  for (let i = 0; i < 150; i++) {
    await served.inPlace(module({ value: String(i) }));
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await until(async () => await served.value() === 149);
  // A machine that writes slowly leaves 50 ms between two changes, after which each counts.
  const most = Math.max(50, (performance.now() - startMs) / 50);
  assert(served.reloads() < most, `${served.reloads()} reloads`);
});

Deno.test("serve --watch --isolate reloads in the device's process", async () => {
  await using served = await serve(["--isolate"], ["--allow-run"]);
  await served.write(module({ value: "VALUE + 10" }));
  await served.said("Reloaded with its state");
  assertEquals(await served.value(), 11);
});

Deno.test("serve --watch takes a module", async () => {
  const { code, err } = await runHere(["serve", "demo", "--fd", "9", "--watch"]);
  assertEquals(code, 2);
  assertStringIncludes(err, "'--watch' takes a module");
});
