/**
 * The comparison of replies with those of a recording.
 *
 * @module
 */

import { sameBytes } from "../base/bytes.ts";
import { HEADER_SIZE } from "../wire/header.ts";
import { type DecodedMessage, decodeMessage } from "../record/decode.ts";

/** A part of a region whose contents may differ. */
export interface IgnoredRange {
  /** The region index. */
  readonly region: number;
  /** The offset of its first byte. */
  readonly start: number;
  /** The offset behind its last byte; Infinity for the rest of the region. */
  readonly end: number;
}

/** Fields of a reply that are a server's own: sizes of buffers, places in files. */
const OWN_FIELDS: Readonly<Record<string, ReadonlySet<string>>> = {
  DEVICE_GET_REGION_INFO: new Set(["argsz", "offset"]),
};
const ARGSZ: ReadonlySet<string> = new Set(["argsz"]);
/** The same of structs in a reply: numbers of descriptors, and places in their files. */
const NESTED_OWN_FIELDS: ReadonlySet<string> = new Set(["fdIndex", "fdOffset", "shadowFdIndex"]);

/**
 * Compares two replies, or two requests of a server. What is a server's own may differ: message
 * ids, sizes of buffers, padding, places in its files.
 *
 * @param ignored parts of regions whose contents may differ
 */
export function isSameMessage(
  expected: DecodedMessage,
  expectedBytes: Uint8Array,
  found: Uint8Array,
  ignored: readonly IgnoredRange[] = [],
): boolean {
  const other = decodeMessage(found);
  if (other === undefined || other.type !== expected.type) return false;
  if (expected.type === "error") return expected.header.error === other.header.error;
  const [own, its] = [expected.payload, other.payload];
  if (own === undefined || its === undefined || own.name !== its.name || own.side !== its.side) {
    return own === its &&
      sameBytes(expectedBytes.subarray(HEADER_SIZE), found.subarray(HEADER_SIZE));
  }
  if (own.name === "REGION_READ" && own.side === "reply" && its.name === own.name) {
    const { region, offset, data } = own.value;
    const value = its.value as typeof own.value;
    return value.region === region && value.offset === offset &&
      sameData(data, value.data, ignored.filter((each) => each.region === region), Number(offset));
  }
  return sameValue(own.value, its.value, OWN_FIELDS[own.name] ?? ARGSZ);
}

/** Compares data of a region, but for the parts that may differ. */
function sameData(
  expected: Uint8Array,
  found: Uint8Array,
  ignored: readonly IgnoredRange[],
  start: number,
): boolean {
  if (expected.length !== found.length) return false;
  return expected.every((byte, i) =>
    byte === found[i] || ignored.some((each) => start + i >= each.start && start + i < each.end)
  );
}

function sameValue(expected: unknown, found: unknown, own: ReadonlySet<string>): boolean {
  if (expected === found) return true;
  if (expected instanceof Uint8Array) {
    return found instanceof Uint8Array && sameBytes(expected, found);
  }
  if (typeof expected !== "object" || typeof found !== "object") return false;
  if (expected === null || found === null) return false;
  const [a, b] = [expected, found] as [Record<string, unknown>, Record<string, unknown>];
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].every((name) =>
    own.has(name) || sameValue(a[name], b[name], NESTED_OWN_FIELDS)
  );
}
