/**
 * The server of baseline.c as a device in TypeScript, served until killed.
 * The server says "ready" as the C program does.
 *
 *   device_server.ts PATH
 *
 * @module
 */

import type { DeviceBus, ServedDevice } from "../../lib/server/served_device.ts";
import { Server } from "../../lib/server/server.ts";
import { DeviceFlags } from "../../lib/wire/device.ts";
import { IrqFlags, PciIrq } from "../../lib/wire/irq.ts";
import { RegionFlags } from "../../lib/wire/region.ts";
import { Doorbell } from "./modes/mode.ts";

/** As in baseline.c. */
const SIZE = 1 << 20;
const IOVA = 0x100000n;

const bytes = new Uint8Array(SIZE + 8); // a read of SIZE bytes begins at 8
let bus: DeviceBus | undefined;

/** Does what a write asks of the server. */
function act(offset: number, data: Uint8Array): void | Promise<void> {
  if (offset === Doorbell.INTERRUPT) return void bus!.irqs.raise(PciIrq.MSIX, 0);
  if (offset !== Doorbell.READ_MEMORY && offset !== Doorbell.WRITE_MEMORY) return;
  const view = new DataView(data.buffer, data.byteOffset);
  return accessMemory(offset, view.getUint32(0, true), view.getUint32(4, true));
}

async function accessMemory(doorbell: number, times: number, size: number): Promise<void> {
  for (; times > 0; times--) {
    if (doorbell === Doorbell.READ_MEMORY) await bus!.dma.readInto(IOVA, bytes.subarray(0, size));
    else await bus!.dma.write(IOVA, bytes.subarray(0, size));
  }
}

const device: ServedDevice = {
  flags: DeviceFlags.PCI,
  regions: [{
    flags: RegionFlags.READ | RegionFlags.WRITE,
    size: bytes.length,
    read: (offset, into) => into.set(bytes.subarray(offset, offset + into.length)),
    view: (offset, length) => bytes.subarray(offset, offset + length),
    write: (offset, data) => act(offset, data),
  }],
  irqs: [0, 0, 1].map((count) => ({ flags: IrqFlags.EVENTFD, count })),
  connected: (client) => void (bus = client),
  reset() {},
};

const server = Server.listen(Deno.args[0]!, device);
Deno.stdout.writeSync(new TextEncoder().encode("ready\n"));
await server.closed;
