/**
 * Memory that a device shares of a region: which accesses go through it, and what is refused before
 * anything is sent.
 *
 * @module
 */

import { type AreaFile, examineArea } from "./area_file.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { Mapping, MAX_MAPPING, PAGE_SIZE } from "../../ffi/memory.ts";
import type { RegionAccess } from "../base/errors.ts";
import type { RegionInfo, Width } from "./info.ts";
import type { AccessOptions, WriteOptions } from "./region_options.ts";
import { hex } from "../text/hex.ts";
import { PciRegion, RegionFlags } from "../wire/region.ts";
import { plural } from "../text/plural.ts";

/**
 * Bytes of one access to configuration space at most, aligned, as hardware does it. Every server
 * takes those.
 */
const CONFIG_PIECE = 4;

const NO_AREAS: readonly Area[] = [];

/** Words of a region of which no area is in use. */
export const NO_WORDS = new Uint32Array(0);

/** An area that is mapped, with a typed array for each width of access. */
export interface Area {
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly u16: Uint16Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly u64: BigUint64Array<ArrayBuffer>;
  readonly mapping: Mapping;
  /** Its file, if that can become shorter. */
  readonly file: AreaFile | undefined;
}

/** Place of an area in the region and in its file. */
interface AreaPlace {
  readonly start: bigint;
  readonly size: bigint;
  readonly fileOffset: bigint;
  readonly fd: OwnedFd | undefined;
}

/** 32-bit words of an area. */
type Words = Uint32Array<ArrayBuffer>;

/**
 * Receives the area that is used from now on: where it begins in the region, and its words. Those
 * are empty if there is no area, or no right to them.
 */
export type OnUse = (start: number, readable: Words, writable: Words) => void;

/** A part of a transfer: what one message carries, or what went through memory already. */
export interface Part {
  /** In bytes from the start of the region. */
  readonly at: number;
  /** The bytes, in the caller's buffer. */
  readonly bytes: Uint8Array;
  /** True if the bytes have been copied. */
  readonly isDone: boolean;
}

/** The mapped areas of a region, and the bounds and rights of accesses to it. */
export class RegionMap {
  readonly #info: RegionInfo;
  readonly #name: string;
  readonly #size: number;
  readonly #maxMessage: number;
  readonly #onUse: OnUse;
  #areas: Area[] | undefined; // undefined: not mapped yet
  #last: Area | undefined; // the area that was used last
  #unmapped: string | undefined; // why there is none
  #isOpen = true;

  /**
   * Maps nothing before the first access.
   *
   * @param maxMessage bytes that one message carries at most
   * @param onUse is called when another area is used
   */
  constructor(
    info: RegionInfo,
    name: string,
    size: number,
    maxMessage: number,
    onUse: OnUse,
  ) {
    this.#info = info;
    this.#name = name;
    this.#size = size;
    this.#maxMessage = maxMessage;
    this.#onUse = onUse;
  }

  /** Unmaps. Accesses after this throw; views that were taken are empty. */
  close(): void {
    this.#isOpen = false;
    this.#use(undefined);
    for (const { mapping } of this.#areas ?? []) mapping.close();
    this.#areas = [];
  }

  /**
   * Finds the area that serves an access of a register; undefined if a message does. Refuses an
   * access that can't succeed.
   */
  areaFor(
    at: number,
    width: Width,
    right: number,
    options: AccessOptions | undefined,
  ): Area | undefined {
    // The fast path: mapped, where the last access was, nothing forced. An area has all the rights
    // that its region has.
    const last = this.#last;
    if (
      last !== undefined && options === undefined && at >= last.start && at + width <= last.end &&
      at % width === 0 &&
      (this.#info.flags & right) !== 0
    ) {
      return last;
    }
    this.check(at, width, right);
    if (at % width !== 0) {
      throw new RangeError(
        `Cannot access ${plural(width, "byte")} of ${this.#name} at ${
          hex(at)
        }: the offset is not a multiple of ${width}`,
      );
    }
    const via = options?.via;
    if (via === "message" || ((options as WriteOptions | undefined)?.posted && via === undefined)) {
      return this.byMessage(width);
    }
    const area = this.find(at, width);
    if (area === undefined && via === "map") throw this.#notMapped(at, width);
    if (area === undefined) return this.byMessage(width);
    this.#use(area);
    return area;
  }

  /** Refuses a register that no message carries as a whole: it can't be accessed in pieces. */
  byMessage(width: number): undefined {
    if (width <= this.#maxMessage) return undefined;
    throw new RangeError(
      `Cannot access ${plural(width, "byte")} of ${this.#name} at once: ` +
        `a message carries ${this.#maxMessage} at most, as was agreed on (max_data_xfer_size)`,
    );
  }

  /** As `areaFor`, without an area whose file has become shorter: from then on messages do. */
  intactAreaFor(
    at: number,
    width: Width,
    right: number,
    options: AccessOptions | undefined,
  ): Area | undefined {
    const area = this.areaFor(at, width, right, options);
    if (area?.file === undefined || area.file.isWhole) return area;
    this.#drop(area);
    return this.areaFor(at, width, right, options);
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
    if (area === this.#last) return;
    const { flags } = this.#info;
    this.#last = area;
    this.#onUse(
      area?.start ?? 0,
      area !== undefined && flags & RegionFlags.READ ? area.u32 : NO_WORDS,
      area !== undefined && flags & RegionFlags.WRITE ? area.u32 : NO_WORDS,
    );
  }

  #notMapped(at: number, length: number): TypeError {
    const why = this.#unmapped ??
      (this.#areas!.length === 0
        ? "the device shares no memory for it"
        : "that is not in one mapped area");
    return new TypeError(
      `Cannot access ${plural(length, "byte")} of ${this.#name} at ${
        hex(at)
      } through the map: ${why}`,
    );
  }

  find(at: number, length: number): Area | undefined {
    return this.areas.find((area) => at >= area.start && at + length <= area.end);
  }

  /** The areas that are mapped. The first use maps them; what can't be mapped is not there. */
  get areas(): readonly Area[] {
    if (this.#areas !== undefined) return this.#areas;
    this.#areas = [];
    if ((this.#info.flags & RegionFlags.MMAP) === 0) return this.#areas;
    for (const place of areaPlaces(this.#info)) {
      try {
        this.#areas.push(mapArea(place, (this.#info.flags & RegionFlags.WRITE) !== 0));
      } catch (error) {
        this.#unmapped ??= (error as Error).message;
      }
    }
    return this.#areas;
  }

  check(at: number, length: number, right: number): void {
    if (!this.#isOpen) throw this.#closedError();
    if (this.#size === 0) {
      throw new TypeError(`Cannot access ${this.#name}: the device does not have it`);
    }
    if (
      !Number.isSafeInteger(at) || at < 0 || !Number.isInteger(length) || length < 0 ||
      at + length > this.#size
    ) {
      throw new RangeError(
        `Cannot access ${plural(length, "byte")} of ${this.#name} at ${hex(at)}: it has ${
          hex(this.#size)
        } bytes`,
      );
    }
    if (right !== 0 && (this.#info.flags & right) === 0 && this.#enforcesRights) {
      const what = right === RegionFlags.READ ? "read" : "written";
      throw new TypeError(`Cannot access ${this.#name}: the device says that it can't be ${what}`);
    }
  }

  /** Some servers give the configuration space no flags at all, and serve it all the same. */
  get #enforcesRights(): boolean {
    return this.#info.index !== PciRegion.CONFIG;
  }

  /**
   * Cuts a transfer where the way of access changes, and into what one message carries. Parts that
   * areas serve are copied right here.
   *
   * @param start in bytes from the start of the region
   * @param buffer the bytes that are read or written
   */
  *parts(
    kind: RegionAccess["kind"],
    start: number,
    buffer: Uint8Array,
    { via }: AccessOptions,
    chunkSize: number,
  ): Generator<Part> {
    if (!Number.isInteger(chunkSize) || chunkSize < 1) {
      throw new RangeError(`A chunk of ${plural(chunkSize, "byte")} is not possible`);
    }
    const { length } = buffer;
    for (let done = 0; done < length;) {
      if (!this.#isOpen) throw this.#closedError();
      this.checkWhole(kind, buffer, length);
      const at = start + done;
      const areas = via === "message" ? NO_AREAS : this.areas;
      const area = areas.find((each) => at >= each.start && at < each.end);
      if (area === undefined && via === "map") throw this.#notMapped(start, length);
      if (area === undefined) {
        const bytes = buffer.subarray(
          done,
          done + this.#byMessageAt(at, length - done, areas, chunkSize),
        );
        done += bytes.length;
        yield { at, bytes, isDone: false };
      } else {
        const bytes = buffer.subarray(done, done + Math.min(length - done, area.end - at));
        const count = kind === "read"
          ? this.#readArea(area, at, bytes)
          : this.#writeArea(area, at, bytes);
        done += count; // if that is not all, the area is dropped, and messages carry the rest
        if (count > 0) yield { at, bytes: bytes.subarray(0, count), isDone: true };
      }
    }
  }

  /** Bytes from `at` on that the next message carries. */
  #byMessageAt(at: number, left: number, areas: readonly Area[], chunkSize: number): number {
    let count = Math.min(left, chunkSize);
    for (const { start } of areas) {
      if (start > at) count = Math.min(count, start - at);
    }
    return this.#info.index === PciRegion.CONFIG ? configPiece(at, count) : count;
  }

  /** Refuses a buffer that its owner has detached, by a transfer, or resized during the access. */
  checkWhole(kind: RegionAccess["kind"], buffer: Uint8Array, length: number): void {
    if (buffer.length === length) return;
    const what = `${kind} ${plural(length, "byte")} of ${this.#name}`;
    throw new TypeError(`Cannot ${what}: their buffer was detached or resized meanwhile`);
  }

  #closedError(): TypeError {
    return new TypeError(`Cannot access ${this.#name}: it is closed`);
  }
}

/** Loads from an area with a load that is never merged with another one. */
export function look(area: Area, at: number, width: Width): number | bigint {
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

/** Finds the areas of a region that can be mapped, and their places in files. */
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

/** The longest aligned piece of 1, 2 or 4 bytes. */
function configPiece(at: number, count: number): number {
  let piece = CONFIG_PIECE;
  while (at % piece !== 0 || piece > count) piece /= 2;
  return piece;
}
