/**
 * The queues of the NVMe controller, and which of them is served next.
 *
 * @module
 */

/** A queue in the client's memory. */
export type Queue = {
  /** Its first byte. */
  readonly base: bigint;
  /** The number of entries that it has. */
  readonly size: number;
  /** The next entry to be taken out. */
  head: number;
  /** The next entry to be put in. */
  tail: number;
  /** The phase bit of new entries of a completion queue. */
  phase: number;
  /** The completion queue of a submission queue; else the vector, or -1 without interrupts. */
  readonly other: number;
};

/** Queues of a kind, by id; 0 is that of admin commands. */
export type QueueMap = Map<number, Queue>;

/** All queues. */
export class Queues {
  readonly submission: QueueMap = new Map();
  readonly completion: QueueMap = new Map();
  #served = 0; // the submission queue that was served last,
  #burst = 0; // and how many commands more it may have served

  /**
   * @param last the highest id
   * @param doorbells of all queues: tail and head by turns
   */
  constructor(readonly last: number, readonly doorbells: Uint32Array) {}

  /** Makes a queue, whose doorbell counts from now on. */
  add(
    kind: "submission" | "completion",
    id: number,
    { base, size, other }: Pick<Queue, "base" | "size" | "other">,
  ): void {
    this.doorbells[2 * id + Number(kind === "completion")] = 0;
    this[kind].set(id, { base, size, other, head: 0, tail: 0, phase: 1 });
  }

  /** Deletes all, and forgets all doorbells: those rung before a queue is made mean nothing. */
  clear(): void {
    this.submission.clear();
    this.completion.clear();
    this.doorbells.fill(0);
    this.#served = this.#burst = 0;
  }

  /**
   * The id of the queue whose turn it is, round robin, of those that have a command and room for
   * its completion.
   *
   * @param burst how many commands a queue may have served in a row
   */
  next(burst: number): number | undefined {
    const count = this.last + 1;
    const first = this.#burst > 0 ? 0 : 1; // the same once more, or the one behind it
    for (let step = first; step < first + count; step++) {
      const id = (this.#served + step) % count;
      const queue = this.submission.get(id);
      if (queue === undefined || queue.head === queue.tail || this.room(queue.other) === 0) {
        continue;
      }
      if (step > 0) this.#burst = burst;
      this.#served = id;
      this.#burst--;
      return id;
    }
    this.#burst = 0;
  }

  /** The number of entries that a completion queue still takes. */
  room(id: number): number {
    const { head, tail, size } = this.completion.get(id)!;
    return (head - tail - 1 + size) % size;
  }

  /**
   * Takes the values of all doorbells that make sense. Those that do not are ignored.
   *
   * @param wrong called for each value that makes no sense, as long as it is there
   */
  ring(wrong: (doorbell: number, value: number) => void): void {
    for (const [id, queue] of this.submission) {
      const value = this.doorbells[2 * id]!;
      if (value === queue.tail) continue;
      // New commands are behind those that are waiting.
      const isNew = value < queue.size && distance(queue, value) >= distance(queue, queue.tail);
      if (isNew) queue.tail = value;
      else wrong(2 * id, value);
    }
    for (const [id, queue] of this.completion) {
      const value = this.doorbells[2 * id + 1]!;
      if (value === queue.head) continue;
      // No more is taken than there is.
      const isTaken = value < queue.size && distance(queue, value) <= distance(queue, queue.tail);
      if (isTaken) queue.head = value;
      else wrong(2 * id + 1, value);
    }
  }

  /** Plain data. */
  get saved(): { submission: [number, Queue][]; completion: [number, Queue][] } {
    return { submission: [...this.submission], completion: [...this.completion] };
  }

  /**
   * Takes plain data, which may be anything.
   *
   * @throws {RangeError} if there is a queue that can't be
   */
  restore(saved: { submission: unknown; completion: unknown }): void {
    const completion = this.#restored(
      saved.completion,
      (vector) => isWithin(vector, -1, this.last),
    );
    const submission = this.#restored(saved.submission, (other) => completion.has(other));
    for (
      const [kind, queues] of [["submission", submission], ["completion", completion]] as const
    ) {
      this[kind].clear();
      for (const [id, queue] of queues) this[kind].set(id, queue);
    }
  }

  #restored(saved: unknown, isOther: (other: number) => boolean): QueueMap {
    const queues: QueueMap = new Map(saved as [number, Queue][]);
    for (const [id, { base, size, head, tail, phase, other }] of queues) {
      const isGood = isWithin(id, 0, this.last) && isWithin(size, 2, 4096) &&
        isWithin(head, 0, size - 1) && isWithin(tail, 0, size - 1) && isWithin(phase, 0, 1) &&
        isOther(other) && typeof base === "bigint" && BigInt.asUintN(64, base) === base;
      if (!isGood) throw new RangeError(`The state has a queue ${id} that can't be`);
    }
    return queues;
  }
}

/** Entries from the head of a queue to another. */
function distance({ head, size }: Queue, entry: number): number {
  return (entry - head + size) % size;
}

function isWithin(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}
