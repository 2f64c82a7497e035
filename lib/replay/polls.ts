/**
 * Registers that a recorded client polls: they change while it does nothing but read.
 *
 * @module
 */

import type { DecodedPayload } from "../record/decode.ts";
import { hex } from "../text/hex.ts";
import { HARMLESS } from "./harmless.ts";

/** Places of registers that are kept. */
const MAX_PLACES = 65_536;
/** Bytes of a read that is looked at. */
const MAX_SIZE = 4096;
/** Bytes of a register that may count. */
const MAX_COUNTER = 8;

/** A place that is read. */
interface Place {
  /** The value of the last read, and the number of requests that may have changed it until then. */
  last: Uint8Array;
  causes: number;
  /** The bits that changed between two reads; undefined for none. */
  changing: Uint8Array | undefined;
  /** Values that came by themselves: 3 at most; undefined for none. */
  values: Set<string> | undefined;
}

/** The register that a request reads, as a key; undefined if it reads none. */
export function readPlace(payload: DecodedPayload | undefined): string | undefined {
  if (payload?.name !== "REGION_READ" || payload.side !== "request") return undefined;
  const { region, offset, count } = payload.value;
  return `${region}+${hex(offset)}.${count}`;
}

/**
 * The registers of a recording that are polled, and their bits that change. They change between
 * equal reads, with no request between that may have changed the device.
 */
export class Polls {
  readonly #places = new Map<string, Place>();
  #causes = 0;
  #client = -1;

  /** Takes a request of a client. */
  request(client: number, name: string): void {
    if (!HARMLESS.has(name) || client !== this.#client) this.#causes++;
    this.#client = client;
  }

  /** Takes the reply to a read. */
  reply(place: string, data: Uint8Array): void {
    if (data.length <= MAX_SIZE) this.#read(place, data);
  }

  /**
   * Tells if a value may be an earlier or later value than that of the recording. The recording
   * polls that place, and they differ in bits alone that change there.
   */
  mayDiffer(place: string, expected: Uint8Array, found: Uint8Array): boolean {
    const { changing } = this.#places.get(place) ?? {};
    if (changing === undefined || expected.length !== changing.length) return false;
    return found.length === changing.length &&
      changing.every((bits, i) => ((expected[i]! ^ found[i]!) & ~bits) === 0);
  }

  #read(place: string, data: Uint8Array): void {
    const known = this.#places.get(place);
    const causes = this.#causes;
    if (known === undefined) {
      if (this.#places.size >= MAX_PLACES) return;
      const none = { changing: undefined, values: undefined };
      this.#places.set(place, { last: data.slice(), causes, ...none });
      return;
    }
    const { last } = known;
    const hasChanged = last.length === data.length && last.some((byte, i) => byte !== data[i]);
    if (hasChanged && known.causes === causes) {
      const changing = known.changing ??= new Uint8Array(data.length);
      for (const [i, byte] of data.entries()) changing[i]! |= byte ^ last[i]!;
      const values = known.values ??= new Set();
      for (const each of [last, data]) if (values.size < 3) values.add(each.toHex());
      // More than a bit or two that are set and cleared: a number, which has others between.
      if (values.size > 2 && data.length <= MAX_COUNTER) fillBelow(changing);
    }
    if (hasChanged || last.length !== data.length) known.last = data.slice();
    known.causes = causes;
  }
}

/** Sets all bits below the highest one that is set, of a little-endian number. */
function fillBelow(bytes: Uint8Array): void {
  const top = bytes.findLastIndex((byte) => byte !== 0);
  bytes.fill(0xff, 0, Math.max(top, 0));
  if (top >= 0) bytes[top] = (1 << (32 - Math.clz32(bytes[top]!))) - 1;
}
