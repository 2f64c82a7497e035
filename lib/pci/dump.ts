/**
 * The hexadecimal dumps of `lspci -x`, which `lspci -F` reads.
 *
 * @module
 */

import { hexDigits } from "../text/hex.ts";

/** Bytes of one line. */
const ROW_SIZE = 16;
/** The largest configuration space. */
const MAX_CONFIG_SIZE = 4096;
/** Functions of a dump: those of a large machine. Each one takes memory for its whole space. */
const MAX_FUNCTIONS = 10_000;

/** Options of {@linkcode lspciDump}. */
export interface LspciDumpOptions {
  /** The address of the function, as the caller gives it: as "00:04.0" or "0000:00:04.0". */
  slot?: string;
  /** Text after the slot, for the reader; `lspci` passes over it. */
  description?: string;
}

/** A function of a dump. */
export interface LspciDumpEntry {
  /** The address of the function in the dump. */
  slot: string;
  /** Text after the slot. */
  description: string;
  /** Its configuration space, up to the last byte that the dump has. */
  config: Uint8Array;
}

const SLOT = /^(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/i;

/** Reports whether a text is the address of a function, as "00:04.0" or "0000:00:04.0". */
export function isSlot(text: string): boolean {
  return SLOT.test(text);
}

/**
 * Writes a configuration space as text that `lspci -F FILE -vv` reads.
 *
 * @throws {RangeError} if `slot` has another form, or the space more than 4096 bytes
 *
 * @example
 * ```ts
 * import { lspciDump, parseLspciDump } from "./dump.ts";
 *
 * const config = new Uint8Array(256).fill(7);
 * const [entry] = parseLspciDump(lspciDump(config, { slot: "00:04.0" }));
 * if (entry?.slot !== "00:04.0" || entry.config[255] !== 7) throw new Error();
 * ```
 */
export function lspciDump(config: Uint8Array, options: LspciDumpOptions = {}): string {
  const { slot = "00:00.0", description = "PCI device" } = options;
  if (!SLOT.test(slot)) throw new RangeError(`Cannot write a dump for slot "${slot}"`);
  if (config.length > MAX_CONFIG_SIZE) {
    throw new RangeError(
      `Cannot write a dump of ${config.length} bytes: ` +
        `a configuration space has ${MAX_CONFIG_SIZE} at most`,
    );
  }
  // A line break in the description would begin a line of the dump.
  // deno-lint-ignore no-control-regex
  const lines = [`${slot} ${description.replace(/[\x00-\x1f\x7f]+/g, " ")}`];
  for (let offset = 0; offset < config.length; offset += ROW_SIZE) {
    const row = Array.from(
      config.subarray(offset, offset + ROW_SIZE),
      (byte) => hexDigits(byte, 2),
    );
    lines.push(`${hexDigits(offset, 2)}: ${row.join(" ")}`);
  }
  return lines.join("\n") + "\n\n";
}

/**
 * Reads the functions of a dump that `lspci -x`, `-xxx` or `-xxxx` wrote, with or without the text
 * of `-v`. Lines that are neither a slot nor bytes are passed over; bytes that are left out are 0.
 *
 * @throws {SyntaxError} if there are bytes before the first slot, or past 4096, or more than 10,000
 *   functions
 */
export function parseLspciDump(text: string): LspciDumpEntry[] {
  const entries: { slot: string; description: string; bytes: number[] }[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const row = /^([0-9a-f]{2,}): ?((?:[0-9a-f]{2} ?){1,16})\s*$/i.exec(line);
    if (row) {
      const entry = entries.at(-1);
      const offset = Number.parseInt(row[1]!, 16);
      if (!entry) throw new SyntaxError(`Line ${index + 1} has bytes, but no slot came before it`);
      if (offset > MAX_CONFIG_SIZE - ROW_SIZE) {
        throw new SyntaxError(`Line ${index + 1} has bytes at 0x${row[1]}, past the largest space`);
      }
      while (entry.bytes.length < offset) entry.bytes.push(0);
      row[2]!.match(/[0-9a-f]{2}/gi)!.forEach((byte, at) => {
        entry.bytes[offset + at] = Number.parseInt(byte, 16);
      });
      continue;
    }
    const slot = line.split(" ", 1)[0]!;
    if (SLOT.test(slot)) {
      if (entries.length === MAX_FUNCTIONS) {
        throw new SyntaxError(
          `Line ${index + 1} begins one of more than ${MAX_FUNCTIONS} functions`,
        );
      }
      entries.push({ slot, description: line.slice(slot.length).trim(), bytes: [] });
    }
  }
  return entries.map(({ slot, description, bytes }) => ({
    slot,
    description,
    config: Uint8Array.from(bytes),
  }));
}
