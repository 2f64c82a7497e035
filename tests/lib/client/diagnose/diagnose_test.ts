import { assertEquals } from "@std/assert";
import {
  dmaReasons,
  interruptReasons,
  silenceText,
} from "../../../../lib/client/diagnose/diagnose.ts";
import type { IrqId } from "../../../../lib/client/info.ts";
import type { ServedDevice } from "../../../../lib/server/served_device.ts";
import { DeviceFlags } from "../../../../lib/wire/device.ts";
import { IrqFlags } from "../../../../lib/wire/irq.ts";
import { RegionFlags } from "../../../../lib/wire/region.ts";
import { testFds } from "../../../_fds.ts";
import { connectTo } from "./_device.ts";

const BUS_MASTER =
  "bus master is off in COMMAND (0x0000), without which there is no DMA and no MSI: " +
  "enable the device (--pci-enable, device.pci.enable(), or pci enable in a session)";

/** The values of a device's registers. */
interface Registers {
  command?: number;
  status?: number;
  pin?: number;
  /** Power state of CAP_PM. */
  power?: number;
  msix?: number;
  /** Vector controls of the MSI-X table. */
  table?: number[];
  /** Pending bits of MSI-X. */
  pba?: number;
  msi?: number;
  msiMask?: number;
  msiPending?: number;
}

/** A device with these registers; in bar0 the MSI-X table at 0x800, its pending bits at 0xc00. */
function deviceWith(registers: Registers): ServedDevice {
  const config = new DataView(new ArrayBuffer(256));
  const bar0 = new Uint8Array(0x1000);
  const { command = 4, status = 0, pin = 1, power = 0, msix = 0x8003, msi = 0x185 } = registers;
  config.setUint16(0x04, command, true);
  config.setUint16(0x06, status | 0x10, true);
  config.setUint8(0x34, 0x40);
  config.setUint8(0x3d, pin);
  config.setUint16(0x40, 0x5001, true); // Power Management
  config.setUint16(0x44, power, true);
  config.setUint16(0x50, 0x6011, true); // MSI-X
  config.setUint16(0x52, msix, true);
  config.setUint32(0x54, 0x800, true);
  config.setUint32(0x58, 0xc00, true);
  config.setUint16(0x60, 0x0005, true); // MSI with 64 bits and masks
  config.setUint16(0x62, msi, true);
  config.setUint32(0x70, registers.msiMask ?? 0, true);
  config.setUint32(0x74, registers.msiPending ?? 0, true);
  const view = new DataView(bar0.buffer);
  for (const [vector, control] of (registers.table ?? []).entries()) {
    view.setUint32(0x800 + vector * 16 + 12, control, true);
  }
  view.setUint32(0xc00, registers.pba ?? 0, true);
  const region = (bytes: Uint8Array) => ({
    flags: RegionFlags.READ,
    size: bytes.length,
    read: (at: bigint | number, into: Uint8Array) =>
      into.set(bytes.subarray(Number(at), Number(at) + into.length)),
    write() {},
  });
  const space = region(new Uint8Array(config.buffer));
  const regions = [region(bar0), ...new Array<undefined>(6), space];
  const flags = IrqFlags.EVENTFD;
  const irqs = [
    { flags: flags | IrqFlags.AUTOMASKED | IrqFlags.MASKABLE, count: 1 },
    { flags, count: 4 },
    { flags: flags | IrqFlags.MASKABLE, count: 40 },
  ];
  return { flags: DeviceFlags.PCI | DeviceFlags.RESET, regions, irqs, reset() {} };
}

const CASES: readonly [irq: IrqId, vectors: number[], registers: Registers, reasons: string[]][] = [
  ["msix", [0], {}, []],
  ["msix", [0], { msix: 3 }, ["MSI-X is off (CAP_MSIX+2.w is 0x0003): set its bit 15"]],
  [
    "msix",
    [0],
    { msix: 0xc003 },
    ["all of MSI-X is masked (CAP_MSIX+2.w is 0xc003): clear its bit 14"],
  ],
  [
    "msix",
    [0, 1, 2],
    { table: [1, 1, 1] },
    ["msix[0-2] are masked in the MSI-X table (bar0+0x80c): clear bit 0"],
  ],
  [
    "msix",
    [0, 1, 2, 3],
    { table: [0, 1, 0, 1], pba: 8 },
    [
      "msix[1] and msix[3] are masked in the MSI-X table (bar0+0x81c): clear bit 0",
      "msix[3] is pending: the device has fired, and holds it back",
    ],
  ],
  ["msix", [0], { command: 0 }, [BUS_MASTER]],
  [
    "msix",
    [0],
    { power: 3 },
    ["the device is in D3hot (CAP_PM+4.w): write 0 to its low 2 bits"],
  ],
  ["msi", [0], { msi: 0x180 }, ["MSI is off (CAP_MSI+2.w is 0x0180): set its bit 0"]],
  [
    "msi",
    [0, 1, 2],
    { msiMask: 5, msiPending: 4 },
    [
      "msi[0] and msi[2] are masked (config+0x70.l is 0x00000005): clear their bits",
      "msi[2] is pending: the device has fired, and holds it back",
    ],
  ],
  [
    "intx",
    [0],
    { command: 0x404, msix: 3, msi: 0x180 },
    ["INTx is disabled in COMMAND (0x0404): clear its bit 10"],
  ],
  [
    "intx",
    [0],
    { pin: 0, status: 8, msi: 0x180 },
    [
      "the device has no interrupt pin (INTERRUPT_PIN is 0)",
      "MSI-X is on, and takes the place of INTx",
      "the device asserts INTx (bit 3 of STATUS, 0x0018)",
    ],
  ],
];

for (const [irq, vectors, registers, reasons] of CASES) {
  testFds(`interruptReasons() of ${irq} with ${JSON.stringify(registers)}`, async () => {
    const { device } = await connectTo(deviceWith(registers));
    const irqs = await device.irqs(irq);
    await irqs.enable();
    assertEquals(await interruptReasons(device, irqs, vectors), reasons);
    device.close();
  });
}

testFds(
  "interruptReasons() knows what this client has masked, and what masked itself",
  async () => {
    const { device } = await connectTo(deviceWith({ msix: 3, msi: 0x180 }));
    const msix = await device.irqs("msix");
    await msix.enable({ count: 3 });
    await msix.setBool("mask", 0, [true, false, true]);
    const masked = async () => (await interruptReasons(device, msix))[0];
    assertEquals(await masked(), "msix[0] and msix[2] are masked by this client: unmask");
    await msix.unmask(0);
    assertEquals(await masked(), "msix[2] is masked by this client: unmask");
    await msix.unmask(2);
    assertEquals(await masked(), "MSI-X is off (CAP_MSIX+2.w is 0x0003): set its bit 15");
    const intx = await device.irqs("intx");
    await intx.enable();
    await intx.trigger(0);
    await intx.waitAsync(0);
    const self = "intx masks itself when it fires, and has fired: unmask it";
    assertEquals(await interruptReasons(device, intx), [self]);
    await intx.unmask(0);
    assertEquals(await interruptReasons(device, intx), []);
    device.close();
  },
);

testFds("silenceText() joins the reasons, or says that the device did not fire", async () => {
  const said = async (registers: Registers) => {
    const { device } = await connectTo(deviceWith(registers));
    const msix = await device.irqs("msix");
    await msix.enable({ count: 2 });
    const before = await silenceText(device, msix, [0]);
    // The device has fired one of them: what its registers say holds none back.
    await msix.trigger(1);
    await msix.waitAsync(1);
    const after = await silenceText(device, msix, [0]);
    device.close();
    return [before, after];
  };
  assertEquals(await said({ command: 0, msix: 3 }), [
    `MSI-X is off (CAP_MSIX+2.w is 0x0003): set its bit 15; ${BUS_MASTER}; ` +
    "if the device ignores these registers, it did not fire",
    undefined,
  ]);
  assertEquals(await said({}), [
    "nothing is off, masked or pending that would hold it back: the device did not fire",
    undefined,
  ]);
});

testFds("dmaReasons() says that bus master is off, or that the device sleeps", async () => {
  for (
    const [registers, reasons] of [
      [{ command: 4 }, []],
      [{ command: 0 }, [BUS_MASTER]],
      [{ power: 1 }, ["the device is in D1 (CAP_PM+4.w): write 0 to its low 2 bits"]],
    ] as const
  ) {
    const { device } = await connectTo(deviceWith(registers));
    assertEquals(await dmaReasons(device), [...reasons]);
    device.close();
  }
});

testFds("a device that is gone has no reasons", async () => {
  const { device } = await connectTo(deviceWith({ command: 0 }));
  const msix = await device.irqs("msix");
  device.close();
  assertEquals(await interruptReasons(device, msix, [0]), []);
  assertEquals(await dmaReasons(device), []);
});
