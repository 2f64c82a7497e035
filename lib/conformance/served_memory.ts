/**
 * Memory of a check that the server reaches by message.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { Command } from "../wire/command.ts";
import { encodeMessage, MessageFlags } from "../wire/header.ts";
import { join, u64At } from "./pack.ts";
import type { CameMessage } from "./raw_peer.ts";

/** A request of the server for memory of the client. */
export interface DmaAsked {
  /** DMA_READ or DMA_WRITE. */
  readonly command: number;
  /** The address by which the server knows the memory. */
  readonly address: bigint;
  /** Bytes. */
  readonly count: bigint;
}

/** Bytes of address and count, ahead of the data. */
const HEAD = 16;

/** Ranges of memory, and the requests for them. */
export class ServedMemory {
  /** Requests of the server, in order. */
  readonly asked: DmaAsked[] = [];
  readonly #ranges: { address: bigint; bytes: Uint8Array }[] = [];

  /** Adds a range. */
  add(address: bigint, bytes: Uint8Array): void {
    this.#ranges.push({ address, bytes });
  }

  /** Makes the answer to a request of the server; undefined for one that no server sends. */
  answer({ command, messageId, payload }: CameMessage): Uint8Array | undefined {
    if (command !== Command.DMA_READ && command !== Command.DMA_WRITE) return undefined;
    const isWhole = payload.length >= HEAD;
    const address = isWhole ? u64At(payload, 0) : 0n;
    const count = isWhole ? u64At(payload, 8) : 0n;
    this.asked.push({ command, address, count });
    const found = this.#ranges.find((each) =>
      address >= each.address && address + count <= each.address + BigInt(each.bytes.length)
    );
    if (!isWhole || found === undefined) {
      const flags = MessageFlags.REPLY | MessageFlags.ERROR;
      return encodeMessage({ messageId, command, flags, error: EINVAL });
    }
    const at = Number(address - found.address);
    const head = payload.subarray(0, HEAD);
    const data = found.bytes.subarray(at, at + Number(count));
    if (command === Command.DMA_WRITE) data.set(payload.subarray(HEAD, HEAD + data.length));
    const answer = command === Command.DMA_READ ? join(head, data) : head;
    return encodeMessage({ messageId, command, flags: MessageFlags.REPLY }, answer);
  }
}
