/**
 * Giving memory to the server and taking it back (specification: "VFIO_USER_DMA_MAP",
 * "VFIO_USER_DMA_UNMAP").
 *
 * @module
 */

import {
  argszRequest,
  checkArgsz,
  type Codec,
  emptyReply,
  encodeWithData,
  payloadForm,
} from "./codec.ts";
import { type Layout, layout, u32, u64 } from "./layout.ts";

/** Flags of a {@linkcode DmaMapRequest}. */
export const DmaMapFlags = {
  /** The device may read. */
  READ: 1,
  /** The device may write. */
  WRITE: 2,
  /** A flag of newer drafts: the server may map the file. */
  MMAP: 4,
  /** A flag of newer drafts: the server may read and write the file. */
  FILE_IO: 8,
} as const;

/** Flags of a {@linkcode DmaUnmap}. */
export const DmaUnmapFlags = {
  /** Asks for the dirty bitmap of the range. */
  GET_DIRTY_BITMAP: 1,
  /** Unmaps everything; address and size are 0. */
  ALL: 2,
} as const;

/** Announces a range of memory to the server. */
export interface DmaMapRequest {
  /** Bytes of the request, 32. */
  argsz: number;
  /** {@linkcode DmaMapFlags}. */
  flags: number;
  /** The offset of the range in the file that comes along; 0 if none does. */
  offset: bigint;
  /** The first address, an IOVA. */
  address: bigint;
  /** Bytes of the range. */
  size: bigint;
}

/** Takes a range back; the reply says the same. */
export interface DmaUnmap {
  /** Bytes of the message, 24 or more. */
  argsz: number;
  /** {@linkcode DmaUnmapFlags}. */
  flags: number;
  /** The first address, an IOVA. */
  address: bigint;
  /** Bytes of the range. */
  size: bigint;
  /** The bytes behind the struct, if any: with GET_DIRTY_BITMAP the bitmap. A view. */
  bitmap?: Uint8Array;
}

/** The fields of a DMA_MAP request. */
export const DmaMapLayout: Layout<DmaMapRequest> = layout("DMA_MAP request", 32, {
  argsz: u32(0),
  flags: u32(4, DmaMapFlags),
  offset: u64(8),
  address: u64(16),
  size: u64(24),
});

/**
 * DMA_MAP request, 32 bytes. The memory itself is a file descriptor beside it, if the server may
 * map it.
 *
 * @example
 * ```ts
 * import { DmaMapFlags, DmaMapRequest } from "./dma.ts";
 *
 * const payload = DmaMapRequest.encode({
 *   argsz: 32,
 *   flags: DmaMapFlags.READ | DmaMapFlags.WRITE,
 *   offset: 0n,
 *   address: 0x100000n,
 *   size: 0x200000n,
 * });
 * console.assert(payload.length === 32 && payload[18] === 0x10);
 * ```
 */
export const DmaMapRequest: Codec<DmaMapRequest> = argszRequest(DmaMapLayout);

/** DMA_MAP reply: no payload. */
export const DmaMapReply: Codec<void> = emptyReply("DMA_MAP reply");

/** DMA_UNMAP request, 24 bytes. */
export const DmaUnmapRequest: Codec<DmaUnmap> = dmaUnmap("DMA_UNMAP request", true);

/** DMA_UNMAP reply, the same 24 bytes. */
export const DmaUnmapReply: Codec<DmaUnmap> = dmaUnmap("DMA_UNMAP reply", false);

function dmaUnmap(name: string, isRequest: boolean): Codec<DmaUnmap> {
  const head = layout(name, 24, {
    argsz: u32(0),
    flags: u32(4, DmaUnmapFlags),
    address: u64(8),
    size: u64(16),
  });
  return {
    name,
    form: payloadForm(head, { kind: "bytes", name: "bitmap" }),
    encode: (value) => encodeWithData(head, value, value.bitmap ?? new Uint8Array()),
    decode(payload) {
      const value = head.decode(payload);
      if (isRequest) checkArgsz(head, value.argsz);
      const bitmap = payload.subarray(head.size);
      return bitmap.length > 0 ? { ...value, bitmap } : value;
    },
  };
}
