/**
 * Regions: what one is, and which parts of it can be mapped (specification:
 * "VFIO_USER_DEVICE_GET_REGION_INFO", and `struct vfio_region_info` of linux/vfio.h).
 *
 * @module
 */

import { DecodeError, type ProtocolError } from "../base/errors.ts";
import { MAX_CAPABILITIES, MAX_REGION_INFO_SIZE } from "../base/limits.ts";
import {
  argszRequest,
  type Codec,
  payloadForm,
  type PayloadTail,
  type PayloadVariants,
} from "./codec.ts";
import { type Layout, layout, type StructForm, u16, u32, u64 } from "./layout.ts";
import { hex } from "../text/hex.ts";

/** Region indexes of a PCI device; those from 9 on are device-specific. */
export const PciRegion = {
  /** The memory or I/O ports behind base address register 0. */
  BAR0: 0,
  /** Base address register 1. */
  BAR1: 1,
  /** Base address register 2. */
  BAR2: 2,
  /** Base address register 3. */
  BAR3: 3,
  /** Base address register 4. */
  BAR4: 4,
  /** Base address register 5. */
  BAR5: 5,
  /** The expansion ROM. */
  ROM: 6,
  /** The configuration space. */
  CONFIG: 7,
  /** The legacy VGA ranges. */
  VGA: 8,
} as const;

const REGION_NAMES = Object.keys(PciRegion).map((name) => name.toLowerCase());

/**
 * The name of a region index of a PCI device, in lower case.
 *
 * @example
 * ```ts
 * import { regionName } from "./region.ts";
 *
 * console.assert(regionName(0) === "bar0" && regionName(7) === "config");
 * console.assert(regionName(9) === "region 9");
 * ```
 */
export function regionName(index: number): string {
  return REGION_NAMES[index] ?? `region ${index}`;
}

/** The same of a device that may not be on the PCI bus: its regions have numbers alone. */
export function regionNameOf(index: number, isPci: boolean): string {
  return isPci ? regionName(index) : `region ${index}`;
}

/**
 * A place in a region, as addresses have it: "bar0+0x1c", "region9+0x0".
 *
 * @param region the index of a PCI device's region, or the name of any
 */
export function placeText(region: number | string, offset: number | bigint): string {
  const name = typeof region === "number" ? regionName(region) : region;
  return `${name.replace(" ", "")}+${hex(offset)}`;
}

/**
 * The region index that has this name, in lower case: one of a PCI device, or "region3" of any.
 * Undefined if none has.
 */
export function regionIndex(name: string): number | undefined {
  const index = REGION_NAMES.indexOf(name);
  if (index >= 0) return index;
  const number = /^region(\d{1,10})$/.exec(name)?.[1];
  return number === undefined ? undefined : Number(number);
}

/** Flags of a {@linkcode RegionInfoReply}. */
export const RegionFlags = {
  /** The region can be read. */
  READ: 1,
  /** The region can be written. */
  WRITE: 2,
  /** The region, or parts of it, can be mapped: a file descriptor comes with the reply. */
  MMAP: 4,
  /** Capabilities follow. */
  CAPS: 8,
} as const;

/** Ids of the capabilities of a region. */
export const RegionCapabilityId = {
  /** Only some areas of the region can be mapped. */
  SPARSE_MMAP: 1,
  /** The type of a device-specific region. */
  TYPE: 2,
  /** The page of the MSI-X table may be mapped as well. */
  MSIX_MAPPABLE: 3,
  /** A capability of a draft: areas that can be mapped, each in a file of its own. */
  SPARSE_MMAP_FDS: 0x8001,
} as const;

/** A part of a region that can be mapped. */
export interface SparseArea {
  /** Bytes from the start of the region; in the file the region's own offset is added. */
  offset: bigint;
  /** Bytes of the area. */
  size: bigint;
}

/** A part of a region that can be mapped, in a file of its own. */
export interface SparseFdArea extends SparseArea {
  /** Bytes from the start of the file. */
  fdOffset: bigint;
  /** The index of the file among the descriptors of the reply. */
  fdIndex: number;
}

/** A capability of a region. `version` is that of its own layout, 16 bits. */
export type RegionCapability =
  | { kind: "sparse_mmap"; version: number; areas: SparseArea[] }
  | { kind: "type"; version: number; type: number; subtype: number }
  | { kind: "msix_mappable"; version: number }
  | { kind: "sparse_mmap_fds"; version: number; areas: SparseFdArea[] }
  /** `bytes` are those after the capability's header, up to the next capability or the end. */
  | { kind: "unknown"; id: number; version: number; bytes: Uint8Array };

/** Asks about a region. */
export interface RegionInfoRequest {
  /** Bytes that the reply may have, 32 or more: what is beyond 32 is room for capabilities. */
  argsz: number;
  /** The region's index. */
  index: number;
}

/** The flags, size and capabilities of a region. */
export interface RegionInfoReply {
  /**
   * Bytes of the whole answer. If these are more than the request's `argsz`, the capabilities did
   * not fit and were left out: ask again with this `argsz`. (Some peers echo the request's if they
   * did fit.)
   */
  argsz: number;
  /** {@linkcode RegionFlags}. CAPS is set by encoding if there are capabilities, cleared if not. */
  flags: number;
  /** The region's index. */
  index: number;
  /** Bytes of the region; 0 if the device does not have it. */
  size: bigint;
  /** The offset of the region in the file that comes with the reply. */
  offset: bigint;
  /** Further facts about the region. */
  capabilities: RegionCapability[];
}

/** DEVICE_GET_REGION_INFO request, 32 bytes; those that a reply fills are 0. */
export const RegionInfoRequest: Codec<RegionInfoRequest> = argszRequest(
  layout("DEVICE_GET_REGION_INFO request", 32, { argsz: u32(0), index: u32(8) }),
);

/** The fields of a DEVICE_GET_REGION_INFO reply ahead of its capabilities. */
export const RegionInfoLayout: Layout<
  Omit<RegionInfoReply, "capabilities"> & { capOffset: number }
> = layout("DEVICE_GET_REGION_INFO reply", 32, {
  argsz: u32(0),
  flags: u32(4, RegionFlags),
  index: u32(8),
  capOffset: u32(12),
  size: u64(16),
  offset: u64(24),
});

const CapabilityHeader = layout("region capability", 8, {
  id: u16(0),
  version: u16(2),
  next: u32(4),
});
const SparseHeader = layout("sparse mmap capability", 8, { nrAreas: u32(0) });
const SparseAreaLayout = layout("sparse mmap area", 16, { offset: u64(0), size: u64(8) });
const SparseFdAreaLayout = layout("sparse mmap area with fd", 32, {
  offset: u64(0),
  fdOffset: u64(8),
  size: u64(16),
  fdIndex: u32(24),
});
const TypeLayout = layout("region type capability", 8, { type: u32(0), subtype: u32(4) });

/**
 * The highest version of the layout of a capability that is known here: all that there are have 1.
 */
const KNOWN_VERSION = 1;

/** Forms of the part behind the header of each capability. */
const CAPABILITY_VARIANTS: PayloadVariants = {
  field: "id",
  mask: 0xffff,
  forms: {
    [RegionCapabilityId.SPARSE_MMAP]: {
      name: "sparse_mmap",
      form: payloadForm(SparseHeader, areasOf(SparseAreaLayout)),
    },
    [RegionCapabilityId.SPARSE_MMAP_FDS]: {
      name: "sparse_mmap_fds",
      form: payloadForm(SparseHeader, areasOf(SparseFdAreaLayout)),
    },
    [RegionCapabilityId.TYPE]: { name: "type", form: payloadForm(TypeLayout) },
    [RegionCapabilityId.MSIX_MAPPABLE]: { name: "msix_mappable", form: payloadForm(undefined) },
  },
};

function areasOf(form: StructForm): PayloadTail {
  return { kind: "entries", name: "areas", count: "nrAreas", forms: [form] };
}

/**
 * DEVICE_GET_REGION_INFO reply, with all its capabilities. A server answers with
 * {@linkcode encodeRegionInfo}, which minds the room that the request gives.
 *
 * @example
 * ```ts
 * import { RegionInfoReply } from "./region.ts";
 *
 * const payload = new Uint8Array(32);
 * payload.set([32, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
 * const config = RegionInfoReply.decode(payload);
 * console.assert(config.index === 7 && config.size === 256n && config.flags === 3);
 * ```
 */
export const RegionInfoReply: Codec<RegionInfoReply> = {
  name: RegionInfoLayout.name,
  form: payloadForm(RegionInfoLayout, {
    kind: "chain",
    name: "capabilities",
    start: "capOffset",
    flag: RegionFlags.CAPS,
    form: CapabilityHeader,
    variants: CAPABILITY_VARIANTS,
    knownVersion: KNOWN_VERSION,
  }),
  encode(value) {
    const bytes = new Uint8Array(regionInfoSize(value.capabilities));
    const some = value.capabilities.length > 0;
    RegionInfoLayout.write({
      ...value,
      flags: withFlag(value.flags, RegionFlags.CAPS, some),
      capOffset: some ? RegionInfoLayout.size : 0,
    }, bytes);
    writeCapabilities(value.capabilities, bytes);
    return bytes;
  },
  decode(payload) {
    const { capOffset: _, ...info } = RegionInfoLayout.decode(payload);
    return { ...info, capabilities: parseRegionCapabilities(payload) };
  },
};

/**
 * The answer to a DEVICE_GET_REGION_INFO. If the capabilities do not fit the request's `argsz`, the
 * answer has none and its CAPS flag is clear. Its `argsz` says how many bytes to ask for.
 *
 * @param info the region; its `argsz` follows from the capabilities
 * @param requestArgsz bytes that the client has room for, 32 or more
 * @throws {RangeError} if a value does not fit
 *
 * @example
 * ```ts
 * import { encodeRegionInfo, RegionInfoReply } from "./region.ts";
 *
 * const areas = [{ offset: 0x1000n, size: 0x1000n }];
 * const capabilities = [{ kind: "sparse_mmap" as const, version: 1, areas }];
 * const info = { flags: 7, index: 0, size: 0x4000n, offset: 0n, capabilities };
 * const short = RegionInfoReply.decode(encodeRegionInfo(info, 32));
 * console.assert(short.capabilities.length === 0 && short.argsz === 64);
 * console.assert(encodeRegionInfo(info, short.argsz).length === 64);
 * ```
 */
export function encodeRegionInfo(
  info: Omit<RegionInfoReply, "argsz">,
  requestArgsz: number,
): Uint8Array {
  const argsz = regionInfoSize(info.capabilities);
  const capabilities = argsz <= requestArgsz ? info.capabilities : [];
  return RegionInfoReply.encode({ ...info, argsz, capabilities });
}

/** Bytes of a DEVICE_GET_REGION_INFO reply with these capabilities. */
export function regionInfoSize(capabilities: readonly RegionCapability[]): number {
  return capabilities.reduce((size, each) => size + capabilitySize(each), RegionInfoLayout.size);
}

/**
 * The capabilities in the payload of a DEVICE_GET_REGION_INFO reply, in the order of their chain. A
 * reply without the flag CAPS has none; neither has one that was cut because the client had too
 * little room. Offsets need not be aligned, and a chain may run backwards. The bytes of a
 * capability end where the next higher one begins, so that no chain costs more than its bytes. A
 * version of a capability that is not known is kept as `unknown`.
 *
 * @throws {ProtocolError} if the chain leaves the reply, loops, or is longer than our limit, or an
 * area is not in the region
 */
export function parseRegionCapabilities(payload: Uint8Array): RegionCapability[] {
  const { argsz, flags, capOffset, size } = RegionInfoLayout.decode(payload);
  if (payload.length > MAX_REGION_INFO_SIZE) {
    throw failure(`${payload.length} bytes came, the limit is ${MAX_REGION_INFO_SIZE}`);
  }
  const cut = argsz > payload.length && (capOffset === 0 || capOffset >= payload.length);
  if ((flags & RegionFlags.CAPS) === 0 || cut) return [];
  const chain = walkChain(payload, capOffset);
  const starts = chain.map(({ at }) => at).sort((a, b) => a - b);
  return chain.map(({ at, id, version }) => {
    const end = starts[starts.indexOf(at) + 1] ?? payload.length;
    if (end < at + CapabilityHeader.size) throw failure(`capabilities overlap at offset ${at}`);
    const body = payload.subarray(at + CapabilityHeader.size, end);
    return parseCapability(id, version, body, size);
  });
}

/** The headers of the chain, each with its offset in the payload. */
function walkChain(
  payload: Uint8Array,
  capOffset: number,
): { at: number; id: number; version: number }[] {
  const chain: { at: number; id: number; version: number }[] = [];
  const seen = new Set<number>();
  let at = capOffset;
  do {
    if (at < RegionInfoLayout.size) {
      throw failure(`a capability is at offset ${at}, inside the fixed part`);
    }
    if (at > payload.length - CapabilityHeader.size) {
      throw failure(`a capability is at offset ${at}, the reply ends at ${payload.length}`);
    }
    if (seen.has(at)) throw failure(`the chain of capabilities loops at offset ${at}`);
    if (chain.length === MAX_CAPABILITIES) throw failure(`more than ${chain.length} capabilities`);
    seen.add(at);
    const { id, version, next } = CapabilityHeader.decode(payload, at);
    chain.push({ at, id, version });
    at = next;
  } while (at !== 0);
  return chain;
}

function parseCapability(
  id: number,
  version: number,
  body: Uint8Array,
  regionSize: bigint,
): RegionCapability {
  if (version > KNOWN_VERSION) return { kind: "unknown", id, version, bytes: body };
  switch (id) {
    case RegionCapabilityId.SPARSE_MMAP:
      return {
        kind: "sparse_mmap",
        version,
        areas: parseAreas(SparseAreaLayout, body, regionSize),
      };
    case RegionCapabilityId.SPARSE_MMAP_FDS:
      return {
        kind: "sparse_mmap_fds",
        version,
        areas: parseAreas(SparseFdAreaLayout, body, regionSize),
      };
    case RegionCapabilityId.TYPE:
      return { kind: "type", version, ...TypeLayout.decode(body) };
    case RegionCapabilityId.MSIX_MAPPABLE:
      return { kind: "msix_mappable", version };
    default:
      return { kind: "unknown", id, version, bytes: body };
  }
}

function parseAreas<A extends SparseArea>(
  area: { readonly size: number; decode(bytes: Uint8Array, at: number): A },
  body: Uint8Array,
  regionSize: bigint,
): A[] {
  const { nrAreas } = SparseHeader.decode(body);
  const room = body.length - SparseHeader.size;
  if (nrAreas * area.size > room) {
    throw failure(`${nrAreas} sparse areas need ${nrAreas * area.size} bytes, there are ${room}`);
  }
  return Array.from({ length: nrAreas }, (_, i) => {
    const value = area.decode(body, SparseHeader.size + i * area.size);
    if (value.offset + value.size > regionSize) {
      throw failure(
        `sparse area ${i} (offset ${hex(value.offset)}, size ${
          hex(value.size)
        }) ends after the region (size ${hex(regionSize)})`,
      );
    }
    return value;
  });
}

/** Bytes of a capability, its header included, up to where the next may start: a multiple of 8. */
function capabilitySize(capability: RegionCapability): number {
  switch (capability.kind) {
    case "sparse_mmap":
      return CapabilityHeader.size + SparseHeader.size +
        capability.areas.length * SparseAreaLayout.size;
    case "sparse_mmap_fds":
      return CapabilityHeader.size + SparseHeader.size +
        capability.areas.length * SparseFdAreaLayout.size;
    case "type":
      return CapabilityHeader.size + TypeLayout.size;
    case "msix_mappable":
      return CapabilityHeader.size;
    case "unknown":
      return CapabilityHeader.size + Math.ceil(capability.bytes.length / 8) * 8;
  }
}

/** Writes the chain, which starts right after the fixed part. */
function writeCapabilities(capabilities: readonly RegionCapability[], into: Uint8Array): void {
  let at = RegionInfoLayout.size;
  for (const [i, capability] of capabilities.entries()) {
    const end = at + capabilitySize(capability);
    const next = i + 1 < capabilities.length ? end : 0;
    CapabilityHeader.write({ id: idOf(capability), version: capability.version, next }, into, at);
    writeBody(capability, into, at + CapabilityHeader.size);
    at = end;
  }
}

function writeBody(capability: RegionCapability, into: Uint8Array, at: number): void {
  switch (capability.kind) {
    case "sparse_mmap":
      return writeAreas(SparseAreaLayout, capability.areas, into, at);
    case "sparse_mmap_fds":
      return writeAreas(SparseFdAreaLayout, capability.areas, into, at);
    case "type":
      return TypeLayout.write(capability, into, at);
    case "unknown":
      return into.set(capability.bytes, at);
    case "msix_mappable":
  }
}

function writeAreas<A>(
  area: { readonly size: number; write(value: A, into: Uint8Array, at: number): void },
  areas: readonly A[],
  into: Uint8Array,
  at: number,
): void {
  SparseHeader.write({ nrAreas: areas.length }, into, at);
  for (const [i, value] of areas.entries()) {
    area.write(value, into, at + SparseHeader.size + i * area.size);
  }
}

function idOf(capability: RegionCapability): number {
  switch (capability.kind) {
    case "sparse_mmap":
      return RegionCapabilityId.SPARSE_MMAP;
    case "type":
      return RegionCapabilityId.TYPE;
    case "msix_mappable":
      return RegionCapabilityId.MSIX_MAPPABLE;
    case "sparse_mmap_fds":
      return RegionCapabilityId.SPARSE_MMAP_FDS;
    case "unknown":
      return capability.id;
  }
}

function withFlag(flags: number, flag: number, set: boolean): number {
  return (set ? flags | flag : flags & ~flag) >>> 0;
}

function failure(reason: string): ProtocolError {
  return new DecodeError(RegionInfoLayout.name, reason);
}
