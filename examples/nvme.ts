/**
 * An NVMe 1.4 controller, for the NVM command set. It has a disk in memory or in a file, up to 16
 * pairs of I/O queues, and an MSI-X vector for each. Linux, nvme-cli and SPDK use it. Its doorbells
 * are in a page that a client may map: it rings without a message.
 *
 * ```sh
 * vfu serve ./examples/nvme.ts --socket-path=/tmp/nvme.sock --option disk=disk.img &
 * deno run --allow-ffi examples/nvme_identify.ts /tmp/nvme.sock
 * ```
 *
 * Its parts are in `nvme/`. `controller.ts` takes commands out of `queues.ts` and does those of
 * `admin.ts` and `io.ts`. `promises.ts` says what a driver may ask for.
 *
 * @module
 */

import { cap, defineDevice, loadRegisterMap, option, overlay, registers } from "../mod.ts";
import { Controller } from "./nvme/controller.ts";
import { Disk } from "./nvme/disk.ts";
import { PCI_ID, serialFor } from "./nvme/identity.ts";
import { Queues } from "./nvme/queues.ts";

const map = await loadRegisterMap("nvme");
/** The page of doorbells. */
const DOORBELLS = { offset: 0x1000, size: 0x1000 } as const;
const MSIX = { bar: 0, table: 0x2000, pba: 0x3000 } as const;

export default defineDevice({
  name: "nvme",
  title: "NVMe controller",
  options: {
    disk: option.text({ description: "The file that is its disk; without one it is in memory" }),
    size: option.size({ default: 16 << 20, min: 512, description: "How large one in memory is" }),
    queues: option.integer({ default: 4, min: 1, max: 16, description: "Pairs of I/O queues" }),
    serial: option.text({ description: "Serial number; by default one of its own" }),
    doorbells: option.choice({ choices: ["mapped", "message"], description: "How clients ring" }),
  },
  pci: ({ queues }) => ({
    ...PCI_ID,
    class: 0x010802,
    subsystem: PCI_ID,
    capabilities: [cap.msix({ vectors: queues + 1, ...MSIX }), cap.pm(), cap.express()],
  }),
  create({ options, memory, irq, dma, poll, turn, log }) {
    const isMapped = options.doorbells === "mapped";
    const disk = Disk.open(options.disk, options.size);
    const properties = registers(map, { size: DOORBELLS.offset });
    const pages = memory({
      size: 0x4000,
      is64Bit: true,
      mappable: isMapped && [DOORBELLS],
      written(offset) {
        const doorbell = (offset - DOORBELLS.offset) >> 2;
        if (doorbell < 0 || doorbell >= DOORBELLS.size >> 2) return;
        controller.rung(doorbell);
        doorbells.wake();
      },
    });
    const { buffer } = pages.bytes;
    const doorbells = poll(
      () => controller.look(),
      isMapped ? {} : { spinMs: 0, idleMs: Infinity },
    );
    const controller: Controller = new Controller({
      registers: properties,
      queues: new Queues(
        options.queues,
        new Uint32Array(buffer, DOORBELLS.offset, 2 * options.queues + 2),
      ),
      disk,
      dma,
      turn,
      doorbells,
      interrupt: (vector) => irq.msix(vector).raise(),
      log,
    }, options.serial ?? serialFor(options.disk));
    controller.powerOn();
    return {
      regions: { bar0: overlay(pages, [{ offset: 0, region: properties }]) },
      reset: () => controller.powerOn(),
      close: () => disk.close(),
      state: {
        version: 2,
        bytes: disk.bytes,
        save: () => controller.saved,
        restore: (saved) => controller.restore(saved),
      },
    };
  },
});

if (import.meta.main) {
  const { main } = await import("../cli/main.ts");
  main(["serve", import.meta.filename!, ...Deno.args]).then(Deno.exit);
}
