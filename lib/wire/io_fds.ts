/**
 * File descriptors that stand in for parts of a region: KVM signals them in place of an access
 * (specification: "VFIO_USER_DEVICE_GET_REGION_IO_FDS").
 *
 * @module
 */

import { DecodeError } from "../base/errors.ts";
import { argszRequest, type Codec, payloadForm } from "./codec.ts";
import { layout, u32, u64 } from "./layout.ts";

/** The kinds of file descriptor that a {@linkcode SubRegion} has. */
export const IoFdType = {
  /** An eventfd that a write signals. */
  IOEVENTFD: 0,
  /** A socket that carries each access. */
  IOREGIONFD: 1,
  /** An eventfd, with memory that holds the value last written. */
  SHADOW_IOEVENTFD: 2,
} as const;

/** `fdIndex` of a part without a descriptor, as libvfio-user has it. */
export const NO_IO_FD = 0xffff_ffff;

/** Asks for the file descriptors of a region. */
export interface RegionIoFdsRequest {
  /** Bytes that the reply may have, 16 or more. */
  argsz: number;
  /** Reserved. */
  flags: number;
  /** The region's index. */
  index: number;
  /** Reserved in a request. */
  count: number;
}

/** The parts of a region that have a file descriptor. */
export interface RegionIoFdsReply {
  /** Bytes of the whole answer; if more than the request's, ask again with this `argsz`. */
  argsz: number;
  /** Reserved. */
  flags: number;
  /** The region's index. */
  index: number;
  /** Sub-regions that there are. */
  count: number;
  /** All of them, or none if the request's `argsz` was too small. */
  subRegions: SubRegion[];
}

/** A part of a region that has a file descriptor. */
export interface SubRegion {
  /** Bytes from the start of the region. */
  offset: bigint;
  /** Bytes of the part. */
  size: bigint;
  /** The index among the file descriptors of the reply; {@linkcode NO_IO_FD} for none. */
  fdIndex: number;
  /** {@linkcode IoFdType}. */
  type: number;
  /** The flags of the kernel's ioeventfd or ioregionfd. */
  flags: number;
  /** With SHADOW_IOEVENTFD: which of the file descriptors is the shadow memory. */
  shadowFdIndex: number;
  /** The value to match of an ioeventfd, or the user data of an ioregionfd. */
  data: bigint;
  /** With SHADOW_IOEVENTFD: where in the shadow memory the value is. Else 0. */
  shadowOffset: bigint;
}

const HeadLayout = layout("DEVICE_GET_REGION_IO_FDS reply", 16, {
  argsz: u32(0),
  flags: u32(4),
  index: u32(8),
  count: u32(12),
});

const common = {
  offset: u64(0),
  size: u64(8),
  fdIndex: u32(16),
  type: u32(20),
  flags: u32(24),
  shadowFdIndex: u32(28),
};
/** The specification's sub-region: one number serves as data or shadow offset, by type. */
const ShortLayout = layout("sub-region", 40, { ...common, value: u64(32) });
/** libvfio-user's: an eventfd's data have a place of their own. */
const LongLayout = layout("sub-region", 48, { ...common, value: u64(32), data: u64(40) });

/** DEVICE_GET_REGION_IO_FDS request. */
export const RegionIoFdsRequest: Codec<RegionIoFdsRequest> = argszRequest(
  layout("DEVICE_GET_REGION_IO_FDS request", 16, {
    argsz: u32(0),
    flags: u32(4),
    index: u32(8),
    count: u32(12),
  }),
);

/**
 * DEVICE_GET_REGION_IO_FDS reply. Sub-regions of 40 bytes, as specified, and of 48, as libvfio-user
 * sends them, are decoded. 40 are encoded, or 48 if one has both data and a shadow offset.
 *
 * @example
 * ```ts
 * import { RegionIoFdsReply } from "./io_fds.ts";
 *
 * const none = new Uint8Array([16, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
 * const reply = RegionIoFdsReply.decode(none);
 * console.assert(reply.index === 2 && reply.subRegions.length === 0);
 * ```
 */
export const RegionIoFdsReply: Codec<RegionIoFdsReply> = {
  name: HeadLayout.name,
  form: payloadForm(HeadLayout, {
    kind: "entries",
    name: "subRegions",
    count: "count",
    forms: [LongLayout, ShortLayout],
  }),
  encode(value) {
    const { subRegions } = value;
    const entry = subRegions.some(needsLong) ? LongLayout : ShortLayout;
    const bytes = new Uint8Array(HeadLayout.size + subRegions.length * entry.size);
    HeadLayout.write(value, bytes);
    for (const [i, each] of subRegions.entries()) {
      writeSubRegion(each, entry.size, bytes, HeadLayout.size + i * entry.size);
    }
    return bytes;
  },
  decode(payload) {
    const head = HeadLayout.decode(payload);
    // Cut to a small argsz there are no entries; anything else must be all of them.
    const room = payload.length - HeadLayout.size;
    const length = room === 0 ? 0 : head.count;
    const size = length === 0 ? 0 : entrySize(head.argsz, head.count, room);
    const decode = size === LongLayout.size ? decodeLong : decodeShort;
    const subRegions = Array.from(
      { length },
      (_, i) => decode(payload, HeadLayout.size + i * size),
    );
    return { ...head, subRegions };
  },
};

/** Bytes of an entry. The payload tells; argsz does if there are surplus bytes. */
function entrySize(argsz: number, count: number, room: number): number {
  for (const bytes of [room, Math.min(room, argsz - HeadLayout.size)]) {
    for (const { size } of [ShortLayout, LongLayout]) {
      if (bytes === count * size) return size;
    }
  }
  throw new DecodeError(
    HeadLayout.name,
    `${count} sub-regions of 40 or 48 bytes, ${room} bytes came`,
  );
}

function decodeShort(payload: Uint8Array, at: number): SubRegion {
  const { value, ...rest } = ShortLayout.decode(payload, at);
  return isShadow(rest)
    ? { ...rest, data: 0n, shadowOffset: value }
    : { ...rest, data: value, shadowOffset: 0n };
}

function decodeLong(payload: Uint8Array, at: number): SubRegion {
  const { value, data, ...rest } = LongLayout.decode(payload, at);
  if (rest.type === IoFdType.IOREGIONFD) return { ...rest, data: value, shadowOffset: 0n };
  return { ...rest, data, shadowOffset: isShadow(rest) ? value : 0n };
}

function writeSubRegion(from: SubRegion, size: number, into: Uint8Array, at: number): void {
  if (size === ShortLayout.size) {
    const value = isShadow(from) ? from.shadowOffset : from.data;
    return ShortLayout.write({ ...from, value }, into, at);
  }
  const isSocket = from.type === IoFdType.IOREGIONFD;
  LongLayout.write(
    {
      ...from,
      value: isSocket ? from.data : from.shadowOffset,
      data: isSocket ? 0n : from.data,
    },
    into,
    at,
  );
}

function needsLong(entry: SubRegion): boolean {
  return isShadow(entry) && entry.data !== 0n;
}

function isShadow({ type }: { type: number }): boolean {
  return type === IoFdType.SHADOW_IOEVENTFD;
}
