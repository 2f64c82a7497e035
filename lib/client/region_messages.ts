/**
 * Access to a region by messages (specification: "VFIO_USER_REGION_READ",
 * "VFIO_USER_REGION_WRITE", "VFIO_USER_REGION_WRITE_MULTI").
 *
 * @module
 */

import type { RegionInfo, Width } from "./info.ts";
import { type KnownOfRegion, widthHint } from "./refusal.ts";
import { ConnectionError, ProtocolError, type RegionAccess, RemoteError } from "../base/errors.ts";
import type {
  AccessOptions,
  AsyncAccessOptions,
  BatchedWrite,
  RegionHost,
  WriteOptions,
} from "./region_options.ts";
import { bigintIn, numberIn, setValue } from "./register_value.ts";
import type { RequestOptions } from "../transport/pending.ts";
import type { VfioProxy } from "../transport/proxy.ts";
import type { Message } from "../transport/message.ts";
import {
  RegionAccessLayout,
  RegionWriteMultiReply,
  RegionWriteMultiRequest,
} from "../wire/access.ts";
import { Command } from "../wire/command.ts";
import { regionName } from "../wire/region.ts";
import { hex } from "../text/hex.ts";
import { plural } from "../text/plural.ts";

const { offset: OFFSET_AT, region: REGION_AT, count: COUNT_AT } = RegionAccessLayout.offsets;
const HEAD_SIZE = RegionAccessLayout.size;

/** Writes that one REGION_WRITE_MULTI carries: what QEMU's client sends at most. */
const MAX_MULTI = 200;

/** Milliseconds that a patient read blocks: too few for a person to notice. */
const PATIENT_MS = 50;

/**
 * The messages that access one region.
 *
 * Its blocking and asynchronous methods stay pairs. As plans they would make a generator and its
 * steps for each message: 0.13 microseconds more blocking, 0.35 more asynchronously.
 */
export class RegionMessages {
  readonly #info: RegionInfo;
  readonly #name: string;
  readonly #host: RegionHost;
  readonly #proxy: VfioProxy;
  readonly #head = new Uint8Array(HEAD_SIZE);
  readonly #headView = new DataView(this.#head.buffer);
  readonly #smallView = new DataView(new ArrayBuffer(8));
  readonly #small = { // of each width, made once: a view costs more than what is done with it
    1: new Uint8Array(this.#smallView.buffer, 0, 1),
    2: new Uint8Array(this.#smallView.buffer, 0, 2),
    4: new Uint8Array(this.#smallView.buffer, 0, 4),
    8: new Uint8Array(this.#smallView.buffer, 0, 8),
  };
  readonly #readOptions: RequestOptions;
  #hasAnswered = false; // an access by message

  /** Sends nothing by itself. */
  constructor(info: RegionInfo, name: string, host: RegionHost) {
    this.#info = info;
    this.#name = name;
    this.#host = host;
    this.#proxy = host.proxy;
    this.#headView.setUint32(REGION_AT, info.index, true);
    this.#readOptions = { doing: () => this.#doing("read") };
  }

  /**
   * Reads a register.
   *
   * @returns the reply, which holds exactly the bytes of the register behind its head
   */
  readRegister(at: number, width: Width, options: AccessOptions | undefined): Message {
    const reply = this.#requestRead(at, width, options);
    this.#checkRead(reply, at, width);
    return reply;
  }

  /** Writes a register. A posted write is under way when this returns. */
  writeRegister(
    at: number,
    width: Width,
    value: number | bigint,
    options: WriteOptions | undefined,
  ): void {
    const data = this.#small[width];
    setValue(this.#smallView, width, value);
    this.write(at, data, options);
  }

  /** Reads bytes, as many as one message carries, to where they are wanted. */
  readInto(at: number, target: Uint8Array, options: AccessOptions): void {
    this.#putData(this.#requestRead(at, target.length, options, target), at, target);
  }

  /** Writes bytes, as many as one message carries. */
  write(at: number, data: Uint8Array, options: WriteOptions | undefined): void {
    this.#host.onWrite?.();
    if (options?.posted) {
      this.#proxy.post(Command.REGION_WRITE, this.#setHead(at, data.length), { data });
    } else {
      this.#requestWrite(at, data, options);
    }
  }

  /** As `readRegister`, asynchronously; with the value. */
  async readRegisterAsync(
    at: number,
    width: Width,
    options: AsyncAccessOptions,
  ): Promise<number | bigint> {
    return this.#valueIn(await this.#requestReadAsync(at, width, options), at, width);
  }

  /** As `readRegisterAsync`, but with the value at once if the device answers within some 50 ms. */
  readRegisterPatiently(
    at: number,
    width: Width,
    options: AsyncAccessOptions,
  ): number | bigint | Promise<number | bigint> {
    const explained = async (error: unknown) => {
      throw await this.#explainAsync(error, this.#access("read", at, width), options);
    };
    try {
      const request = {
        ...requestOptions(options),
        doing: () => accessText(this.#access("read", at, width), this.#name),
      };
      const head = this.#setHead(at, width);
      const reply = this.#proxy.requestPatiently(Command.REGION_READ, head, request, PATIENT_MS);
      return reply instanceof Promise
        ? reply.then((reply) => this.#valueIn(reply, at, width)).catch(explained)
        : this.#valueIn(reply, at, width);
    } catch (error) {
      if (error instanceof RemoteError) return explained(error);
      throw error;
    }
  }

  /** As `readInto`, asynchronously. */
  async readIntoAsync(at: number, target: Uint8Array, options: AsyncAccessOptions): Promise<void> {
    const { length } = target;
    const reply = await this.#requestReadAsync(at, length, options, target);
    if (target.length !== length) { // the caller has run since the reply came
      const what = accessText(this.#access("read", at, length), this.#name);
      throw new TypeError(`Cannot ${what}: their buffer was detached or resized meanwhile`);
    }
    this.#putData(reply, at, target);
  }

  /** Writes bytes, as many as one message carries, asynchronously. */
  async writeAsync(at: number, data: Uint8Array, options: AsyncAccessOptions): Promise<void> {
    const count = data.length;
    this.#host.onWrite?.();
    try {
      const reply = await this.#proxy.request(Command.REGION_WRITE, this.#setHead(at, count), {
        ...requestOptions(options),
        data,
        doing: () => accessText(this.#access("write", at, count), this.#name),
      });
      this.#checkWritten(reply, at, count);
    } catch (error) {
      throw await this.#explainAsync(error, this.#access("write", at, count), options);
    }
  }

  /** Writes small values in their order, with as few REGION_WRITE_MULTI as possible. */
  writeMultiple(writes: readonly BatchedWrite[], options: AccessOptions): void {
    this.#host.onWrite?.();
    for (let first = 0; first < writes.length; first += MAX_MULTI) {
      const reply = this.#proxy.requestSync(
        Command.REGION_WRITE_MULTI,
        this.#encodeBatch(writes, first),
        {
          ...options,
          doing: `write ${plural(writes.length, "value")} of ${this.#name}`,
        },
      );
      this.#checkBatch(reply, Math.min(MAX_MULTI, writes.length - first));
    }
  }

  /** Waits until all posted writes have left. */
  flush(timeoutMs: number | undefined): void {
    this.#proxy.flushSync(timeoutMs);
  }

  #setHead(at: number, count: number): Uint8Array {
    const view = this.#headView;
    view.setUint32(OFFSET_AT, at >>> 0, true);
    view.setUint32(OFFSET_AT + 4, Math.floor(at / 0x1_0000_0000), true);
    view.setUint32(COUNT_AT, count, true);
    return this.#head;
  }

  /** Describes the last message, for its error. */
  #doing(kind: "read" | "write"): string {
    const at = Number(this.#headView.getBigUint64(OFFSET_AT, true));
    const access = this.#access(kind, at, this.#headView.getUint32(COUNT_AT, true));
    return accessText(access, this.#name);
  }

  #access(kind: "read" | "write", offset: number, count: number): RegionAccess {
    return { kind, region: this.#info.index, offset, count };
  }

  #requestRead(
    at: number,
    count: number,
    options: AccessOptions | undefined,
    into?: Uint8Array,
  ): Message {
    const head = this.#setHead(at, count);
    const timeoutMs = options?.timeoutMs;
    const request = timeoutMs === undefined && into === undefined
      ? this.#readOptions
      : { ...this.#readOptions, ...timeoutOf(timeoutMs), ...(into && { into }) };
    try {
      return this.#proxy.requestSync(Command.REGION_READ, head, request);
    } catch (error) {
      throw this.#explain(error, this.#access("read", at, count), options);
    }
  }

  #requestWrite(at: number, data: Uint8Array, options: AccessOptions | undefined): void {
    const head = this.#setHead(at, data.length);
    const { timeoutMs } = options ?? {};
    try {
      const reply = this.#proxy.requestSync(Command.REGION_WRITE, head, {
        data,
        doing: () => this.#doing("write"),
        ...(timeoutMs !== undefined && { timeoutMs }),
      });
      this.#checkWritten(reply, at, data.length);
    } catch (error) {
      throw this.#explain(error, this.#access("write", at, data.length), options);
    }
  }

  async #requestReadAsync(
    at: number,
    count: number,
    options: AsyncAccessOptions,
    into?: Uint8Array,
  ): Promise<Message> {
    try {
      return await this.#proxy.request(Command.REGION_READ, this.#setHead(at, count), {
        ...requestOptions(options),
        ...(into && { into }),
        doing: () => accessText(this.#access("read", at, count), this.#name),
      });
    } catch (error) {
      throw await this.#explainAsync(error, this.#access("read", at, count), options);
    }
  }

  /** Copies the data of a read reply to their target, unless they are there already. */
  #putData(reply: Message, at: number, target: Uint8Array): void {
    if (!reply.isPlaced) return target.set(this.#takeData(reply, at, target.length));
    if (reply.payloadSize !== HEAD_SIZE) {
      throw this.#broken(
        `answered ${
          plural(reply.payloadSize + target.length, "byte")
        } to a read of ${target.length}`,
      );
    }
    this.#checkEcho(reply, target.length, "read", at);
  }

  /** The data of a read reply, which must be the bytes asked for. */
  #takeData(reply: Message, at: number, count: number): Uint8Array {
    this.#checkRead(reply, at, count);
    return reply.payload.subarray(HEAD_SIZE);
  }

  #valueIn(reply: Message, at: number, width: Width): number | bigint {
    this.#checkRead(reply, at, width);
    return width === 8 ? bigintIn(reply) : numberIn(reply, width);
  }

  #checkRead(reply: Message, at: number, count: number): void {
    if (reply.payloadSize !== HEAD_SIZE + count) {
      throw this.#broken(
        `answered ${plural(reply.payloadSize, "byte")} to a read of ${
          plural(count, "byte")
        } of ${this.#name} at ${hex(at)}; ` +
          `${HEAD_SIZE + count} belong there, ${HEAD_SIZE} of them ahead of the data`,
      );
    }
    this.#checkEcho(reply, count, "read", at);
  }

  /** A write's reply says how many bytes were taken. One without a payload is taken for all. */
  #checkWritten(reply: Message, at: number, count: number): void {
    if (reply.payloadSize === 0) return;
    if (reply.payloadSize < HEAD_SIZE) {
      throw this.#broken(
        `answered ${plural(reply.payloadSize, "byte")} to a write of ${this.#name}`,
      );
    }
    this.#checkEcho(reply, count, "wrote", at);
  }

  #checkEcho(reply: Message, count: number, what: string, at: number): void {
    const came = reply.uint32(COUNT_AT);
    if (came !== count) {
      throw this.#broken(
        `says that it ${what} ${came} of ${plural(count, "byte")} of ${this.#name} at ${hex(at)}`,
      );
    }
    const [low, high] = [reply.uint32(OFFSET_AT), reply.uint32(OFFSET_AT + 4)];
    const region = reply.uint32(REGION_AT);
    const isThere = low === at >>> 0 && high === Math.floor(at / 0x1_0000_0000);
    if (isThere && region === this.#info.index) {
      this.#hasAnswered = true;
      return;
    }
    throw this.#broken(
      `answered for ${regionName(region)} at ${hex(high * 0x1_0000_0000 + low)}, ` +
        `not for ${this.#name} at ${hex(at)}`,
    );
  }

  #broken(what: string): ProtocolError {
    const error = new ProtocolError(`The server ${what}`);
    this.#proxy.close(error);
    return error;
  }

  /** The error of an access, with more of its reason. */
  #explain(error: unknown, access: RegionAccess, options: AccessOptions | undefined): unknown {
    const refusal = this.#withAccess(error, access, options);
    if (refusal === undefined) return error;
    return this.#host.explain?.(this.#known, refusal) ?? refusal;
  }

  async #explainAsync(
    error: unknown,
    access: RegionAccess,
    options: AccessOptions | undefined,
  ): Promise<unknown> {
    const refusal = this.#withAccess(error, access, options);
    if (refusal === undefined) return error;
    return await this.#host.explainAsync?.(this.#known, refusal) ?? refusal;
  }

  get #known(): KnownOfRegion {
    return { info: this.#info, name: this.#name, hasAnswered: this.#hasAnswered };
  }

  /** Notes the access in its error. Returns a refusal that is to be looked into. */
  #withAccess(
    error: unknown,
    access: RegionAccess,
    options: AccessOptions | undefined,
  ): RemoteError | undefined {
    if (error instanceof ConnectionError && error.oldest !== undefined) {
      Object.assign(error, { access });
      const hint = error.isOldest ? widthHint(access) : undefined;
      if (hint !== undefined) error.because(hint);
    }
    if (!(error instanceof RemoteError)) return undefined;
    Object.assign(error, { access });
    return options?.explain === false ? undefined : error;
  }

  #encodeBatch(writes: readonly BatchedWrite[], first: number): Uint8Array {
    return RegionWriteMultiRequest.encode({
      writes: writes.slice(first, first + MAX_MULTI).map(({ offset, data }) => ({
        offset: BigInt(offset),
        region: this.#info.index,
        data,
      })),
    });
  }

  #checkBatch(reply: Message, wanted: number): void {
    const { count } = RegionWriteMultiReply.decode(reply.payload);
    if (count > BigInt(wanted)) {
      throw this.#broken(`says that it did ${count} writes of ${this.#name}, of ${wanted}`);
    }
    if (count < BigInt(wanted)) {
      throw new RemoteError(
        `Only ${count} of ${plural(wanted, "value")} of ${this.#name} were written`,
        0,
      );
    }
  }
}

/** An access in words, for errors. */
function accessText({ kind, offset, count }: RegionAccess, name: string): string {
  return `${kind} ${plural(count, "byte")} of ${name} at ${hex(offset)}`;
}

function requestOptions(
  { timeoutMs, signal }: AsyncAccessOptions,
): { timeoutMs?: number; signal?: AbortSignal } {
  return { ...(timeoutMs !== undefined && { timeoutMs }), ...(signal && { signal }) };
}

function timeoutOf(timeoutMs: number | undefined): { timeoutMs?: number } {
  return timeoutMs === undefined ? {} : { timeoutMs };
}
