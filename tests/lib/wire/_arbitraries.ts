/**
 * Values of every message, for property tests.
 *
 * @module
 */

import fc from "fast-check";
import {
  type MessageCodecs,
  type Messages,
  RegionFlags,
  regionInfoSize,
} from "../../../lib/wire/mod.ts";
import type { JsonObject, JsonValue, RegionCapability } from "../../../lib/wire/mod.ts";

export const u16 = fc.integer({ min: 0, max: 0xffff });
export const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
export const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const bytes = fc.uint8Array({ maxLength: 64 });
const nothing = fc.constant(undefined);

/** fc.record() with plain objects, as decoding gives. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true });
}

function argsz(least: number) {
  return fc.integer({ min: least, max: 0xffff_ffff });
}

const json: fc.Arbitrary<JsonValue> = fc.oneof(
  fc.constant(null),
  fc.boolean(),
  fc.string(),
  fc.maxSafeInteger(),
  fc.bigInt({ min: 1n << 54n, max: 1n << 70n }),
  fc.array(fc.boolean()),
  fc.dictionary(fc.string(), fc.maxSafeInteger(), { noNullPrototype: true }),
);

/** Keys that no capability has, "__proto__" among them. */
const extra = fc.dictionary(
  fc.oneof(fc.constant("__proto__"), fc.string().map((key) => `x-${key}`)),
  json,
  { minKeys: 1, maxKeys: 3, noNullPrototype: true },
) as fc.Arbitrary<JsonObject>;

const positive = fc.maxSafeNat().map((n) => n || 1);
const optional: { noNullPrototype: true; requiredKeys: [] } = {
  noNullPrototype: true,
  requiredKeys: [],
};

const version = fc.record({
  major: u16,
  minor: u16,
  capabilities: fc.record({
    maxMsgFds: fc.maxSafeNat(),
    maxDataXferSize: positive,
    maxDmaMaps: positive,
    pgsizes: u64.map((n) => n || 1n),
    writeMultiple: fc.boolean(),
    twinSocket: fc.record({ supported: fc.boolean(), fdIndex: fc.maxSafeNat(), extra }, {
      noNullPrototype: true,
      requiredKeys: ["supported"],
    }),
    migration: fc.record({ pgsize: positive, maxBitmapSize: positive, extra }, optional),
    extra,
  }, optional),
  extra,
}, { noNullPrototype: true, requiredKeys: ["major", "minor", "capabilities"] });

const dmaUnmap = (least: number) =>
  fc.record({
    argsz: argsz(least),
    flags: u32,
    address: u64,
    size: u64,
    bitmap: fc.uint8Array({ minLength: 1, maxLength: 40 }),
  }, { noNullPrototype: true, requiredKeys: ["argsz", "flags", "address", "size"] });

/** A capability of a region of 2^40 bytes. */
const area = {
  offset: fc.bigInt({ min: 0n, max: 1n << 39n }),
  size: fc.bigInt({ min: 0n, max: 1n << 39n }),
};
const knownVersion = fc.integer({ min: 0, max: 1 });
const capability: fc.Arbitrary<RegionCapability> = fc.oneof(
  record({
    kind: fc.constant("sparse_mmap" as const),
    version: knownVersion,
    areas: fc.array(record(area), { maxLength: 5 }),
  }),
  record({
    kind: fc.constant("sparse_mmap_fds" as const),
    version: knownVersion,
    areas: fc.array(record({ ...area, fdOffset: u64, fdIndex: u32 }), { maxLength: 5 }),
  }),
  record({ kind: fc.constant("type" as const), version: knownVersion, type: u32, subtype: u32 }),
  record({ kind: fc.constant("msix_mappable" as const), version: knownVersion }),
  record({
    kind: fc.constant("unknown" as const),
    id: fc.integer({ min: 4, max: 0x8000 }),
    version: u16,
    bytes: fc.array(fc.uint8Array({ minLength: 8, maxLength: 8 }), { maxLength: 3 })
      .map((words) => new Uint8Array(words.flatMap((word) => [...word]))),
  }),
);

const regionInfoReply = record({
  flags: u32,
  index: u32,
  size: fc.constant(1n << 40n),
  offset: u64,
  capabilities: fc.array(capability, { maxLength: 6 }),
}).map((info) => ({
  ...info,
  argsz: regionInfoSize(info.capabilities),
  flags:
    (info.capabilities.length > 0
      ? info.flags | RegionFlags.CAPS
      : info.flags & ~RegionFlags.CAPS) >>> 0,
}));

const subRegion = record({
  offset: u64,
  size: u64,
  fdIndex: u32,
  type: fc.integer({ min: 0, max: 3 }),
  flags: u32,
  shadowFdIndex: u32,
  data: u64,
  shadowOffset: u64,
}).map((entry) => entry.type === 2 ? entry : { ...entry, shadowOffset: 0n });

const ioFdsHead = { argsz: argsz(16), flags: u32, index: u32 };
const ioFdsReply = record({ ...ioFdsHead, subRegions: fc.array(subRegion, { maxLength: 5 }) })
  .map((value) => ({ ...value, count: value.subRegions.length }));

const setIrqs = fc.tuple(
  fc.constantFrom(1, 2, 4),
  fc.constantFrom(8, 16, 32),
  record({ argsz: argsz(20), index: u32, start: u32, count: u32, data: bytes }),
).map(([kind, action, value]) => ({
  ...value,
  flags: kind | action,
  count: kind === 2 ? value.data.length : value.count,
  data: kind === 2 ? value.data : new Uint8Array(),
}));

const regionAccess = record({ offset: u64, region: u32, count: u32 });
const regionData = record({ offset: u64, region: u32, data: bytes });
const dmaAccess = record({ address: u64, count: u64 });
const dmaData = record({ address: u64, data: bytes });
const smallWrite = record({
  offset: u64,
  region: u32,
  data: fc.uint8Array({ minLength: 1, maxLength: 8 }),
});
const feature = record({ argsz: argsz(8), flags: u32, data: bytes });
const migData = record({ argsz: argsz(8), data: bytes });

/** Request and reply values of each message. */
type Arbitraries = {
  [K in keyof Messages]: Messages[K] extends MessageCodecs<infer Q, infer P>
    ? { request: fc.Arbitrary<Q>; reply: fc.Arbitrary<P> }
    : never;
};

/** Values that decode to themselves once encoded. */
export const arbitraries: Arbitraries = {
  VERSION: { request: version, reply: version },
  DMA_MAP: {
    request: record({ argsz: argsz(32), flags: u32, offset: u64, address: u64, size: u64 }),
    reply: nothing,
  },
  DMA_UNMAP: { request: dmaUnmap(24), reply: dmaUnmap(0) },
  DEVICE_GET_INFO: {
    request: record({ argsz: argsz(16) }),
    reply: record({ argsz: u32, flags: u32, numRegions: u32, numIrqs: u32 }),
  },
  DEVICE_GET_REGION_INFO: {
    request: record({ argsz: argsz(32), index: u32 }),
    reply: regionInfoReply,
  },
  DEVICE_GET_REGION_IO_FDS: {
    request: record({ ...ioFdsHead, count: u32 }),
    reply: ioFdsReply,
  },
  DEVICE_GET_IRQ_INFO: {
    request: record({ argsz: argsz(16), index: u32 }),
    reply: fc.record({
      argsz: u32,
      flags: u32,
      index: u32,
      count: u32,
      extra: fc.uint8Array({ minLength: 1, maxLength: 20 }),
    }, { noNullPrototype: true, requiredKeys: ["argsz", "flags", "index", "count"] }),
  },
  DEVICE_SET_IRQS: { request: setIrqs, reply: nothing },
  REGION_READ: { request: regionAccess, reply: regionData },
  REGION_WRITE: { request: regionData, reply: regionAccess },
  DMA_READ: { request: dmaAccess, reply: dmaData },
  DMA_WRITE: { request: dmaData, reply: dmaAccess },
  DEVICE_RESET: { request: nothing, reply: nothing },
  REGION_WRITE_MULTI: {
    request: record({ writes: fc.array(smallWrite, { maxLength: 5 }) }),
    reply: record({ count: u64 }),
  },
  DEVICE_FEATURE: { request: feature, reply: feature },
  MIG_DATA_READ: { request: record({ argsz: argsz(8), size: u32 }), reply: migData },
  MIG_DATA_WRITE: { request: migData, reply: nothing },
};

/** One row a codec of the registry: its message, its side, and its values. */
export const rows = Object.entries(arbitraries).flatMap(([name, { request, reply }]) => [
  { name: name as keyof Messages, side: "request" as const, values: request },
  { name: name as keyof Messages, side: "reply" as const, values: reply },
]) as { name: keyof Messages; side: "request" | "reply"; values: fc.Arbitrary<unknown> }[];
