/**
 * Memory with a known address, for system calls.
 *
 * @module
 */

import { libc } from "./libc.ts";

/**
 * Zeroed memory that is never freed, also not when its thread ends. A nonblocking call goes on
 * writing to it after the Worker that made the call was terminated.
 */
export function lastingBytes(size: number): Uint8Array<ArrayBuffer> {
  const pointer = libc().calloc(1n, BigInt(size));
  if (pointer === null) throw new RangeError(`Cannot allocate ${size} bytes`);
  return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer, size));
}

/**
 * Bytes whose address was taken once. Taking it costs 360 ns, a system call 500: so the buffers of
 * hot paths are made once and kept.
 *
 * Contract: the address is valid while the IoBuffer is referenced. It is never detached or resized.
 */
export class IoBuffer {
  /** The memory. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same memory, for fields. */
  readonly view: DataView<ArrayBuffer>;
  /** The same memory, for a `void *` parameter. */
  readonly pointer: Deno.PointerObject;
  /** The same memory, for an iovec. */
  readonly address: bigint;

  /**
   * Takes the address of memory.
   *
   * @param memory how many bytes to allocate, or bytes to use where they are; at least one
   */
  constructor(memory: number | Uint8Array<ArrayBuffer>) {
    this.bytes = typeof memory === "number" ? new Uint8Array(memory) : memory;
    if (this.bytes.length === 0) throw new RangeError("An IoBuffer holds at least one byte");
    const { buffer, byteOffset, byteLength } = this.bytes;
    this.view = new DataView(buffer, byteOffset, byteLength);
    this.pointer = Deno.UnsafePointer.of(this.bytes)!;
    this.address = Deno.UnsafePointer.value(this.pointer);
  }

  /** The number of bytes. */
  get length(): number {
    return this.bytes.length;
  }
}
