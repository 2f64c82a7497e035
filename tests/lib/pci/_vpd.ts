/**
 * Vital Product Data of a board that does not exist.
 *
 * @module
 */

const bytesOf = (text: string) => Array.from(text, (character) => character.charCodeAt(0));

/** A field: keyword, length, value. */
export function field(keyword: string, value: string | readonly number[]): number[] {
  const bytes = typeof value === "string" ? bytesOf(value) : value;
  return [...bytesOf(keyword), bytes.length, ...bytes];
}

/** A large resource: tag, length of two bytes, content. */
export function large(tag: number, content: readonly number[]): number[] {
  return [tag, content.length & 0xff, content.length >>> 8, ...content];
}

/** An identifier, three fields and a checksum that is right, two fields to write, the end. */
export function boardVpd(): Uint8Array<ArrayBuffer> {
  const id = large(0x82, bytesOf("Example Adapter"));
  const fields = [...field("PN", "E-1000"), ...field("SN", "0042"), ...field("V0", [0, 255])];
  const start = [...id, ...large(0x90, [...fields, ...field("RV", [0, 0, 0])]).slice(0, -3)];
  const checksum = (0x100 - start.reduce((sum, byte) => (sum + byte) & 0xff, 0)) & 0xff;
  const writable = large(0x91, [...field("YA", "rack 7"), ...field("RW", [0, 0, 0, 0])]);
  return Uint8Array.from([...start, checksum, 0, 0, ...writable, 0x78]);
}
