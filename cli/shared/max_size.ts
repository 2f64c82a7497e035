/**
 * The option that bounds what a command writes, where the server says how much that is.
 *
 * @module
 */

import { Option } from "@commander-js/extra-typings";
import { argument } from "./argument.ts";
import { humanSize, parseSize } from "./size.ts";

/**
 * Bytes that a command writes at most unless the user allows more: a server may say any number, and
 * the disk is the user's.
 */
export const DEFAULT_MAX_SIZE = 1n << 30n;

/** `--max-size` */
export function maxSizeOption() {
  return new Option("--max-size <size>", "write no more than so many bytes, as 64M or 16G")
    .default(DEFAULT_MAX_SIZE, "1G")
    .argParser(argument(parseSize));
}

/** Says what was too much, and what to do: "it has more than 1 GiB; --max-size allows more". */
export function tooLarge(what: string, maxSize: bigint): RangeError {
  return new RangeError(`${what} more than ${humanSize(maxSize)}; --max-size allows more`);
}
