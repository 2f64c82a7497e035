/**
 * The data of a report: what the command packs, and the page unpacks. Events are rows; what a row
 * has is in columns, texts are numbers into one list.
 *
 * @module
 */

import { turnUnless } from "../../../lib/base/turn.ts";
import type { PayloadTail } from "../../../lib/wire/codec.ts";

/** The columns, each with the type of its numbers. Those of 8 bytes come first, for alignment. */
export const COLUMNS = {
  /** Nanoseconds since the first event. */
  time: "Float64Array",
  /** Nanoseconds from request to reply; -1 for all but replies. */
  latency: "Float64Array",
  /** The row of the request that a reply answers; -1 for none. */
  request: "Int32Array",
  /** Bytes of the message. */
  length: "Uint32Array",
  /** Bytes of it that the page has. */
  kept: "Uint32Array",
  /** The name of the command, or the kind of event: a text. */
  name: "Uint32Array",
  /** The place of an access: a text. */
  place: "Uint32Array",
  /** The value, then its fields in lines: a text. */
  value: "Uint32Array",
  /** A comment or a remark: a text. */
  remark: "Uint32Array",
  /** The number of the client. */
  client: "Uint32Array",
  /** The message id. */
  id: "Uint16Array",
  /** The kind of event: see {@linkcode ReportMeta.kinds}. */
  kind: "Uint8Array",
  /** The type of message: see {@linkcode ReportMeta.types}. */
  type: "Uint8Array",
  /** The author: see {@linkcode ReportMeta.origins}. */
  origin: "Uint8Array",
  /** 1: it went to the client; 2: over the twin socket; 4: altered; 8: it wants no reply. */
  flags: "Uint8Array",
  /** The lane. */
  lane: "Uint8Array",
  /** The lane of its region; 255 for none. */
  regionLane: "Uint8Array",
} as const;

/** The name of a column. */
export type ColumnName = keyof typeof COLUMNS;

/** The columns as numbers. */
export type Columns = Readonly<Record<ColumnName, ArrayLike<number>>>;

/** The tables of names that values of fields have. */
export type NameTable = "regions" | "irqs" | "errnos" | "commands" | "flags";

/** A struct, for the page: fields with offset, width and kind. */
export interface ReportStruct {
  /** Bytes of it. */
  readonly size: number;
  /** Name, offset, bytes, and the table of names of its values, if there is one. */
  readonly fields: readonly (readonly [
    name: string,
    offset: number,
    width: number,
    names?: NameTable,
  ])[];
}

/** The rest of a payload after its struct, as {@linkcode PayloadTail}. */
export type ReportTail =
  | Extract<PayloadTail, { readonly kind: "none" | "bytes" | "text" }>
  | {
    readonly kind: "entries";
    readonly name: string;
    readonly count: string;
    readonly forms: readonly ReportStruct[];
  }
  | {
    readonly kind: "chain";
    readonly name: string;
    readonly start: string;
    readonly flag: number;
    readonly form: ReportStruct;
  };

/** A payload. */
export interface ReportForm {
  /** Structs that it begins with, the largest first. */
  readonly heads: readonly ReportStruct[];
  /** The rest after the struct. */
  readonly tail: ReportTail;
}

/** Facts about a row that few rows have. */
export interface RowExtra {
  /** Descriptors that came along, in words. */
  readonly descriptors?: readonly string[];
  /** Why the payload could not be decoded. */
  readonly problem?: string;
  /** The bytes as the receiver got them, in hexadecimal; null if it got none. */
  readonly passedOn?: string | null;
}

/** Facts about all rows. */
export interface ReportMeta {
  /** The name of the recording's file. */
  readonly file: string;
  /** The filter that chose the events; missing if all are there. */
  readonly filter?: string;
  /** Why the recording is not whole; missing if it is. */
  readonly problem?: string;
  /** The first event's time, in nanoseconds since the epoch. */
  readonly startNs: string;
  /** Events. */
  readonly rows: number;
  /** Texts, without what an output device would act upon. */
  readonly texts: readonly string[];
  /** Lanes from above. */
  readonly lanes: readonly string[];
  /** Names of kinds of events. */
  readonly kinds: readonly string[];
  /** Names of types of messages. */
  readonly types: readonly string[];
  /** Names of authors. */
  readonly origins: readonly string[];
  /** The header of a message. */
  readonly header: ReportStruct;
  /** Payloads by command, request and reply. */
  readonly forms: Readonly<
    Record<number, { readonly request: ReportForm; readonly reply: ReportForm }>
  >;
  /** Names of numbers. */
  readonly names: Readonly<
    Record<NameTable, Readonly<Record<number, string>>>
  >;
  /** Facts that few rows have, by row. */
  readonly extras: Readonly<Record<number, RowExtra>>;
  /** Remarks that were left out because they are too much for a page. */
  readonly omittedTexts: number;
  /** Columns in the order in which they follow, with their types. */
  readonly columns: Readonly<Record<string, string>>;
}

/** The data of a report, unpacked. */
export interface ReportData {
  /** Facts about all rows. */
  readonly meta: ReportMeta;
  /** The columns. */
  readonly columns: Columns;
  /** The bytes of all messages that the page has, one after another. */
  readonly bytes: Uint8Array;
}

/**
 * Packs the data of a report: compressed, in base64, which comes in pieces.
 *
 * @throws the signal's reason, between pieces
 */
export async function* packReport(
  { meta, columns, bytes }: ReportData,
  signal: AbortSignal,
): AsyncGenerator<string, void> {
  const head = new TextEncoder().encode(JSON.stringify(meta));
  const start = new Uint8Array(8);
  new DataView(start.buffer).setUint32(0, head.length, true);
  const parts: Uint8Array<ArrayBuffer>[] = [start, head, new Uint8Array(-head.length & 7)];
  for (const name of Object.keys(COLUMNS) as ColumnName[]) {
    const { buffer, byteOffset, byteLength } = columns[name] as Uint8Array<ArrayBuffer>;
    parts.push(new Uint8Array(buffer, byteOffset, byteLength));
  }
  parts.push(bytes as Uint8Array<ArrayBuffer>);
  const packed = new Blob(parts).stream().pipeThrough(new CompressionStream("gzip"));
  let rest = new Uint8Array(); // base64 is of 3 bytes each
  for await (const piece of packed) {
    await turnUnless(signal);
    const whole = new Uint8Array(rest.length + piece.length);
    whole.set(rest);
    whole.set(piece, rest.length);
    const end = whole.length - whole.length % 3;
    yield whole.subarray(0, end).toBase64();
    rest = whole.subarray(end);
  }
  yield rest.toBase64();
}

/**
 * Unpacks the data of a report; the page has this function, too.
 */
export async function unpackReport(text: string): Promise<ReportData> {
  const binary = atob(text);
  const packed = new Uint8Array(binary.length);
  for (let i = 0; i < packed.length; i++) packed[i] = binary.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const meta = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  let at = 8 + length + (-length & 7);
  const columns: Record<string, ArrayLike<number>> = {};
  const types = { Float64Array, Int32Array, Uint32Array, Uint16Array, Uint8Array };
  for (const [name, type] of Object.entries(meta.columns)) {
    const Type = types[type as keyof typeof types];
    columns[name] = new Type(buffer, at, meta.rows);
    at += meta.rows * Type.BYTES_PER_ELEMENT;
  }
  return { meta, columns: columns as Columns, bytes: new Uint8Array(buffer, at) };
}
