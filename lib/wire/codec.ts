/**
 * Codecs: how the payload of a message, the bytes after its header, becomes a value and back. Those
 * of messages that are one struct, one struct with data, or nothing are made here.
 *
 * The bytes behind the known part of a payload. A request that may not be longer is refused. A
 * request with an `argsz` may be longer, because a later version of the protocol may extend its
 * struct. Surplus bytes of a reply are ignored, because some peers send them.
 *
 * @module
 */

import { DecodeError } from "../base/errors.ts";
import type { Layout, StructForm } from "./layout.ts";

/** The rest of a payload after its struct. Names of fields are those of the struct. */
export type PayloadTail =
  | { readonly kind: "none" }
  /** Bytes: as many as the field `length` says, else all that are left. */
  | {
    readonly kind: "bytes";
    readonly name: string;
    readonly length?: string;
    /** Forms that they may have. */
    readonly variants?: PayloadVariants;
  }
  /** A text that ends with a NUL or the payload. */
  | { readonly kind: "text"; readonly name: string }
  /** Structs, as many as the field `count` says; of several forms the one that fits the payload. */
  | {
    readonly kind: "entries";
    readonly name: string;
    readonly count: string;
    readonly forms: readonly StructForm[];
  }
  /**
   * Structs whose field `next` has the place of the next one in the payload. The field `start` has
   * that of the first, if `flag` is set in `flags`.
   */
  | {
    readonly kind: "chain";
    readonly name: string;
    readonly start: string;
    readonly flag: number;
    readonly form: StructForm;
    /** Forms of what follows each of the structs, up to the next one in the payload. */
    readonly variants: PayloadVariants;
    /** The highest `version` of a struct whose variant is known. */
    readonly knownVersion: number;
  };

/** Forms of what follows a struct, one of which a field of that struct chooses. */
export interface PayloadVariants {
  /** The name of the field. */
  readonly field: string;
  /** Its bits that have the number of the form. */
  readonly mask: number;
  /** The forms by number, each with a name. */
  readonly forms: Readonly<Record<number, { readonly name: string; readonly form: PayloadForm }>>;
}

/** The form of a payload, for those that take one apart in another language. */
export interface PayloadForm {
  /** Structs that it begins with, the largest first: the first for which there is room is meant. */
  readonly heads: readonly StructForm[];
  /** The rest after the struct. */
  readonly tail: PayloadTail;
}

/** The form of a payload with one struct at most. */
export function payloadForm(
  head: StructForm | undefined,
  tail: PayloadTail = { kind: "none" },
): PayloadForm {
  return { heads: head === undefined ? [] : [head], tail };
}

/** Encodes and decodes the payload of one kind of message. */
export interface Codec<T> {
  /** The name of the struct, for error messages: "DMA_MAP request". */
  readonly name: string;
  /** The form of the payload. */
  readonly form: PayloadForm;
  /**
   * The payload that says `value`, in bytes of its own.
   *
   * @throws {RangeError} if something in the value does not fit the message
   */
  encode(value: T): Uint8Array;
  /**
   * The value of a payload. Data in it are views of `payload`, not copies.
   *
   * @throws {ProtocolError} if the payload is not a valid message of this kind
   */
  decode(payload: Uint8Array): T;
}

/** A request that is one struct and nothing else. */
export function fixedRequest<T>(layout: Layout<T>): Codec<T> {
  return {
    name: layout.name,
    form: payloadForm(layout),
    encode: layout.encode,
    decode(payload) {
      const value = layout.decode(payload);
      refuseSurplus(layout.name, payload, layout.size);
      return value;
    },
  };
}

/** A request that is one struct which begins with `argsz`, the size of the struct or more. */
export function argszRequest<T extends { argsz: number }>(layout: Layout<T>): Codec<T> {
  return {
    name: layout.name,
    form: payloadForm(layout),
    encode: layout.encode,
    decode(payload) {
      const value = layout.decode(payload);
      checkArgsz(layout, value.argsz);
      return value;
    },
  };
}

/** A reply that is one struct. */
export function fixedReply<T>(layout: Layout<T>): Codec<T> {
  return {
    name: layout.name,
    form: payloadForm(layout),
    encode: layout.encode,
    decode: (payload) => layout.decode(payload),
  };
}

/** A request without a payload. */
export function emptyRequest(name: string): Codec<void> {
  return {
    name,
    form: payloadForm(undefined),
    encode: () => new Uint8Array(),
    decode: (payload) => refuseSurplus(name, payload, 0),
  };
}

/** A reply without a payload. */
export function emptyReply(name: string): Codec<void> {
  return {
    name,
    form: payloadForm(undefined),
    encode: () => new Uint8Array(),
    decode: () => undefined,
  };
}

/** A struct followed by data, as bytes of their own. */
export function encodeWithData<T>(layout: Layout<T>, value: T, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(layout.size + data.length);
  layout.write(value, bytes);
  bytes.set(data, layout.size);
  return bytes;
}

/**
 * The data after a struct, a view. They must be `count` bytes exactly.
 *
 * @throws {ProtocolError} if there are more or fewer
 */
export function exactData(
  layout: Layout<unknown>,
  payload: Uint8Array,
  count: number | bigint,
): Uint8Array {
  const data = payload.subarray(layout.size);
  if (BigInt(data.length) !== BigInt(count)) {
    throw new DecodeError(layout.name, `count is ${count}, ${data.length} bytes of data came`);
  }
  return data;
}

/**
 * Refuses an `argsz` smaller than the struct it stands in.
 *
 * @throws {ProtocolError} if it is
 */
export function checkArgsz(layout: Layout<unknown>, argsz: number): void {
  if (argsz < layout.size) {
    throw new DecodeError(layout.name, `argsz is ${argsz}, the least is ${layout.size}`);
  }
}

function refuseSurplus(name: string, payload: Uint8Array, size: number): void {
  if (payload.length > size) {
    throw new DecodeError(name, `${payload.length} bytes came, it has ${size}`);
  }
}
