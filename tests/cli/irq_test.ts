import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Interrupted } from "../../cli/shared/context.ts";
import { parseIrq, parseVectors } from "../../cli/commands/irq.ts";
import { DemoDevice } from "../../lib/devices/demo_device.ts";
import { Server } from "../../lib/server/server.ts";
import { Command } from "../../lib/wire/command.ts";
import { IrqInfoReply, IrqSetFlags, SetIrqsRequest } from "../../lib/wire/irq.ts";
import { startDemo } from "../_demo_process.ts";
import { assertGolden, type Outcome, runHere, temporaryFolder } from "./_cli.ts";
import { assertFailures } from "./_registers.ts";
import { type Answer, indexOf, serveOddly } from "./_server.ts";

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

/** Runs `vfu irq` on the demo device of this process. */
async function irq(...args: string[]): Promise<Outcome> {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  return await runHere(["irq", path, ...args]);
}

/** The same for a person who looks at standard error. */
async function irqWatched(...args: string[]): Promise<Outcome> {
  await using folder = temporaryFolder();
  const path = `${folder.path}/demo.sock`;
  using _server = Server.listen(path, new DemoDevice());
  return await runHere(["irq", path, ...args], { isWatched: true });
}

/** A device with 3 MSI-X vectors that takes all that is set; each SET_IRQS is shown to `onSet`. */
function threeVectors(onSet: (request: SetIrqsRequest) => void): Answer {
  return (request) => {
    if (request.command === Command.DEVICE_GET_IRQ_INFO) {
      const info = { argsz: 16, flags: 1, index: indexOf(request), count: 3 };
      return request.reply(IrqInfoReply.encode(info));
    }
    if (request.command !== Command.DEVICE_SET_IRQS) return "default";
    onSet(SetIrqsRequest.decode(request.payload));
    request.reply();
  };
}

function lines(text: string): string[] {
  return text.trimEnd().split("\n").map((line) => line.replace(/^ *[\d.]+ ms {2}/, ""));
}

Deno.test("irq shows its help", async () => {
  assertGolden("irq-help.txt", (await runHere(["irq", "--help"])).out);
});

Deno.test("irq shows interrupts of several vectors until there were enough", async () => {
  const actions = ["--write", "bar0+0x20=2", "--trigger", "1", "--write", "bar0+0x20=2"];
  const { code, out, err } = await irq("msix", ...actions, "--count", "3", "--for", "60s");
  assertEquals([code, err], [0, ""]);
  assertMatch(out, /^ +\d+\.\d ms {2}msix/);
  assertEquals(lines(out).sort().at(-1), "msix[2]  count 2  total 2");
  assertEquals(lines(out).includes("msix[1]  count 1  total 1"), true);
});

Deno.test("irq takes vectors as sessions name them, and names them once", async () => {
  const { code, out } = await irq("msix[1]", "--trigger", "1", "--count", "1");
  assertEquals([code, lines(out)], [0, ["msix[1]  count 1  total 1"]]);
  const twice = await irq("msix[1]", "--vectors", "2");
  assertEquals(twice.code, 2);
  assertStringIncludes(twice.err, "The vectors are named twice");
  assertEquals((await irq("msix[x]")).code, 2);
});

Deno.test("irq does what the options say in their order", async () => {
  const actions = ["--mask", "1", "--trigger", "1", "--unmask", "1"];
  const { out } = await irq("msix", "--vectors", "1", ...actions, "--count", "1", "--json");
  const { time_ms, ...rest } = JSON.parse(out);
  assertEquals([typeof time_ms, rest], ["number", { irq: "msix", vector: 1, count: 1, total: 1 }]);
  const masked = await irq("msix", "--mask", "0", "--trigger", "0", "--for", "50ms");
  assertEquals(masked, { code: 0, out: "", err: "" });
});

Deno.test("irq unmasks INTx after each, which fires again while its level is up", async () => {
  const { code, out } = await irq("intx", "--write", "bar0+0x24=1", "--count", "3");
  assertEquals([code, lines(out).at(-1)], [0, "intx[0]  count 1  total 3"]);
});

Deno.test("irq ends when the time is over, with 1 if more were to come", async () => {
  assertEquals(await irq("msix", "--for", "50ms"), { code: 0, out: "", err: "" });
  const { code, err } = await irq("msix", "--trigger", "0", "--count", "2", "--for", "50ms");
  assertEquals([code, err], [1, "vfu: 1 of 2 interrupts of msix[0-3] came in time\n"]);
  // What came while the options were done counts, however little time there was.
  const masks = Array.from({ length: 50 }, () => ["--mask", "1"]).flat();
  const soon = await irq("msix", "--trigger", "0", ...masks, "--count", "1", "--for", "1ms");
  assertEquals([soon.code, lines(soon.out)], [0, ["msix[0]  count 1  total 1"]]);
});

Deno.test("irq says why none came: what is off, masked or pending", async () => {
  const none = async (...args: string[]) => {
    const { code, out, err } = await irq(...args, "--count", "1", "--for", "50ms");
    assertEquals([code, out], [1, ""]);
    return err;
  };
  const off =
    "vfu: 0 of 1 interrupt of msix[0-3] came in time\n  why: MSI-X is off (CAP_MSIX+2.w " +
    "is 0x0003): set its bit 15; msix[0-3] are masked in the MSI-X table (bar4+0xc): " +
    "clear bit 0; " +
    "bus master is off in COMMAND (0x0000), without which there is no DMA and no MSI: enable the " +
    "device (--pci-enable, device.pci.enable(), or pci enable in a session); if the " +
    "device ignores these registers, it did not fire\n";
  assertEquals(await none("msix"), off);
  const masked = await none("msix", "--vectors", "0", "--mask", "0", "--trigger", "0");
  assertStringIncludes(
    masked,
    "interrupt of msix[0] came in time\n  why: msix[0] is masked by this client: unmask; " +
      "MSI-X is off",
  );
  assertEquals(
    await none("intx"),
    "vfu: 0 of 1 interrupt of intx[0] came in time\n  why: nothing is off, masked or pending " +
      "that would hold it back: the device did not fire\n",
  );
  // Without a count a person is told that none came.
  const { code, err } = await irqWatched("msix", "--for", "50ms");
  assertEquals(code, 0);
  assertStringIncludes(
    err,
    "\nNo interrupt of msix[0-3] came\n  why: MSI-X is off (CAP_MSIX+2.w is 0x0003)",
  );
  // A device that is at its place: without fault of the registers nothing is blamed on them.
  const on = ["--write", "CAP_MSIX+2.w=0x8000:0x8000", "--pci-enable", "--vectors", "0"];
  const unmask = ["--write", "bar4+0xc=0:1"];
  assertStringIncludes(await none("msix", ...on, ...unmask), "the device did not fire");
});

Deno.test("irq --for ends a device that does not stop", async () => {
  const { code } = await irq("intx", "--write", "bar0+0x24=1", "--for", "100ms");
  assertEquals(code, 0);
});

Deno.test("irq disables the vectors and returns 130 at Ctrl-C", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/odd.sock`;
  const controller = new AbortController();
  const sets: [flags: number, start: number, count: number][] = [];
  using _server = serveOddly(
    path,
    threeVectors(({ flags, start, count }) => {
      sets.push([flags, start, count]);
      // The reply is not there yet: the vectors are disabled all the same.
      if (sets.length === 1) controller.abort(new Interrupted("SIGINT"));
    }),
  );
  const outcome = await runHere(["irq", path, "msix", "--vectors", "2"], {
    signal: controller.signal,
  });
  assertEquals(outcome, { code: 130, out: "", err: "" });
  const { DATA_EVENTFD, DATA_NONE, ACTION_TRIGGER } = IrqSetFlags;
  assertEquals(sets, [[DATA_EVENTFD | ACTION_TRIGGER, 2, 1], [DATA_NONE | ACTION_TRIGGER, 0, 0]]);
});

Deno.test("irq returns 1 at once when the server dies", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/dying.sock`;
  const server = serveOddly(
    path,
    threeVectors(() => setTimeout(() => server[Symbol.dispose](), 20)),
  );
  const { code, out, err } = await runHere(["irq", path, "msix", "--vectors", "0"]);
  assertEquals([code, out], [1, ""]);
  assertMatch(err, /^vfu: [^\n]+\n$/);
});

Deno.test("irq returns 1 when the device does not have it", async (t) => {
  await assertFailures(t, demo.path, 1, [
    [["irq", "msi"], "Cannot use msi: the device does not have it"],
    [
      ["irq", "9"],
      "Cannot get the info of irq 9: the server answered EINVAL (Invalid argument)",
    ],
    [
      ["irq", "msix", "--vectors", "2-4"],
      "Cannot use msix[2-4]: the device has msix[0-3]",
    ],
    [["irq", "msix", "--trigger", "4"], "Cannot use msix[4]: the device has msix[0-3]"],
  ]);
});

Deno.test("irq returns 2 when the usage is wrong", async (t) => {
  await assertFailures(t, "/nonexistent/socket", 2, [
    [
      ["irq", "msiy"],
      "Cannot use 'msiy' as index: " +
      '"msiy" is no IRQ index; write intx, msi, msix, err, req or a number',
    ],
    [
      ["irq", "msix", "--vectors", "3-1"],
      "Cannot use '3-1' for --vectors: 1 comes before 3",
    ],
  ]);
});

Deno.test("parseIrq() and parseVectors() read names, numbers and ranges", () => {
  assertEquals([parseIrq("MSIX"), parseIrq("err"), parseIrq("7")], ["msix", "err", 7]);
  assertEquals(parseVectors("3"), { start: 3, count: 1 });
  assertEquals(parseVectors("0-0x3f"), { start: 0, count: 64 });
});
