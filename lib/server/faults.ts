/**
 * Faults on purpose: a server that answers late, wrongly or not at all. The author of a client
 * learns how the client reacts.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { MAX_ERRNO } from "../text/errno.ts";
import { joined } from "../base/bytes.ts";
import { MAX_DELAY_MS, OFFERED_MAX_DATA_XFER_SIZE } from "../base/limits.ts";
import type { IncomingRequest } from "../transport/incoming.ts";
import { Random } from "../base/random.ts";
import { sleep } from "../base/sleep.ts";
import { Command, commandName } from "../wire/command.ts";
import { DeviceError } from "./served_device.ts";

/**
 * A fault of a request. Except for `error` the device does as asked, and only the answer is wrong.
 * A client that wants no answer notices only `delay`, `close`, and the missing effect of `error`.
 */
export type Fault =
  /** All is well, `ms` milliseconds later. What the client asks next waits, too. */
  | { readonly kind: "delay"; readonly ms: number }
  /** No answer comes. */
  | { readonly kind: "drop" }
  /** The answer is an error, with Linux's error number, 1 to 4095; the device is not asked. */
  | { readonly kind: "error"; readonly errno: number }
  /**
   * Random bytes follow the header: as many as there should be, or `size`. No descriptors are
   * passed. An error answer stays an error.
   */
  | { readonly kind: "garbage"; readonly size?: number }
  /**
   * Only half of the payload comes, or `size` bytes; the header says so. An error answer stays an
   * error.
   */
  | { readonly kind: "truncate"; readonly size?: number }
  /**
   * The connection ends in place of the answer, or after `size` bytes of it, the header included.
   */
  | { readonly kind: "close"; readonly size?: number };

/**
 * Requests that have the fault: the `nth`, each `every`th, both from 1, or any with `probability`,
 * above 0 and 1 at most.
 */
export type FaultTiming =
  | { readonly nth: number }
  | { readonly every: number }
  | { readonly probability: number };

/** A fault, and the requests that have it. */
export interface FaultRule {
  /** The command's number; default any, VERSION included. */
  readonly command?: number;
  /** The fault. */
  readonly fault: Fault;
  /** With which of these requests, counted over all clients since the server began. Default all. */
  readonly when?: FaultTiming;
}

/** A fault that has happened. */
export interface FaultEvent {
  /** The command of the request. */
  readonly command: number;
  /** The fault that was injected. */
  readonly fault: Fault;
  /** The request's number among those that match the rule, from 1. */
  readonly count: number;
}

/** The faults of a server. */
export interface FaultOptions {
  /** Delays add up. Of the other faults that a request meets, that of the first rule happens. */
  readonly rules: readonly FaultRule[];
  /**
   * Seed of the random numbers, 0 to 2^32 - 1. The same seed and the same requests have the same
   * result. Default 0.
   */
  readonly seed?: number;
  /** Hears of each fault. */
  readonly onFault?: (event: FaultEvent) => void;
}

/** The connection as a faulty request needs it. */
export interface FaultyConnection {
  /** Answers the request as if nothing were wrong. */
  serve(request: IncomingRequest): void | Promise<void>;
  /** Answers that it failed, with what the error says. */
  refuse(request: IncomingRequest, error: Error): void;
  /** Ends the connection. */
  close(): void;
  /** Aborted at its end. */
  readonly signal: AbortSignal;
}

/** Bytes of garbage where there should be none. */
const DEFAULT_GARBAGE = 16;

/** The faults of a server, and how far their counts are. */
export class Faults {
  readonly #rules: readonly FaultRule[];
  readonly #counts: number[];
  readonly #random: Random;
  readonly #onFault: ((event: FaultEvent) => void) | undefined;

  /**
   * Begins to count.
   *
   * @throws {RangeError} if a number in a rule is out of its range
   */
  constructor({ rules, seed = 0, onFault }: FaultOptions) {
    checkInteger("The seed of faults", seed, 0, 0xffff_ffff);
    for (const rule of rules) checkRule(rule);
    this.#rules = rules;
    this.#counts = rules.map(() => 0);
    this.#random = new Random(seed);
    this.#onFault = onFault;
  }

  /** Serves a request, with what goes wrong with it now. */
  serve(request: IncomingRequest, connection: FaultyConnection): void | Promise<void> {
    const faults = this.#strike(request.command);
    const isDelay = (fault: Fault) => fault.kind === "delay";
    const delayMs = faults.reduce((sum, each) => each.kind === "delay" ? sum + each.ms : sum, 0);
    const fault = faults.find((each) => !isDelay(each));
    if (delayMs === 0) return this.#serve(request, fault, connection);
    const { signal } = connection;
    return sleep(Math.min(delayMs, MAX_DELAY_MS), signal).then(
      () => this.#serve(request, fault, connection),
      () => {}, // the client is gone
    );
  }

  #serve(
    request: IncomingRequest,
    fault: Fault | undefined,
    connection: FaultyConnection,
  ): void | Promise<void> {
    if (fault === undefined) return connection.serve(request);
    if (fault.kind === "error") {
      return connection.refuse(request, new DeviceError(fault.errno, "a fault on purpose"));
    }
    return connection.serve(new FaultyRequest(request, fault, this.#random, connection));
  }

  /** Counts a request, and gives what goes wrong with it. */
  #strike(command: number): Fault[] {
    const faults: Fault[] = [];
    for (const [i, { command: wanted, fault, when }] of this.#rules.entries()) {
      if (wanted !== undefined && wanted !== command) continue;
      const count = ++this.#counts[i]!;
      if (when !== undefined && !this.#isDue(when, count)) continue;
      faults.push(fault);
      this.#onFault?.({ command, fault, count });
    }
    return faults;
  }

  #isDue(when: FaultTiming, count: number): boolean {
    if ("nth" in when) return count === when.nth;
    if ("every" in when) return count % when.every === 0;
    return this.#random.next() < when.probability;
  }
}

/** A request whose answer is not what it should be. */
class FaultyRequest implements IncomingRequest {
  readonly #request: IncomingRequest;
  readonly #fault: Fault;
  readonly #random: Random;
  readonly #connection: FaultyConnection;

  constructor(
    request: IncomingRequest,
    fault: Fault,
    random: Random,
    connection: FaultyConnection,
  ) {
    this.#request = request;
    this.#fault = fault;
    this.#random = random;
    this.#connection = connection;
  }

  get command(): number {
    return this.#request.command;
  }

  get noReply(): boolean {
    return this.#request.noReply;
  }

  get payload(): Uint8Array {
    return this.#request.payload;
  }

  get payloadSize(): number {
    return this.#request.payloadSize;
  }

  payloadFrom(offset: number): Uint8Array {
    return this.#request.payloadFrom(offset);
  }

  uint32(offset: number): number {
    return this.#request.uint32(offset);
  }

  get fdCount(): number {
    return this.#request.fdCount;
  }

  get isAnswered(): boolean {
    return this.#request.isAnswered;
  }

  takeFds(): OwnedFd[] {
    return this.#request.takeFds();
  }

  reply(payload?: Uint8Array, data?: Uint8Array, fds?: readonly OwnedFd[]): void {
    const whole = joined([payload, data].filter((part) => part !== undefined));
    if (this.command === Command.VERSION) this.#keepOpen(fds);
    const { kind } = this.#fault;
    const { size } = this.#fault as { size?: number };
    if (kind === "truncate") {
      return this.#request.reply(whole.subarray(0, size ?? whole.length >> 1), undefined, fds);
    }
    if (kind === "garbage") {
      return this.#request.reply(this.#random.bytes(size ?? (whole.length || DEFAULT_GARBAGE)));
    }
    this.replyInPart(kind === "close" ? size ?? 0 : 0, whole);
  }

  /**
   * Keeps twin sockets open until the connection ends. A twin whose client's end is closed would
   * end the connection, against the intent of the fault.
   */
  #keepOpen(fds: readonly OwnedFd[] = []): void {
    const { signal } = this.#connection;
    if (signal.aborted) return;
    for (const fd of fds) {
      const kept = fd.duplicate();
      signal.addEventListener("abort", () => kept.close(), { once: true });
    }
  }

  fail(errno: number): void {
    const { kind } = this.#fault;
    if (kind === "drop" || kind === "close") return this.replyInPart(0);
    this.#request.fail(errno);
  }

  replyInPart(size: number, payload?: Uint8Array): void {
    this.#request.replyInPart(size, payload);
    if (this.#fault.kind === "close") this.#connection.close();
  }
}

/**
 * Checks the numbers of a rule.
 *
 * @throws {RangeError} if one is out of its range
 */
export function checkRule({ command, fault, when = { every: 1 } }: FaultRule): void {
  if (command !== undefined) checkCommand(command);
  if (fault.kind === "delay") {
    checkInteger("The milliseconds of a delay", fault.ms, 1, MAX_DELAY_MS);
  } else if (fault.kind === "error") {
    checkInteger("An errno", fault.errno, 1, MAX_ERRNO);
  } else if (fault.kind !== "drop" && fault.size !== undefined) {
    checkInteger(`The size of ${fault.kind}`, fault.size, 0, OFFERED_MAX_DATA_XFER_SIZE);
  }
  if ("nth" in when) checkInteger("The nth of faults", when.nth, 1, Number.MAX_SAFE_INTEGER);
  else if ("every" in when) {
    checkInteger("The every of faults", when.every, 1, Number.MAX_SAFE_INTEGER);
  } else if (!(when.probability > 0 && when.probability <= 1)) {
    throw new RangeError(`A probability is above 0 and 1 at most, not ${when.probability}`);
  }
}

function checkCommand(command: number): void {
  checkInteger("The number of a command", command, 0, 0xffff);
  if (command === Command.DMA_READ || command === Command.DMA_WRITE) {
    throw new RangeError(
      `A fault of ${
        commandName(command)
      } can't be: that is what a server sends, and faults are in what it answers`,
    );
  }
}

function checkInteger(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`${what} is an integer from ${least} to ${most}, not ${value}`);
}
