/**
 * The fields of a message, taken apart in the page by the tables of the wire.
 *
 * @module
 */

import type { ReportForm, ReportMeta, ReportStruct } from "./data.ts";
import { counted } from "./element.ts";

/** A field of a message. */
export interface FoundField {
  /** Its name; entries of a list have their number ahead of it. */
  readonly name: string;
  /** Bytes from the start of the message. */
  readonly at: number;
  /** Bytes of it. */
  readonly width: number;
  /** Its value for a person. */
  readonly text: string;
}

/** Entries of a list that are shown. */
export function mostEntries(): number {
  return 64;
}

/** Takes messages apart, as far as the page has their bytes. */
export class FieldReader {
  readonly #meta: ReportMeta;
  readonly #bytes: Uint8Array;
  readonly #fields: FoundField[] = [];

  /** @param bytes of the message, header included */
  constructor(meta: ReportMeta, bytes: Uint8Array) {
    this.#meta = meta;
    this.#bytes = bytes;
  }

  /** The fields of header and payload, as far as there are bytes. */
  read(type: string): readonly FoundField[] {
    const { header, forms } = this.#meta;
    const values = this.#struct(header, 0, "");
    const form = forms[Number(values.get("command") ?? -1n)];
    if (type === "request" && form !== undefined) this.#payload(form.request, header.size);
    if (type === "reply" && form !== undefined) this.#payload(form.reply, header.size);
    return this.#fields;
  }

  #payload({ heads, tail }: ReportForm, start: number): void {
    const left = this.#bytes.length - start;
    const head = heads.find(({ size }) => size <= left);
    if (head === undefined && heads.length > 0) return;
    const values = head === undefined ? new Map() : this.#struct(head, start, "");
    const at = start + (head?.size ?? 0);
    const rest = this.#bytes.length - at;
    switch (tail.kind) {
      case "bytes":
        if (rest > 0) {
          const size = tail.length === undefined
            ? rest
            : Math.min(rest, Number(values.get(tail.length) ?? 0n));
          this.#add(tail.name, at, size, counted(size, "byte"));
        }
        return;
      case "text":
        if (rest > 0) this.#add(tail.name, at, rest, this.#text(at, rest));
        return;
      case "entries": {
        const count = Math.min(Number(values.get(tail.count) ?? 0n), mostEntries());
        const whole = Number(values.get(tail.count) ?? 0n);
        const form = tail.forms.find(({ size }) => whole * size === rest) ?? tail.forms.at(-1)!;
        for (let n = 0; n < count && (n + 1) * form.size <= rest; n++) {
          this.#struct(form, at + n * form.size, `${tail.name}[${n}].`);
        }
        return;
      }
      case "chain":
        if ((Number(values.get("flags") ?? 0n) & tail.flag) === 0) return;
        return this.#chain(tail, start, Number(values.get(tail.start) ?? 0n));
    }
  }

  #chain(
    { name, form }: { readonly name: string; readonly form: ReportStruct },
    start: number,
    first: number,
  ): void {
    let next = first;
    for (let n = 0; n < mostEntries() && next !== 0; n++) {
      if (start + next + form.size > this.#bytes.length) return;
      const values = this.#struct(form, start + next, `${name}[${n}].`);
      next = Number(values.get("next") ?? 0n);
    }
  }

  #struct({ fields }: ReportStruct, start: number, prefix: string): Map<string, bigint> {
    const values = new Map<string, bigint>();
    for (const [name, offset, width, names] of fields) {
      const at = start + offset;
      if (at + width > this.#bytes.length) continue;
      let value = 0n;
      for (let i = width - 1; i >= 0; i--) value = value << 8n | BigInt(this.#bytes[at + i]!);
      values.set(name, value);
      const known = names && this.#meta.names[names][Number(value)];
      const hex = `0x${value.toString(16)}`;
      const number = value < 10n ? `${value}` : `${hex} (${value})`;
      this.#add(prefix + name, at, width, known === undefined ? number : `${number} ${known}`);
    }
    return values;
  }

  #text(at: number, size: number): string {
    const text = new TextDecoder().decode(this.#bytes.subarray(at, at + Math.min(size, 2000)));
    return text.replace(/\0$/, "")
      .replace(
        /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu,
        (character) => `\\u${character.codePointAt(0)!.toString(16).padStart(4, "0")}`,
      );
  }

  #add(name: string, at: number, width: number, text: string): void {
    this.#fields.push({ name, at, width, text });
  }
}
