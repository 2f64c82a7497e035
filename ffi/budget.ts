/**
 * Resources of the kernel that a process has few of, and peers can use up: mappings, address space
 * and descriptors. What is left beyond a budget is for V8, which ends the process when mmap(2)
 * fails.
 *
 * Each thread counts its own, so a budget is half of what there is, or less.
 *
 * @module
 */

import { ENOSPC, SystemError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { libc } from "./libc.ts";
import { rlimit } from "./structs.ts";

const RLIMIT_NOFILE = 7;
const O_RDONLY = 0;
/** What vm.max_map_count is unless somebody changes it. */
const DEFAULT_MAX_MAP_COUNT = 65530;
/** What is used of a limit that is higher, or none. */
const MAX_OPEN_FILES = 2 ** 20;
/**
 * Address space below 2^47, which is what x86_64 has. Others, if they have less, are found out by
 * `bound`.
 */
const DEFAULT_ADDRESS_SPACE = 2 ** 47;

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
  #limit: number | undefined;
  #used = 0;

  /**
   * A budget of which nothing is in use.
   *
   * @param what the things, in the plural, for errors
   * @param call the system call that takes one, for errors
   * @param find returns how many there may be; called at first use
   */
  constructor(what: string, call: string, find: () => number) {
    this.#what = what;
    this.#call = call;
    this.#find = find;
  }

  /** How many may be in use. */
  get limit(): number {
    return this.#limit ??= this.#find();
  }

  /** How many are in use. */
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
    this.#used += count;
  }

  /** Gives some back that were taken. */
  give(count: number): void {
    this.#used -= count;
  }

  /** The error of who can't have some. */
  refusal(doing: string, reason: string): SystemError {
    return new SystemError(this.#call, ENOSPC, `${doing}, as ${reason}`);
  }

  /** What the things are, in the plural. */
  get what(): string {
    return this.#what;
  }
}

/** Where things are taken from: a budget, or a share in one. */
export type Purse = Pick<Budget, "take" | "give">;

/**
 * What one client of several has of a budget: never more than is left to the others.
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

/** Calls of mmap(2) in force: half of what the kernel allows a process, for all of its threads. */
export const mappings = new Budget("mappings", "mmap", () => Math.floor(maxMapCount() / 2));

/** Bytes of address space that mappings take: half of it. */
export const addressSpace = new Budget(
  "bytes of address space",
  "mmap",
  () => DEFAULT_ADDRESS_SPACE / 2,
);

/**
 * Descriptors that are kept for as long as a peer wants: a quarter of what the process may open.
 */
export const keptDescriptors = new Budget(
  "descriptors that are kept",
  "dup",
  () => Math.floor(maxOpenFiles() / 4),
);

/** What the machine says; the usual if it can't be read. */
function maxMapCount(): number {
  try {
    using file = OwnedFd.open("/proc/sys/vm/max_map_count", O_RDONLY);
    const bytes = new Uint8Array(32);
    const count = file.readAt(bytes, 0n);
    const value = Number.parseInt(new TextDecoder().decode(bytes.subarray(0, count)), 10);
    return Number.isInteger(value) && value > 0 ? value : DEFAULT_MAX_MAP_COUNT;
  } catch (error) {
    if (error instanceof SystemError) return DEFAULT_MAX_MAP_COUNT;
    throw error;
  }
}

function maxOpenFiles(): number {
  const limit = new BigUint64Array(rlimit.SIZE / 8);
  if (libc().getrlimit(RLIMIT_NOFILE, limit) < 0) return 1024;
  return Math.min(Number(limit[rlimit.cur / 8]), MAX_OPEN_FILES);
}
