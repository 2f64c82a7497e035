import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { connect } from "../../../lib/client/connect.ts";
import { startVfu } from "../../_vfu_process.ts";
import { PATIENT, until } from "../../_until.ts";
import { runHere, temporaryFolder } from "../_cli.ts";

const MODULE = `
import { defineDevice, registers } from "@vfu/vfu";
export default defineDevice({
  name: "odd",
  pci: { vendor: 0x1234, device: 1 },
  create: () => ({
    regions: {
      bar0: registers({
        name: "odd",
        registers: [
          { name: "CTRL", offset: 0, width: 4, fields: [{ name: "EN", bits: 0 }] },
          { name: "STATUS", offset: 4, width: 4, access: "ro" },
        ],
      }, { size: 0x40 }),
    },
  }),
});
`;

/** Serves the module and does what a driver of another device would do. */
async function serve(...args: string[]) {
  const folder = temporaryFolder();
  await Deno.writeTextFile(`${folder.path}/odd.ts`, MODULE);
  const server = await startVfu({
    args: ["serve", `${folder.path}/odd.ts`, "--socket-path", "FOLDER/s.sock", ...args],
    permissions: ["--allow-run"],
    signal: "SIGTERM",
  });
  const client = await connect(`${server.folder}/s.sock`, PATIENT);
  await client.info();
  await client.regionInfo(0);
  const bar0 = client.region("bar0");
  await bar0.write32Async(0, 0x81, PATIENT);
  await bar0.read32Async(0x20, PATIENT);
  await bar0.read32Async(0x20, PATIENT);
  await bar0.write32Async(0x20, 0x1234, PATIENT);
  for (let i = 0; i < 1200; i++) await bar0.read32Async(4, PATIENT);
  return {
    server,
    client,
    module: `${folder.path}/odd.ts`,
    async [Symbol.asyncDispose]() {
      client.close();
      await server.stop();
      await folder[Symbol.asyncDispose]();
    },
  };
}

const REPORT = `Clients used of odd what it does not model:
  bar0+0x20: no register; 4 bytes read 2 times and written 1 time, last as 0x1234
  bar0+0x0: reserved bits 0x80 of odd.CTRL written 1 time
  bar0+0x4: odd.STATUS polled in vain, read 1200 times as 0x0
`;

for (const isolate of [[], ["--isolate"]]) {
  Deno.test(`serve ${isolate.join()} --unmodelled reports on SIGUSR2, and at the end`, async () => {
    await using served = await serve("--unmodelled", ...isolate);
    const { server } = served;
    Deno.kill(server.pid, "SIGUSR2");
    await until(() => server.stderr().includes(REPORT), "the report");
    await served.client.region("bar0").read8Async(0x30, PATIENT);
    assertEquals(await server.end(), 0);
    const [, , again] = server.stderr().split("Clients used of odd");
    assertStringIncludes(again!, "bar0+0x30: no register; 1 byte read 1 time\n");
    assertEquals(server.stderr().includes("Debugger"), false); // Deno's answer to SIGUSR1
  });
}

Deno.test("serve --unmodelled reports on SIGUSR1 too", async () => {
  await using served = await serve("--unmodelled");
  Deno.kill(served.server.pid, "SIGUSR1");
  await until(() => served.server.stderr().includes(REPORT), "the report");
});

Deno.test("serve --unmodelled --json tells the same, and forgets it with the device", async () => {
  await using served = await serve("--unmodelled", "--json", "--watch");
  const { server } = served;
  const reports = () =>
    server.stdout().split("\n").filter((line) => line.includes('"unmodelled"'))
      .map((line) => JSON.parse(line));
  Deno.kill(server.pid, "SIGUSR2");
  await until(() => reports().length === 1);
  const at = { region: "bar0", size: 4 };
  assertEquals(reports()[0], {
    event: "unmodelled",
    device: "odd",
    places: [{ ...at, offset: 0x20, reads: 2, writes: 1, written: 0x1234 }],
    reserved: [{ region: "bar0", offset: 0, register: "odd.CTRL", bits: 0x80, writes: 1 }],
    polls: [{ ...at, offset: 4, register: "odd.STATUS", value: 0, count: 1200 }],
    others: 0,
  });
  await Deno.writeTextFile(served.module, MODULE.replace("offset: 4", "offset: 0x20"));
  await until(() => server.stdout().includes('"outcome":"done"'));
  await served.client.region("bar0").read32Async(0x20, PATIENT);
  assertEquals(await server.end(), 0);
  assertEquals(reports()[1], { ...reports()[0], places: [], reserved: [], polls: [] });
});

Deno.test("serve --unmodelled says so if nothing was amiss", async () => {
  await using folder = temporaryFolder();
  const { code, err } = await runHere(
    ["serve", "demo", "--socket-path", `${folder.path}/s.sock`, "--unmodelled"],
    { endWhen: ({ err }) => err.includes("Ready") },
  );
  assertEquals(code, 0);
  assertMatch(err, /^Clients used nothing of demo that it does not model$/m);
});
