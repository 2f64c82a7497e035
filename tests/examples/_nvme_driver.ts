/**
 * A strict NVMe driver, for a controller that is served to a client in this process. It checks
 * every entry of a completion queue, and polls.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Device, DmaMap, Region } from "../../mod.ts";
import { until } from "../_until.ts";

/** Registers. */
export const [CAP, VS, CC, CSTS, AQA, ASQ, ACQ] = [0, 8, 0x14, 0x1c, 0x24, 0x28, 0x30];
/** Enabled, with entries of 64 and 16 bytes. */
export const CC_ENABLE = 0x0046_0001;
/** The address of the driver's memory for the device. */
export const BASE = 0x10_0000;
/** Its bytes. */
export const SIZE = 4 << 20;
/** The address of the data: behind the queues, which have 16 pages a pair. */
export const DATA = BASE + (2 << 20);

/** A command: the parts that are not 0. */
export interface CommandParts {
  opcode: number;
  flags?: number;
  namespace?: number;
  prp1?: number | bigint;
  prp2?: number | bigint;
  cdw10?: number;
  cdw11?: number;
  cdw12?: number;
  cdw13?: number;
}

/** The completion of a command. */
export interface Completion {
  readonly queue: number;
  readonly id: number;
  /** Without the phase. */
  readonly status: number;
  readonly result: number;
}

interface Ring {
  readonly offset: number;
  readonly entries: number;
}
interface SubmissionRing extends Ring {
  readonly completion: number;
  tail: number;
  /** As far as the controller has said. */
  head: number;
  /** Commands under way. */
  readonly pending: Set<number>;
}
interface CompletionRing extends Ring {
  head: number;
  phase: number;
}

/** The driver. */
export class NvmeDriver {
  readonly bar0: Region;
  readonly #submission = new Map<number, SubmissionRing>();
  readonly #completion = new Map<number, CompletionRing>();
  readonly #done: Completion[] = [];
  #id = 0;

  private constructor(readonly device: Device, readonly map: DmaMap) {
    this.bar0 = device.region("bar0");
  }

  /** Maps memory, and enables the controller. */
  static async start(
    device: Device,
    entries = 32,
    share: "memfd" | "message" = "memfd",
  ): Promise<NvmeDriver> {
    const map = await device.dma.mapAsync({ iova: BigInt(BASE), size: SIZE, share });
    await device.pci.enable();
    const driver = new NvmeDriver(device, map);
    await driver.enable(entries);
    return driver;
  }

  /** A driver in whose memory nothing is set up. */
  static async attach(device: Device): Promise<NvmeDriver> {
    const map = await device.dma.mapAsync({ iova: BigInt(BASE), size: SIZE });
    await device.pci.enable();
    return new NvmeDriver(device, map);
  }

  /** Disables the controller and enables it, with admin queues of so many entries. */
  async enable(entries = 32, cc = CC_ENABLE): Promise<void> {
    const { bar0 } = this;
    await bar0.write32Async(CC, 0);
    assertEquals(await bar0.read32Async(CSTS), 0);
    this.#submission.clear();
    this.#completion.clear();
    this.#done.length = 0;
    this.map.bytes.fill(0, 0, DATA - BASE);
    await bar0.write32Async(AQA, (entries - 1) << 16 | (entries - 1));
    await bar0.write64Async(ASQ, BigInt(this.#add(0, entries, 0)));
    await bar0.write64Async(ACQ, BigInt(this.#addCompletion(0, entries)));
    await bar0.write32Async(CC, cc);
    assertEquals(await bar0.read32Async(CSTS), 1);
  }

  #add(id: number, entries: number, completion: number): number {
    const offset = id * 0x1_0000;
    this.#submission.set(id, {
      offset,
      entries,
      completion,
      tail: 0,
      head: 0,
      pending: new Set(),
    });
    return BASE + offset;
  }

  #addCompletion(id: number, entries: number): number {
    const offset = id * 0x1_0000 + 0x8000;
    this.map.bytes.fill(0, offset, offset + entries * 16);
    this.#completion.set(id, { offset, entries, head: 0, phase: 1 });
    return BASE + offset;
  }

  /** Creates a completion queue, and as many submission queues that complete there. */
  async createQueues(id: number, entries = 32, ids = [id], sizes = [entries]): Promise<void> {
    const cdw10 = (entries - 1) << 16 | id;
    const prp1 = this.#addCompletion(id, entries);
    await this.pass(0, { opcode: 5, prp1, cdw10, cdw11: id << 16 | 3 });
    for (const [i, each] of ids.entries()) {
      const size = sizes[i] ?? entries;
      const prp1 = this.#add(each, size, id);
      await this.pass(0, { opcode: 1, prp1, cdw10: (size - 1) << 16 | each, cdw11: id << 16 | 1 });
    }
  }

  /** Does a command, which is to succeed. */
  async pass(queue: number, command: CommandParts): Promise<number> {
    const { status, result } = await this.run(queue, command);
    assertEquals(status.toString(16), "0", JSON.stringify(command));
    return result;
  }

  /** Does a command. */
  async run(queue: number, command: CommandParts): Promise<Completion> {
    const id = this.put(queue, command);
    await this.ring(queue);
    return await this.wait(queue, id);
  }

  /** Waits for the end of a command. */
  async wait(queue: number, id: number): Promise<Completion> {
    let found: Completion | undefined;
    const look = () => found = this.take((each) => each.queue === queue && each.id === id);
    await until(() => look() !== undefined, `completion ${id} of queue ${queue}`);
    await this.acknowledge();
    return found!;
  }

  /** Puts a command into a queue, without ringing. Returns its id. */
  put(queue: number, command: CommandParts, id = this.#id = (this.#id + 1) % 0x1_0000): number {
    const ring = this.#submission.get(queue)!;
    assert(this.room(queue) > 0, "the queue is full");
    const entry = new DataView(
      this.map.bytes.buffer,
      this.map.bytes.byteOffset + ring.offset + ring.tail * 64,
      64,
    );
    for (let at = 0; at < 64; at += 4) entry.setUint32(at, 0);
    entry.setUint32(0, (command.opcode | (command.flags ?? 0) << 8 | id << 16) >>> 0, true);
    entry.setUint32(4, command.namespace ?? 0, true);
    entry.setBigUint64(24, BigInt(command.prp1 ?? 0), true);
    entry.setBigUint64(32, BigInt(command.prp2 ?? 0), true);
    for (const [i, name] of (["cdw10", "cdw11", "cdw12", "cdw13"] as const).entries()) {
      entry.setUint32(40 + 4 * i, (command[name] ?? 0) >>> 0, true);
    }
    ring.tail = (ring.tail + 1) % ring.entries;
    ring.pending.add(id);
    return id;
  }

  /** The number of commands that a queue still takes. */
  room(queue: number): number {
    const { head, tail, entries } = this.#submission.get(queue)!;
    return (head - tail - 1 + entries) % entries;
  }

  /** Rings the doorbell of a submission queue. */
  async ring(queue: number, value = this.#submission.get(queue)!.tail): Promise<void> {
    await this.bar0.write32Async(0x1000 + queue * 8, value);
  }

  /** Writes the heads of all completion queues. */
  async acknowledge(): Promise<void> {
    for (const [id, { head }] of this.#completion) {
      await this.bar0.write32Async(0x1004 + id * 8, head);
    }
  }

  /** The first completion that is wanted, of those that there are. */
  take(isWanted: (completion: Completion) => boolean = () => true): Completion | undefined {
    for (const [id, ring] of this.#completion) this.#collect(id, ring);
    const index = this.#done.findIndex(isWanted);
    return index < 0 ? undefined : this.#done.splice(index, 1)[0];
  }

  #collect(id: number, ring: CompletionRing): void {
    for (let count = 0; count < ring.entries; count++) {
      const entry = new DataView(
        this.map.bytes.buffer,
        this.map.bytes.byteOffset + ring.offset + ring.head * 16,
        16,
      );
      const status = entry.getUint16(14, true);
      if ((status & 1) !== ring.phase) return;
      const [queue, command] = [entry.getUint16(10, true), entry.getUint16(12, true)];
      const submission = this.#submission.get(queue);
      assert(submission?.completion === id, `a completion of queue ${queue} is in queue ${id}`);
      assert(submission.pending.delete(command), `command ${command} of queue ${queue} is new`);
      const head = entry.getUint16(8, true);
      assert(head < submission.entries, `SQHD ${head}`);
      submission.head = head;
      assertEquals(entry.getUint32(4, true), 0);
      this.#done.push({
        queue,
        id: command,
        status: status >> 1,
        result: entry.getUint32(0, true),
      });
      ring.head = (ring.head + 1) % ring.entries;
      if (ring.head === 0) ring.phase ^= 1;
    }
  }

  /** Commands of a queue under way. */
  pending(queue: number): number {
    return this.#submission.get(queue)!.pending.size;
  }

  /** Bytes at an address. */
  bytes(address: number, length: number): Uint8Array {
    return this.map.bytes.subarray(address - BASE, address - BASE + length);
  }

  /** The same, to be read as numbers. */
  view(address: number, length: number): DataView {
    return new DataView(
      this.map.bytes.buffer,
      this.map.bytes.byteOffset + address - BASE,
      length,
    );
  }

  /** Goes on where another driver is, whose memory this one gets. */
  continue(other: NvmeDriver): void {
    this.map.bytes.set(other.map.bytes);
    for (const [id, ring] of other.#submission) {
      this.#submission.set(id, { ...ring, pending: new Set(ring.pending) });
    }
    for (const [id, ring] of other.#completion) this.#completion.set(id, { ...ring });
    this.#id = other.#id;
  }
}
