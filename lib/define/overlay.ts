/**
 * `overlay`: regions on top of another.
 *
 * @module
 */

import {
  type DeviceRegion,
  isRegion,
  REGION,
  type RegionPart,
  type RegionRange,
  type RegionReview,
  resetAll,
  sealRegion,
} from "./device_region.ts";
import {
  type Forms,
  FUNCTION,
  isObject,
  Mistakes,
  needed,
  NUMBER,
  shown,
  TEXT,
} from "./mistakes.ts";
import { RegionFlags } from "../wire/region.ts";
import { hex } from "../text/hex.ts";

/** A region that lies on top of another. */
export interface OverlayPart {
  /** Offset of the part in the region below. */
  readonly offset: number;
  /** Bytes that it takes; default all of the region. */
  readonly size?: number;
  /** The region on top. */
  readonly region: DeviceRegion;
  /** The name of the part in messages, as "the mailbox". */
  readonly name?: string;
  /**
   * Tells if accesses are the part's now, as those of a bank that a register selects. Default: they
   * always are. Parts that both have conditions may overlap, as banks do; of two at the same place
   * the first goes first.
   */
  readonly when?: () => boolean;
}

const OVERLAY_PART: Forms<OverlayPart> = {
  offset: needed(NUMBER),
  size: NUMBER,
  region: needed(REGION),
  name: TEXT,
  when: FUNCTION,
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
 * import { memory } from "./memory.ts";
 * import { overlay } from "./overlay.ts";
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
  if (!isRegion(below)) mistakes.add("the region below", `${shown(below)}, not ${REGION.what}`);
  if (!Array.isArray(parts)) mistakes.add("parts", `${shown(parts)}, not a list`);
  else {
    for (const [i, part] of parts.entries()) {
      if (isObject(part)) mistakes.check(`parts[${i}]`, part, OVERLAY_PART);
      else mistakes.add(`parts[${i}]`, `${shown(part)}, not { offset: 0, region: registers(...) }`);
    }
  }
  mistakes.throwAny("Cannot make an overlay");
  const layers = parts.map(({ offset, region, size = region.size, name = "a region", when }) => ({
    region,
    offset,
    end: offset + size,
    name,
    when,
  })).sort((a, b) => a.offset - b.offset);
  for (const [i, layer] of layers.entries()) checkLayer(layer, layers.slice(0, i), below);
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
      const { on, end } = layerAt(layers, offset + at);
      const piece = bytes.subarray(at, Math.min(bytes.length, end - offset));
      const result = on !== undefined
        ? act(on.region, offset + at - on.offset, piece)
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
    ...(below.memory && { memory: below.memory }),
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
  const ranges: RegionRange[] = [];
  const unreachable: string[] = [];
  const add = (
    region: DeviceRegion,
    start: number,
    coverOf: (offset: number, width: number) => string | undefined,
    shown: (range: RegionRange) => RegionRange[],
  ) => {
    const review = region.review?.();
    unreachable.push(...review?.unreachable ?? []);
    const whole = review === undefined ? [{ offset: 0, size: region.size }] : [];
    for (const { offset, size } of review?.ranges ?? whole) {
      ranges.push(...shown({ offset: offset + start, size }));
    }
    for (const part of review?.parts ?? []) {
      const cover = coverOfAll(part, coverOf);
      if (cover === undefined) parts.push({ ...part, offset: part.offset + start });
      else unreachable.push(`${part.path}: can't be reached; ${cover}`);
    }
  };
  add(
    below,
    0,
    (offset, width) => {
      const on = layers.find((each) =>
        each.when === undefined && each.offset < offset + width && each.end > offset
      );
      const isWhole = on !== undefined && on.offset <= offset && on.end >= offset + width;
      return isWhole ? `${on.name} is on top, at ${rangeText(on)}` : undefined;
    },
    (range) =>
      layers.filter(({ when }) => when === undefined).reduce(
        (rest, layer) => rest.flatMap((each) => outside(each, layer)),
        [range],
      ),
  );
  for (const layer of layers) {
    const size = layer.end - layer.offset;
    add(
      layer.region,
      layer.offset,
      (offset) => offset < size ? undefined : `${size} bytes of its region are shown`,
      (range) => [{ ...range, size: Math.min(range.size, layer.end - range.offset) }],
    );
  }
  return { parts, ranges, unreachable };
}

/** The pieces of a range that a layer does not cover. */
function outside({ offset, size }: RegionRange, layer: Layer): RegionRange[] {
  const end = offset + size;
  return [
    { offset, size: Math.min(end, layer.offset) - offset },
    { offset: Math.max(offset, layer.end), size: end - Math.max(offset, layer.end) },
  ].filter((each) => each.size > 0);
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
  readonly when: (() => boolean) | undefined;
}

/** Finds the layer that has the byte at `offset` now, and where that ends. */
function layerAt(
  layers: readonly Layer[],
  offset: number,
): { readonly on: Layer | undefined; readonly end: number } {
  const next = layers.find((each) => each.end > offset && each.when?.() !== false);
  if (next === undefined) return { on: undefined, end: Infinity };
  return next.offset <= offset ? { on: next, end: next.end } : { on: undefined, end: next.offset };
}

function rangeText({ offset, end }: Pick<Layer, "offset" | "end">): string {
  return `${hex(offset)} to ${hex(end - 1)}`;
}

function checkLayer(
  { region, offset, end, name, when }: Layer,
  before: readonly Layer[],
  below: DeviceRegion,
) {
  const refuse = (reason: string) => {
    const range = rangeText({ offset, end });
    throw new RangeError(`Cannot put ${name} at ${range}: ${reason}`);
  };
  if (!Number.isInteger(offset) || offset < 0 || end > below.size || end - offset > region.size) {
    refuse(`it does not fit the region below, of ${below.size} bytes`);
  }
  const other = before.find((each) => each.end > offset && !(each.when && when));
  if (other !== undefined) refuse(`${other.name} is at ${rangeText(other)}`);
  if ((region.flags & RegionFlags.MMAP) !== 0) refuse("only the region below may be mapped");
  if ((below.flags & RegionFlags.MMAP) === 0) return;
  const sparse = below.capabilities?.find((each) => each.kind === "sparse_mmap");
  const areas = sparse?.areas ?? [{ offset: 0n, size: BigInt(below.size) }];
  const isMapped = areas.some((area) =>
    area.offset < BigInt(end) && area.offset + area.size > BigInt(offset)
  );
  if (isMapped) refuse("a client may map that part of the region below; leave it out of mappable");
}
