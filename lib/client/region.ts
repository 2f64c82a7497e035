/**
 * `Region`: reading and writing a region of a device, through memory where the device shares it, by message where it
 * traps (specification: "VFIO_USER_REGION_READ", "VFIO_USER_REGION_WRITE", "VFIO_USER_REGION_WRITE_MULTI").
 *
 * Synchronous calls block the thread, as a load or a store would; their `...Async` twins pipeline: any number may be
 * outstanding, and they take effect in the order of the calls. Nothing is sent for an access that the region's info rules out.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { type AreaFile, examineArea } from "./area_file.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { Mapping, MAX_MAPPING, PAGE_SIZE } from "../../ffi/memory.ts";
import type { Negotiated, RegionInfo } from "./info.ts";
import { type KnownOfRegion, widthHint } from "./diagnose/refusal.ts";
import {
  ConnectionError,
  ProtocolError,
  type RegionAccess,
  RemoteError,
  TimeoutError,
} from "../base/errors.ts";
import { inLanes } from "../base/lanes.ts";
import { DEFAULT_TIMEOUT_MS, WRITE_CHUNK_SIZE } from "../base/limits.ts";
import type { RequestOptions } from "../transport/pending.ts";
import type { VfioProxy } from "../transport/proxy.ts";
import { sleep } from "../base/sleep.ts";
import type { Message } from "../transport/message.ts";
import {
  RegionAccessLayout,
  RegionWriteMultiReply,
  RegionWriteMultiRequest,
} from "../wire/access.ts";
import { Command } from "../wire/command.ts";
import { PciRegion, RegionFlags, regionName } from "../wire/region.ts";
import { hex } from "../text/hex.ts";
import type { Width } from "./info.ts";

const { offset: OFFSET_AT, region: REGION_AT, count: COUNT_AT } = RegionAccessLayout.offsets;
const HEAD_SIZE = RegionAccessLayout.size;

/** How an access is served: through memory that the device shares, or by a message. */
export type Via = "map" | "message";

/** How to access. */
export interface AccessOptions {
  /** Through the map or by message; default through the map where that is possible. */
  via?: Via;
  /** In milliseconds; default that of the connection. Not for access through the map. */
  timeoutMs?: number;
  /**
   * Looks into a refusal for its reason, by further reads: at the same place in other widths, and
   * of the configuration space. Default true.
   */
  explain?: boolean;
}

/** How to access asynchronously. */
export interface AsyncAccessOptions extends AccessOptions {
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

/** How to write. */
export interface WriteOptions extends AccessOptions {
  /** Asks for no answer. The write is under way when the call returns; a later access sees it. An error is not heard of. */
  posted?: boolean;
}

/** How to read or write many bytes. */
export interface BulkOptions extends AsyncAccessOptions {
  /** Bytes that one message carries at most. Default: what was agreed on to read, 32 KiB to write, because libvfio-user may lose larger ones. */
  chunkSize?: number;
  /** Where to put what is read; its length is that of the read. Default: new memory. */
  into?: Uint8Array<ArrayBuffer>;
  /** Told after each piece how many bytes are done. */
  onProgress?: (done: number) => void;
}

/** How long to look for a value. */
export interface PollOptions extends AccessOptions {
  /** Between two looks, in milliseconds; default 1. */
  intervalMs?: number;
}

/** How long to look for a value, asynchronously. */
export interface AsyncPollOptions extends PollOptions {
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

/** A write among many. */
export interface BatchedWrite {
  /** In bytes from the start of the region. */
  offset: number | bigint;
  /** 1 to 8 bytes; a register's are little-endian. */
  data: Uint8Array;
}

/** What a Region has of its device. */
export interface RegionHost {
  /** The connection. */
  readonly proxy: VfioProxy;
  /** What was agreed on. */
  readonly negotiated: Negotiated;
  /** Adds its reason to a refusal, if one is found. */
  explain?(region: KnownOfRegion, error: RemoteError): RemoteError;
  /** The same without blocking. */
  explainAsync?(region: KnownOfRegion, error: RemoteError): Promise<RemoteError>;
}

/** Writes that one REGION_WRITE_MULTI carries: what QEMU's client sends at most. */
const MAX_MULTI = 200;

/** Pieces of a large transfer that are under way together. */
const PIPELINE = 8;

/** Configuration space is accessed in aligned pieces of at most 4 bytes, as hardware does it: every server takes those. */
const CONFIG_PIECE = 4;

/** How long a patient read blocks. A person does not notice. */
const PATIENT_MS = 50;

const NO_WORDS = new Uint32Array(0);

/** An area that is mapped, with a typed array for each width of access. */
interface Area {
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly u16: Uint16Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly u64: BigUint64Array<ArrayBuffer>;
  readonly mapping: Mapping;
  /** Its file, if something can happen to that. */
  readonly file: AreaFile | undefined;
}

/** Where an area is in the region and in its file. */
interface AreaPlace {
  readonly start: bigint;
  readonly size: bigint;
  readonly fileOffset: bigint;
  readonly fd: OwnedFd | undefined;
}

/**
 * A region of a device. `Device.region` makes it.
 *
 * @example
 * ```ts
 * import { connect } from "./connect.ts";
 * import { DemoDevice, DemoRegister } from "../devices/demo.ts";
 * import { Server } from "../server/server.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * await device.regionInfo(0);
 * const bar0 = device.region("bar0");
 * await bar0.write32Async(DemoRegister.SCRATCH, 0x1234);
 * console.assert(await bar0.read32Async(DemoRegister.SCRATCH) === 0x1234);
 * ```
 */
export class Region implements Disposable {
  /** What the region is. */
  readonly info: RegionInfo;
  /** "bar0", "config", "region 9". */
  readonly name: string;
  /** Bytes of the region. A region beyond 2^53 bytes can be used up to there. */
  readonly size: number;
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
  #areas: Area[] | undefined; // undefined: not mapped yet
  #last: Area | undefined; // the area that was used last
  // Of that area, at hand without a step between, for 32 bits: empty where there is none, or no right to it.
  #start = 0;
  #readable = NO_WORDS;
  #writable = NO_WORDS;
  #unmapped: string | undefined; // why there is none
  #isOpen = true;
  #hasAnswered = false; // an access by message

  /** @ignore made by `Device.region` */
  constructor(info: RegionInfo, host: RegionHost) {
    this.info = info;
    this.name = regionName(info.index);
    this.size = Number(
      info.size < BigInt(Number.MAX_SAFE_INTEGER) ? info.size : Number.MAX_SAFE_INTEGER,
    );
    this.#host = host;
    this.#proxy = host.proxy;
    this.#headView.setUint32(REGION_AT, info.index, true);
    this.#readOptions = { doing: () => this.#doing("read") };
  }

  /** Reads 8 bits. Throws as {@linkcode Region.read32}. */
  read8(offset: number | bigint, options?: AccessOptions): number {
    const at = Number(offset);
    const area = this.#areaFor(at, 1, RegionFlags.READ, options);
    if (area !== undefined) return area.bytes[at - area.start]!;
    return numberIn(this.#readMessage(at, 1, options), 1);
  }

  /** Reads 16 bits. Throws as {@linkcode Region.read32}. */
  read16(offset: number | bigint, options?: AccessOptions): number {
    const at = Number(offset);
    const area = this.#areaFor(at, 2, RegionFlags.READ, options);
    if (area !== undefined) return area.u16[(at - area.start) / 2]!;
    return numberIn(this.#readMessage(at, 2, options), 2);
  }

  /**
   * Reads 32 bits.
   *
   * Through the map this is one load; of two in a row of the same register, optimised code may make one. `poll` never does.
   *
   * @param offset in bytes from the start of the region, a multiple of the width
   * @throws {RangeError} if it is misaligned or outside the region
   * @throws {TypeError} if the region is absent, can't be read, or can't be accessed the way that was forced
   * @throws {RemoteError} if the device refuses
   * @throws {TimeoutError} if it does not answer
   * @throws {ProtocolError} if it answers with fewer or more bytes
   */
  read32(offset: number | bigint, options?: AccessOptions): number {
    // The fast path. Out of bounds, misaligned, unmapped: nothing is there, and the way below says why.
    if (options === undefined && typeof offset === "number") {
      const value = this.#readable[(offset - this.#start) / 4];
      if (value !== undefined) return value;
    }
    const at = Number(offset);
    const area = this.#areaFor(at, 4, RegionFlags.READ, options);
    if (area !== undefined) return area.u32[(at - area.start) / 4]!;
    return numberIn(this.#readMessage(at, 4, options), 4);
  }

  /** Reads 64 bits. Throws as {@linkcode Region.read32}. */
  read64(offset: number | bigint, options?: AccessOptions): bigint {
    const at = Number(offset);
    const area = this.#areaFor(at, 8, RegionFlags.READ, options);
    if (area !== undefined) return area.u64[(at - area.start) / 8]!;
    return bigintIn(this.#readMessage(at, 8, options));
  }

  /** Writes 8 bits. Throws as {@linkcode Region.write32}. */
  write8(offset: number | bigint, value: number, options?: WriteOptions): void {
    const at = Number(offset);
    checkValue(value, 1);
    const area = this.#areaFor(at, 1, RegionFlags.WRITE, options);
    if (area !== undefined) area.bytes[at - area.start] = value;
    else this.#writeMessage(at, 1, value, options);
  }

  /** Writes 16 bits. Throws as {@linkcode Region.write32}. */
  write16(offset: number | bigint, value: number, options?: WriteOptions): void {
    const at = Number(offset);
    checkValue(value, 2);
    const area = this.#areaFor(at, 2, RegionFlags.WRITE, options);
    if (area !== undefined) area.u16[(at - area.start) / 2] = value;
    else this.#writeMessage(at, 2, value, options);
  }

  /**
   * Writes 32 bits.
   *
   * @param offset in bytes from the start of the region, a multiple of the width
   * @param value not negative, and not wider than the register
   * @throws {RangeError} if the offset is misaligned or outside the region, or the value does not fit
   * @throws {TypeError} if the region is absent, can't be written, or can't be accessed the way that was forced
   * @throws {RemoteError} if the device refuses; not for a posted write
   * @throws {TimeoutError} if it does not answer
   */
  write32(offset: number | bigint, value: number, options?: WriteOptions): void {
    if (options === undefined && typeof offset === "number" && value >>> 0 === value) {
      const words = this.#writable;
      const index = (offset - this.#start) / 4;
      if (index >>> 0 === index && index < words.length) {
        words[index] = value;
        return;
      }
    }
    const at = Number(offset);
    checkValue(value, 4);
    const area = this.#areaFor(at, 4, RegionFlags.WRITE, options);
    if (area !== undefined) area.u32[(at - area.start) / 4] = value;
    else this.#writeMessage(at, 4, value, options);
  }

  /** Writes 64 bits. Throws as {@linkcode Region.write32}. */
  write64(offset: number | bigint, value: bigint, options?: WriteOptions): void {
    const at = Number(offset);
    checkValue(value, 8);
    const area = this.#areaFor(at, 8, RegionFlags.WRITE, options);
    if (area !== undefined) area.u64[(at - area.start) / 8] = value;
    else this.#writeMessage(at, 8, value, options);
  }

  /** Reads a register of any width; 8 bytes come as bigint, less as number. Throws as {@linkcode Region.read32}. */
  readWidth(offset: number | bigint, width: Width, options?: AccessOptions): number | bigint {
    switch (width) {
      case 1:
        return this.read8(offset, options);
      case 2:
        return this.read16(offset, options);
      case 4:
        return this.read32(offset, options);
      case 8:
        return this.read64(offset, options);
    }
  }

  /** Writes a register of any width. Throws as {@linkcode Region.write32}. */
  writeWidth(
    offset: number | bigint,
    width: Width,
    value: number | bigint,
    options?: WriteOptions,
  ): void {
    if (width === 8) return this.write64(offset, BigInt(value), options);
    checkValue(value, width);
    if (width === 1) this.write8(offset, Number(value), options);
    else if (width === 2) this.write16(offset, Number(value), options);
    else this.write32(offset, Number(value), options);
  }

  /**
   * Changes the bits of a register that `mask` selects, by reading and writing it.
   *
   * @returns what was written
   */
  modify(
    offset: number | bigint,
    width: Width,
    mask: number | bigint,
    value: number | bigint,
    options?: WriteOptions,
  ): number | bigint {
    checkValue(mask, width);
    const next = merge(this.readWidth(offset, width, readOptions(options)), mask, value, width);
    this.writeWidth(offset, width, next, options);
    return next;
  }

  /**
   * Reads a register again and again until its value is as wanted. Each look is a read of its own.
   *
   * @param predicate tells whether the value is as wanted
   * @returns the value that was
   * @throws {TimeoutError} if that does not happen in time; its message has the last value
   */
  poll(
    offset: number | bigint,
    width: Width,
    predicate: (value: number | bigint) => boolean,
    options: PollOptions = {},
  ): number | bigint {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, intervalMs = 1, ...access } = options;
    const deadline = monotonicMs() + timeoutMs;
    for (;;) {
      const value = this.#look(offset, width, access);
      if (predicate(value)) return value;
      const remaining = deadline - monotonicMs();
      if (remaining <= 0) throw this.#pollTimeout(offset, width, value, timeoutMs);
      this.#proxy.serveSync(Math.min(intervalMs, remaining));
    }
  }

  /**
   * Reads bytes. Long ones take several messages; those of the configuration space are read in aligned pieces of at most 4 bytes.
   *
   * @param offset in bytes from the start of the region
   * @param length in bytes
   * @param options `signal` is not heard while the thread is blocked
   * @returns exactly `length` bytes, a copy
   * @throws as {@linkcode Region.read32}, but for alignment, which does not matter
   */
  read(
    offset: number | bigint,
    length: number,
    options: BulkOptions = {},
  ): Uint8Array<ArrayBuffer> {
    const start = Number(offset);
    this.#check(start, length, RegionFlags.READ);
    const into = destination(options.into, length);
    for (const piece of this.#pieces(start, length, options, this.#readChunk(options))) {
      const { area, at, count } = piece;
      const target = into.subarray(at - start, at - start + count);
      if (area === undefined) {
        this.#putData(this.#requestRead(at, count, options, target), at, target);
      } else {
        const got = this.#readArea(area, at, target);
        if (got < count) {
          this.read(at + got, count - got, { ...restOf(options), into: target.subarray(got) });
        }
      }
      options.onProgress?.(at - start + count);
    }
    return into;
  }

  /**
   * Writes bytes. Long ones take several messages, of 32 KiB at most if nothing else is said; those of the configuration space are written in
   * aligned pieces of at most 4 bytes.
   *
   * @throws as {@linkcode Region.write32}, but for alignment, which does not matter
   */
  write(offset: number | bigint, data: Uint8Array, options: BulkOptions & WriteOptions = {}): void {
    const start = Number(offset);
    this.#check(start, data.length, RegionFlags.WRITE);
    for (
      const { area, at, count } of this.#pieces(
        start,
        data.length,
        options,
        this.#writeChunk(options),
      )
    ) {
      const source = data.subarray(at - start, at - start + count);
      if (area !== undefined) {
        const put = this.#writeArea(area, at, source);
        if (put < count) this.write(at + put, source.subarray(put), restOf(options));
      } else if (options.posted) {
        this.#proxy.post(Command.REGION_WRITE, this.#setHead(at, count), { data: source });
      } else this.#requestWrite(at, source, options);
      options.onProgress?.(at - start + count);
    }
  }

  /**
   * Writes many small values, in their order, with as few messages as possible: REGION_WRITE_MULTI where that was agreed on, else
   * posted writes that leave together. A following read sees them all. With posted writes an error is not heard of.
   *
   * @throws {RemoteError} if a write of a REGION_WRITE_MULTI fails; those before it are done
   */
  writeBatch(writes: readonly BatchedWrite[], options: AccessOptions = {}): void {
    for (const { offset, data } of writes) this.#checkBatched(Number(offset), data);
    if (!this.#host.negotiated.writeMultiple) {
      for (const { offset, data } of writes) {
        this.write(offset, data, { ...options, via: "message", posted: true });
      }
      return this.#proxy.flushSync(options.timeoutMs);
    }
    for (let first = 0; first < writes.length; first += MAX_MULTI) {
      const reply = this.#proxy.requestSync(
        Command.REGION_WRITE_MULTI,
        this.#encodeBatch(writes, first),
        {
          ...options,
          doing: `write ${writes.length} values of ${this.name}`,
        },
      );
      this.#checkBatch(reply, Math.min(MAX_MULTI, writes.length - first));
    }
  }

  // ---- The asynchronous twins

  /** As {@linkcode Region.read8}, asynchronously. */
  read8Async(offset: number | bigint, options?: AsyncAccessOptions): Promise<number> {
    return this.readWidthAsync(offset, 1, options) as Promise<number>;
  }

  /** As {@linkcode Region.read16}, asynchronously. */
  read16Async(offset: number | bigint, options?: AsyncAccessOptions): Promise<number> {
    return this.readWidthAsync(offset, 2, options) as Promise<number>;
  }

  /** As {@linkcode Region.read32}, asynchronously. */
  read32Async(offset: number | bigint, options?: AsyncAccessOptions): Promise<number> {
    return this.readWidthAsync(offset, 4, options) as Promise<number>;
  }

  /** As {@linkcode Region.read64}, asynchronously. */
  read64Async(offset: number | bigint, options?: AsyncAccessOptions): Promise<bigint> {
    return this.readWidthAsync(offset, 8, options) as Promise<bigint>;
  }

  /** As {@linkcode Region.write8}, asynchronously. */
  write8Async(
    offset: number | bigint,
    value: number,
    options?: WriteOptions & AsyncAccessOptions,
  ): Promise<void> {
    return this.writeWidthAsync(offset, 1, value, options);
  }

  /** As {@linkcode Region.write16}, asynchronously. */
  write16Async(
    offset: number | bigint,
    value: number,
    options?: WriteOptions & AsyncAccessOptions,
  ): Promise<void> {
    return this.writeWidthAsync(offset, 2, value, options);
  }

  /** As {@linkcode Region.write32}, asynchronously. */
  write32Async(
    offset: number | bigint,
    value: number,
    options?: WriteOptions & AsyncAccessOptions,
  ): Promise<void> {
    return this.writeWidthAsync(offset, 4, value, options);
  }

  /** As {@linkcode Region.write64}, asynchronously. */
  write64Async(
    offset: number | bigint,
    value: bigint,
    options?: WriteOptions & AsyncAccessOptions,
  ): Promise<void> {
    return this.writeWidthAsync(offset, 8, value, options);
  }

  /** As {@linkcode Region.readWidth}, asynchronously. */
  async readWidthAsync(
    offset: number | bigint,
    width: Width,
    options: AsyncAccessOptions = {},
  ): Promise<number | bigint> {
    const at = Number(offset);
    if (this.#intactAreaFor(at, width, RegionFlags.READ, options) !== undefined) {
      return this.readWidth(at, width, options);
    }
    const reply = await this.#requestReadAsync(at, width, options);
    this.#checkRead(reply, at, width);
    return width === 8 ? bigintIn(reply) : numberIn(reply, width);
  }

  /**
   * As {@linkcode Region.readWidth} if the device answers within some 50 ms, as most do within microseconds: blocking, with the value at
   * once. Else as {@linkcode Region.readWidthAsync}, so that a slow device keeps nobody from signals and timers.
   *
   * @throws as `readWidth`; the promise is rejected as that of `readWidthAsync`
   */
  readWidthPatiently(
    offset: number | bigint,
    width: Width,
    options: AsyncAccessOptions = {},
  ): number | bigint | Promise<number | bigint> {
    const at = Number(offset);
    if (this.#intactAreaFor(at, width, RegionFlags.READ, options) !== undefined) {
      return this.readWidth(at, width, options);
    }
    const value = (reply: Message) => {
      this.#checkRead(reply, at, width);
      return width === 8 ? bigintIn(reply) : numberIn(reply, width);
    };
    const explained = async (error: unknown) => {
      throw await this.#explainAsync(error, this.#access("read", at, width), options);
    };
    try {
      const request = {
        ...requestOptions(options),
        doing: () => accessText(this.#access("read", at, width)),
      };
      const head = this.#setHead(at, width);
      const reply = this.#proxy.requestPatiently(Command.REGION_READ, head, request, PATIENT_MS);
      return reply instanceof Promise ? reply.then(value).catch(explained) : value(reply);
    } catch (error) {
      if (error instanceof RemoteError) return explained(error);
      throw error;
    }
  }

  /** As {@linkcode Region.writeWidth}, asynchronously. */
  async writeWidthAsync(
    offset: number | bigint,
    width: Width,
    value: number | bigint,
    options: WriteOptions & AsyncAccessOptions = {},
  ): Promise<void> {
    const at = Number(offset);
    checkValue(value, width);
    const area = this.#intactAreaFor(at, width, RegionFlags.WRITE, options);
    if (area !== undefined || options.posted) return this.writeWidth(at, width, value, options);
    await this.#requestWriteAsync(at, bytesOf(value, width), options);
  }

  /** As {@linkcode Region.modify}, asynchronously. */
  async modifyAsync(
    offset: number | bigint,
    width: Width,
    mask: number | bigint,
    value: number | bigint,
    options?: WriteOptions & AsyncAccessOptions,
  ): Promise<number | bigint> {
    checkValue(mask, width);
    const next = merge(
      await this.readWidthAsync(offset, width, readOptions(options)),
      mask,
      value,
      width,
    );
    await this.writeWidthAsync(offset, width, next, options);
    return next;
  }

  /** As {@linkcode Region.poll}, asynchronously. */
  async pollAsync(
    offset: number | bigint,
    width: Width,
    predicate: (value: number | bigint) => boolean,
    options: AsyncPollOptions = {},
  ): Promise<number | bigint> {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, intervalMs = 1, ...access } = options;
    const deadline = monotonicMs() + timeoutMs;
    for (;;) {
      access.signal?.throwIfAborted();
      const area = this.#intactAreaFor(Number(offset), width, RegionFlags.READ, access);
      const value = area !== undefined
        ? this.#look(offset, width, access)
        : await this.readWidthAsync(offset, width, access);
      if (predicate(value)) return value;
      const remaining = deadline - monotonicMs();
      if (remaining <= 0) throw this.#pollTimeout(offset, width, value, timeoutMs);
      await sleep(Math.min(intervalMs, remaining), access.signal);
    }
  }

  /** As {@linkcode Region.read}, asynchronously: several pieces are under way together. */
  async readAsync(
    offset: number | bigint,
    length: number,
    options: BulkOptions = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    const start = Number(offset);
    this.#check(start, length, RegionFlags.READ);
    const into = destination(options.into, length);
    let done = 0;
    await inLanes(
      PIPELINE,
      this.#pieces(start, length, options, this.#readChunk(options)),
      async ({ area, at, count }) => {
        this.#checkWhole(into, length, "read");
        const target = into.subarray(at - start, at - start + count);
        if (area === undefined) {
          const reply = await this.#requestReadAsync(at, count, options, target);
          this.#checkWhole(into, length, "read"); // other pieces were told of meanwhile
          this.#putData(reply, at, target);
        } else {
          const got = this.#readArea(area, at, target);
          const rest = target.subarray(got);
          if (got < count) {
            await this.readAsync(at + got, count - got, { ...restOf(options), into: rest });
          }
        }
        options.onProgress?.(done += count);
      },
    );
    return into;
  }

  /** As {@linkcode Region.write}, asynchronously: several pieces are under way together. */
  async writeAsync(
    offset: number | bigint,
    data: Uint8Array,
    options: BulkOptions = {},
  ): Promise<void> {
    const start = Number(offset);
    const { length } = data;
    this.#check(start, length, RegionFlags.WRITE);
    let done = 0;
    await inLanes(
      PIPELINE,
      this.#pieces(start, length, options, this.#writeChunk(options)),
      async ({ area, at, count }) => {
        this.#checkWhole(data, length, "write");
        const source = data.subarray(at - start, at - start + count);
        if (area === undefined) await this.#requestWriteAsync(at, source, options);
        else {
          const put = this.#writeArea(area, at, source);
          if (put < count) await this.writeAsync(at + put, source.subarray(put), restOf(options));
        }
        options.onProgress?.(done += count);
      },
    );
  }

  // ---- The map

  /**
   * How an access of `length` bytes at `offset` is served if nothing is forced.
   *
   * @throws {RangeError} if it is outside the region
   */
  via(offset: number | bigint, length: number): Via {
    const at = Number(offset);
    this.#check(at, length, 0);
    return this.#find(at, length) === undefined ? "message" : "map";
  }

  /** The areas that are mapped, as offset and size in bytes. Maps them if they are not yet. */
  get mappedAreas(): { offset: number; size: number }[] {
    return this.#map().map(({ start, end }) => ({ offset: start, size: end - start }));
  }

  /** Unmaps. Accesses after this throw; views that were taken are empty. */
  close(): void {
    this.#isOpen = false;
    this.#use(undefined);
    for (const { mapping } of this.#areas ?? []) mapping.close();
    this.#areas = [];
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** The area that serves an access of a register; undefined if a message does. Checks all that can be known before. */
  #areaFor(
    at: number,
    width: Width,
    right: number,
    options: AccessOptions | undefined,
  ): Area | undefined {
    // The fast path: mapped, where the last access was, nothing forced. An area has all the rights that its region has.
    const last = this.#last;
    if (
      last !== undefined && options === undefined && at >= last.start && at + width <= last.end &&
      at % width === 0 &&
      (this.info.flags & right) !== 0
    ) {
      return last;
    }
    this.#check(at, width, right);
    if (at % width !== 0) {
      throw new RangeError(
        `Cannot access ${width} bytes of ${this.name} at ${
          hex(at)
        }: the offset is not a multiple of ${width}`,
      );
    }
    const via = options?.via;
    if (via === "message" || ((options as WriteOptions | undefined)?.posted && via === undefined)) {
      return this.#byMessage(width);
    }
    const area = this.#find(at, width);
    if (area === undefined && via === "map") throw this.#notMapped(at, width);
    if (area === undefined) return this.#byMessage(width);
    this.#use(area);
    return area;
  }

  /** Refuses a register that no message carries as a whole: it can't be accessed in pieces. */
  #byMessage(width: number): undefined {
    const { maxDataXferSize } = this.#host.negotiated;
    if (width <= maxDataXferSize) return undefined;
    throw new RangeError(
      `Cannot access ${width} bytes of ${this.name} at once: ` +
        `a message carries ${maxDataXferSize} at most, as was agreed on (max_data_xfer_size)`,
    );
  }

  /** As `#areaFor`, without an area whose file has become shorter: from then on messages do. */
  #intactAreaFor(
    at: number,
    width: Width,
    right: number,
    options: AccessOptions | undefined,
  ): Area | undefined {
    const area = this.#areaFor(at, width, right, options);
    if (area?.file === undefined || area.file.isWhole) return area;
    this.#drop(area);
    return this.#areaFor(at, width, right, options);
  }

  /** Copies out of an area, as many bytes as it still has. */
  #readArea(area: Area, at: number, target: Uint8Array): number {
    const start = at - area.start;
    if (area.file === undefined) {
      target.set(area.bytes.subarray(start, start + target.length));
      return target.length;
    }
    const got = area.file.read(start, target);
    if (got < target.length) this.#drop(area);
    return got;
  }

  /** Copies into an area, as many bytes as it still takes. */
  #writeArea(area: Area, at: number, source: Uint8Array): number {
    const start = at - area.start;
    const { file } = area;
    if (file?.canWrite) {
      const put = file.write(start, source);
      if (put < source.length) this.#drop(area);
      return put;
    }
    if (file !== undefined && (!area.mapping.isOpen || !file.isWhole)) {
      this.#drop(area);
      return 0;
    }
    area.bytes.set(source, start);
    return source.length;
  }

  /** Uses an area no more whose file has become shorter, or can't be read. */
  #drop(area: Area): void {
    if (this.#last === area) this.#use(undefined);
    const index = this.#areas?.indexOf(area) ?? -1;
    if (index >= 0) this.#areas!.splice(index, 1);
    area.mapping.close();
    this.#unmapped ??= "its file has become shorter";
  }

  #use(area: Area | undefined): void {
    const { flags } = this.info;
    this.#last = area;
    this.#start = area?.start ?? 0;
    this.#readable = area !== undefined && flags & RegionFlags.READ ? area.u32 : NO_WORDS;
    this.#writable = area !== undefined && flags & RegionFlags.WRITE ? area.u32 : NO_WORDS;
  }

  #notMapped(at: number, length: number): TypeError {
    const why = this.#unmapped ??
      (this.#areas!.length === 0
        ? "the device shares no memory for it"
        : "that is not in one mapped area");
    return new TypeError(
      `Cannot access ${length} bytes of ${this.name} at ${hex(at)} through the map: ${why}`,
    );
  }

  #find(at: number, length: number): Area | undefined {
    return this.#map().find((area) => at >= area.start && at + length <= area.end);
  }

  /** Maps what can be mapped, once. What can't be is accessed by message. */
  #map(): Area[] {
    if (this.#areas !== undefined) return this.#areas;
    this.#areas = [];
    if ((this.info.flags & RegionFlags.MMAP) === 0) return this.#areas;
    for (const place of areaPlaces(this.info)) {
      try {
        this.#areas.push(mapArea(place, (this.info.flags & RegionFlags.WRITE) !== 0));
      } catch (error) {
        this.#unmapped ??= (error as Error).message;
      }
    }
    return this.#areas;
  }

  // ---- Messages

  #check(at: number, length: number, right: number): void {
    if (!this.#isOpen) throw new TypeError(`Cannot access ${this.name}: it is closed`);
    if (this.size === 0) {
      throw new TypeError(`Cannot access ${this.name}: the device does not have it`);
    }
    if (
      !Number.isSafeInteger(at) || at < 0 || !Number.isInteger(length) || length < 0 ||
      at + length > this.size
    ) {
      throw new RangeError(
        `Cannot access ${length} bytes of ${this.name} at ${hex(at)}: it has ${
          hex(this.size)
        } bytes`,
      );
    }
    if (right !== 0 && (this.info.flags & right) === 0 && this.#enforcesRights) {
      const what = right === RegionFlags.READ ? "read" : "written";
      throw new TypeError(`Cannot access ${this.name}: the device says that it can't be ${what}`);
    }
  }

  /** Some servers give the configuration space no flags at all, and serve it all the same. */
  get #enforcesRights(): boolean {
    return this.info.index !== PciRegion.CONFIG;
  }

  #setHead(at: number, count: number): Uint8Array {
    const view = this.#headView;
    view.setUint32(OFFSET_AT, at >>> 0, true);
    view.setUint32(OFFSET_AT + 4, Math.floor(at / 0x1_0000_0000), true);
    view.setUint32(COUNT_AT, count, true);
    return this.#head;
  }

  /** What the last message was to do, for its error. */
  #doing(kind: "read" | "write"): string {
    const at = Number(this.#headView.getBigUint64(OFFSET_AT, true));
    return accessText(this.#access(kind, at, this.#headView.getUint32(COUNT_AT, true)));
  }

  #access(kind: "read" | "write", offset: number, count: number): RegionAccess {
    return { kind, region: this.info.index, offset, count };
  }

  #readMessage(at: number, width: Width, options: AccessOptions | undefined): Message {
    const reply = this.#requestRead(at, width, options);
    this.#checkRead(reply, at, width);
    return reply;
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

  #writeMessage(
    at: number,
    width: Width,
    value: number | bigint,
    options: WriteOptions | undefined,
  ): void {
    const data = this.#small[width];
    setValue(this.#smallView, width, value);
    if (options?.posted) this.#proxy.post(Command.REGION_WRITE, this.#setHead(at, width), { data });
    else this.#requestWrite(at, data, options);
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
        doing: () => accessText(this.#access("read", at, count)),
      });
    } catch (error) {
      throw await this.#explainAsync(error, this.#access("read", at, count), options);
    }
  }

  async #requestWriteAsync(
    at: number,
    data: Uint8Array,
    options: AsyncAccessOptions,
  ): Promise<void> {
    const count = data.length;
    try {
      const reply = await this.#proxy.request(Command.REGION_WRITE, this.#setHead(at, count), {
        ...requestOptions(options),
        data,
        doing: () => accessText(this.#access("write", at, count)),
      });
      this.#checkWritten(reply, at, count);
    } catch (error) {
      throw await this.#explainAsync(error, this.#access("write", at, count), options);
    }
  }

  /** Refuses a buffer that its owner has detached, by a transfer, or resized during the access. */
  #checkWhole(buffer: Uint8Array, length: number, verb: "read" | "write"): void {
    if (buffer.length === length) return;
    const what = `${verb} ${length} bytes of ${this.name}`;
    throw new TypeError(`Cannot ${what}: their buffer was detached or resized meanwhile`);
  }

  /** Has the data of a read reply where they are wanted. */
  #putData(reply: Message, at: number, target: Uint8Array): void {
    if (!reply.isPlaced) return target.set(this.#takeData(reply, at, target.length));
    if (reply.payloadSize !== HEAD_SIZE) {
      throw this.#broken(
        `answered ${reply.payloadSize + target.length} bytes to a read of ${target.length}`,
      );
    }
    this.#checkEcho(reply, target.length, "read", at);
  }

  /** The data of a read reply, which must be the bytes asked for. */
  #takeData(reply: Message, at: number, count: number): Uint8Array {
    this.#checkRead(reply, at, count);
    return reply.payload.subarray(HEAD_SIZE);
  }

  #checkRead(reply: Message, at: number, count: number): void {
    if (reply.payloadSize !== HEAD_SIZE + count) {
      throw this.#broken(
        `answered ${reply.payloadSize} bytes to a read of ${count} bytes of ${this.name} at ${
          hex(at)
        }; ${HEAD_SIZE + count} belong there`,
      );
    }
    this.#checkEcho(reply, count, "read", at);
  }

  /** A write's reply says how many bytes were taken. One without a payload is taken for all. */
  #checkWritten(reply: Message, at: number, count: number): void {
    if (reply.payloadSize === 0) return;
    if (reply.payloadSize < HEAD_SIZE) {
      throw this.#broken(`answered ${reply.payloadSize} bytes to a write of ${this.name}`);
    }
    this.#checkEcho(reply, count, "wrote", at);
  }

  #checkEcho(reply: Message, count: number, what: string, at: number): void {
    const came = reply.uint32(COUNT_AT);
    if (came !== count) {
      throw this.#broken(
        `says that it ${what} ${came} of ${count} bytes of ${this.name} at ${hex(at)}`,
      );
    }
    const [low, high] = [reply.uint32(OFFSET_AT), reply.uint32(OFFSET_AT + 4)];
    const region = reply.uint32(REGION_AT);
    const isThere = low === at >>> 0 && high === Math.floor(at / 0x1_0000_0000);
    if (isThere && region === this.info.index) {
      this.#hasAnswered = true;
      return;
    }
    throw this.#broken(
      `answered for ${regionName(region)} at ${hex(high * 0x1_0000_0000 + low)}, ` +
        `not for ${this.name} at ${hex(at)}`,
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
    return { info: this.info, hasAnswered: this.#hasAnswered };
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

  // ---- Pieces

  #readChunk({ chunkSize }: BulkOptions): number {
    return Math.min(chunkSize ?? Infinity, this.#host.negotiated.maxDataXferSize);
  }

  #writeChunk({ chunkSize }: BulkOptions): number {
    return Math.min(chunkSize ?? WRITE_CHUNK_SIZE, this.#host.negotiated.maxDataXferSize);
  }

  /** Cuts a range where the way of access changes, and into what one message carries. */
  *#pieces(
    start: number,
    length: number,
    { via }: AccessOptions,
    chunkSize: number,
  ): Generator<{ area: Area | undefined; at: number; count: number }> {
    if (!Number.isInteger(chunkSize) || chunkSize < 1) {
      throw new RangeError(`A chunk of ${chunkSize} bytes is not possible`);
    }
    const areas = via === "message" ? [] : this.#map();
    const end = start + length;
    for (let at = start; at < end;) {
      const area = areas.find((each) => at >= each.start && at < each.end);
      if (area === undefined && via === "map") throw this.#notMapped(start, length);
      let count: number;
      if (area !== undefined) {
        count = Math.min(end, area.end) - at;
      } else {
        const next = Math.min(
          end,
          ...areas.filter((each) => each.start > at).map((each) => each.start),
        );
        count = Math.min(next - at, chunkSize);
        if (this.info.index === PciRegion.CONFIG) count = configPiece(at, count);
      }
      yield { area, at, count };
      at += count;
    }
  }

  #checkBatched(at: number, data: Uint8Array): void {
    if (data.length < 1 || data.length > 8) {
      throw new RangeError(`A batched write has 1 to 8 bytes, not ${data.length}`);
    }
    this.#check(at, data.length, RegionFlags.WRITE);
    this.#byMessage(data.length);
  }

  #encodeBatch(writes: readonly BatchedWrite[], first: number): Uint8Array {
    return RegionWriteMultiRequest.encode({
      writes: writes.slice(first, first + MAX_MULTI).map(({ offset, data }) => ({
        offset: BigInt(offset),
        region: this.info.index,
        data,
      })),
    });
  }

  #checkBatch(reply: Message, wanted: number): void {
    const { count } = RegionWriteMultiReply.decode(reply.payload);
    if (count > BigInt(wanted)) {
      throw this.#broken(`says that it did ${count} writes of ${this.name}, of ${wanted}`);
    }
    if (count < BigInt(wanted)) {
      throw new RemoteError(`Only ${count} of ${wanted} values of ${this.name} were written`, 0);
    }
  }

  /** A read that is never merged with another one. */
  #look(offset: number | bigint, width: Width, options: AccessOptions): number | bigint {
    const at = Number(offset);
    const area = this.#areaFor(at, width, RegionFlags.READ, options);
    if (area === undefined) return this.readWidth(at, width, options);
    const index = (at - area.start) / width;
    switch (width) {
      case 1:
        return Atomics.load(area.bytes, index);
      case 2:
        return Atomics.load(area.u16, index);
      case 4:
        return Atomics.load(area.u32, index);
      case 8:
        return Atomics.load(area.u64, index);
    }
  }

  #pollTimeout(
    offset: number | bigint,
    width: Width,
    value: number | bigint,
    timeoutMs: number,
  ): TimeoutError {
    return new TimeoutError(
      `${this.name} at ${
        hex(offset)
      } did not become as wanted within ${timeoutMs} ms; its last value was ${
        hex(value, width * 2)
      }`,
    );
  }
}

/** An access in words, for errors. */
function accessText({ kind, region, offset, count }: RegionAccess): string {
  return `${kind} ${count} bytes of ${regionName(region)} at ${hex(offset)}`;
}

/** What of a region can be mapped, and where it is in which file. */
function areaPlaces({ size, offset, fds, capabilities }: RegionInfo): AreaPlace[] {
  for (const capability of capabilities) {
    if (capability.kind === "sparse_mmap") {
      // Older libvfio-user passes the same file once an area: the first one will do.
      return capability.areas.map((area) => ({
        start: area.offset,
        size: area.size,
        fileOffset: offset + area.offset,
        fd: fds[0],
      }));
    }
    if (capability.kind === "sparse_mmap_fds") {
      return capability.areas.map((area) => ({
        start: area.offset,
        size: area.size,
        fileOffset: area.fdOffset,
        fd: fds[area.fdIndex],
      }));
    }
  }
  return [{ start: 0n, size, fileOffset: offset, fd: fds[0] }];
}

function mapArea({ start, size, fileOffset, fd }: AreaPlace, writable: boolean): Area {
  if (fd === undefined) throw new TypeError("the server passed no file descriptor for it");
  if (size === 0n || size > BigInt(MAX_MAPPING)) {
    throw new RangeError(`an area of ${hex(size)} bytes can't be mapped`);
  }
  if (start % BigInt(PAGE_SIZE) !== 0n) {
    throw new RangeError(`an area at ${hex(start)} does not begin a page`);
  }
  const file = examineArea(fd, fileOffset, size);
  const mapping = Mapping.create(fd, { length: Number(size), offset: fileOffset, writable });
  const { buffer } = mapping;
  return {
    start: Number(start),
    end: Number(start + size),
    bytes: new Uint8Array(buffer),
    u16: new Uint16Array(buffer, 0, Math.floor(buffer.byteLength / 2)),
    u32: new Uint32Array(buffer, 0, Math.floor(buffer.byteLength / 4)),
    u64: new BigUint64Array(buffer, 0, Math.floor(buffer.byteLength / 8)),
    mapping,
    file,
  };
}

/** Options for what is left of a piece, whose progress is told with the piece. */
function restOf<T extends BulkOptions>(
  { onProgress: _, into: __, ...options }: T,
): Omit<T, "onProgress" | "into"> {
  return options;
}

/** The longest aligned piece of 1, 2 or 4 bytes. */
function configPiece(at: number, count: number): number {
  let piece = CONFIG_PIECE;
  while (at % piece !== 0 || piece > count) piece /= 2;
  return piece;
}

function requestOptions(
  { timeoutMs, signal }: AsyncAccessOptions,
): { timeoutMs?: number; signal?: AbortSignal } {
  return { ...(timeoutMs !== undefined && { timeoutMs }), ...(signal && { signal }) };
}

function timeoutOf(timeoutMs: number | undefined): { timeoutMs?: number } {
  return timeoutMs === undefined ? {} : { timeoutMs };
}

function destination(
  into: Uint8Array<ArrayBuffer> | undefined,
  length: number,
): Uint8Array<ArrayBuffer> {
  if (into === undefined) return new Uint8Array(length);
  if (into.length === length) return into;
  throw new RangeError(`Cannot read ${length} bytes into ${into.length}`);
}

/** The read of a read-modify-write is never posted. */
function readOptions(
  options: (WriteOptions & AsyncAccessOptions) | undefined,
): AsyncAccessOptions | undefined {
  if (options === undefined) return undefined;
  const { posted: _, ...access } = options;
  return access;
}

function merge(
  old: number | bigint,
  mask: number | bigint,
  value: number | bigint,
  width: Width,
): number | bigint {
  checkValue(value, width);
  const next = (BigInt(old) & ~BigInt(mask)) | (BigInt(value) & BigInt(mask));
  return width === 8 ? next : Number(next);
}

const MAX_VALUE = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff, 8: 0xffff_ffff_ffff_ffffn } as const;

function checkValue(value: number | bigint, width: Width): void {
  if (
    value >= 0 && value <= MAX_VALUE[width] &&
    (typeof value === "bigint" || Number.isInteger(value))
  ) return;
  throw new RangeError(
    `${
      typeof value === "bigint" || Number.isInteger(value) ? hex(value) : value
    } is no unsigned value of ${width * 8} bits`,
  );
}

function bytesOf(value: number | bigint, width: Width): Uint8Array {
  const bytes = new Uint8Array(width);
  setValue(new DataView(bytes.buffer), width, value);
  return bytes;
}

function setValue(view: DataView, width: Width, value: number | bigint): void {
  if (width === 8) view.setBigUint64(0, BigInt(value), true);
  else if (width === 4) view.setUint32(0, Number(value), true);
  else if (width === 2) view.setUint16(0, Number(value), true);
  else view.setUint8(0, Number(value));
}

/** The value of 1 to 4 bytes that a read reply holds. */
function numberIn(reply: Message, width: 1 | 2 | 4): number {
  return (reply.uint32(HEAD_SIZE) & MAX_VALUE[width]) >>> 0;
}

function bigintIn(reply: Message): bigint {
  return BigInt(reply.uint32(HEAD_SIZE)) | BigInt(reply.uint32(HEAD_SIZE + 4)) << 32n;
}
