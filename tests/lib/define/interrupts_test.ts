import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  cap,
  connect,
  defineDevice,
  type Interrupts,
  IrqFlags,
  RemoteError,
} from "../../../mod.ts";
import { testFds } from "../../_fds.ts";
import { serveDefined } from "./_served.ts";
import { PATIENT, until } from "../../_until.ts";

/** A device with all interrupts, and the way to them. */
async function serveAll(
  interruptMasking: "client" | "device",
  interruptPinMasksItself?: boolean,
) {
  let irq: Interrupts | undefined;
  let clients = 0;
  const definition = defineDevice({
    name: "irqs",
    pci: {
      vendor: 0x1234,
      device: 1,
      interruptPin: "A",
      interruptMasking,
      ...(interruptPinMasksItself !== undefined && { interruptPinMasksItself }),
      capabilities: [
        cap.msi({ vectors: 4, masking: true }), // 0x40
        cap.msix({ vectors: 70, bar: 4 }), // 0x58
      ],
    },
    create(context) {
      irq = context.irq;
      return { regions: {}, connected: () => void clients++, disconnected: () => void clients-- };
    },
  });
  const pair = await serveDefined(definition.create());
  const hasLeft = () => clients === 0;
  return { ...pair, irq: irq!, config: pair.device.region("config"), hasLeft };
}

const MSI = 0x40;
const MSIX = 0x58;
const PBA = 0x800;

testFds(
  "by default a vector fires if the client has set it up, whatever its table says",
  async () => {
    await using pair = await serveAll("client");
    const { device, irq } = pair;
    assertEquals([irq.msix(69).raise(), irq.msi(0).raise()], [false, false]);
    const [msix, msi] = [await device.irqs("msix"), await device.irqs("msi")];
    await msix.enable();
    await msi.enable();
    assertEquals([irq.msix(69).isEnabled, irq.error.isEnabled], [true, false]);
    assertEquals([irq.msix(69).raise(), irq.msi(3).raise()], [true, true]);
    await msix.waitAsync(69, PATIENT);
    await msi.waitAsync(3, PATIENT);
    // What SET_IRQS masks is pending.
    await msix.mask(1);
    assertEquals(irq.msix(1).raise(), true);
    await msix.unmask(1);
    await msix.waitAsync(1, PATIENT);
    assertEquals([msix.total(69), msix.total(1)], [1n, 1n]);
  },
);

testFds("error and request interrupts are there", async () => {
  await using pair = await serveAll("client");
  const { device, irq } = pair;
  const [err, req] = [await device.irqs(3), await device.irqs(4)];
  await err.enable();
  await req.enable();
  assertEquals([irq.error.raise(), irq.request.raise()], [true, true]);
  await err.waitAsync(0, PATIENT);
  await req.waitAsync(0, PATIENT);
});

testFds("the pin fires while it is up, and STATUS shows it", async () => {
  await using pair = await serveAll("client");
  const { device, irq, config } = pair;
  const intx = await device.irqs("intx");
  irq.intx.set(true);
  assertEquals([irq.intx.isUp, await config.read16Async(6) & 8], [true, 8]);
  await intx.enable(); // it is up already
  await intx.waitAsync(0, PATIENT);
  await intx.unmask(0); // it is still up
  await intx.waitAsync(0, PATIENT);
  irq.intx.set(false);
  await intx.unmask(0);
  irq.intx.set(true);
  await intx.waitAsync(0, PATIENT);
  assertEquals(intx.total(0), 3n);
  await device.reset();
  assertEquals([irq.intx.isUp, await config.read16Async(6) & 8], [false, 0]);
});

testFds("a pin masks itself only where its device says so", async () => {
  for (const masksItself of [undefined, false, true]) {
    await using pair = await serveAll("client", masksItself);
    const { device, irq } = pair;
    const intx = await device.irqs("intx");
    assertEquals((intx.info.flags & IrqFlags.AUTOMASKED) !== 0, masksItself === true);
    await intx.enable();
    for (let i = 0; i < 3; i++) {
      irq.intx.set(true);
      irq.intx.set(false);
    }
    assertEquals(intx.total(0), masksItself ? 1n : 3n);
  }
});

testFds("flags of IRQ indexes say what the server does", async () => {
  await using pair = await serveAll("client");
  const { device } = pair;
  const flags = [];
  for (let index = 0; index < 5; index++) flags.push((await device.irqInfo(index)).flags);
  const { EVENTFD, MASKABLE } = IrqFlags;
  assertEquals(flags, [3, 3, 3, 1, 1].map((each) => each & (EVENTFD | MASKABLE)));
  for (const [index, each] of flags.entries()) {
    const irqs = await device.irqs(index);
    if ((each & MASKABLE) !== 0) await irqs.mask(0);
    else await assertRejects(() => irqs.mask(0), RemoteError, "EINVAL");
  }
});

testFds("a device that masks honours MSI-X Enable, Function Mask and the table", async () => {
  await using pair = await serveAll("device");
  const { device, irq, config } = pair;
  const msix = await device.irqs("msix");
  const table = device.region("bar4");
  await msix.enable();
  const pending = async () => [await table.read64Async(PBA), await table.read64Async(PBA + 8)];
  assertEquals(irq.msix(0).raise(), false); // MSI-X is off
  await config.write16Async(MSIX + 2, 0xc000);
  assertEquals([irq.msix(0).raise(), irq.msix(69).raise()], [true, true]);
  assertEquals(await pending(), [1n, 1n << 5n]);
  await config.write16Async(MSIX + 2, 0x8000); // each is masked by its entry still
  assertEquals(await pending(), [1n, 1n << 5n]);
  await table.write32Async(69 * 16 + 12, 0);
  await msix.waitAsync(69, PATIENT);
  assertEquals(await pending(), [1n, 0n]);
  await table.write64Async(PBA, 0n); // a client can't write them
  assertEquals(await pending(), [1n, 0n]);
  await table.write32Async(12, 0xffff_fffe);
  await msix.waitAsync(0, PATIENT);
  assertEquals(await table.read32Async(12), 0);
  assertEquals([await pending(), irq.msix(0).raise()], [[0n, 0n], true]);
  await msix.waitAsync(0, PATIENT);
  assertEquals([msix.total(0), msix.total(69)], [2n, 1n]);
  irq.msix(1).raise();
  await device.reset();
  assertEquals([await pending(), await table.read32Async(12)], [[0n, 0n], 1]);
});

testFds("a device that masks honours MSI's enable, how many are, and mask bits", async () => {
  await using pair = await serveAll("device");
  const { device, irq, config } = pair;
  const msi = await device.irqs("msi");
  await msi.enable();
  assertEquals(irq.msi(0).raise(), false);
  await config.write16Async(MSI + 2, 0x0011); // enabled, two of them
  assertEquals([irq.msi(1).raise(), irq.msi(2).raise()], [true, false]);
  await msi.waitAsync(1, PATIENT);
  await config.write32Async(MSI + 16, 0x2);
  assertEquals([irq.msi(1).raise(), irq.msi(0).raise()], [true, true]);
  await msi.waitAsync(0, PATIENT);
  assertEquals([await config.read32Async(MSI + 20), msi.total(1)], [2, 1n]);
  await config.write32Async(MSI + 16, 0);
  await msi.waitAsync(1, PATIENT);
  assertEquals(await config.read32Async(MSI + 20), 0);
});

testFds("a device that masks honours COMMAND's interrupt disable", async () => {
  await using pair = await serveAll("device");
  const { device, irq, config } = pair;
  const intx = await device.irqs("intx");
  await intx.enable();
  await config.write16Async(4, 0x0400);
  irq.intx.set(true);
  assertEquals([await config.read16Async(6) & 8, intx.total(0)], [8, 0n]);
  await config.write16Async(4, 0);
  await intx.waitAsync(0, PATIENT);
});

Deno.test("vectors that were not declared are refused", () => {
  let irq: Interrupts | undefined;
  defineDevice({
    name: "none",
    pci: { vendor: 1, device: 1, capabilities: [cap.msi()] },
    create(context) {
      irq = context.irq;
      return { regions: {} };
    },
  }).create();
  assertThrows(() => irq!.msi(1), RangeError, "no vector 1 of MSI; declare it in pci");
  assertThrows(() => irq!.msix(0), RangeError, "no vector 0 of MSI-X");
  assertThrows(() => irq!.intx.set(true), RangeError, "declare interruptPin");
  irq!.intx.set(false);
});

testFds("what is masked is pending while no client is there, and fires for the next", async () => {
  await using pair = await serveAll("device");
  const { device, irq, config } = pair;
  await config.write16Async(MSIX + 2, 0xc000);
  await device.region("bar4").write32Async(12, 0);
  device.close();
  await until(pair.hasLeft, "the end of the client");
  assertEquals(irq.msix(0).raise(), true);
  using next = await connect(pair.path);
  for (const index of [4, 7]) await next.regionInfo(index);
  const msix = await next.irqs("msix");
  await msix.enable();
  await next.region("config").write16Async(MSIX + 2, 0x8000);
  await msix.waitAsync(0, PATIENT);
  assertEquals(msix.total(0), 1n);
});

testFds("a device hears of masks by index and vector", async () => {
  const heard: [number, number, boolean][] = [];
  const definition = defineDevice({
    name: "masks",
    pci: { vendor: 1, device: 1, capabilities: [cap.msix({ vectors: 2, bar: 4 })] },
    create: () => ({ regions: {}, masked: (...mask) => void heard.push(mask) }),
  });
  await using pair = await serveDefined(definition.create());
  const msix = await pair.device.irqs("msix");
  await msix.enable();
  await msix.mask(1);
  await msix.unmask(1);
  assertEquals(heard, [[2, 1, true], [2, 1, false]]);
});
