/**
 * An NVMe controller that behaves as SPDK's target does, for `vfu serve` and tests. It has 512
 * vectors of MSI-X whose table and pending bits are in BAR4 and BAR5. These refuse every access
 * though they say rw. Registers have 4 and 8 bytes only, doorbells are in the one area that may be
 * mapped. It does not migrate.
 *
 * @module
 */

import { Controller } from "../../examples/nvme/controller.ts";
import { Disk } from "../../examples/nvme/disk.ts";
import { Queues } from "../../examples/nvme/queues.ts";
import {
  callbacks,
  cap,
  defineDevice,
  type DeviceBus,
  type DeviceDefinition,
  DeviceError,
  loadRegisterMap,
  memory,
  overlay,
  registers,
  type ServedDevice,
} from "../../mod.ts";

const map = await loadRegisterMap("nvme");
const VECTORS = 512;
const MSIX = 2;
const EINVAL = 22;

const refuse = () => {
  throw new DeviceError(EINVAL);
};
/** MSI-X, as bytes behind its id and pointer: 512 vectors, table in BAR4, pending bits in BAR5. */
const msix = cap.standard({
  id: 0x11,
  bytes: [(VECTORS - 1) & 0xff, (VECTORS - 1) >> 8, 4, 0, 0, 0, 5, 0, 0, 0],
  writable: [0, 0xc0],
});

let bus: DeviceBus | undefined;

const inner = defineDevice({
  name: "spdk_like",
  pci: {
    vendor: 0x4e58,
    device: 1,
    class: 0x010802,
    capabilities: [cap.pm(), cap.express(), msix],
  },
  create({ dma, poll, turn, log }) {
    const properties = registers(map, { size: 0x1000 });
    const pages = memory({
      size: 0x4000,
      is64Bit: true,
      mappable: [{ offset: 0x1000, size: 0x1000 }],
      written: () => doorbells.wake(),
    });
    const doorbells = poll(() => controller.look());
    const controller: Controller = new Controller({
      registers: properties,
      queues: new Queues(8, new Uint32Array(pages.bytes.buffer, 0x1000, 18)),
      disk: Disk.open(undefined, 1 << 20),
      dma,
      turn,
      doorbells,
      interrupt: (vector) => void bus?.irqs.raise(MSIX, vector),
      log,
    }, "SPDK-like");
    controller.powerOn();
    const bar0 = overlay(pages, [{ offset: 0, region: properties }]);
    const widths = (bytes: Uint8Array) => {
      if (bytes.length !== 4 && bytes.length !== 8) refuse();
    };
    return {
      regions: {
        bar0: {
          ...bar0,
          read(offset, into) {
            widths(into);
            return bar0.read(offset, into);
          },
          write(offset, data) {
            widths(data);
            return bar0.write(offset, data);
          },
        },
        bar4: callbacks({ size: VECTORS * 16, read: refuse, write: refuse }),
        bar5: callbacks({ size: 4096, read: refuse, write: refuse }),
      },
      reset: () => controller.powerOn(),
      state: false,
    };
  },
});

/** The served device, with the vectors that its configuration space declares. */
export default {
  name: inner.name,
  options: {},
  create(): ServedDevice {
    const device = inner.create();
    return {
      flags: device.flags,
      regions: device.regions,
      irqs: device.irqs.map((irq, index) => index === MSIX ? { flags: 1, count: VECTORS } : irq),
      served: (report) => device.served?.(report),
      connected(client) {
        bus = client;
        device.connected?.(client);
      },
      disconnected() {
        bus = undefined;
        device.disconnected?.();
      },
      reset: (reason) => device.reset(reason),
      close: () => device.close?.(),
    };
  },
} satisfies DeviceDefinition;
