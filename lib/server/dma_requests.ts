/**
 * Memory that the client keeps to itself. The server asks the client for this memory by message
 * (specification: "VFIO_USER_DMA_READ", "VFIO_USER_DMA_WRITE").
 *
 * @module
 */

import { ProtocolError } from "../base/errors.ts";
import { inLanes } from "../base/lanes.ts";
import { DMA_PIPELINE } from "../base/limits.ts";
import type { AsyncRequestOptions } from "../transport/pending.ts";
import type { VfioProxy } from "../transport/proxy.ts";
import type { Message } from "../transport/message.ts";
import {
  decodeDmaWriteReply,
  DmaAccessLayout,
  DmaAccessLayout32,
  DmaReadReply,
  DmaReadReply32,
  DmaReadRequest,
  DmaReadRequest32,
} from "../wire/access.ts";
import { Command } from "../wire/command.ts";
import type { DmaMap } from "./dma_map.ts";
import { Quota } from "./dma_quota.ts";
import { hex } from "../text/hex.ts";

const { address: ADDRESS_AT, count: COUNT_AT } = DmaAccessLayout.offsets;

/** Options of the requests to a client. */
export interface DmaRequestsOptions {
  /** Bytes that one message may hold. */
  chunkSize: number;
  /** Counts of 32 bits, as QEMU 10.1's client expects them. */
  count32: boolean;
  /** The time that it may take to answer, in milliseconds. */
  timeoutMs: number;
}

/** A map that may be closed. */
type OpenMap = Pick<DmaMap, "assertOpen">;

/** One message's part of an access: the bytes at `address`, to be filled or written. */
interface Chunk {
  readonly command: typeof Command.DMA_READ | typeof Command.DMA_WRITE;
  readonly address: bigint;
  readonly bytes: Uint8Array;
  /** The number of bytes: those are the device's, which may detach or resize them. */
  readonly count: number;
}

/**
 * The DMA requests to one client. The answers are checked; an answer that breaks the protocol
 * closes the connection.
 */
export class DmaRequests {
  readonly #proxy: VfioProxy;
  readonly #options: DmaRequestsOptions;
  readonly #quota = new Quota();
  readonly #head: Uint8Array; // of the last request; a request copies it
  readonly #headView: DataView;

  /** @param proxy where the server's commands go: the twin, if there is one */
  constructor(proxy: VfioProxy, options: DmaRequestsOptions) {
    this.#proxy = proxy;
    this.#options = options;
    this.#head = new Uint8Array((options.count32 ? DmaAccessLayout32 : DmaAccessLayout).size);
    this.#headView = new DataView(this.#head.buffer);
  }

  /**
   * Fills `into` from `address` on.
   *
   * @param map the map of the memory. What was not sent when that is closed fails. A request that
   *   was sent ends by its answer: firmware maps memory anew while a device reads it, and the
   *   client answers all the same
   */
  read(address: bigint, into: Uint8Array, map: OpenMap): Promise<void> {
    return this.#access(Command.DMA_READ, address, into, map);
  }

  /** Writes `data` from `address` on. As `read`. */
  write(address: bigint, data: Uint8Array, map: OpenMap): Promise<void> {
    return this.#access(Command.DMA_WRITE, address, data, map);
  }

  /** As `read`, blocking. */
  readSync(address: bigint, into: Uint8Array, map: OpenMap): void {
    this.#oneByOne(Command.DMA_READ, address, into, map);
  }

  /** As `write`, blocking. */
  writeSync(address: bigint, data: Uint8Array, map: OpenMap): void {
    this.#oneByOne(Command.DMA_WRITE, address, data, map);
  }

  /**
   * Sends one message if it can hold the whole access, as for most accesses. Several messages
   * would cost a good part of an access's time.
   */
  #access(
    command: Chunk["command"],
    address: bigint,
    bytes: Uint8Array,
    map: OpenMap,
  ): Promise<void> {
    if (bytes.length > this.#options.chunkSize) {
      return this.#pipeline(command, address, bytes, map);
    }
    return this.#transfer({ command, address, bytes, count: bytes.length }, map);
  }

  /** Several messages at a time; each that is answered makes room for the next. */
  #pipeline(
    command: Chunk["command"],
    address: bigint,
    bytes: Uint8Array,
    map: OpenMap,
  ): Promise<void> {
    const lanes = Math.min(DMA_PIPELINE, Math.ceil(bytes.length / this.#options.chunkSize));
    const chunks = this.#chunks(command, address, bytes);
    return inLanes(lanes, chunks, (chunk) => this.#transfer(chunk, map));
  }

  async #transfer(chunk: Chunk, map: OpenMap): Promise<void> {
    const size = chunk.count;
    const turn = this.#quota.enter(size);
    if (turn !== undefined) await turn;
    try {
      map.assertOpen();
      checkWhole(chunk);
      const options = this.#requestOptions(chunk);
      const reply = await this.#proxy.request(chunk.command, this.#setHead(chunk), options);
      this.#takeReply(chunk, reply);
    } finally {
      this.#quota.leave(size);
    }
  }

  #oneByOne(
    command: Chunk["command"],
    address: bigint,
    bytes: Uint8Array,
    map: OpenMap,
  ): void {
    for (const chunk of this.#chunks(command, address, bytes)) {
      map.assertOpen(); // the client's requests are served in between
      const options = this.#requestOptions(chunk);
      const reply = this.#proxy.requestSync(chunk.command, this.#setHead(chunk), options);
      this.#takeReply(chunk, reply);
    }
  }

  *#chunks(command: Chunk["command"], address: bigint, bytes: Uint8Array): Generator<Chunk, void> {
    const { chunkSize } = this.#options;
    const { length } = bytes;
    for (let at = 0; at < length; at += chunkSize) {
      checkWhole({ command, address, bytes, count: length });
      const part = bytes.subarray(at, at + chunkSize);
      yield { command, address: address + BigInt(at), bytes: part, count: part.length };
    }
  }

  /** The fields with which both requests begin. */
  #setHead({ address, count }: Chunk): Uint8Array {
    // The high half of a count of 64 bits stays 0.
    this.#headView.setBigUint64(ADDRESS_AT, address, true);
    this.#headView.setUint32(COUNT_AT, count, true);
    return this.#head;
  }

  #requestOptions(chunk: Chunk): AsyncRequestOptions {
    const { command, address, bytes, count } = chunk;
    const { timeoutMs } = this.#options;
    return command === Command.DMA_READ
      ? { timeoutMs, doing: () => describeAccess("read", address, count), into: bytes }
      : { timeoutMs, doing: () => describeAccess("write", address, count), data: bytes };
  }

  #takeReply(chunk: Chunk, reply: Message): void {
    try {
      if (chunk.command !== Command.DMA_READ) return checkWritten(chunk, reply.payload);
      checkWhole(chunk);
      if (reply.isPlaced) this.#checkPlaced(chunk, reply.payload);
      else this.#takeData(chunk, reply.payload);
    } catch (error) {
      if (error instanceof ProtocolError) this.#proxy.close(error);
      throw error;
    }
  }

  /** The data are where they are wanted. What came ahead of them is all that is left to check. */
  #checkPlaced({ address, count: wanted }: Chunk, head: Uint8Array): void {
    const codec = this.#options.count32 ? DmaReadRequest32 : DmaReadRequest;
    const { address: from, count } = codec.decode(head);
    if (from === address && count === BigInt(wanted)) return;
    throw otherAnswer(describeAccess("read", address, wanted), count, from);
  }

  #takeData({ address, bytes, count }: Chunk, payload: Uint8Array): void {
    const codec = this.#options.count32 ? DmaReadReply32 : DmaReadReply;
    const { address: from, data } = codec.decode(payload);
    if (from !== address || data.length !== count) {
      throw otherAnswer(describeAccess("read", address, count), data.length, from);
    }
    bytes.set(data);
  }
}

/** Refuses bytes that the device has detached, by a transfer, or resized since the access began. */
function checkWhole({ command, address, bytes, count }: Chunk): void {
  if (bytes.length === count) return;
  const verb = command === Command.DMA_READ ? "read" : "write";
  throw new TypeError(
    `Cannot ${describeAccess(verb, address, count)}: the buffer was detached or resized meanwhile`,
  );
}

function checkWritten({ address, count: wanted }: Chunk, payload: Uint8Array): void {
  const count = BigInt(wanted);
  const written = decodeDmaWriteReply(payload, { address, count });
  if (written.address === address && written.count === count) return;
  const doing = describeAccess("write", address, wanted);
  throw otherAnswer(doing, written.count, written.address);
}

function otherAnswer(doing: string, count: number | bigint, address: bigint): ProtocolError {
  return new ProtocolError(
    `Cannot ${doing}: the client answered for ${count} bytes at ${hex(address)}`,
  );
}

/** Describes an access in words: "read 16 bytes of the client's memory at 0x1000". */
export function describeAccess(verb: "read" | "write", address: bigint, length: number): string {
  return `${verb} ${length} bytes of the client's memory at ${hex(address)}`;
}
