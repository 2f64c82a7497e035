/**
 * Vital Product Data: what a board says of itself (PCI Local Bus Specification, "Vital Product
 * Data"). Resources follow one another until the end tag; two kinds of them hold fields, each with
 * a keyword of two letters.
 *
 * @module
 */

import { hex } from "../text/hex.ts";

/** Bytes that a VPD address reaches. */
export const MAX_VPD_SIZE = 0x8000;

/** A field of a resource. */
export interface VpdField {
  /** Two letters, as "SN". */
  keyword: string;
  /** The meaning of the keyword, as "Serial number"; not there if it has none. */
  name?: string;
  /** Bytes from the start of the data, the keyword's first. */
  offset: number;
  /** Its value. */
  bytes: Uint8Array;
  /** The value as text, if all of it is ASCII that can be printed. */
  text?: string;
}

/** A resource. */
export interface VpdResource {
  /** The identifier string, the fields that are read-only, or those that may be written. */
  kind: "id" | "read_only" | "read_write" | "unknown";
  /** The name of the resource's type: 7 bits of a large one, 4 of a small one. */
  tag: number;
  /** Bytes from the start of the data. */
  offset: number;
  /** Bytes that follow its header. */
  length: number;
  /** The identifier string, of ASCII. */
  text?: string;
  /** Its fields. */
  fields: VpdField[];
}

/** Vital Product Data, as far as it could be followed. */
export interface Vpd {
  /** The resources in their order, the end tag left out. */
  resources: VpdResource[];
  /** Bytes up to the end tag, which counts. */
  length: number;
  /** True if the bytes up to the checksum add up to 0; not there if there is no checksum. */
  checksumGood?: boolean;
  /** Mistakes found in it. */
  notes: string[];
}

const TAG_ID = 0x02;
const TAG_READ_ONLY = 0x10;
const TAG_READ_WRITE = 0x11;
const SMALL_END = 0x0f;
const FIELD_HEADER = 3;
/** A byte of memory that is not there. */
const NOTHING = 0xff;

const KINDS: Readonly<Record<number, VpdResource["kind"]>> = {
  [TAG_ID]: "id",
  [TAG_READ_ONLY]: "read_only",
  [TAG_READ_WRITE]: "read_write",
};

const KEYWORDS: Readonly<Record<string, string>> = {
  CP: "Extended capability",
  EC: "Engineering changes",
  FG: "Fabric geography",
  LC: "Location",
  MN: "Manufacture id",
  PG: "PCI geography",
  PN: "Part number",
  RV: "Checksum",
  RW: "Free to write",
  SN: "Serial number",
  YA: "Asset tag",
};

/** The header of a resource. */
interface Header {
  isLarge: boolean;
  tag: number;
  /** Bytes of the header itself. */
  size: number;
  /** Bytes behind it. */
  length: number;
}

/** The header at `offset`; undefined if bytes of it are missing. */
function headerAt(bytes: Uint8Array, offset: number): Header | undefined {
  const first = bytes[offset];
  if (first === undefined) return undefined;
  if (first === NOTHING) return { isLarge: true, tag: first & 0x7f, size: 1, length: 0 };
  if (first < 0x80) return { isLarge: false, tag: first >>> 3, size: 1, length: first & 7 };
  const [low, high] = [bytes[offset + 1], bytes[offset + 2]];
  if (low === undefined || high === undefined) return undefined;
  return { isLarge: true, tag: first & 0x7f, size: 3, length: low | high << 8 };
}

function isEnd({ isLarge, tag }: Header): boolean {
  return !isLarge && tag === SMALL_END;
}

/** An empty or missing memory reads as zeros or ones, which begin no resource. */
function isResource({ isLarge, tag }: Header): boolean {
  return isLarge ? tag !== (NOTHING & 0x7f) : tag !== 0;
}

/** Tells a reader how far the data goes, as it reads on: so it asks for no more. */
export class VpdExtent {
  /** The first resource that is not known yet. */
  #offset = 0;

  /**
   * Looks at what has been read.
   *
   * @param bytes all of it, from the start
   * @returns the bytes that are needed; not more than there are if they hold the end, or are broken
   */
  needed(bytes: Uint8Array): number {
    while (this.#offset < MAX_VPD_SIZE) {
      const header = headerAt(bytes, this.#offset);
      if (header === undefined) {
        // Of a large resource, the length comes in the next two bytes.
        const size = this.#offset < bytes.length ? 3 : 1;
        return Math.min(this.#offset + size, MAX_VPD_SIZE);
      }
      if (isEnd(header) || !isResource(header)) return this.#offset + 1;
      this.#offset += header.size + header.length;
    }
    return MAX_VPD_SIZE;
  }
}

/**
 * Decodes Vital Product Data. Every length is the device's word, and is checked; what is wrong is
 * said in `notes`.
 *
 * @example
 * ```ts
 * import { parseVpd } from "./vpd.ts";
 *
 * const bytes = Uint8Array.of(0x82, 2, 0, 0x48, 0x69, 0x90, 5, 0, 0x53, 0x4e, 2, 0x31, 0x32, 0x78);
 * const { resources: [id, fields] } = parseVpd(bytes);
 * if (id?.text !== "Hi" || fields?.fields[0]?.text !== "12") throw new Error();
 * ```
 */
export function parseVpd(bytes: Uint8Array): Vpd {
  const resources: VpdResource[] = [];
  const notes: string[] = [];
  const vpd = (length: number, why?: string): Vpd => ({
    resources,
    length,
    ...checksumOf(bytes, resources),
    notes: why === undefined ? notes : [...notes, `The data is broken: ${why}`],
  });
  let offset = 0;
  for (;;) {
    const header = headerAt(bytes, offset);
    if (header === undefined) return vpd(bytes.length, `there is no end tag by ${hex(offset)}`);
    if (isEnd(header)) return vpd(offset + 1);
    if (!isResource(header)) return vpd(offset, `no resource at ${hex(offset)}`);
    const start = offset + header.size;
    const end = start + header.length;
    const body = bytes.subarray(start, end);
    const kind = header.isLarge ? KINDS[header.tag] ?? "unknown" : "unknown";
    const hasFields = kind === "read_only" || kind === "read_write";
    resources.push({
      kind,
      tag: header.tag,
      offset,
      length: header.length,
      ...(kind === "id" ? { text: latinText(body) } : {}),
      fields: hasFields ? fieldsOf(body, start, notes) : [],
    });
    if (end > bytes.length) {
      return vpd(bytes.length, `the resource at ${hex(offset)} ends at ${hex(end)}`);
    }
    offset = end;
  }
}

function fieldsOf(body: Uint8Array, start: number, notes: string[]): VpdField[] {
  const fields: VpdField[] = [];
  let at = 0;
  while (at + FIELD_HEADER <= body.length) {
    const keyword = latinText(body.subarray(at, at + 2));
    const end = at + FIELD_HEADER + body[at + 2]!;
    const bytes = body.slice(at + FIELD_HEADER, end);
    const name = KEYWORDS[keyword];
    const text = printableText(bytes);
    fields.push({
      keyword,
      ...(name === undefined ? {} : { name }),
      offset: start + at,
      bytes,
      ...(text === undefined || keyword === "RV" || keyword === "RW" ? {} : { text }),
    });
    if (end > body.length) {
      notes.push(`the field at ${hex(start + at)} reaches past its resource`);
      return fields;
    }
    at = end;
  }
  if (at < body.length) notes.push(`${body.length - at} bytes at ${hex(start + at)} are no field`);
  return fields;
}

/** All bytes up to the first one of RV add up to 0. */
function checksumOf(bytes: Uint8Array, resources: VpdResource[]): { checksumGood?: boolean } {
  const fields = resources.filter(({ kind }) => kind === "read_only").flatMap(({ fields }) =>
    fields
  );
  const checksum = fields.find(({ keyword, bytes }) => keyword === "RV" && bytes.length > 0);
  if (checksum === undefined) return {};
  const end = checksum.offset + FIELD_HEADER + 1;
  const sum = bytes.subarray(0, end).reduce((total, byte) => (total + byte) & 0xff, 0);
  return { checksumGood: sum === 0 };
}

/** Each byte as the character of its number. */
function latinText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

function printableText(bytes: Uint8Array): string | undefined {
  const isText = bytes.every((byte) => byte >= 0x20 && byte < 0x7f);
  return isText && bytes.length > 0 ? latinText(bytes) : undefined;
}
