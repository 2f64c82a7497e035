import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  connect,
  defineDevice,
  DefinitionError,
  embed,
  IrqFlags,
  memory,
  registers,
  RemoteError,
} from "../../../mod.ts";
import { testDevice } from "../../../lib/testing/mod.ts";
import { exportedMap } from "../../../lib/define/exported_map.ts";
import { reviewDevice } from "../../../lib/define/review.ts";
import { Unmodelled } from "../../../lib/define/unmodelled.ts";
import { shapeChanges } from "../../../lib/server/succession.ts";
import { unmodelledJson } from "../../../cli/serve/unmodelled.ts";
import { testFds } from "../../_fds.ts";
import { runThere } from "../../cli/_cli.ts";
import { serveDefined } from "./_served.ts";
import { PATIENT } from "../../_until.ts";
import watchdog from "./_watchdog.ts";

testFds("a device that is not on the PCI bus has regions and interrupts by index", async () => {
  await using pair = await serveDefined(watchdog.create());
  const { device } = pair;
  const { flags, numRegions, numIrqs } = await device.info();
  assertEquals([flags, numRegions, numIrqs], [1, 4, 4]);
  const sizes = [];
  for (let index = 0; index < 4; index++) sizes.push((await device.regionInfo(index)).size);
  assertEquals(sizes, [32n, 0n, 0n, 8192n]);
  const irqs = [];
  for (let index = 0; index < 4; index++) irqs.push(await device.irqInfo(index));
  const { EVENTFD, MASKABLE, AUTOMASKED } = IrqFlags;
  assertEquals(irqs.map(({ flags, count }) => [flags, count]), [
    [EVENTFD | MASKABLE | AUTOMASKED, 1],
    [EVENTFD | MASKABLE, 2],
    [EVENTFD, 1],
    [EVENTFD | MASKABLE, 0],
  ]);
  const regs = device.region("region0");
  const vectors = await device.irqs("irq1");
  await vectors.enable();
  await regs.write32Async(4, 1);
  await vectors.waitAsync(1, PATIENT);
  // The pin masks itself, and fires again while it is up.
  const pin = await device.irqs(0);
  await pin.enable();
  await regs.write32Async(8, 1);
  await pin.waitAsync(0, PATIENT);
  await pin.unmask(0);
  await pin.waitAsync(0, PATIENT);
  // No bus master enable is in the way.
  const map = await device.dma.mapAsync({ iova: 0x1000, size: 0x1000 });
  await regs.write64Async(0x10, 0x1000n);
  assertEquals([...map.bytes.subarray(0, 4)], [1, 2, 3, 4]);
  await regs.write32Async(0, 9);
  await device.reset();
  assertEquals(await regs.read32Async(0), 3);
  await assertRejects(() => device.regionInfo(7), RemoteError, "EINVAL");
});

testFds("its registers, memory and levels migrate", async () => {
  await using from = await serveDefined(watchdog.create());
  await using to = await serveDefined(watchdog.create());
  await from.device.region(0).write32Async(0, 77);
  await from.device.region(0).write32Async(8, 1);
  await from.device.region(3).write32Async(0x1000, 0xcafe);
  await from.device.migration.save().pipeTo(to.device.migration.restore());
  assertEquals(await to.device.region(0).read32Async(0), 77);
  assertEquals(await to.device.region(3).read32Async(0x1000), 0xcafe);
  const pin = await to.device.irqs(0);
  await pin.enable(); // it is up
  await pin.waitAsync(0, PATIENT);
});

testFds("testDevice() sets its first interrupt up, or the chosen one", async () => {
  await using test = await testDevice(watchdog);
  assertEquals(test.irq!.name, "irq 0");
  await test.client.region(0).write32Async(8, 1);
  await test.irq!.waitAsync(0, PATIENT);
  await using other = await testDevice(watchdog, { interrupts: 1 });
  await other.client.region(0).write32Async(4, 0);
  await other.irq!.waitAsync(0, PATIENT);
});

testFds("vfu probes it, reads it and fires its interrupts by index", async () => {
  await using pair = await serveDefined(watchdog.create());
  pair.device.close();
  const probe = await runThere(["probe", pair.path]);
  assertEquals([probe.code, probe.err], [0, ""]);
  for (const text of ["region 0", "region 3", "irq 1", "8 KiB"]) {
    assert(probe.out.includes(text), `${text} in\n${probe.out}`);
  }
  assert(!/bar0|intx|config/.test(probe.out), probe.out);
  const read = await runThere(["read", pair.path, "region0.l"]);
  assertEquals([read.code, read.err, read.out.trim()], [0, "", "0x00000003"]);
  const beyond = await runThere(["read", pair.path, "region9.l"]);
  assertEquals(beyond.code, 1);
  const irq = await runThere(["irq", pair.path, "irq1", "--trigger", "1", "--count", "1"]);
  assertEquals([irq.code, irq.err], [0, ""], irq.out);
});

Deno.test("mistakes of a device that is not on the PCI bus are told with their places", () => {
  const mistakes = (make: () => unknown) => assertThrows(make, DefinitionError).mistakes;
  assertEquals(
    mistakes(() =>
      defineDevice({
        name: "bad",
        pci: { vendor: 1, device: 1 },
        interrupts: [{ vectors: 4096 }, { vector: 1 } as never, 3 as never],
        create: () => ({ regions: {} }),
      })
    ),
    [
      "interrupts: on the PCI bus pci declares them; with pci: false they go here",
      "interrupts[0].vectors: 4096, not a whole number from 0 to 2048",
      'interrupts[1].vector: unknown; did you mean "vectors"?',
      "interrupts[2]: 3, not { vectors: 1 }",
    ],
  );
  const create = (regions: never) => () =>
    defineDevice({ name: "bad", pci: false, create: () => ({ regions }) }).create();
  assertEquals(mistakes(create({ bar0: memory({ size: 4096 }) } as never)), [
    "regions: an object, not [registers(...)], the regions by their index, " +
    "as the device is not on the PCI bus",
  ]);
  assertEquals(mistakes(create([undefined, 5] as never)), [
    "regions[1]: 5, not a region; registers, memory, callbacks and overlay make them",
  ]);
  const pci = { vendor: 1, device: 1 };
  assertEquals(
    mistakes(() => defineDevice({ name: "bad", pci, create: () => ({ regions: [] }) }).create()),
    ["regions: a list, not { bar0 }, the regions by their names"],
  );
});

Deno.test("its interrupts by name are refused, as are those that it does not have", () => {
  defineDevice({
    name: "none",
    pci: false,
    interrupts: [{ vectors: 2 }],
    create({ irq }) {
      assertThrows(() => irq.intx, RangeError, "use irq.at(index)");
      assertThrows(() => irq.msix(0), RangeError, "not on the PCI bus");
      assertThrows(() => irq.at(0, 2), RangeError, "no vector 2 of IRQ index 0");
      assertThrows(() => irq.pin(1), RangeError, "declare it in interrupts");
      assertEquals([irq.at(0, 1).raise(), irq.at(0).isEnabled], [false, false]);
      assertThrows(
        () => (irq.at(0, 1) as never as { fire(): void }).fire,
        TypeError,
        "irq.at(0, 1)",
      );
      return { regions: [] };
    },
  }).create().close?.();
});

Deno.test("a review names its regions by index", () => {
  const device = defineDevice({
    name: "small",
    pci: false,
    create: () => ({
      regions: [
        registers({ registers: [{ name: "FAR", offset: 64, width: 4 }] }, { size: 4 }),
      ],
    }),
  }).create();
  assert(reviewDevice(device)[0]!.startsWith("region 0: "));
});

testFds("a refused access of it is not explained by a BAR", async () => {
  const device = defineDevice({
    name: "narrow",
    pci: false,
    create: () => ({
      regions: [
        registers({ registers: [{ name: "A", offset: 0, width: 4 }] }, { accessWidth: 4 }),
        ...Array.from({ length: 7 }, () => memory({ size: 4096 })),
      ],
    }),
  }).create();
  using client = await connect(embed(device).fd);
  await client.info();
  for (let index = 0; index < 8; index++) await client.regionInfo(index);
  const error = await assertRejects(() => client.region(0).write8Async(0, 1), RemoteError);
  assert(!/BAR|COMMAND/i.test(error.message), error.message);
  assertEquals(client.region(3).name, "region 3");
  const read = await assertRejects(() => client.region(0).read16Async(0), RemoteError);
  const { message } = read;
  assert(message.startsWith("Cannot read 2 bytes of region 0 at 0x0: "), message);
  assert(message.includes("name the width, region0.l"), message);
});

Deno.test("maps, reports and comparisons of it have its regions by index", () => {
  const device = watchdog.create();
  const other = defineDevice({
    name: "other",
    pci: false,
    create: () => ({
      regions: [registers({ registers: [{ name: "A", offset: 0, width: 4 }] }, { size: 256 })],
    }),
  }).create();
  try {
    const exported = exportedMap(device, "watchdog")!;
    assertEquals([...new Set(exported.registers.map(({ region }) => region))], ["region0"]);
    const unmodelled = new Unmodelled(false);
    const [region] = device.regions;
    const read = { index: 0, offset: 0x80, bytes: new Uint8Array(4), isWrite: false };
    unmodelled.saw({ ...read, region: region! });
    assertEquals(unmodelledJson("watchdog", unmodelled.report()).places[0]?.region, "region0");
    const changes = shapeChanges(device, other).join("; ");
    assert(changes.includes("region 0 has 256 bytes"), changes);
    assert(changes.includes("irq 0 is 0") && !/bar|intx/.test(changes), changes);
  } finally {
    device.close?.();
    other.close?.();
  }
});
