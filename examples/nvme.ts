/**
 * A small NVMe controller, for the NVM command set: a disk in memory or in a file, up to 16 pairs of I/O queues, an MSI-X vector for each.
 * Its doorbells are in a page that a client may map: it rings without a message, and the controller looks there each millisecond.
 *
 * ```sh
 * vfu serve ./examples/nvme.ts --socket-path=/tmp/nvme.sock --option disk=disk.img &
 * deno run --allow-ffi examples/nvme_identify.ts /tmp/nvme.sock
 * ```
 *
 * @module
 */

import { cap, defineDevice, loadRegisterMap, memory, option, overlay, registers } from "../mod.ts";
import { openDisk } from "./nvme_disk.ts";
import { Failed, identify, Status, transfer, transferBlocks } from "./nvme_parts.ts";
import { type Queue, Queues } from "./nvme_queues.ts";

const map = await loadRegisterMap("nvme");
const DOORBELLS = 0x1000;

export default defineDevice({
  name: "nvme",
  title: "NVMe controller",
  options: {
    disk: option.text({ description: "The file that is its disk; without one it is in memory" }),
    size: option.size({ default: 16 << 20, min: 512, description: "How large one in memory is" }),
    queues: option.integer({ default: 4, min: 1, max: 16, description: "Pairs of I/O queues" }),
    serial: option.text({ default: "vfu-nvme-1", description: "Serial number" }),
    doorbells: option.choice({ choices: ["mapped", "message"], description: "How clients ring" }),
  },
  pci: ({ queues }) => ({
    vendor: 0x1b36,
    device: 0x0010,
    class: 0x010802,
    revision: 2,
    capabilities: [
      cap.msix({ vectors: queues + 1, bar: 0, table: 0x2000, pba: 0x3000 }),
      cap.pm(),
      cap.express(),
    ],
  }),
  create({ options, irq, dma, timers, run }) {
    const isMapped = options.doorbells === "mapped";
    const disk = openDisk(options.disk, options.size);
    const properties = registers(map, { size: DOORBELLS });
    const { regs } = properties;
    const pages = memory({
      size: 0x4000,
      is64Bit: true,
      mappable: isMapped && [{ offset: DOORBELLS, size: 0x1000 }],
      written: () => ring(),
    });
    const doorbells = new Uint32Array(pages.bytes.buffer, DOORBELLS, 2 * options.queues + 2);
    const submission = new Queues(options.queues); // `other` is the completion queue
    const completion = new Queues(options.queues); // `other` is the vector, or -1 without interrupts
    let working = Promise.resolve();
    let isWorking = false;

    function disable(): void {
      submission.clear();
      completion.clear();
      doorbells.fill(0);
      timers.clear();
      regs.CSTS.value = 0;
    }

    function powerOn(): void {
      regs.CAP.set({ MQES: Queues.MAX_ENTRIES - 1, CQR: 1, TO: 15, NCSS: 1 });
      regs.VS.value = 0x10400;
      disable();
    }

    function enable(): void {
      const { ASQS, ACQS } = regs.AQA;
      submission.set(0, { base: regs.ASQ.value, size: ASQS + 1, at: 0, phase: 1, other: 0 });
      completion.set(0, { base: regs.ACQ.value, size: ACQS + 1, at: 0, phase: 1, other: 0 });
      regs.CSTS.RDY = 1;
      if (isMapped) timers.every(1, ring);
    }

    properties.on({
      CC: {
        async write() {
          await working; // what has begun is done first
          if (regs.CC.EN === 0) disable();
          else if (regs.CSTS.RDY === 0) enable();
          regs.CSTS.SHST = regs.CC.SHN === 0 ? 0 : 2; // shut down, at once
        },
      },
    });

    /** A doorbell may have changed: works until there is nothing to do. */
    function ring(): void {
      if (isWorking || waiting() === undefined) return;
      isWorking = true;
      run(() => working = work());
    }

    async function work(): Promise<void> {
      try {
        for (let next = waiting(); next !== undefined; next = waiting()) await serve(...next);
      } catch {
        regs.CSTS.CFS = 1; // the queues themselves can't be reached
      }
      isWorking = false;
    }

    /** A queue that has a command, and whose completion queue has room for the answer. */
    function waiting(): [id: number, queue: Queue] | undefined {
      if (regs.CC.EN === 0 || regs.CSTS.RDY === 0 || regs.CSTS.CFS === 1) return undefined;
      return [...submission].find(([id, { size, at, other }]) => {
        const cq = completion.get(other);
        if (cq === undefined) return false;
        const tail = doorbells[2 * id]!;
        return tail !== at && tail < size && (cq.at + 1) % cq.size !== doorbells[2 * other + 1];
      });
    }

    async function serve(id: number, queue: Queue): Promise<void> {
      const command = new DataView((await dma.read(queue.base + BigInt(queue.at * 64), 64)).buffer);
      queue.at = (queue.at + 1) % queue.size;
      let [status, result]: [number, number | void] = [0, 0];
      try {
        result = await (id === 0 ? administer(command) : transferBlocks(dma, disk, command));
      } catch (error) {
        status = error instanceof Failed ? error.status : Status.TRANSFER_ERROR;
      }
      if (result === undefined && status === 0) return; // it is answered some day
      const cq = completion.get(queue.other)!;
      const entry = new Uint32Array(4);
      entry[0] = result ?? 0;
      entry[2] = queue.at | id << 16;
      entry[3] = command.getUint16(2, true) | (status << 1 | cq.phase) << 16;
      await dma.write(cq.base + BigInt(cq.at * 16), new Uint8Array(entry.buffer));
      cq.at = (cq.at + 1) % cq.size;
      if (cq.at === 0) cq.phase ^= 1;
      if (cq.other >= 0) irq.msix(cq.other).raise();
    }

    async function administer(command: DataView): Promise<number | void> {
      const [id, dword11] = [command.getUint16(40, true), command.getUint32(44, true)];
      switch (command.getUint8(0)) {
        case 0x00: // Delete I/O Submission Queue
          return submission.remove(id);
        case 0x04: // Delete I/O Completion Queue
          if (submission.use(id)) throw new Failed(Status.QUEUE_DELETION);
          return completion.remove(id);
        case 0x01: // Create I/O Submission Queue
          if (!completion.has(dword11 >>> 16)) throw new Failed(Status.NO_COMPLETION_QUEUE);
          return doorbells[2 * submission.add(command, dword11 >>> 16)] = 0;
        case 0x05: // Create I/O Completion Queue
          if (dword11 >>> 16 > options.queues) throw new Failed(Status.VECTOR);
          return doorbells[2 * completion.add(command, dword11 & 2 ? dword11 >>> 16 : -1) + 1] = 0;
        case 0x06: // Identify
          await transfer(dma, command, identify(id & 0xff, options.serial, disk.size), true);
          return 0;
        case 0x09: // Set Features
        case 0x0a: // Get Features: of those there are, 7 is the number of queues
          return (id & 0xff) === 7 ? (options.queues - 1) * 0x10001 : 0;
        case 0x0c: // Asynchronous Event Request: nothing ever happens
          return undefined;
        default:
          throw new Failed(Status.OPCODE);
      }
    }

    powerOn();
    return {
      regions: { bar0: overlay(pages, [{ offset: 0, region: properties }]) },
      reset: powerOn,
      close: () => disk.close(),
      state: {
        bytes: disk.bytes,
        save: () => ({ submission: submission.saved, completion: completion.saved }),
        restore(saved) {
          const state = saved as Record<"submission" | "completion", unknown>;
          submission.restore(state.submission);
          completion.restore(state.completion);
          timers.clear();
          if (regs.CSTS.RDY === 1 && isMapped) timers.every(1, ring);
        },
      },
    };
  },
});

if (import.meta.main) {
  const { main } = await import("../cli/main.ts");
  main(["serve", import.meta.filename!, ...Deno.args]).then(Deno.exit);
}
