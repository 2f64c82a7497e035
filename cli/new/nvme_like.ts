/**
 * The template `nvme-like`: a device with queues of commands in the client's memory.
 *
 * @module
 */

const DEVICE = `/**
 * NAME: a disk in memory, whose commands are in a queue in the client's memory.
 *
 * The client puts commands behind each other into the submission queue and writes SQ_TAIL. The
 * device takes them from SQ_HEAD on, puts a completion for each into the completion queue, and
 * raises its interrupt. The client takes completions as long as their phase is the one that it
 * expects, which changes at each turn of the queue, and writes CQ_HEAD.
 *
 * @module
 */

import { cap, defineDevice, loadRegisterMap, registers } from "@vfu/vfu";

const map = await loadRegisterMap(import.meta.dirname + "/registers.yaml");

/** Bytes of a command: opcode, id, offset and length on the disk; IOVA of the client's memory. */
const COMMAND_SIZE = 24;
/** Bytes of a completion: id, status; phase. */
const COMPLETION_SIZE = 8;
const MAX_ENTRIES = 256;
const DISK_SIZE = 64 << 10;

const Opcode = { READ: 1, WRITE: 2 } as const;
const Status = { DONE: 0, NO_SUCH_OPCODE: 1, OUTSIDE_THE_DISK: 2, NO_SUCH_MEMORY: 3 } as const;

export default defineDevice({
  name: "NAME",
  pci: {
    vendor: 0x1234,
    device: 0x0001,
    class: 0x018000,
    capabilities: [cap.pm(), cap.msix({ vectors: 1, bar: 4 })],
  },
  create({ irq, dma, run, turn, log }) {
    const bar0 = registers(map);
    const { CTRL, STATUS, ENTRIES, SQ_BASE, CQ_BASE, SQ_TAIL, SQ_HEAD, CQ_TAIL, CQ_HEAD } =
      bar0.regs;
    const disk = new Uint8Array(DISK_SIZE);
    const command = new Uint8Array(COMMAND_SIZE);
    const completion = new Uint32Array(COMPLETION_SIZE / 4);
    const view = new DataView(command.buffer);
    let isWorking = false;

    function enable(): void {
      // A command of before may be under way still
      const isGood = !isWorking && ENTRIES.value >= 2 && ENTRIES.value <= MAX_ENTRIES;
      for (const each of [SQ_HEAD, SQ_TAIL, CQ_HEAD, CQ_TAIL]) each.value = 0;
      STATUS.set({ READY: isGood ? 1 : 0, ERROR: isGood ? 0 : 1, PHASE: 1 });
    }

    /** Does commands until there are no more, or no room for what completes them. */
    async function work(): Promise<void> {
      try {
        while (STATUS.READY === 1 && SQ_HEAD.value !== SQ_TAIL.value) {
          const next = (CQ_TAIL.value + 1) % ENTRIES.value;
          if (next === CQ_HEAD.value) return; // CQ_HEAD goes on with it
          // At once through a window of shared memory; else by messages, which take their time
          await dma.copyTo(SQ_BASE.value + BigInt(SQ_HEAD.value * COMMAND_SIZE), command);
          const id = view.getUint16(2, true);
          const status = await execute();
          completion.set([id | status << 16, STATUS.PHASE]);
          // The phase is written last: a client that sees it sees the rest
          await dma.copyFrom(CQ_BASE.value + BigInt(CQ_TAIL.value * COMPLETION_SIZE), completion);
          SQ_HEAD.value = (SQ_HEAD.value + 1) % ENTRIES.value;
          CQ_TAIL.value = next;
          if (next === 0) STATUS.PHASE = 1 - STATUS.PHASE;
          irq.msix(0).raise();
          await turn(); // others have theirs in between
        }
      } catch (error) {
        STATUS.set({ READY: 0, ERROR: 1 }); // the queues can't be reached
        log(\`The queues can't be reached: \${error}\`);
      } finally {
        isWorking = false;
      }
    }

    async function execute(): Promise<number> {
      const [opcode, offset, length] = [
        view.getUint16(0, true),
        view.getUint32(4, true),
        view.getUint32(8, true),
      ];
      const iova = view.getBigUint64(16, true);
      if (offset + length > disk.length) return Status.OUTSIDE_THE_DISK;
      const part = disk.subarray(offset, offset + length);
      try {
        if (opcode === Opcode.READ) await dma.copyFrom(iova, part);
        else if (opcode === Opcode.WRITE) await dma.copyTo(iova, part);
        else return Status.NO_SUCH_OPCODE;
        return Status.DONE;
      } catch {
        return Status.NO_SUCH_MEMORY;
      }
    }

    function ring(): void {
      if (STATUS.READY === 0 || isWorking) return;
      const isOutside = SQ_TAIL.value >= ENTRIES.value || CQ_HEAD.value >= ENTRIES.value;
      if (isOutside) return void STATUS.set({ READY: 0, ERROR: 1 });
      isWorking = true;
      run(work);
    }

    bar0.on({
      CTRL: {
        write(_value, old) {
          if (CTRL.EN === 1 && (old & 1) === 0) enable();
          else if (CTRL.EN === 0) STATUS.READY = 0;
        },
      },
      SQ_TAIL: { write: ring },
      CQ_HEAD: { write: ring },
    });
    return {
      regions: { bar0 },
      reset: () => void disk.fill(0),
      start: ring, // goes on after a migration
      state: { bytes: [disk], save: () => null, restore() {} }, // the rest is in the registers
    };
  },
});
`;

const REGISTERS = `name: NAME
region: bar0
registers:
  - name: CTRL
    offset: 0x00
    width: 4
    fields:
      - { name: EN, bits: 0, description: Takes commands; both queues begin at 0 }
  - name: STATUS
    offset: 0x04
    width: 4
    access: ro
    fields:
      - { name: READY, bits: 0 }
      - { name: ERROR, bits: 1, description: The queues can't be used }
      - { name: PHASE, bits: 2, description: Phase of the next completion }
  - { name: ENTRIES, offset: 0x08, width: 4, description: "Of each queue, 2 to 256; set before EN" }
  - { name: SQ_BASE, offset: 0x10, width: 8, description: IOVA of the submission queue }
  - { name: CQ_BASE, offset: 0x18, width: 8, description: IOVA of the completion queue }
  - { name: SQ_HEAD, offset: 0x20, width: 4, access: ro, description: The next command to do }
  - { name: CQ_TAIL, offset: 0x24, width: 4, access: ro, description: The next completion }
  - { name: SQ_TAIL, offset: 0x40, width: 4, access: wo, description: Doorbell behind commands }
  - { name: CQ_HEAD, offset: 0x44, width: 4, access: wo, description: Doorbell behind completions }
`;

const SESSION = `title: "NAME: writes to the disk and reads back"
include: ./registers.yaml
interrupts: msix
buffers:
  sq: { iova: 0x100000, size: 4K }
  cq: { iova: 0x101000, size: 4K }
  data: { iova: 0x102000, size: 4K, fill: { text: "queued. " } }
  back: { iova: 0x103000, size: 4K }

steps:
  - pci enable
  - write: { ENTRIES: 16, SQ_BASE: "\${sq.iova}", CQ_BASE: "\${cq.iova}" }
  - write: { CTRL.EN: 1 }
  - expect: { STATUS.READY: 1, STATUS.ERROR: 0 }

  - name: A command that writes, and one that reads
    write:
      "sq+0.w": 2
      "sq+2.w": 100
      "sq+8.l": 4096
      "sq+16.q": "\${data.iova}"
      "sq+24.w": 1
      "sq+26.w": 101
      "sq+32.l": 4096
      "sq+40.q": "\${back.iova}"
  - write: { SQ_TAIL: 2 }
  - irq wait: msix[0]
    timeout: 5s
  - name: Both are done, in the first phase
    poll: CQ_TAIL
    equals: 2
    timeout: 5s
  - expect: { "cq+0.l": 100, "cq+4.l": 1, "cq+8.l": 101, "cq+12.l": 1, "back+0.l": 0x75657571 }
  - write: { CQ_HEAD: 2 }
`;

const TEST = `import { testDevice } from "@vfu/vfu/testing";
import device from "./NAME.ts";

const [SQ, CQ, DATA] = [0x100000, 0x101000, 0x102000];
const REGISTER = { CTRL: 0x00, STATUS: 0x04, ENTRIES: 0x08, SQ_BASE: 0x10, CQ_BASE: 0x18 };
const [SQ_TAIL, CQ_HEAD] = [0x40, 0x44];

/** A driver of the device, with queues of four entries. */
async function start() {
  const test = await testDevice(device);
  const { client } = test;
  const [sq, cq, data] = await Promise.all(
    [SQ, CQ, DATA].map((iova) => client.dma.mapAsync({ iova, size: 0x1000 })),
  );
  const bar0 = client.region("bar0");
  await bar0.write32Async(REGISTER.ENTRIES, 4);
  await bar0.write64Async(REGISTER.SQ_BASE, BigInt(SQ));
  await bar0.write64Async(REGISTER.CQ_BASE, BigInt(CQ));
  await bar0.write32Async(REGISTER.CTRL, 1);
  let count = 0;
  /** Does one command, and returns its status. */
  async function submit(opcode: number, offset: number, length: number, iova = DATA) {
    const command = new DataView(sq!.bytes.buffer, sq!.bytes.byteOffset + count % 4 * 24, 24);
    command.setUint16(0, opcode, true);
    command.setUint16(2, count, true);
    command.setUint32(4, offset, true);
    command.setUint32(8, length, true);
    command.setBigUint64(16, BigInt(iova), true);
    const completion = new DataView(cq!.bytes.buffer, cq!.bytes.byteOffset + count % 4 * 8, 8);
    const phase = 1 - (count >> 2) % 2;
    count++;
    await bar0.write32Async(SQ_TAIL, count % 4);
    await test.irq!.waitAsync(0);
    if (completion.getUint32(4, true) !== phase) throw new Error("the phase is wrong");
    if (completion.getUint16(0, true) !== count - 1) throw new Error("the id is wrong");
    await bar0.write32Async(CQ_HEAD, count % 4);
    return completion.getUint16(2, true);
  }
  return { test, bar0, data: data!.bytes, submit };
}

Deno.test("what is written to the disk is read back, over several turns of the queue", async () => {
  const { test, data, submit } = await start();
  await using _test = test;
  for (let i = 0; i < 6; i++) {
    data.fill(i + 1);
    if (await submit(2, i * 512, 512) !== 0) throw new Error("it is not written");
    data.fill(0);
    if (await submit(1, i * 512, 512) !== 0) throw new Error("it is not read");
    if (data[511] !== i + 1 || data[512] !== 0) throw new Error("it is something else");
  }
});

Deno.test("commands that can't be done say why, and the next one is done", async () => {
  const { test, submit } = await start();
  await using _test = test;
  if (await submit(7, 0, 512) !== 1) throw new Error("there is no such opcode");
  if (await submit(1, 65_000, 4096) !== 2) throw new Error("it is outside of the disk");
  if (await submit(1, 0, 512, 0x900000) !== 3) throw new Error("there is no such memory");
  if (await submit(1, 0, 512) !== 0) throw new Error("it is not read");
});

Deno.test("a doorbell outside of the queue is an error of the device", async () => {
  const { test, bar0 } = await start();
  await using _test = test;
  await bar0.write32Async(SQ_TAIL, 4);
  if (await bar0.read32Async(REGISTER.STATUS) !== 0b110) throw new Error("it is not refused");
});
`;

/** The template. */
export const NVME_LIKE = {
  summary: "queues of commands with doorbells, DMA, MSI-X completions",
  device: DEVICE,
  registers: REGISTERS,
  session: SESSION,
  test: TEST,
} as const;
