/**
 * Numbers in JSON.
 *
 * @module
 */

/** For `JSON.stringify`: an integer above 2^53 - 1 becomes a string of the form "0x8000000000000000". */
export function writeBigint(_key: string, value: unknown): unknown {
  if (typeof value !== "bigint") return value;
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : `0x${value.toString(16)}`;
}
