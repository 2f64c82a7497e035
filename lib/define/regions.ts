/**
 * Regions of a defined device that are not registers: memory, callbacks, and several regions in
 * one.
 *
 * @module
 */

import { PAGE_SIZE } from "../../ffi/memory.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import type { ServedIoFd } from "../server/served_device.ts";
import { MemoryRegion } from "../server/memory_region.ts";
import { type RegionCapability, RegionFlags, type SparseArea } from "../wire/region.ts";
import {
  checkOptions,
  type Forms,
  FUNCTION,
  LIST,
  Mistakes,
  needed,
  NUMBER,
  OBJECT,
  TEXT,
} from "./mistakes.ts";
import {
  BAR_KIND,
  type BarKind,
  barKind,
  barSize,
  type DeviceRegion,
  type RegionPart,
  type RegionReview,
  resetAll,
  sealRegion,
} from "./region.ts";
import { hex } from "../text/hex.ts";

const READ_WRITE = RegionFlags.READ | RegionFlags.WRITE;

/** A part of a region that a client may map: whole pages. */
export interface MappableArea {
  /** Bytes from the start of the region. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

/** How a region of memory is made. */
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
  readonly #memory: MemoryRegion;
  readonly #written: MemoryOptions["written"];

  static {
    sealRegion(this.prototype);
  }

  /** As {@linkcode memory}. */
  constructor(options: MemoryOptions) {
    checkOptions("Cannot make a region of memory", "memory", options, MEMORY_OPTIONS);
    const { mappable = true } = options;
    const isMappable = mappable === true || (mappable !== false && mappable.length > 0);
    this.size = barSize(options.size, PAGE_SIZE);
    this.bar = barKind(options);
    const areas = typeof mappable === "boolean" ? undefined : mappable.map(sparseArea);
    this.#memory = new MemoryRegion("vfu-memory", this.size, areas);
    this.#written = options.written;
    this.bytes = this.#memory.bytes;
    this.contents = [this.bytes];
    this.flags = isMappable ? this.#memory.flags : READ_WRITE;
    this.fds = isMappable ? this.#memory.fds : [];
    this.capabilities = this.#memory.capabilities;
  }

  /** A client reads. */
  read(offset: number, into: Uint8Array): void {
    this.#memory.read(offset, into);
  }

  /** The memory itself, for a long read. */
  view(offset: number, length: number): Uint8Array {
    return this.#memory.view(offset, length);
  }

  /** A client writes. */
  write(offset: number, data: Uint8Array): void | Promise<void> {
    this.#memory.write(offset, data);
    return this.#written?.(offset, data.length);
  }

  /** Frees it. Clients that have mapped it keep theirs. */
  close(): void {
    this.#memory.close();
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
 * import { memory } from "./regions.ts";
 *
 * using bar2 = memory({ size: 0x10000, mappable: [{ offset: 0x1000, size: 0x3000 }], prefetchable: true });
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
      `Cannot make ${size} bytes at ${offset} mappable: they are not whole pages of ${PAGE_SIZE} bytes`,
    );
  }
  return { offset: BigInt(offset), size: BigInt(size) };
}

/** How a region of callbacks is made. */
export interface CallbackOptions extends BarKind {
  /** Bytes, which are rounded up to a power of two; what is added reads as 0 and ignores writes. */
  readonly size: number;
  /** Fills `into` with the bytes from `offset` on. Without it all reads as 0. */
  readonly read?: (offset: number, into: Uint8Array) => void | Promise<void>;
  /** Takes the bytes written from `offset` on. Without it writes are ignored. */
  readonly write?: (offset: number, data: Uint8Array) => void | Promise<void>;
  /** Parts that a client may access through file descriptors. */
  readonly ioFds?: readonly ServedIoFd[];
  /** Puts back what a reset puts back. */
  readonly reset?: () => void | Promise<void>;
}

const CALLBACK_OPTIONS: Forms<CallbackOptions> = {
  ...BAR_KIND,
  size: needed(NUMBER),
  read: FUNCTION,
  write: FUNCTION,
  ioFds: LIST,
  reset: FUNCTION,
};

/**
 * Makes a region of which the device answers every access itself.
 *
 * @throws {DefinitionError} if there is no such option
 * @throws {RangeError} if there can't be so many bytes
 *
 * @example
 * ```ts
 * import { callbacks } from "./regions.ts";
 *
 * const bar3 = callbacks({ size: 8, read: (offset, into) => void into.fill(offset) });
 * console.assert(bar3.size === 16);
 * ```
 */
export function callbacks(options: CallbackOptions): DeviceRegion {
  checkOptions("Cannot make a region of callbacks", "callbacks", options, CALLBACK_OPTIONS);
  const { size, read, write, ioFds = [], reset } = options;
  /** The part of an access that is in the region as it was meant. */
  const inside = (offset: number, bytes: Uint8Array) =>
    bytes.subarray(0, Math.max(0, size - offset));
  return sealRegion({
    flags: READ_WRITE,
    size: barSize(size),
    bar: barKind(options),
    ioFds,
    read(offset, into) {
      into.fill(0);
      if (read !== undefined && offset < size) return read(offset, inside(offset, into));
    },
    write(offset, data) {
      if (write !== undefined && offset < size) return write(offset, inside(offset, data));
    },
    ...(reset && { reset }),
  });
}

/** A region that lies on top of another. */
export interface OverlayPart {
  /** Offset of the part in the region below. */
  readonly offset: number;
  /** Bytes that it takes; default all of the region. */
  readonly size?: number;
  /** The region on top. */
  readonly region: DeviceRegion;
  /** By which messages call it, as "the mailbox". */
  readonly name?: string;
}

const OVERLAY_PART: Forms<OverlayPart> = {
  offset: needed(NUMBER),
  size: NUMBER,
  region: needed(OBJECT),
  name: TEXT,
};

/**
 * Puts regions on top of another. An access of their bytes is theirs; all other accesses go to the
 * region below. Only the region below may be mapped.
 *
 * @throws {DefinitionError} if a part has a member that there is not
 * @throws {RangeError} if a part leaves the region, overlaps another, or lies where the region may
 *   be mapped
 *
 * @example Registers, and behind them a page of memory
 * ```ts
 * import { memory, overlay } from "./regions.ts";
 * import { registers } from "./registers.ts";
 *
 * using below = memory({ size: 0x2000, mappable: [{ offset: 0x1000, size: 0x1000 }] });
 * const ctrl = registers({ registers: [{ name: "CTRL", offset: 0, width: 4 }] });
 * const bar0 = overlay(below, [{ offset: 0, region: ctrl }]);
 * bar0.write(0, new Uint8Array([7]));
 * console.assert(ctrl.regs.CTRL.value === 7 && below.bytes[0] === 0);
 * ```
 */
export function overlay(below: DeviceRegion, parts: readonly OverlayPart[]): DeviceRegion {
  const mistakes = new Mistakes();
  for (const [i, part] of parts.entries()) mistakes.check(`parts[${i}]`, part, OVERLAY_PART);
  mistakes.throwAny("Cannot make an overlay");
  const layers = parts.map(({ offset, region, size = region.size, name = "a region" }) => ({
    region,
    offset,
    end: offset + size,
    name,
  })).sort((a, b) => a.offset - b.offset);
  for (const [i, layer] of layers.entries()) checkLayer(layer, layers[i - 1], below);
  /**
   * Calls `act` for each piece of an access that one region has; stops for the first that takes its
   * time.
   */
  const split = (
    offset: number,
    bytes: Uint8Array,
    act: (region: DeviceRegion, offset: number, piece: Uint8Array) => void | Promise<void>,
  ): void | Promise<void> => {
    for (let at = 0; at < bytes.length;) {
      const next = layers.find((each) => each.end > offset + at);
      const isOn = next !== undefined && next.offset <= offset + at;
      const end = isOn ? next.end : next?.offset ?? Infinity;
      const piece = bytes.subarray(at, Math.min(bytes.length, end - offset));
      const result = isOn
        ? act(next.region, offset + at - next.offset, piece)
        : act(below, offset + at, piece);
      at += piece.length;
      if (!(result instanceof Promise)) continue;
      const rest = at;
      return result.then(() => split(offset + rest, bytes.subarray(rest), act));
    }
  };
  const all = [below, ...layers.map(({ region }) => region)];
  return sealRegion<DeviceRegion>({
    flags: below.flags,
    size: below.size,
    bar: below.bar,
    ...(all.every(({ contents }) => contents !== undefined) && {
      contents: all.flatMap(({ contents }) => contents ?? []),
    }),
    fds: below.fds ?? [],
    capabilities: below.capabilities ?? [],
    ioFds: [
      ...below.ioFds ?? [],
      ...layers.flatMap(({ region, offset }) =>
        (region.ioFds ?? []).map((each) => ({ ...each, offset: each.offset + offset }))
      ),
    ],
    read: (offset, into) => split(offset, into, (region, at, piece) => region.read(at, piece)),
    write: (offset, data) => split(offset, data, (region, at, piece) => region.write(at, piece)),
    reset: () => resetAll(all),
    close: () => all.forEach((each) => each.close?.()),
    review: () => reviewLayers(below, layers),
  });
}

/** Finds the contents that accesses reach of a region with others on top, and those they don't. */
function reviewLayers(below: DeviceRegion, layers: readonly Layer[]): RegionReview {
  const parts: RegionPart[] = [];
  const unreachable: string[] = [];
  const add = (
    region: DeviceRegion,
    start: number,
    coverOf: (offset: number, width: number) => string | undefined,
  ) => {
    const review = region.review?.();
    unreachable.push(...review?.unreachable ?? []);
    for (const part of review?.parts ?? []) {
      const cover = coverOfAll(part, coverOf);
      if (cover === undefined) parts.push({ ...part, offset: part.offset + start });
      else unreachable.push(`${part.path}: can't be reached; ${cover}`);
    }
  };
  add(below, 0, (offset, width) => {
    const on = layers.find((each) => each.offset < offset + width && each.end > offset);
    const isWhole = on !== undefined && on.offset <= offset && on.end >= offset + width;
    return isWhole ? `${on.name} is on top, at ${rangeText(on)}` : undefined;
  });
  for (const layer of layers) {
    const size = layer.end - layer.offset;
    add(
      layer.region,
      layer.offset,
      (offset) => offset < size ? undefined : `${size} bytes of its region are shown`,
    );
  }
  return { parts, unreachable };
}

/** By what all of a part are covered; undefined if a byte of it can be reached. */
function coverOfAll(
  { offset, width, count, stride }: RegionPart,
  coverOf: (offset: number, width: number) => string | undefined,
): string | undefined {
  let cover: string | undefined;
  for (let i = 0; i < count; i++) {
    cover = coverOf(offset + i * stride, width);
    if (cover === undefined) return undefined;
  }
  return cover;
}

interface Layer {
  readonly region: DeviceRegion;
  readonly offset: number;
  readonly end: number;
  readonly name: string;
}

function rangeText({ offset, end }: Pick<Layer, "offset" | "end">): string {
  return `${hex(offset)} to ${hex(end - 1)}`;
}

function checkLayer(
  { region, offset, end, name }: Layer,
  before: Layer | undefined,
  below: DeviceRegion,
) {
  const refuse = (reason: string) => {
    const range = rangeText({ offset, end });
    throw new RangeError(`Cannot put ${name} at ${range}: ${reason}`);
  };
  if (!Number.isInteger(offset) || offset < 0 || end > below.size || end - offset > region.size) {
    refuse(`it does not fit the region below, of ${below.size} bytes`);
  }
  if (before !== undefined && before.end > offset) {
    refuse(`${before.name} is at ${rangeText(before)}`);
  }
  if ((region.flags & RegionFlags.MMAP) !== 0) refuse("only the region below may be mapped");
  if ((below.flags & RegionFlags.MMAP) === 0) return;
  const sparse = below.capabilities?.find((each) => each.kind === "sparse_mmap");
  const areas = sparse?.areas ?? [{ offset: 0n, size: BigInt(below.size) }];
  const isMapped = areas.some((area) =>
    area.offset < BigInt(end) && area.offset + area.size > BigInt(offset)
  );
  if (isMapped) refuse("a client may map that part of the region below; leave it out of mappable");
}
