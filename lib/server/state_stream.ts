/**
 * A form for the state of a device, as it migrates: frames, each with its number and a checksum.
 * They stand between a beginning that identifies the device and an end that counts the bytes. A
 * state that is truncated, changed, out of order or of another device is refused.
 *
 * A frame is a header of 32 bytes, little-endian, and its payload:
 *
 * | offset | bytes | what |
 * |---|---|---|
 * | 0 | 4 | "vfus" |
 * | 4 | 2 | kind: 0 BEGIN, 1 DATA, 2 END |
 * | 6 | 2 | the section, of DATA |
 * | 8 | 4 | number of the frame, from 0 |
 * | 12 | 4 | bytes of the payload |
 * | 16 | 8 | where the payload belongs in its section |
 * | 24 | 4 | 0 |
 * | 28 | 4 | CRC-32 of these 28 bytes and the payload |
 *
 * BEGIN's payload is the version of this form, the PCI ids, the version of the device's state and
 * its name. END's payload is the total of the DATA frames' payload bytes.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { sameBytes } from "../base/bytes.ts";
import { crc32 } from "../base/crc32.ts";
import { MAX_STATE_FRAME, MAX_STATE_NAME, MAX_STATE_SPANS } from "../base/limits.ts";
import { layout, u16, u32, u64 } from "../wire/layout.ts";
import { DeviceError } from "./served_device.ts";
import { hexDigits } from "../text/hex.ts";

const MAGIC = 0x73756676; // "vfus"
const FORM_VERSION = 1;
const Kind = { BEGIN: 0, DATA: 1, END: 2 } as const;

const Header = layout("state frame", 32, {
  magic: u32(0),
  kind: u16(4),
  section: u16(6),
  sequence: u32(8),
  length: u32(12),
  offset: u64(16),
  crc: u32(28),
});
const CRC_AT = 28;
const Begin = layout("beginning of a state", 16, {
  form: u32(0),
  vendor: u16(4),
  device: u16(6),
  subsystemVendor: u16(8),
  subsystem: u16(10),
  version: u32(12),
});
const End = layout("end of a state", 8, { total: u64(0) });

/**
 * Identity of the device that a state belongs to. Only a device that is the same in all of these
 * takes the state.
 */
export interface StateIdentity {
  /** A name, of up to 64 bytes in UTF-8. */
  readonly name: string;
  /** PCI vendor id. */
  readonly vendor: number;
  /** PCI device id. */
  readonly device: number;
  /** PCI subsystem vendor id; default 0. */
  readonly subsystemVendor?: number;
  /** PCI subsystem id; default 0. */
  readonly subsystem?: number;
  /** Version of the device's own state: to be changed whenever its sections change. */
  readonly version: number;
}

/**
 * Puts the state of a device into frames. The writer yields chunks of 1 MiB, the last one less;
 * each is the same memory again, and holds until the next is asked for. The bytes of the device are
 * copied at that time, so they may be memory that others write.
 *
 * @example A device of one register and a memory
 * ```ts
 * import { StateReader, StateWriter } from "./state_stream.ts";
 *
 * const identity = { name: "example", vendor: 0x1234, device: 0x0de5, version: 1 };
 * const reader = new StateReader(identity, new Map([[0, { size: 4 }], [2, { size: 4096 }]]));
 * function* save() {
 *   const writer = new StateWriter(identity);
 *   yield* writer.write(0, new Uint8Array([1, 2, 3, 4]));
 *   yield* writer.write(2, new Uint8Array(4096));
 *   yield* writer.finish();
 * }
 * for (const chunk of save()) reader.write(chunk);
 * reader.finish();
 * console.assert(reader.section(0).join() === "1,2,3,4");
 * ```
 */
export class StateWriter {
  readonly #bytes = new Uint8Array(MAX_STATE_FRAME);
  #end = 0; // of what is in it
  #sequence = 0;
  #total = 0;

  /**
   * A stream that begins with the identity.
   *
   * @throws {RangeError} if the name is too long, or a number of it too large
   */
  constructor(identity: StateIdentity) {
    const payload = encodeIdentity(identity);
    this.#frame(Kind.BEGIN, 0, 0, payload);
  }

  /**
   * A part of the state.
   *
   * @param section what the part is of: a number of the device's choice, 16 bits
   * @param bytes as they are when each chunk is asked for
   * @param offset where they belong in the section; default 0
   */
  *write(section: number, bytes: Uint8Array, offset = 0): Generator<Uint8Array, void> {
    let at = 0;
    do { // once for a section that is empty
      if (this.#room < 1) yield* this.flush();
      const part = bytes.subarray(at, at + this.#room);
      this.#frame(Kind.DATA, section, offset + at, part);
      this.#total += part.length;
      at += part.length;
    } while (at < bytes.length);
    if (this.#room < 1) yield* this.flush();
  }

  /** Yields the pending bytes, for a state that goes on later. */
  *flush(): Generator<Uint8Array, void> {
    const end = this.#end;
    this.#end = 0;
    if (end > 0) yield this.#bytes.subarray(0, end);
  }

  /** The end of the state. */
  *finish(): Generator<Uint8Array, void> {
    if (this.#room < End.size) yield* this.flush();
    this.#frame(Kind.END, 0, 0, End.encode({ total: BigInt(this.#total) }));
    yield* this.flush();
  }

  /** Bytes that a frame may still have. */
  get #room(): number {
    return MAX_STATE_FRAME - this.#end - Header.size;
  }

  #frame(kind: number, section: number, offset: number, payload: Uint8Array): void {
    const start = this.#end;
    const { length } = payload;
    const sequence = this.#sequence++;
    Header.write(
      { magic: MAGIC, kind, section, sequence, length, offset: BigInt(offset), crc: 0 },
      this.#bytes,
      start,
    );
    this.#bytes.set(payload, start + Header.size);
    this.#end = start + Header.size + length;
    const crc = frameCrc(this.#bytes.subarray(start, this.#end));
    new DataView(this.#bytes.buffer).setUint32(start + CRC_AT, crc, true);
  }
}

/** A form in which a state may have been saved: the identity that it begins with, its sections. */
export interface StateForm {
  /** Identity of the device. */
  readonly identity: StateIdentity;
  /** Its sections, by number. */
  readonly sections: ReadonlyMap<number, SectionForm>;
}

/** Declares the form of a section of a state. */
export interface SectionForm {
  /** Bytes of it. */
  readonly size: number;
  /** It may be shorter, and is written once only; default false: all of its bytes have to come. */
  readonly mayBeShorter?: boolean;
  /**
   * Memory that takes the bytes as they come, `size` of them; default memory of the reader. Nothing
   * is held then, but a state that is refused, or that ends early, has changed the memory. A
   * `MigrationSink` tells so by the reader's `hasChanged`.
   */
  readonly into?: Uint8Array;
}

/**
 * Takes the frames of a state, cut anywhere, and checks them. The reader keeps them until all have
 * come: the device may take on the state then, and does not have to change before. Of bytes that
 * come twice the last ones count.
 *
 * The reader takes as much memory as the sections that have come, and never more than they may
 * have. Sections with memory of their own (`into`) take none.
 *
 * The methods throw a {@linkcode DeviceError} EINVAL that says what is wrong with the stream;
 * nothing more is taken then.
 */
export class StateReader {
  readonly #identities: readonly Uint8Array[]; // by form
  readonly #forms: readonly StateForm[];
  #sections: ReadonlyMap<number, Section>;
  #form = 0;
  readonly #head = new Uint8Array(Header.size);
  #headEnd = 0;
  #payload = new Uint8Array(0); // of the frame that has come in part
  #payloadEnd = 0;
  #length = 0; // of that payload
  #sequence = 0;
  #total = 0;
  #hasEnded = false;
  #failure: DeviceError | undefined;

  /**
   * A reader for a state of this device, which has these sections.
   *
   * @param earlier other forms that are taken: a state's beginning decides
   */
  constructor(
    identity: StateIdentity,
    sections: ReadonlyMap<number, SectionForm>,
    earlier: readonly StateForm[] = [],
  ) {
    this.#forms = [{ identity, sections }, ...earlier];
    this.#identities = this.#forms.map((form) => encodeIdentity(form.identity));
    this.#sections = emptySections(sections);
  }

  /** The form of the state: 0 for the device's own, then the earlier ones. 0 until it has begun. */
  get form(): number {
    return this.#form;
  }

  /** True if something has come for memory of a section's own (`into`), which has changed then. */
  get hasChanged(): boolean {
    return [...this.#sections.values()].some((section) => section.hasChanged);
  }

  /** Takes the next bytes. */
  write(data: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      while (data.length > 0) data = data.subarray(this.#takeSome(data));
    } catch (error) {
      this.#failure = error as DeviceError;
      throw error;
    }
  }

  /** All has come: checks that it is whole. */
  finish(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (!this.#hasEnded) {
      throw refusal(`it ends after ${this.#sequence} frames, without its end: it is cut off`);
    }
    for (const [number, section] of this.#sections) {
      if (!section.isWhole) throw refusal(`section ${number} has not come, or not all of it`);
    }
  }

  /**
   * The bytes of a section.
   *
   * @throws {RangeError} if the device has no such section
   */
  section(number: number): Uint8Array {
    const section = this.#sections.get(number);
    if (section === undefined) throw new RangeError(`There is no section ${number}`);
    return section.bytes;
  }

  /** Takes bytes of one frame, and gives how many. */
  #takeSome(data: Uint8Array): number {
    if (this.#hasEnded) throw refusal("something follows its end");
    if (this.#headEnd < Header.size) {
      const count = fillFrom(data, this.#head, this.#headEnd, Header.size);
      this.#headEnd += count;
      if (this.#headEnd === Header.size) this.#checkHead();
      if (this.#headEnd === Header.size && this.#length === 0) this.#finishFrame(NOTHING);
      return count;
    }
    // One that has come whole is taken from where it is.
    if (this.#payloadEnd === 0 && data.length >= this.#length) {
      const { length } = data.subarray(0, this.#length);
      this.#finishFrame(data.subarray(0, length));
      return length;
    }
    if (this.#payload.length < this.#length) this.#payload = new Uint8Array(this.#length);
    const count = fillFrom(data, this.#payload, this.#payloadEnd, this.#length);
    this.#payloadEnd += count;
    if (this.#payloadEnd === this.#length) {
      this.#finishFrame(this.#payload.subarray(0, this.#length));
    }
    return count;
  }

  /** Before memory is found for what a header announces. */
  #checkHead(): void {
    const { magic, length, sequence } = Header.decode(this.#head);
    if (magic !== MAGIC) {
      throw refusal(
        this.#sequence === 0 ? "it is no state of a device of vfu" : "it is out of step",
      );
    }
    if (length > MAX_STATE_FRAME - Header.size) {
      throw refusal(`frame ${sequence} has ${length} bytes, more than there are in one`);
    }
    this.#length = length;
  }

  #finishFrame(payload: Uint8Array): void {
    const { kind, section, sequence, offset, crc } = Header.decode(this.#head);
    this.#headEnd = this.#payloadEnd = this.#length = 0;
    const expected = this.#sequence;
    if (crc32(payload, crc32(this.#head.subarray(0, CRC_AT))) !== crc) {
      throw refusal(`frame ${expected} is corrupt`);
    }
    if (sequence !== expected) throw refusal(`frame ${sequence} comes where ${expected} belongs`);
    this.#sequence++;
    if ((kind === Kind.BEGIN) !== (sequence === 0)) throw refusal("it does not begin as one does");
    if (kind === Kind.BEGIN) this.#checkIdentity(payload);
    else if (kind === Kind.DATA) this.#keep(section, offset, payload);
    else if (kind === Kind.END) this.#end(payload);
    else throw refusal(`frame ${sequence} is of the unknown kind ${kind}`);
  }

  #checkIdentity(payload: Uint8Array): void {
    const form = this.#identities.findIndex((identity) => sameBytes(payload, identity));
    if (form < 0) {
      const own = this.#identities[0]!;
      throw refusal(`it is of another device: of ${describe(payload)}, not ${describe(own)}`);
    }
    this.#form = form;
    this.#sections = emptySections(this.#forms[form]!.sections);
  }

  #keep(number: number, offset: bigint, payload: Uint8Array): void {
    const section = this.#sections.get(number);
    if (section === undefined) throw refusal(`it has a section ${number}, the device has none`);
    if (offset + BigInt(payload.length) > BigInt(section.size)) {
      throw refusal(`section ${number} has more than ${section.size} bytes`);
    }
    section.set(Number(offset), payload);
    this.#total += payload.length;
  }

  #end(payload: Uint8Array): void {
    if (payload.length !== End.size || End.decode(payload).total !== BigInt(this.#total)) {
      throw refusal(`it says at its end that it has another length than ${this.#total} bytes`);
    }
    this.#hasEnded = true;
  }
}

const NOTHING = new Uint8Array(0);

function emptySections(forms: ReadonlyMap<number, SectionForm>): Map<number, Section> {
  return new Map([...forms].map(([number, form]) => [number, new Section(form)]));
}

/** The bytes of a section that have come. */
class Section {
  readonly size: number;
  readonly #mayBeShorter: boolean;
  readonly #hasOwn: boolean; // whether its memory is not the reader's
  #bytes: Uint8Array | undefined; // the reader's is found when the first byte comes
  #spans: { start: number; end: number }[] = []; // what has come, by offset, with gaps between them

  constructor({ size, mayBeShorter = false, into }: SectionForm) {
    if (into !== undefined && into.length !== size) {
      throw new RangeError(`A section of ${size} bytes cannot go into ${into.length}`);
    }
    this.size = size;
    this.#mayBeShorter = mayBeShorter;
    this.#hasOwn = into !== undefined;
    this.#bytes = into;
  }

  get hasChanged(): boolean {
    return this.#hasOwn && this.#spans.length > 0;
  }

  get isWhole(): boolean {
    const [first, second] = this.#spans;
    return first !== undefined && second === undefined && first.start === 0 &&
      (this.#mayBeShorter || first.end === this.size);
  }

  get bytes(): Uint8Array {
    return this.#bytes?.subarray(0, this.#spans.at(-1)?.end ?? 0) ?? NOTHING;
  }

  set(start: number, data: Uint8Array): void {
    this.#bytes ??= new Uint8Array(this.size);
    this.#bytes.set(data, start);
    let end = start + data.length;
    const last = this.#spans.at(-1);
    if (last?.end === start) { // as nearly always
      last.end = end;
      return;
    }
    const apart = this.#spans.filter((span) => span.end < start || span.start > end);
    for (const span of this.#spans) {
      if (span.end < start || span.start > end) continue;
      start = Math.min(start, span.start);
      end = Math.max(end, span.end);
    }
    const at = apart.findIndex((span) => span.start > end);
    apart.splice(at < 0 ? apart.length : at, 0, { start, end });
    if (apart.length > MAX_STATE_SPANS) throw refusal("a section comes in too many pieces");
    this.#spans = apart;
  }
}

function encodeIdentity(identity: StateIdentity): Uint8Array {
  const { name, vendor, device, subsystemVendor = 0, subsystem = 0, version } = identity;
  const text = new TextEncoder().encode(name);
  if (text.length > MAX_STATE_NAME) {
    throw new RangeError(
      `Cannot save the state of "${name}": its name has more than ${MAX_STATE_NAME} bytes`,
    );
  }
  const payload = new Uint8Array(Begin.size + text.length);
  const ids = { form: FORM_VERSION, vendor, device, subsystemVendor, subsystem, version };
  Begin.write(ids, payload);
  payload.set(text, Begin.size);
  return payload;
}

/** A device in words: "demo (1234:0de5), version 1". */
function describe(identity: Uint8Array): string {
  if (identity.length < Begin.size) return "something unknown";
  const { form, vendor, device, subsystemVendor, subsystem, version } = Begin.decode(identity);
  if (form !== FORM_VERSION) return `a form ${form} of states`;
  const name = new TextDecoder().decode(identity.subarray(Begin.size, Begin.size + MAX_STATE_NAME));
  const ids = [vendor, device, subsystemVendor, subsystem].map((id) => hexDigits(id, 4));
  return `${JSON.stringify(name)} (${ids.join(":")}), version ${version}`;
}

function frameCrc(frame: Uint8Array): number {
  return crc32(frame.subarray(Header.size), crc32(frame.subarray(0, CRC_AT)));
}

/** Copies as much as there is up to `end`, and gives how much. */
function fillFrom(data: Uint8Array, into: Uint8Array, at: number, end: number): number {
  const part = data.subarray(0, end - at);
  into.set(part, at);
  return part.length;
}

function refusal(reason: string): DeviceError {
  return new DeviceError(EINVAL, `Cannot restore a state: ${reason}`);
}
