/**
 * `memory`: a region of memory, which clients may map.
 *
 * @module
 */

import { PAGE_SIZE } from "../../ffi/memory.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { MemoryRegion } from "../server/memory_region.ts";
import { type RegionCapability, RegionFlags, type SparseArea } from "../wire/region.ts";
import {
  BAR_KIND,
  type BarKind,
  barKind,
  type DeviceRegion,
  regionSize,
  sealRegion,
} from "./device_region.ts";
import { checkOptions, type Forms, FUNCTION, needed, NUMBER } from "./mistakes.ts";
import { keepOrigin } from "./origin.ts";

const READ_WRITE = RegionFlags.READ | RegionFlags.WRITE;

/** A part of a region that a client may map: whole pages. */
export interface MappableArea {
  /** Bytes from the start of the region. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

/** The way in which a region of memory is made. */
export interface MemoryOptions extends BarKind {
  /** Bytes, which are rounded up to a power of two and whole pages. */
  readonly size: number;
  /** The part that a client may map: all (`true`, the default), nothing (`false`), or areas. */
  readonly mappable?: boolean | readonly MappableArea[];
  /** Called after a client wrote by message. Writes through a map are not seen. */
  readonly written?: (offset: number, length: number) => void | Promise<void>;
}

const MAPPABLE_AREA: Forms<MappableArea> = { offset: needed(NUMBER), size: needed(NUMBER) };
const MEMORY_OPTIONS: Forms<MemoryOptions> = {
  ...BAR_KIND,
  size: needed(NUMBER),
  mappable: {
    accepts: (value) => typeof value === "boolean" || Array.isArray(value),
    what: "true, false or a list of areas",
  },
  written: FUNCTION,
};

/** A region of memory. It keeps what it holds over a reset. */
export class DeviceMemoryRegion implements DeviceRegion, Disposable {
  /** READ and WRITE; MMAP if some of it may be mapped. */
  readonly flags: number;
  /** Bytes of the region: a power of two. */
  readonly size: number;
  /** The fields of its base address register. */
  readonly bar: BarKind;
  /** Files that a client maps. */
  readonly fds: readonly OwnedFd[];
  /** The areas, if not all of it may be mapped. */
  readonly capabilities: readonly RegionCapability[];
  /** The memory. Its length is 0 after `close`. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same. */
  readonly contents: readonly Uint8Array[];
  /** The memory that clients map. */
  readonly memory: MemoryRegion;
  readonly #written: MemoryOptions["written"];

  static {
    sealRegion(this.prototype);
  }

  /** As {@linkcode memory}. */
  constructor(options: MemoryOptions) {
    keepOrigin(this);
    checkOptions("Cannot make a region of memory", "memory", options, MEMORY_OPTIONS);
    const { mappable = true } = options;
    const isMappable = mappable === true || (mappable !== false && mappable.length > 0);
    this.size = regionSize(options.size, PAGE_SIZE);
    this.bar = barKind(options);
    const areas = typeof mappable === "boolean" ? undefined : Array.from(mappable, sparseArea);
    this.memory = new MemoryRegion("vfu-memory", this.size, areas);
    this.#written = options.written;
    this.bytes = this.memory.bytes;
    this.contents = [this.bytes];
    this.flags = isMappable ? this.memory.flags : READ_WRITE;
    this.fds = isMappable ? this.memory.fds : [];
    this.capabilities = this.memory.capabilities;
  }

  /** A client reads. */
  read(offset: number, into: Uint8Array): void {
    this.memory.read(offset, into);
  }

  /** The memory itself, for a long read. */
  view(offset: number, length: number): Uint8Array {
    return this.memory.view(offset, length);
  }

  /** A client writes. */
  write(offset: number, data: Uint8Array): void | Promise<void> {
    this.memory.write(offset, data);
    return this.#written?.(offset, data.length);
  }

  /** Frees it. Clients that have mapped it keep theirs. */
  close(): void {
    this.memory.close();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Makes a region of memory, which the device sees as bytes. In a `create`, use the `memory` of its
 * context, which is freed if `create` fails.
 *
 * @throws {DefinitionError} if there is no such option
 * @throws {RangeError} if there can't be so many bytes, or an area is not of whole pages in the
 *   region
 *
 * @example
 * ```ts
 * import { memory } from "./memory.ts";
 *
 * const mappable = [{ offset: 0x1000, size: 0x3000 }];
 * using bar2 = memory({ size: 0x10000, mappable, prefetchable: true });
 * bar2.bytes[0] = 1;
 * ```
 */
export function memory(options: MemoryOptions): DeviceMemoryRegion {
  return new DeviceMemoryRegion(options);
}

function sparseArea(area: MappableArea, index: number): SparseArea {
  checkOptions("Cannot make a region of memory", `memory.mappable[${index}]`, area, MAPPABLE_AREA);
  const { offset, size } = area;
  const isWhole = (bytes: number) =>
    Number.isInteger(bytes) && bytes >= 0 && bytes % PAGE_SIZE === 0;
  if (!isWhole(offset) || !isWhole(size) || size === 0) {
    throw new RangeError(
      `Cannot make ${size} bytes at ${offset} mappable: they are not whole pages of ` +
        `${PAGE_SIZE} bytes`,
    );
  }
  return { offset: BigInt(offset), size: BigInt(size) };
}
