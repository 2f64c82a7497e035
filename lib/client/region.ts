/**
 * `Region`: reading and writing a region of a device, through memory where the device shares it,
 * else by message (specification: "VFIO_USER_REGION_READ", "VFIO_USER_REGION_WRITE",
 * "VFIO_USER_REGION_WRITE_MULTI").
 *
 * Synchronous calls block the thread, as a load or a store would. Their `...Async` twins pipeline:
 * any number may be in flight, and they take effect in the order of the calls. An access that the
 * region's info rules out is refused before anything is sent.
 *
 * @module
 */

import type { RegionInfo, Width } from "./info.ts";
import { drive, driveAsync } from "../base/plan.ts";
import { sleep } from "../base/sleep.ts";
import { look, NO_WORDS, type OnUse, RegionMap } from "./region_map.ts";
import { RegionMessages } from "./region_messages.ts";
import type {
  AccessOptions,
  AsyncAccessOptions,
  AsyncPollOptions,
  BatchedWrite,
  BulkOptions,
  PollOptions,
  RegionHost,
  Via,
  WriteOptions,
} from "./region_options.ts";
import { modifyPlan, pollPlan, type RegisterStep } from "./register_plans.ts";
import { bigintIn, bytesOf, checkValue, numberIn } from "./register_value.ts";
import { destination, readChunk, runParts, writeChunk } from "./region_transfer.ts";
import { RegionFlags, regionName } from "../wire/region.ts";
import { hex } from "../text/hex.ts";

/**
 * A region of a device. `Device.region` makes it.
 *
 * @example
 * ```ts
 * import { connect } from "./connect.ts";
 * import { DemoRegister } from "../devices/demo.ts";
 * import { DemoDevice } from "../devices/demo_device.ts";
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
  /** Facts about the region. */
  readonly info: RegionInfo;
  /** "bar0", "config", "region 9". */
  readonly name: string;
  /** Bytes of the region. A region beyond 2^53 bytes can be used up to there. */
  readonly size: number;
  readonly #host: RegionHost;
  readonly #map: RegionMap;
  readonly #messages: RegionMessages;
  // The words of the area that the map used last. A mapped write takes 2.2 ns with them here,
  // 2.4 ns if it asks the map for them.
  #start = 0;
  #readable = NO_WORDS;
  #writable = NO_WORDS;

  /** @ignore made by `Device.region` */
  constructor(info: RegionInfo, host: RegionHost) {
    this.info = info;
    this.name = host.name ?? regionName(info.index);
    this.size = Number(
      info.size < BigInt(Number.MAX_SAFE_INTEGER) ? info.size : Number.MAX_SAFE_INTEGER,
    );
    this.#host = host;
    const { maxDataXferSize } = host.negotiated;
    const onUse: OnUse = (start, readable, writable) => {
      this.#start = start;
      this.#readable = readable;
      this.#writable = writable;
    };
    this.#map = new RegionMap(info, this.name, this.size, maxDataXferSize, onUse);
    this.#messages = new RegionMessages(info, this.name, host);
  }

  /** Reads 8 bits. Throws as {@linkcode Region.read32}. */
  read8(offset: number | bigint, options?: AccessOptions): number {
    const at = Number(offset);
    const area = this.#map.areaFor(at, 1, RegionFlags.READ, options);
    if (area !== undefined) return area.bytes[at - area.start]!;
    return numberIn(this.#messages.readRegister(at, 1, options), 1);
  }

  /** Reads 16 bits. Throws as {@linkcode Region.read32}. */
  read16(offset: number | bigint, options?: AccessOptions): number {
    const at = Number(offset);
    const area = this.#map.areaFor(at, 2, RegionFlags.READ, options);
    if (area !== undefined) return area.u16[(at - area.start) / 2]!;
    return numberIn(this.#messages.readRegister(at, 2, options), 2);
  }

  /**
   * Reads 32 bits.
   *
   * Through the map this is one load. Optimised code may merge two loads of the same register in a
   * row into one; `poll` prevents that.
   *
   * @param offset in bytes from the start of the region, a multiple of the width
   * @throws {RangeError} if it is misaligned or outside the region
   * @throws {TypeError} if the region is absent, can't be read, or can't be accessed the way that
   *   was forced
   * @throws {RemoteError} if the device refuses
   * @throws {TimeoutError} if it does not answer
   * @throws {ProtocolError} if it answers with fewer or more bytes
   */
  read32(offset: number | bigint, options?: AccessOptions): number {
    // The fast path. An offset that is out of bounds, misaligned or unmapped has no value there.
    if (options === undefined && typeof offset === "number") {
      const value = this.#readable[(offset - this.#start) / 4];
      if (value !== undefined) return value;
    }
    const at = Number(offset);
    const area = this.#map.areaFor(at, 4, RegionFlags.READ, options);
    if (area !== undefined) return area.u32[(at - area.start) / 4]!;
    return numberIn(this.#messages.readRegister(at, 4, options), 4);
  }

  /** Reads 64 bits. Throws as {@linkcode Region.read32}. */
  read64(offset: number | bigint, options?: AccessOptions): bigint {
    const at = Number(offset);
    const area = this.#map.areaFor(at, 8, RegionFlags.READ, options);
    if (area !== undefined) return area.u64[(at - area.start) / 8]!;
    return bigintIn(this.#messages.readRegister(at, 8, options));
  }

  /** Writes 8 bits. Throws as {@linkcode Region.write32}. */
  write8(offset: number | bigint, value: number, options?: WriteOptions): void {
    const at = Number(offset);
    checkValue(value, 1);
    const area = this.#map.areaFor(at, 1, RegionFlags.WRITE, options);
    if (area !== undefined) area.bytes[at - area.start] = value;
    else this.#messages.writeRegister(at, 1, value, options);
  }

  /** Writes 16 bits. Throws as {@linkcode Region.write32}. */
  write16(offset: number | bigint, value: number, options?: WriteOptions): void {
    const at = Number(offset);
    checkValue(value, 2);
    const area = this.#map.areaFor(at, 2, RegionFlags.WRITE, options);
    if (area !== undefined) area.u16[(at - area.start) / 2] = value;
    else this.#messages.writeRegister(at, 2, value, options);
  }

  /**
   * Writes 32 bits.
   *
   * @param offset in bytes from the start of the region, a multiple of the width
   * @param value not negative, and not wider than the register
   * @throws {RangeError} if the offset is misaligned or outside the region, or the value does not
   *   fit
   * @throws {TypeError} if the region is absent, can't be written, or can't be accessed the way
   *   that was forced
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
    const area = this.#map.areaFor(at, 4, RegionFlags.WRITE, options);
    if (area !== undefined) area.u32[(at - area.start) / 4] = value;
    else this.#messages.writeRegister(at, 4, value, options);
  }

  /** Writes 64 bits. Throws as {@linkcode Region.write32}. */
  write64(offset: number | bigint, value: bigint, options?: WriteOptions): void {
    const at = Number(offset);
    checkValue(value, 8);
    const area = this.#map.areaFor(at, 8, RegionFlags.WRITE, options);
    if (area !== undefined) area.u64[(at - area.start) / 8] = value;
    else this.#messages.writeRegister(at, 8, value, options);
  }

  /**
   * Reads a register of any width: 8 bytes as bigint, less as number. Throws as {@linkcode
   * Region.read32}.
   */
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
    return drive(
      modifyPlan(width, mask, value),
      (step) => this.#perform(step, offset, width, readOptions(options), options),
    );
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
    const { timeoutMs: _, intervalMs: __, ...access } = options;
    return drive(
      pollPlan(width, predicate, options, () => `${this.name} at ${hex(offset)}`),
      (step) => this.#perform(step, offset, width, access),
    );
  }

  /**
   * Reads bytes, with several messages if they are many. Configuration space is read in aligned
   * pieces of at most 4 bytes.
   *
   * @param offset in bytes from the start of the region
   * @param length in bytes
   * @param options `signal` is ignored while the thread is blocked
   * @returns exactly `length` bytes, a copy
   * @throws as {@linkcode Region.read32}, but for alignment, which does not matter
   */
  read(
    offset: number | bigint,
    length: number,
    options: BulkOptions = {},
  ): Uint8Array<ArrayBuffer> {
    const start = Number(offset);
    this.#map.check(start, length, RegionFlags.READ);
    const into = destination(options.into, length);
    const chunk = readChunk(options, this.#host.negotiated);
    let done = 0;
    for (const { at, bytes, isDone } of this.#map.parts("read", start, into, options, chunk)) {
      if (!isDone) this.#messages.readInto(at, bytes, options);
      options.onProgress?.(done += bytes.length);
    }
    return into;
  }

  /**
   * Writes bytes, with several messages if they are many, of 32 KiB at most by default.
   * Configuration space is written in aligned pieces of at most 4 bytes.
   *
   * @throws as {@linkcode Region.write32}, but for alignment, which does not matter
   */
  write(offset: number | bigint, data: Uint8Array, options: BulkOptions & WriteOptions = {}): void {
    const start = Number(offset);
    this.#map.check(start, data.length, RegionFlags.WRITE);
    const chunk = writeChunk(options, this.#host.negotiated);
    let done = 0;
    for (const { at, bytes, isDone } of this.#map.parts("write", start, data, options, chunk)) {
      if (!isDone) this.#messages.write(at, bytes, options);
      options.onProgress?.(done += bytes.length);
    }
  }

  /**
   * Writes many small values, in their order, with as few messages as possible: REGION_WRITE_MULTI
   * where that was agreed on, else posted writes that leave together. A following read sees all of
   * them. Errors of posted writes are lost.
   *
   * @throws {RemoteError} if a write of a REGION_WRITE_MULTI fails; those before it are done
   */
  writeBatch(writes: readonly BatchedWrite[], options: AccessOptions = {}): void {
    for (const { offset, data } of writes) this.#checkBatched(Number(offset), data);
    if (!this.#host.negotiated.writeMultiple) {
      for (const { offset, data } of writes) {
        this.write(offset, data, { ...options, via: "message", posted: true });
      }
      return this.#messages.flush(options.timeoutMs);
    }
    this.#messages.writeMultiple(writes, options);
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
    if (this.#map.intactAreaFor(at, width, RegionFlags.READ, options) !== undefined) {
      return this.readWidth(at, width, options);
    }
    return await this.#messages.readRegisterAsync(at, width, options);
  }

  /**
   * As {@linkcode Region.readWidth} if the device answers within some 50 ms, as most do within
   * microseconds: blocking, with the value at once. Else as {@linkcode Region.readWidthAsync}, so
   * that a slow device does not hold up signals and timers.
   *
   * @throws as `readWidth`; the promise is rejected as that of `readWidthAsync`
   */
  readWidthPatiently(
    offset: number | bigint,
    width: Width,
    options: AsyncAccessOptions = {},
  ): number | bigint | Promise<number | bigint> {
    const at = Number(offset);
    if (this.#map.intactAreaFor(at, width, RegionFlags.READ, options) !== undefined) {
      return this.readWidth(at, width, options);
    }
    return this.#messages.readRegisterPatiently(at, width, options);
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
    const area = this.#map.intactAreaFor(at, width, RegionFlags.WRITE, options);
    if (area !== undefined || options.posted) return this.writeWidth(at, width, value, options);
    await this.#messages.writeAsync(at, bytesOf(value, width), options);
  }

  /** As {@linkcode Region.modify}, asynchronously. */
  async modifyAsync(
    offset: number | bigint,
    width: Width,
    mask: number | bigint,
    value: number | bigint,
    options?: WriteOptions & AsyncAccessOptions,
  ): Promise<number | bigint> {
    return await driveAsync(
      modifyPlan(width, mask, value),
      (step) => this.#performAsync(step, offset, width, readOptions(options), options),
    );
  }

  /** As {@linkcode Region.poll}, asynchronously. */
  async pollAsync(
    offset: number | bigint,
    width: Width,
    predicate: (value: number | bigint) => boolean,
    options: AsyncPollOptions = {},
  ): Promise<number | bigint> {
    const { timeoutMs: _, intervalMs: __, ...access } = options;
    return await driveAsync(
      pollPlan(width, predicate, options, () => `${this.name} at ${hex(offset)}`),
      (step) => this.#performAsync(step, offset, width, access),
    );
  }

  /** As {@linkcode Region.read}, asynchronously: several pieces are under way together. */
  async readAsync(
    offset: number | bigint,
    length: number,
    options: BulkOptions = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    const start = Number(offset);
    this.#map.check(start, length, RegionFlags.READ);
    const into = destination(options.into, length);
    const chunk = readChunk(options, this.#host.negotiated);
    const parts = this.#map.parts("read", start, into, options, chunk);
    await runParts(parts, options, (at, bytes) => this.#messages.readIntoAsync(at, bytes, options));
    this.#map.checkWhole("read", into, length);
    return into;
  }

  /** As {@linkcode Region.write}, asynchronously: several pieces are under way together. */
  async writeAsync(
    offset: number | bigint,
    data: Uint8Array,
    options: BulkOptions = {},
  ): Promise<void> {
    const start = Number(offset);
    this.#map.check(start, data.length, RegionFlags.WRITE);
    const chunk = writeChunk(options, this.#host.negotiated);
    const parts = this.#map.parts("write", start, data, options, chunk);
    await runParts(parts, options, (at, bytes) => this.#messages.writeAsync(at, bytes, options));
  }

  // ---- The map

  /**
   * Tells how an access of `length` bytes at `offset` is served if no way is forced.
   *
   * @throws {RangeError} if it is outside the region
   */
  via(offset: number | bigint, length: number): Via {
    const at = Number(offset);
    this.#map.check(at, length, 0);
    return this.#map.find(at, length) === undefined ? "message" : "map";
  }

  /** The areas that are mapped, as offset and size in bytes. Maps them if they are not yet. */
  get mappedAreas(): { offset: number; size: number }[] {
    return this.#map.areas.map(({ start, end }) => ({ offset: start, size: end - start }));
  }

  /** Unmaps. Accesses after this throw; views that were taken are empty. */
  close(): void {
    this.#map.close();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #checkBatched(at: number, data: Uint8Array): void {
    if (data.length < 1 || data.length > 8) {
      throw new RangeError(`A batched write has 1 to 8 bytes, not ${data.length}`);
    }
    this.#map.check(at, data.length, RegionFlags.WRITE);
    this.#map.byMessage(data.length);
  }

  /** Does a step of a plan, blocking. */
  #perform(
    step: RegisterStep,
    offset: number | bigint,
    width: Width,
    reading: AccessOptions | undefined,
    writing?: WriteOptions,
  ): number | bigint | undefined {
    switch (step.kind) {
      case "read": {
        const at = Number(offset);
        const area = this.#map.areaFor(at, width, RegionFlags.READ, reading);
        return area === undefined ? this.readWidth(at, width, reading) : look(area, at, width);
      }
      case "write":
        this.writeWidth(offset, width, step.value, writing);
        return undefined;
      case "pause":
        this.#host.proxy.serveSync(step.ms);
        return undefined;
    }
  }

  /** Does a step of a plan. */
  async #performAsync(
    step: RegisterStep,
    offset: number | bigint,
    width: Width,
    reading: AsyncAccessOptions | undefined,
    writing?: WriteOptions & AsyncAccessOptions,
  ): Promise<number | bigint | undefined> {
    switch (step.kind) {
      case "read": {
        reading?.signal?.throwIfAborted();
        const at = Number(offset);
        const area = this.#map.intactAreaFor(at, width, RegionFlags.READ, reading);
        if (area !== undefined) return look(area, at, width);
        return await this.readWidthAsync(at, width, reading);
      }
      case "write":
        return void await this.writeWidthAsync(offset, width, step.value, writing);
      case "pause":
        return void await sleep(step.ms, reading?.signal);
    }
  }
}

/** The read of a read-modify-write is never posted. */
function readOptions(
  options: (WriteOptions & AsyncAccessOptions) | undefined,
): AsyncAccessOptions | undefined {
  if (options === undefined) return undefined;
  const { posted: _, ...access } = options;
  return access;
}
