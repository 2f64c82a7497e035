/**
 * Memory as the user writes it for `vfu dma`.
 *
 * @module
 */

import type { DmaSpace } from "../../lib/client/dma.ts";
import type { DmaPermission } from "../../lib/client/dma_map.ts";
import type { DmaSource } from "../../lib/client/dma_memory.ts";
import { parseSize } from "../shared/size.ts";
import { parseValue } from "../shared/value.ts";
import { hex } from "../../lib/text/hex.ts";

/** A part of the IOVA space. */
export interface Range {
  /** The first address. */
  readonly iova: bigint;
  /** In bytes. */
  readonly size: number;
}

/** A range to map. */
export interface MapArgument extends Range {
  readonly access: DmaPermission;
  readonly share: Extract<DmaSource, string> | { readonly file: string };
}

/** A range to fill, with a byte, or with a file's first bytes. */
export interface FillArgument extends Range {
  readonly source: number | string;
}

/** A range to write into a file. */
export interface DumpArgument extends Range {
  readonly path: string;
}

const MAP_FORM = "IOVA:SIZE[:ro|:wo][:file=PATH|:message], as 0x100000:64K:ro";
const FILL_FORM = "IOVA:SIZE=BYTE or IOVA:SIZE=FILE, as 0x100000:4K=0x5a";
const DUMP_FORM = "IOVA:SIZE=FILE, as 0x100000:4K=memory.bin";

/**
 * Reads `IOVA:SIZE[:ro|:wo][:file=PATH|:message]`.
 *
 * @throws {SyntaxError} if it is something else
 */
export function parseMap(text: string): MapArgument {
  const match = /^([^:]+:[^:]+)(?::(rw|ro|wo))?(?::(?:(message)|file=(.+)))?$/s.exec(text);
  if (match === null) throw new SyntaxError(`"${text}" is no map; write ${MAP_FORM}`);
  const [, range, access = "rw", message, file] = match;
  return {
    ...parseRange(range!),
    access: access as DmaPermission,
    share: message !== undefined ? "message" : file !== undefined ? { file } : "memfd",
  };
}

/**
 * Reads `IOVA:SIZE=BYTE` or `IOVA:SIZE=FILE`. What looks like a number is a byte.
 *
 * @throws {SyntaxError} if it is neither
 * @throws {RangeError} if the number is more than a byte
 */
export function parseFill(text: string): FillArgument {
  const { range, value } = parsePair(text, "fill", FILL_FORM);
  if (!/^\d/.test(value)) return { ...range, source: value };
  const byte = parseValue(value);
  if (byte > 0xffn) throw new RangeError(`${value} is no byte; a file is to begin with ./`);
  return { ...range, source: Number(byte) };
}

/**
 * Reads `IOVA:SIZE=FILE`.
 *
 * @throws {SyntaxError} if it is something else
 */
export function parseDump(text: string): DumpArgument {
  const { range, value } = parsePair(text, "dump", DUMP_FORM);
  return { ...range, path: value };
}

/**
 * Checks that all of a range is mapped.
 *
 * @param doing what for, as "fill"
 * @throws {RangeError} if it is not
 */
export function assertMapped(dma: DmaSpace, { iova, size }: Range, doing: string): void {
  const end = iova + BigInt(size);
  for (let at = iova; at < end;) {
    const map = dma.find(at);
    if (map === undefined) {
      throw new RangeError(
        `Cannot ${doing} ${hex(size)} bytes at IOVA ${hex(iova)}: ` +
          `nothing is mapped at ${hex(at)}`,
      );
    }
    at = map.end;
  }
}

function parsePair(text: string, what: string, form: string): { range: Range; value: string } {
  const match = /^([^:=]+:[^:=]+)=(.+)$/s.exec(text);
  if (match === null) throw new SyntaxError(`"${text}" is no ${what}; write ${form}`);
  return { range: parseRange(match[1]!), value: match[2]! };
}

function parseRange(text: string): Range {
  const [iova, size] = text.split(":").map(parseSize);
  return { iova: iova!, size: Number(size!) };
}
