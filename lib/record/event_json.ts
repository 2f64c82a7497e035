/**
 * Events that are no message, and what is known of a message beside its bytes, as JSON. Integers
 * of 64 bits are strings.
 *
 * @module
 */

import {
  DESCRIPTOR_KINDS,
  type RecordedDescriptor,
  type RecordedEnd,
  type RecordedEvent,
  type RecordedEventBase,
  type RecordedInterrupt,
  type RecordedIoeventfd,
  type RecordedMessage,
  type RecordedNote,
  type RecordedOpen,
  SEALS,
} from "./event.ts";

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** A value as JSON and back. */
interface Form<T> {
  /** The value as JSON; throws {@linkcode FormError} if that could not be read again. */
  write(value: T): Json;
  /** The value of JSON; throws {@linkcode FormError} if it has none. */
  read(json: unknown): T;
}

/** JSON, or a value for it, that is not of the form that it should be. */
export class FormError extends Error {
  override readonly name = "FormError";
}

function plain<T extends Json>(what: string, fits: (json: unknown) => json is T): Form<T> {
  const checked = (json: unknown): T => {
    if (fits(json)) return json;
    throw new FormError(`is not ${what}`);
  };
  return { write: checked, read: checked };
}

const text = plain("a text", (json): json is string => typeof json === "string");

const u32 = plain(
  "an integer of 32 bits",
  (json): json is number =>
    Number.isInteger(json) && json as number >= 0 && json as number < 2 ** 32,
);

const u64: Form<bigint> = {
  write(value) {
    if (value >= 0n && value < 1n << 64n) return String(value);
    throw new FormError("is not an integer of 64 bits");
  },
  read(json) {
    if (typeof json === "string" && /^\d{1,20}$/.test(json) && BigInt(json) < 1n << 64n) {
      return BigInt(json);
    }
    throw new FormError("is not a string of digits, of 64 bits");
  },
};

function oneOf<const T extends string>(...values: readonly T[]): Form<T> {
  return plain(
    `one of ${values.join(", ")}`,
    (json): json is T => (values as readonly unknown[]).includes(json),
  );
}

function orNull<T>(form: Form<T>): Form<T | null> {
  return {
    write: (value) => value === null ? null : form.write(value),
    read: (json) => json === null ? null : form.read(json),
  };
}

function list<T>(form: Form<T>): Form<readonly T[]> {
  return {
    write: (values) => values.map(form.write),
    read(json) {
      if (Array.isArray(json)) return json.map(form.read);
      throw new FormError("is not a list");
    },
  };
}

/** An object with these keys. Others are ignored: later versions may add some. */
function struct<T extends object>(forms: { readonly [K in keyof T]-?: Form<T[K]> }): Form<T> {
  const entries = Object.entries(forms) as [keyof T & string, Form<unknown>][];
  return {
    write: (value) =>
      Object.fromEntries(
        entries.map(([key, form]) => [key, named(key, () => form.write(value[key]))]),
      ),
    read(json) {
      if (typeof json !== "object" || json === null) throw new FormError("is not an object");
      return Object.fromEntries(entries.map(([key, form]) => {
        if (!Object.hasOwn(json, key)) throw new FormError(`has no "${key}"`);
        return [key, named(key, () => form.read((json as Record<string, unknown>)[key]))];
      })) as T;
    },
  };
}

/** Names the key in the error of a value. */
function named<T>(key: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof FormError)) throw error;
    throw new FormError(`has a "${key}" that ${error.message}`);
  }
}

const Descriptor = struct<RecordedDescriptor>({
  kind: oneOf(...DESCRIPTOR_KINDS),
  size: orNull(u64),
  seals: list(oneOf(...SEALS)),
  access: orNull(oneOf("r", "w", "rw")),
  identity: orNull(text),
  fate: oneOf("passed", "replaced", "withheld"),
});

/** The facts that a file keeps of a message, or of garbage, beside its bytes. */
export interface TransferFacts {
  /** The author; garbage has the peer. */
  readonly origin: RecordedMessage["origin"];
  /** The kind of event. */
  readonly kind: "message" | "garbage";
  /** The bytes that the receiver got: the same, others, which follow, or none. */
  readonly receiver: "same" | "altered" | "none";
  /** Descriptors that came along. */
  readonly descriptors: readonly RecordedDescriptor[];
}

/** {@linkcode TransferFacts} as JSON. */
export const TransferFacts: Form<TransferFacts> = struct<TransferFacts>({
  origin: oneOf("peer", "side", "recorder"),
  kind: oneOf("message", "garbage"),
  receiver: oneOf("same", "altered", "none"),
  descriptors: list(Descriptor),
});

/** The kinds of events that have no bytes of a peer. */
export type BareKind = Exclude<RecordedEvent["kind"], "message" | "garbage">;

type Own<E> = Omit<E, keyof RecordedEventBase | "kind">;

/** The form of each bare event. */
const BARE: { readonly [K in BareKind]: Form<Own<Extract<RecordedEvent, { kind: K }>>> } = {
  interrupt: struct<Own<RecordedInterrupt>>({
    irq: u32,
    vector: u32,
    count: u64,
    action: oneOf("trigger", "mask", "unmask"),
  }),
  ioeventfd: struct<Own<RecordedIoeventfd>>({ region: u32, offset: u64, size: u32, count: u64 }),
  open: struct<Own<RecordedOpen>>({ client: orNull(text), server: orNull(text) }),
  end: struct<Own<RecordedEnd>>({
    side: oneOf("client", "server", "recorder"),
    reason: oneOf("left", "cut", "failed", "stopped"),
    text,
  }),
  note: struct<Own<RecordedNote>>({ text }),
};

function formOf(kind: string): Form<object> | undefined {
  return Object.hasOwn(BARE, kind) ? BARE[kind as BareKind] as Form<object> : undefined;
}

const Kind = struct<{ kind: string }>({ kind: text });

/** An event without bytes of a peer, as JSON. */
export function writeBareEvent(event: { readonly kind: BareKind }): string {
  const own = formOf(event.kind)!.write(event) as { [key: string]: Json };
  return JSON.stringify({ kind: event.kind, ...own });
}

/**
 * The kind of an event and what it says; undefined for a kind that a later version has.
 *
 * @throws {FormError} if the JSON is no event
 */
export function readBareEvent(json: string): { readonly kind: BareKind } | undefined {
  const value = parseJson(json);
  const { kind } = Kind.read(value);
  const own = formOf(kind)?.read(value);
  return own && { kind: kind as BareKind, ...own };
}

/** The facts of a message as JSON. */
export function writeTransferFacts(facts: TransferFacts): string {
  return JSON.stringify(TransferFacts.write(facts));
}

/**
 * The facts of a message.
 *
 * @throws {FormError} if the JSON has none
 */
export function readTransferFacts(json: string): TransferFacts {
  return TransferFacts.read(parseJson(json));
}

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new FormError("is no JSON");
  }
}
