/**
 * Resources of the kernel that a process has few of, and peers can use up: mappings, address space
 * and descriptors. What is left beyond a budget is for V8, which ends the process when mmap(2)
 * fails.
 *
 * Each thread counts its own. So a budget is half of what there is, or less, and looks now and then
 * at what the whole process uses.
 *
 * @module
 */

import { ENOSPC, SystemError } from "./errno.ts";
import { readWhole } from "./fd.ts";
import { libc } from "./libc.ts";
import { rlimit } from "./structs.ts";

const RLIMIT_NOFILE = 7;
/** The kernel's default of vm.max_map_count. */
const DEFAULT_MAX_MAP_COUNT = 65530;
/** The limit that stands for a higher one, or for none. */
const MAX_OPEN_FILES = 2 ** 20;
/**
 * Address space below 2^47, which is what x86_64 has. Others, if they have less, are found out by
 * `bound`.
 */
const DEFAULT_ADDRESS_SPACE = 2 ** 47;

/** The use of all threads of the process together: too dear to be asked for each time. */
interface WholeProcess {
  /** The number that is taken and returned between two looks. */
  readonly every: number;
  /** The number that the process may still take; below 0 if it has too many. */
  left(): number;
}

/**
 * A number of things that may be in use at one time.
 *
 * @example
 * ```ts
 * import { Budget } from "./budget.ts";
 *
 * const budget = new Budget("cups", "pour", () => 2);
 * budget.take(2, "Cannot make tea");
 * budget.give(1);
 * console.assert(budget.used === 1 && budget.limit === 2);
 * ```
 */
export class Budget {
  readonly #what: string;
  readonly #call: string;
  readonly #find: () => number;
  readonly #process: WholeProcess | undefined;
  #limit: number | undefined;
  #used = 0;
  #moved = 0; // since the process was looked at
  #isFull = false; // whether it had too few left then

  /**
   * A budget of which nothing is in use.
   *
   * @param what the things, in the plural, for errors
   * @param call the system call that takes one, for errors
   * @param find returns how many there may be; called at first use
   * @param process what other threads leave
   */
  constructor(what: string, call: string, find: () => number, process?: WholeProcess) {
    this.#what = what;
    this.#call = call;
    this.#find = find;
    this.#process = process;
  }

  /** The number that may be in use. */
  get limit(): number {
    return this.#limit ??= this.#find();
  }

  /** The number in use. */
  get used(): number {
    return this.#used;
  }

  /** Lowers the limit, if it is higher. */
  bound(limit: number): void {
    if (limit < this.limit) this.#limit = limit;
  }

  /**
   * Takes some. Whoever has done with them calls `give`.
   *
   * @param doing what they are for, for the error: "Cannot map 4096 bytes"
   * @throws {SystemError} ENOSPC if there are not so many left; none is taken then
   */
  take(count: number, doing: string): void {
    if (this.#used + count > this.limit) {
      const reason = `${this.#used} of ${this.limit} ${this.#what} of this process are in use`;
      throw this.refusal(doing, reason);
    }
    if (!this.#othersLeave(count)) {
      throw this.refusal(doing, `all threads together use too many ${this.#what} of this process`);
    }
    this.#used += count;
  }

  /** Gives some back that were taken. */
  give(count: number): void {
    this.#used -= count;
    this.#moved += count;
  }

  #othersLeave(count: number): boolean {
    if (this.#process === undefined) return true;
    this.#moved += count;
    if (this.#moved >= this.#process.every) {
      this.#moved = 0;
      this.#isFull = this.#process.left() < this.#process.every;
    }
    return !this.#isFull;
  }

  /** The error of who can't have some. */
  refusal(doing: string, reason: string): SystemError {
    return new SystemError(this.#call, ENOSPC, `${doing}, as ${reason}`);
  }

  /** The things, in the plural. */
  get what(): string {
    return this.#what;
  }
}

/** The source of a resource: a budget, or a share in one. */
export type Purse = Pick<Budget, "take" | "give">;

/**
 * One client's share of a budget: never more than is left to the others.
 *
 * @example
 * ```ts
 * import { Budget, BudgetShare } from "./budget.ts";
 *
 * const budget = new Budget("cups", "pour", () => 4);
 * const share = new BudgetShare(budget);
 * share.take(2, "Cannot make tea");
 * console.assert(budget.used === 2); // a third would leave only one
 * ```
 */
export class BudgetShare {
  readonly #budget: Budget;
  #used = 0;

  /** A share of which nothing is in use. */
  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /**
   * Takes some of the budget.
   *
   * @param doing what they are for, for the error
   * @throws {SystemError} ENOSPC if there are not so many left, or that would leave too few
   */
  take(count: number, doing: string): void {
    const { limit, used, what } = this.#budget;
    if (this.#used + count > limit - used) {
      const reason = `${limit - used} of ${limit} ${what} of this process are left, and this ` +
        `client has ${this.#used}`;
      throw this.#budget.refusal(doing, reason);
    }
    this.#budget.take(count, doing);
    this.#used += count;
  }

  /** Gives some back that were taken. */
  give(count: number): void {
    this.#budget.give(count);
    this.#used -= count;
  }
}

/** Calls of mmap(2) in force: half of what the kernel allows a process. */
export const mappings = new Budget("mappings", "mmap", () => Math.floor(maxMapCount() / 2), {
  every: 2048,
  left: () => 0.75 * maxMapCount() - countMaps(),
});

/** Bytes of address space that mappings take: half of it. */
export const addressSpace: Budget = new Budget(
  "bytes of address space",
  "mmap",
  () => DEFAULT_ADDRESS_SPACE / 2,
  { every: 2 ** 42, left: () => 1.5 * addressSpace.limit - sizeOfProcess() },
);

/**
 * Descriptors that are kept for as long as a peer wants: a quarter of what the process may open.
 */
export const keptDescriptors = new Budget(
  "descriptors that are kept",
  "dup",
  () => Math.floor(maxOpenFiles() / 4),
);

/**
 * Descriptors by which peers signal, or are signalled: half of what the process may open. The
 * first peer gets half of them, so that another quarter is left for its neighbours' connections,
 * and for what comes with messages.
 */
export const signalDescriptors = new Budget(
  "descriptors for interrupts",
  "recvmsg",
  () => Math.floor(maxOpenFiles() / 2),
);

let mapCount: number | undefined;

/** Returns the machine's limit; the default if it can't be read. */
function maxMapCount(): number {
  return mapCount ??= Number.parseInt(readProc("sys/vm/max_map_count"), 10) ||
    DEFAULT_MAX_MAP_COUNT;
}

/** Mappings of all threads, each of which has a line: up to 10 ms. */
function countMaps(): number {
  return readProc("self/maps").split("\n").length;
}

/** Bytes of address space of all threads. */
function sizeOfProcess(): number {
  return (Number.parseInt(readProc("self/statm"), 10) || 0) * libc().getpagesize();
}

/** A file of the kernel; empty if it can't be read. */
function readProc(name: string): string {
  try {
    return readWhole(`/proc/${name}`);
  } catch (error) {
    if (error instanceof SystemError) return "";
    throw error;
  }
}

function maxOpenFiles(): number {
  const limit = new BigUint64Array(rlimit.SIZE / 8);
  if (libc().getrlimit(RLIMIT_NOFILE, limit) < 0) return 1024;
  return Math.min(Number(limit[rlimit.cur / 8]), MAX_OPEN_FILES);
}
