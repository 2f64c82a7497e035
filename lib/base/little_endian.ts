/**
 * Values in the order of bytes that PCI has.
 *
 * @module
 */

/** Returns the value of bytes, the lowest of which comes first. */
export function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => value << 8n | BigInt(byte), 0n);
}
