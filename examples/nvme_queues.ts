/**
 * The queues of `nvme.ts`.
 *
 * @module
 */

import { Failed, Status } from "./nvme_parts.ts";

/** A queue in the client's memory. */
export type Queue = {
  /** Its first byte. */
  readonly base: bigint;
  /** How many entries it has. */
  readonly size: number;
  /** Where the controller is. */
  at: number;
  /** Of a completion queue: the bit of new entries. */
  phase: number;
  /** Of a submission queue its completion queue, of that its vector, or -1. */
  readonly other: number;
};

/** All queues of a kind, by id; 0 is that of admin commands. */
export class Queues extends Map<number, Queue> {
  static readonly MAX_ENTRIES = 2048;

  /** @param last the highest id */
  constructor(readonly last: number) {
    super();
  }

  /** Makes the queue that a command tells of, and gives its id. */
  add(command: DataView, other: number): number {
    const [id, size] = [command.getUint16(40, true), command.getUint16(42, true) + 1];
    if (id === 0 || id > this.last || this.has(id)) throw new Failed(Status.QUEUE_ID);
    if (size < 2 || size > Queues.MAX_ENTRIES) throw new Failed(Status.QUEUE_SIZE);
    this.set(id, { base: command.getBigUint64(24, true), size, at: 0, phase: 1, other });
    return id;
  }

  /** Deletes one of I/O. */
  remove(id: number): number {
    if (id === 0 || !this.delete(id)) throw new Failed(Status.QUEUE_ID);
    return 0;
  }

  /** Whether one of them completes into that. */
  use(other: number): boolean {
    return [...this.values()].some((queue) => queue.other === other);
  }

  /** As plain data. */
  get saved(): [number, Queue][] {
    return [...this];
  }

  /** Takes plain data, which may be anything. */
  restore(saved: unknown): void {
    const isWithin = (value: number, from: number, end: number) =>
      Number.isInteger(value) && value >= from && value < end;
    const all = saved as [number, Queue][];
    for (const [id, { base, size, at, phase, other }] of all) {
      const isGood = isWithin(id, 0, this.last + 1) && isWithin(size, 1, 4097) &&
        isWithin(at, 0, size) && isWithin(phase, 0, 2) && isWithin(other, -1, this.last + 1) &&
        typeof base === "bigint";
      if (!isGood) throw new RangeError(`The state has a queue ${id} that can't be`);
    }
    this.clear();
    for (const [id, queue] of all) this.set(id, queue);
  }
}
