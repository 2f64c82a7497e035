/**
 * The buffers of a session that runs: memory that the device was given, by name.
 *
 * @module
 */

import { littleEndian } from "../../base/little_endian.ts";
import type { WaitOptions } from "../../client/info.ts";
import type { DmaSpace } from "../../client/dma.ts";
import type { DmaMap } from "../../client/dma_map.ts";
import { fileError } from "../../text/file_error.ts";
import type { Width } from "../../client/info.ts";
import { hex } from "../../text/hex.ts";
import { evaluate, EvaluationError, type Scope } from "../expression.ts";
import type { BufferDeclaration, Data } from "../model.ts";
import { isSilence } from "./step_result.ts";
import { render } from "../template.ts";

/** Data of a fill that are copied at a time. */
const FILL_CHUNK = 1 << 20;
/** The largest file that is put into memory, in bytes. */
const MAX_FILE_SIZE = 2 ** 31;

/** Buffers, by their names. */
export class SessionMemory {
  readonly #space: DmaSpace;
  readonly #maps = new Map<string, DmaMap>();

  /** No buffers yet, in this IOVA space. */
  constructor(space: DmaSpace) {
    this.#space = space;
  }

  /** The names of what is mapped, and where it is. */
  get maps(): ReadonlyMap<string, DmaMap> {
    return this.#maps;
  }

  /** Finds the address and the size of a buffer; undefined if there is none of that name. */
  readonly extent = (name: string): { iova: bigint; size: bigint } | undefined => {
    const map = this.#maps.get(name);
    return map && { iova: map.iova, size: BigInt(map.size) };
  };

  /**
   * Gives a buffer to the device, with what is to be in it.
   *
   * @throws {RangeError} if there is one of that name
   * @throws as `DmaSpace.map`
   */
  async map(declaration: BufferDeclaration, scope: Scope, options: WaitOptions): Promise<void> {
    const { name, access, share } = declaration;
    if (this.#maps.has(name)) throw new RangeError(`The buffer ${name} is mapped already`);
    const map = await this.#space.mapAsync({
      iova: evaluate(declaration.iova, scope),
      size: Number(evaluate(declaration.size, scope)),
      access,
      share,
      ...options,
    });
    this.#maps.set(name, map);
    const { fill, put } = declaration;
    if (fill) this.fill(map.iova, await bytesOf(fill, scope), map.size);
    if (put) this.put(map.iova, await bytesOf(put, scope));
  }

  /**
   * Takes a buffer back.
   *
   * @throws {RangeError} if there is none of that name
   */
  async unmap(name: string, options: WaitOptions): Promise<void> {
    const map = this.#find(name);
    this.#maps.delete(name);
    await this.#space.unmapAsync(map, options);
  }

  /**
   * Takes all buffers back, the last first.
   * Continues when the server refuses a buffer, but not when there is no answer.
   *
   * @returns the errors
   */
  async unmapAll(options: WaitOptions): Promise<unknown[]> {
    const errors: unknown[] = [];
    for (const name of [...this.#maps.keys()].reverse()) {
      // A server that is gone has let go of all of them.
      if (!this.#space.isConnected || errors.some(isSilence)) break;
      await this.unmap(name, options).catch((error) => errors.push(error));
    }
    this.#maps.clear();
    return errors;
  }

  /** The IOVA of a place in a buffer. */
  address(name: string, offset: bigint): bigint {
    return this.#find(name).iova + offset;
  }

  /** Bytes from an IOVA to the end of the memory that is there. */
  rest(iova: bigint): number {
    const map = this.#space.find(iova);
    if (map === undefined) throw new RangeError(`No memory is mapped at IOVA ${hex(iova)}`);
    return Number(map.end - iova);
  }

  /** The bytes themselves. */
  view(iova: bigint, length: number): Uint8Array<ArrayBuffer> {
    return this.#space.view(iova, length);
  }

  /** Copies bytes out. */
  read(iova: bigint, length: number): Uint8Array<ArrayBuffer> {
    return this.#space.read(iova, length);
  }

  /** Copies bytes in. */
  put(iova: bigint, bytes: Uint8Array): void {
    this.#space.write(iova, bytes);
  }

  /** Repeats bytes over so many. */
  fill(iova: bigint, pattern: Uint8Array, length: number): void {
    if (pattern.length === 0) throw new RangeError("Cannot fill memory with no bytes");
    const times = Math.max(1, Math.floor(Math.min(FILL_CHUNK, length) / pattern.length));
    const chunk = new Uint8Array(times * pattern.length);
    for (let at = 0; at < chunk.length; at += pattern.length) chunk.set(pattern, at);
    for (let at = 0; at < length; at += chunk.length) {
      this.#space.write(iova + BigInt(at), chunk.subarray(0, Math.min(chunk.length, length - at)));
    }
  }

  /** A number in memory, read with one access where its address is a multiple of its width. */
  readNumber(iova: bigint, width: Width): bigint {
    return BigInt(numberAt(this.view(iova, width), width));
  }

  /** Writes a number, as {@linkcode SessionMemory.readNumber} reads it. */
  writeNumber(iova: bigint, width: Width, value: bigint): void {
    const bytes = this.view(iova, width);
    const unsigned = BigInt.asUintN(width * 8, value);
    if (bytes.byteOffset % width !== 0) return bytes.set(littleEndianBytes(unsigned, width));
    const { buffer, byteOffset } = bytes;
    if (width === 1) bytes[0] = Number(unsigned);
    else if (width === 2) new Uint16Array(buffer, byteOffset, 1)[0] = Number(unsigned);
    else if (width === 4) new Uint32Array(buffer, byteOffset, 1)[0] = Number(unsigned);
    else new BigUint64Array(buffer, byteOffset, 1)[0] = unsigned;
  }

  #find(name: string): DmaMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new RangeError(`The buffer ${name} is not mapped`);
    return map;
  }
}

/** The bytes that `data` stands for. */
export async function bytesOf(data: Data, scope: Scope): Promise<Uint8Array<ArrayBuffer>> {
  switch (data.kind) {
    case "bytes":
      return data.bytes;
    case "text":
      return new TextEncoder().encode(render(data.text, scope));
    case "file":
      return await readFile(data.path);
    case "numbers": {
      const { width, numbers } = data;
      const bytes = new Uint8Array(width * numbers.length);
      for (const [i, each] of numbers.entries()) {
        bytes.set(littleEndianBytes(fitting(evaluate(each, scope), width), width), i * width);
      }
      return bytes;
    }
  }
}

/** All of a file that is to be put into memory. */
export async function readFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const { isFile, size } = await Deno.stat(path).catch((cause) => {
    throw fileError(`use ${path}`, cause);
  });
  if (!isFile) throw new RangeError(`Cannot use ${path}: it is no regular file`);
  if (size > MAX_FILE_SIZE) {
    throw new RangeError(`Cannot use ${path}: it has ${size} bytes, the limit is ${MAX_FILE_SIZE}`);
  }
  return await Deno.readFile(path).catch((cause) => {
    throw fileError(`read ${path}`, cause);
  });
}

/**
 * The bits of a number that is to be `width` bytes long. A negative one is its two's complement.
 *
 * @throws {EvaluationError} if it has more
 */
export function fitting(value: bigint, width: Width): bigint {
  const bits = width * 8;
  if (value >= -(1n << BigInt(bits - 1)) && value < 1n << BigInt(bits)) {
    return BigInt.asUintN(bits, value);
  }
  throw new EvaluationError(`${hex(value)} does not fit ${bits} bits`);
}

function numberAt(bytes: Uint8Array<ArrayBuffer>, width: Width): number | bigint {
  const { buffer, byteOffset } = bytes;
  if (width === 1) return bytes[0]!;
  if (byteOffset % width !== 0) return littleEndian(bytes);
  if (width === 2) return new Uint16Array(buffer, byteOffset, 1)[0]!;
  if (width === 4) return new Uint32Array(buffer, byteOffset, 1)[0]!;
  return new BigUint64Array(buffer, byteOffset, 1)[0]!;
}

function littleEndianBytes(value: bigint, width: Width): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(width);
  for (let i = 0; i < width; i++) bytes[i] = Number(value >> BigInt(8 * i) & 0xffn);
  return bytes;
}
