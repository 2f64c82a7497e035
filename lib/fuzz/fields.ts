/**
 * Fields of a message's request, found in the tables of its layout.
 *
 * @module
 */

import { HEADER_SIZE } from "../wire/header.ts";
import type { PayloadForm } from "../wire/codec.ts";
import type { StructForm } from "../wire/layout.ts";
import { messageOf } from "../wire/messages.ts";

/** Entries behind a struct whose fields are found. */
const MAX_ENTRIES = 2;

/** A field in the bytes of a message. */
export interface FieldPlace {
  /** Its name, with those of the structs around it: "writes[0].offset". */
  readonly name: string;
  /** Its offset from the start of the message. */
  readonly at: number;
  /** Its bytes. */
  readonly width: 1 | 2 | 4 | 8;
}

/** The side of a message: its request, or its reply. */
export type Side = "request" | "reply";

/** Fields of all messages of a command and a side that choose no variant, by command and length. */
const KNOWN = new Map<string, readonly FieldPlace[]>();

/** Finds the fields of a message's payload, as far as they are in its bytes. */
export function fieldsOf(
  command: number,
  bytes: Uint8Array,
  side: Side = "request",
): readonly FieldPlace[] {
  const form = messageOf(command)?.[side].form;
  if (form === undefined) return [];
  const hasVariants = form.tail.kind === "chain" ||
    (form.tail.kind === "bytes" && form.tail.variants !== undefined);
  if (hasVariants) return payloadFields(form, bytes, HEADER_SIZE, "");
  // Beyond this length no fields are added.
  const key = `${command} ${side} ${Math.min(bytes.length, 256)}`;
  let fields = KNOWN.get(key);
  if (fields === undefined) KNOWN.set(key, fields = payloadFields(form, bytes, HEADER_SIZE, ""));
  return fields;
}

/** Counts the fields of the struct that the request of each message begins with. */
export function allFieldsOf(command: number, side: Side = "request"): readonly string[] {
  const head = messageOf(command)?.[side].form.heads[0];
  return head === undefined ? [] : Object.keys(head.fields);
}

function payloadFields(
  form: PayloadForm,
  bytes: Uint8Array,
  at: number,
  prefix: string,
): FieldPlace[] {
  const head = form.heads.find(({ size }) => at + size <= bytes.length);
  const fields = head === undefined ? [] : structFields(head, at, prefix);
  const start = at + (head?.size ?? 0);
  const { tail } = form;
  switch (tail.kind) {
    case "entries":
      return [...fields, ...entryFields(tail.forms[0], tail.name, bytes, start, prefix)];
    case "bytes": {
      const { variants } = tail;
      const place = fields.find(({ name }) => name === prefix + variants?.field);
      if (variants === undefined || place === undefined) return fields;
      const number = readField(bytes, place) & variants.mask;
      const variant = variants.forms[number];
      if (variant === undefined) return fields;
      return [...fields, ...payloadFields(variant.form, bytes, start, `${variant.name}.`)];
    }
    case "chain": {
      const name = `${prefix}${tail.name}[0].`;
      if (start + tail.form.size > bytes.length) return fields;
      return [...fields, ...structFields(tail.form, start, name)];
    }
    default:
      return fields;
  }
}

function entryFields(
  form: StructForm | undefined,
  name: string,
  bytes: Uint8Array,
  start: number,
  prefix: string,
): FieldPlace[] {
  const all: FieldPlace[] = [];
  if (form === undefined) return all;
  for (let i = 0; i < MAX_ENTRIES; i++) {
    const at = start + i * form.size;
    if (at + form.size > bytes.length) break;
    all.push(...structFields(form, at, `${prefix}${name}[${i}].`));
  }
  return all;
}

function structFields({ fields }: StructForm, at: number, prefix: string): FieldPlace[] {
  return Object.entries(fields).map(([name, { offset, width }]) => ({
    name: prefix + name,
    at: at + offset,
    width,
  }));
}

/** Reads the low 32 bits of a field. */
function readField(bytes: Uint8Array, { at, width }: FieldPlace): number {
  let value = 0;
  for (let i = Math.min(width, 4) - 1; i >= 0; i--) value = value * 256 + bytes[at + i]!;
  return value;
}
