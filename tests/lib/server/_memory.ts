/**
 * Memory of a client by hand: files, and the messages that map them.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { OwnedFd } from "../../../ffi/fd.ts";
import { createMemfd, Mapping } from "../../../ffi/memory.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DmaMapFlags, DmaMapRequest, DmaUnmapRequest } from "../../../lib/wire/dma.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import { ask } from "./_client.ts";

export const PAGE = 4096;
/** An IOVA to map at. */
export const BASE = 0x100000n;
export const READ_WRITE: number = DmaMapFlags.READ | DmaMapFlags.WRITE;

/** A memfd, mapped by its owner. */
export class ClientFile implements Disposable {
  readonly fd: OwnedFd;
  readonly #mapping: Mapping;

  constructor(readonly size: number) {
    this.fd = createMemfd("client", size);
    this.#mapping = Mapping.create(this.fd, { length: size });
  }

  get bytes(): Uint8Array {
    return this.#mapping.bytes;
  }

  [Symbol.dispose](): void {
    this.#mapping.close();
    this.fd.close();
  }
}

/** A new file without a name, opened anew for each call of `open`. */
export class TestFile implements Disposable {
  readonly #fd: OwnedFd;

  /** @param folder "/dev/shm": a file system in memory that can fill up; default one on a disk */
  constructor(readonly size: number, { folder = Deno.makeTempDirSync(), isFull = true } = {}) {
    const path = `${folder}/vfu-test-${crypto.randomUUID()}`;
    Deno.writeFileSync(path, new Uint8Array(isFull ? size : 0));
    Deno.truncateSync(path, size);
    this.#fd = OwnedFd.open(path);
    Deno.removeSync(path);
  }

  /** A descriptor of its own, with its own access. The caller closes it. */
  open(flags: number): OwnedFd {
    return OwnedFd.open(`/proc/self/fd/${this.#fd.fd}`, flags);
  }

  get fd(): OwnedFd {
    return this.#fd;
  }

  [Symbol.dispose](): void {
    this.#fd.close();
  }
}

/** Sends DMA_MAP; what is left out is sane. Gives the errno. */
export async function map(
  peer: RawPeer,
  request: Partial<DmaMapRequest>,
  fds: readonly OwnedFd[] = [],
): Promise<number> {
  const reply = await ask(
    peer,
    Command.DMA_MAP,
    DmaMapRequest.encode({
      argsz: 32,
      flags: READ_WRITE,
      offset: 0n,
      address: 0n,
      size: BigInt(PAGE),
      ...request,
    }),
    fds,
  );
  assertEquals(reply.payload.length, 0);
  return reply.errno;
}

/** Sends DMA_UNMAP. Gives the errno. */
export async function unmap(
  peer: RawPeer,
  address: bigint,
  size: bigint,
  flags = 0,
): Promise<number> {
  const request = DmaUnmapRequest.encode({ argsz: 24, flags, address, size });
  const { errno, payload } = await ask(peer, Command.DMA_UNMAP, request);
  if (errno === 0) assertEquals(payload, request);
  return errno;
}
