/**
 * Reading and writing: regions by the client, its memory by the server (specification:
 * "VFIO_USER_REGION_READ", "VFIO_USER_REGION_WRITE", "VFIO_USER_REGION_WRITE_MULTI",
 * "VFIO_USER_DMA_READ", "VFIO_USER_DMA_WRITE").
 *
 * Where a message holds data, its count is their length and is not said twice.
 *
 * @module
 */

import { DecodeError } from "../base/errors.ts";
import {
  type Codec,
  encodeWithData,
  exactData,
  fixedReply,
  fixedRequest,
  payloadForm,
} from "./codec.ts";
import { type Layout, layout, u32, u64 } from "./layout.ts";

/** Bytes of what a DMA message with a count of 32 bits starts with. */
const DMA_HEAD_32_SIZE = 12;

/** A place in a region, and how many bytes of it. */
export interface RegionAccess {
  /** Bytes from the start of the region. */
  offset: bigint;
  /** The region's index. */
  region: number;
  /** The number of bytes. */
  count: number;
}

/** Bytes of a region. */
export interface RegionData {
  /** Bytes from the start of the region. */
  offset: bigint;
  /** The region's index. */
  region: number;
  /** The bytes. Decoded: a view. */
  data: Uint8Array;
}

/** A range of the client's memory. */
export interface DmaAccess {
  /** The first address, an IOVA. */
  address: bigint;
  /** The number of bytes, 64 bits wide; no limit but that is checked here. */
  count: bigint;
}

/** Bytes of the client's memory. */
export interface DmaData {
  /** The first address, an IOVA. */
  address: bigint;
  /** The bytes. Decoded: a view. */
  data: Uint8Array;
}

/**
 * The 16 bytes that every region access starts with. Exported for the code that sends and answers
 * them without a decode.
 */
export const RegionAccessLayout: Layout<RegionAccess> = regionLayout("region access");

/** REGION_READ request. */
export const RegionReadRequest: Codec<RegionAccess> = fixedRequest(
  regionLayout("REGION_READ request"),
);

/** REGION_READ reply. Whether it is what was asked for is for the asker to compare. */
export const RegionReadReply: Codec<RegionData> = regionData("REGION_READ reply");

/**
 * REGION_WRITE request.
 *
 * @example
 * ```ts
 * import { RegionWriteRequest } from "./access.ts";
 *
 * const data = new Uint8Array([1, 0, 0, 0]);
 * const payload = RegionWriteRequest.encode({ offset: 0x1cn, region: 0, data });
 * console.assert(payload.length === 20 && payload[12] === 4);
 * ```
 */
export const RegionWriteRequest: Codec<RegionData> = regionData("REGION_WRITE request");

/** REGION_WRITE reply. */
export const RegionWriteReply: Codec<RegionAccess> = fixedReply(regionLayout("REGION_WRITE reply"));

/** The 16 bytes that every access to a client's memory starts with. */
export const DmaAccessLayout: Layout<DmaAccess> = dmaLayout("DMA access");

/** The same in 12 bytes: the count has 32 bits, as QEMU 10.1 has it. */
export const DmaAccessLayout32: Layout<{ address: bigint; count: number }> = dmaLayout32(
  "DMA access",
);

/** DMA_READ request. */
export const DmaReadRequest: Codec<DmaAccess> = fixedRequest(dmaLayout("DMA_READ request"));

/** DMA_READ reply. */
export const DmaReadReply: Codec<DmaData> = dmaData("DMA_READ reply");

/** DMA_WRITE request. */
export const DmaWriteRequest: Codec<DmaData> = dmaData("DMA_WRITE request");

/**
 * DMA_WRITE reply, as the specification and most peers have it; see {@linkcode
 * decodeDmaWriteReply}.
 */
export const DmaWriteReply: Codec<DmaAccess> = {
  ...fixedReply(dmaLayout("DMA_WRITE reply")),
  form: {
    heads: [dmaLayout("DMA_WRITE reply"), dmaLayout32("DMA_WRITE reply")],
    tail: { kind: "none" },
  },
};

/**
 * DMA_READ request with a count of 32 bits, as QEMU 10.1's client takes it. So have the reply, and
 * DMA_WRITE: their data begin at byte 12 of the payload.
 */
export const DmaReadRequest32: Codec<DmaAccess> = dmaAccess32("DMA_READ request");

/** DMA_READ reply with a count of 32 bits. */
export const DmaReadReply32: Codec<DmaData> = dmaData32("DMA_READ reply");

/** DMA_WRITE request with a count of 32 bits. */
export const DmaWriteRequest32: Codec<DmaData> = dmaData32("DMA_WRITE request");

/** DMA_WRITE reply with a count of 32 bits. */
export const DmaWriteReply32: Codec<DmaAccess> = dmaAccess32("DMA_WRITE reply");

/**
 * The DMA_WRITE reply of any peer. It has 16 bytes, or 12 with a count of 32 bits as in the
 * specification's table. Or it has none (QEMU 10.1), which stands for success in full.
 *
 * @param request what was asked for
 * @throws {ProtocolError} if the payload has another length
 */
export function decodeDmaWriteReply(payload: Uint8Array, request: DmaAccess): DmaAccess {
  if (payload.length === 0) return { address: request.address, count: request.count };
  if (payload.length === DMA_HEAD_32_SIZE) return DmaWriteReply32.decode(payload);
  return DmaWriteReply.decode(payload);
}

/** One write of a {@linkcode RegionWriteMultiRequest}: 1 to 8 bytes of a region. */
export type SmallWrite = RegionData;

/** Several small writes, done in their order. */
export interface RegionWriteMultiRequest {
  /** The writes. */
  writes: SmallWrite[];
}

/** The progress of a {@linkcode RegionWriteMultiRequest}. */
export interface RegionWriteMultiReply {
  /** Writes that were done. */
  count: bigint;
}

const MultiLayout = layout("REGION_WRITE_MULTI request", 8, { count: u64(0) });
const SmallWriteLayout = layout("REGION_WRITE_MULTI request", 24, {
  offset: u64(0),
  region: u32(8),
  count: u32(12),
});
/** The offset of a small write's data, and the bytes that there is room for. */
const SMALL_DATA_OFFSET = 16;
const SMALL_DATA_SIZE = 8;

/** REGION_WRITE_MULTI request. */
export const RegionWriteMultiRequest: Codec<RegionWriteMultiRequest> = {
  name: MultiLayout.name,
  form: payloadForm(MultiLayout, {
    kind: "entries",
    name: "writes",
    count: "count",
    forms: [SmallWriteLayout],
  }),
  encode({ writes }) {
    const bytes = new Uint8Array(MultiLayout.size + writes.length * SmallWriteLayout.size);
    MultiLayout.write({ count: BigInt(writes.length) }, bytes);
    for (const [i, { offset, region, data }] of writes.entries()) {
      const count = data.length;
      if (count < 1 || count > SMALL_DATA_SIZE) {
        throw new RangeError(
          `Cannot encode ${MultiLayout.name}: write ${i} has ${count} bytes, it may have 1 to 8`,
        );
      }
      const at = MultiLayout.size + i * SmallWriteLayout.size;
      SmallWriteLayout.write({ offset, region, count }, bytes, at);
      bytes.set(data, at + SMALL_DATA_OFFSET);
    }
    return bytes;
  },
  decode(payload) {
    const { count } = MultiLayout.decode(payload);
    const room = payload.length - MultiLayout.size;
    if (count * BigInt(SmallWriteLayout.size) !== BigInt(room)) {
      throw new DecodeError(MultiLayout.name, `${count} writes of 24 bytes, ${room} bytes came`);
    }
    return { writes: Array.from({ length: Number(count) }, (_, i) => decodeSmall(payload, i)) };
  },
};

/** REGION_WRITE_MULTI reply. */
export const RegionWriteMultiReply: Codec<RegionWriteMultiReply> = fixedReply(
  layout("REGION_WRITE_MULTI reply", 8, { count: u64(0) }),
);

function decodeSmall(payload: Uint8Array, index: number): SmallWrite {
  const at = MultiLayout.size + index * SmallWriteLayout.size;
  const { offset, region, count } = SmallWriteLayout.decode(payload, at);
  if (count < 1 || count > SMALL_DATA_SIZE) {
    throw new DecodeError(
      MultiLayout.name,
      `write ${index} has ${count} bytes, it may have 1 to 8`,
    );
  }
  const start = at + SMALL_DATA_OFFSET;
  return { offset, region, data: payload.subarray(start, start + count) };
}

function regionLayout(name: string): Layout<RegionAccess> {
  return layout(name, 16, { offset: u64(0), region: u32(8), count: u32(12) });
}

function dmaLayout(name: string): Layout<DmaAccess> {
  return layout(name, 16, { address: u64(0), count: u64(8) });
}

function regionData(name: string): Codec<RegionData> {
  const head = regionLayout(name);
  return {
    name,
    form: payloadForm(head, { kind: "bytes", name: "data" }),
    encode({ offset, region, data }) {
      return encodeWithData(head, { offset, region, count: data.length }, data);
    },
    decode(payload) {
      const { offset, region, count } = head.decode(payload);
      return { offset, region, data: exactData(head, payload, count) };
    },
  };
}

function dmaData(name: string): Codec<DmaData> {
  const head = dmaLayout(name);
  return {
    name,
    form: payloadForm(head, { kind: "bytes", name: "data" }),
    encode({ address, data }) {
      return encodeWithData(head, { address, count: BigInt(data.length) }, data);
    },
    decode(payload) {
      const { address, count } = head.decode(payload);
      return { address, data: exactData(head, payload, count) };
    },
  };
}

function dmaLayout32(name: string): Layout<{ address: bigint; count: number }> {
  return layout(name, DMA_HEAD_32_SIZE, { address: u64(0), count: u32(8) });
}

function dmaAccess32(name: string): Codec<DmaAccess> {
  const head = dmaLayout32(name);
  return {
    name,
    form: payloadForm(head),
    encode: ({ address, count }) => head.encode({ address, count: Number(count) }),
    decode(payload) {
      const { address, count } = head.decode(payload);
      return { address, count: BigInt(count) };
    },
  };
}

function dmaData32(name: string): Codec<DmaData> {
  const head = dmaLayout32(name);
  return {
    name,
    form: payloadForm(head, { kind: "bytes", name: "data" }),
    encode({ address, data }) {
      return encodeWithData(head, { address, count: data.length }, data);
    },
    decode(payload) {
      const { address, count } = head.decode(payload);
      return { address, data: exactData(head, payload, count) };
    },
  };
}
