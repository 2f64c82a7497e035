/**
 * The state that a client has set up on a connection: limits, memory, interrupts.
 *
 * @module
 */

import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { PeerEvent } from "../../ffi/peer_event.ts";
import { Command } from "../wire/command.ts";
import { DmaUnmapFlags } from "../wire/dma.ts";
import { IrqSetFlags } from "../wire/irq.ts";
import { capabilitiesOf } from "./learn.ts";
import { u32At, u64At } from "./pack.ts";
import type { CameMessage } from "./raw_peer.ts";

/** Bytes of data that a message may carry if the client names no limit. */
const DEFAULT_TRANSFER = 1 << 20;

/** Memory that a client has given to the device. */
export interface ClientMap {
  /** The address by which the device knows it. */
  readonly address: bigint;
  /** Bytes. */
  readonly size: bigint;
  /** Bits of DmaMapFlags. */
  readonly flags: number;
  /** The place of the memory in its file. */
  readonly offset: bigint;
  /** The file, if one came. */
  readonly fd: OwnedFd | undefined;
}

/** A vector that a client has enabled. */
export interface ClientVector {
  /** The IRQ index. */
  readonly index: number;
  /** The number of the vector. */
  readonly vector: number;
  /** The way to signal it. */
  readonly event: { signal(times?: number): boolean } & Disposable;
}

/** The state of one client. */
export class ClientState implements Disposable {
  /** Maps, the oldest first. */
  maps: readonly ClientMap[] = [];
  /** Vectors that have an eventfd. */
  vectors: readonly ClientVector[] = [];
  /** Bytes of data that a message to the client may carry. */
  limit = DEFAULT_TRANSFER;

  /** Takes over a request, with its descriptors, that was answered with success. */
  apply(request: CameMessage): void {
    const { command, payload, fds } = request;
    if (command === Command.DMA_MAP) {
      const [fd, ...rest] = fds;
      closeAll(rest);
      const flags = u32At(payload, 4);
      const [offset, address, size] = [8, 16, 24].map((at) => u64At(payload, at));
      this.maps = [...this.maps, { address: address!, size: size!, flags, offset: offset!, fd }];
      return;
    }
    if (command === Command.DEVICE_SET_IRQS) return this.#setIrqs(request);
    closeAll(fds);
    if (command === Command.DMA_UNMAP) this.#unmap(payload);
    if (command === Command.VERSION) {
      const { max_data_xfer_size: limit } = capabilitiesOf(payload);
      if (Number.isInteger(limit) && Number(limit) > 0) {
        this.limit = Math.min(Number(limit), Number.MAX_SAFE_INTEGER);
      }
    }
  }

  #unmap(payload: Uint8Array): void {
    const isAll = (u32At(payload, 4) & DmaUnmapFlags.ALL) !== 0;
    const [from, size] = [u64At(payload, 8), u64At(payload, 16)];
    const isGone = (map: ClientMap) =>
      isAll || map.address >= from && map.address + map.size <= from + size;
    for (const { fd } of this.maps.filter(isGone)) fd?.[Symbol.dispose]();
    this.maps = this.maps.filter((map) => !isGone(map));
  }

  #setIrqs({ payload, fds }: CameMessage): void {
    const [flags, index, start, count] = [4, 8, 12, 16].map((at) => u32At(payload, at));
    const isTrigger = (flags! & IrqSetFlags.ACTION_TRIGGER) !== 0;
    const data = flags! & IrqSetFlags.DATA_MASK;
    const isOff = data === IrqSetFlags.DATA_NONE && count === 0;
    if (!isTrigger || data !== IrqSetFlags.DATA_EVENTFD && !isOff) return closeAll(fds);
    const isGone = (each: ClientVector) =>
      each.index === index && (isOff || each.vector >= start! && each.vector < start! + count!);
    for (const { event } of this.vectors.filter(isGone)) event[Symbol.dispose]();
    this.vectors = this.vectors.filter((each) => !isGone(each));
    for (const [i, fd] of fds.entries()) {
      try {
        const event = PeerEvent.adopt(fd, "signal");
        this.vectors = [...this.vectors, { index: index!, vector: start! + i, event }];
      } catch (error) {
        if (!(error instanceof TypeError)) throw error;
        fd[Symbol.dispose](); // it is none that can be signalled
      }
    }
  }

  /** Closes what came. */
  [Symbol.dispose](): void {
    for (const { fd } of this.maps) fd?.[Symbol.dispose]();
    for (const { event } of this.vectors) event[Symbol.dispose]();
  }
}
