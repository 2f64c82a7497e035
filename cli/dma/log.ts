/**
 * Accesses of a device to memory, as lines.
 *
 * @module
 */

import type { DmaEvent, DmaSpace } from "../../lib/client/dma.ts";
import { RemoteError } from "../../lib/base/errors.ts";
import { jsonText } from "../shared/json.ts";
import type { Style } from "../shared/style.ts";
import { hex } from "../../lib/text/hex.ts";
import { plural } from "../../lib/text/plural.ts";

/** Something that happened to memory. */
export interface Entry {
  /** An access by message, or bytes of shared memory that are not what they were. */
  readonly kind: "read" | "write" | "changed";
  /** Since the memory was mapped, in milliseconds. */
  readonly timeMs: number;
  /** The first address. */
  readonly iova: bigint;
  /** In bytes. */
  readonly length: bigint;
  /** The first of the bytes; none if the access was refused. */
  readonly bytes: Uint8Array;
  /** The errno of the answer; 0 if the request was served. */
  readonly errno: number;
}

/** The object that `vfu dma --json` writes on each line, besides {@linkcode OmittedJson}. */
export interface EntryJson {
  /** Since the memory was mapped, in milliseconds. */
  time_ms: number;
  /** An access by message, or bytes of shared memory that are not what they were. */
  event: Entry["kind"];
  /** The first address; above 2^53 - 1 it is a string, as in `vfu probe --json`. */
  iova: bigint;
  /** In bytes. */
  length: bigint;
  /** The first 64 of the bytes, in hexadecimal; empty if the access was refused. */
  bytes: string;
  /** The errno of the answer; 0 if the request was served. */
  errno: number;
  /** Its name, as "EFAULT"; empty if it was served. */
  code: string;
}

/** More has changed than is shown one by one. */
export interface OmittedJson {
  time_ms: number;
  event: "more";
  /** Ranges that are not shown. */
  ranges: number;
}

/** Bytes of an entry that are kept. */
export const ENTRY_BYTES = 64;
/** Bytes of an entry that are shown on a line. */
const SHOWN_BYTES = 12;
const ADDRESS_DIGITS = 8;
const LENGTH_DIGITS = 7;

/**
 * Gives the accesses of a device to `show`, each with its bytes.
 *
 * The library reports an access before it is done. Written bytes are in the memory by the time of
 * the next access, or when all messages that have come are served.
 */
export function watchAccesses(dma: DmaSpace, startMs: number, show: (entry: Entry) => void): void {
  let last: { event: DmaEvent; timeMs: number } | undefined;
  const settle = () => {
    if (last === undefined) return;
    const { event, timeMs } = last;
    last = undefined;
    show({ ...event, timeMs, bytes: bytesOf(dma, event) });
  };
  dma.onAccess = (event) => {
    settle();
    last = { event, timeMs: performance.now() - startMs };
    queueMicrotask(settle);
  };
}

function bytesOf(dma: DmaSpace, { iova, length, errno }: DmaEvent): Uint8Array {
  const count = Math.min(Number(length), ENTRY_BYTES);
  const isThere = errno === 0 && count > 0 && dma.find(iova) !== undefined;
  return isThere ? dma.read(iova, count) : new Uint8Array();
}

/** An entry as a line. */
export function entryLine(entry: Entry, style: Style): string {
  const { kind, timeMs, iova, length, errno } = entry;
  const paint = kind === "read" ? style.cyan : style.green;
  const address = hex(iova, ADDRESS_DIGITS);
  const size = String(length).padStart(LENGTH_DIGITS);
  const rest = errno === 0 ? bytesText(entry) : style.yellow(`refused: ${codeOf(errno)}`);
  return `${timeText(timeMs, style)}  ${paint(kind)}${" ".repeat(7 - kind.length)}  ` +
    `${address}  ${size}  ${rest}`.trimEnd() + "\n";
}

/** Says that so many ranges are not shown. */
export function omittedLine(ranges: number, timeMs: number, style: Style): string {
  return `${timeText(timeMs, style)}  ${style.green("changed")}  ${plural(ranges, "more range")}\n`;
}

/** An entry as a line of JSON. */
export function entryJson(entry: Entry): string {
  const { kind, timeMs, iova, length, bytes, errno } = entry;
  const json: EntryJson = {
    time_ms: roundedTime(timeMs),
    event: kind,
    iova,
    length,
    bytes: bytes.toHex(),
    errno,
    code: codeOf(errno),
  };
  return jsonText(json) + "\n";
}

/** The same as {@linkcode omittedLine}, in JSON. */
export function omittedJson(ranges: number, timeMs: number): string {
  const json: OmittedJson = { time_ms: roundedTime(timeMs), event: "more", ranges };
  return jsonText(json) + "\n";
}

function timeText(timeMs: number, { dim }: Style): string {
  return dim(`${timeMs.toFixed(1).padStart(8)} ms`);
}

function bytesText({ bytes, length }: Entry): string {
  const shown = bytes.subarray(0, SHOWN_BYTES).toHex().replaceAll(/(.{8})(?=.)/g, "$1 ");
  return length > BigInt(SHOWN_BYTES) ? `${shown} …` : shown;
}

/** The name that an error reply has for an error number. */
function codeOf(errno: number): string {
  return new RemoteError("", errno).code;
}

function roundedTime(timeMs: number): number {
  return Math.round(timeMs * 1000) / 1000;
}
