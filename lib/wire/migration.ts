/**
 * The state of a device that migrates, as bytes that only the device understands (specification:
 * "VFIO_USER_MIG_DATA_READ", "VFIO_USER_MIG_DATA_WRITE").
 *
 * @module
 */

import { DecodeError } from "../base/errors.ts";
import {
  argszRequest,
  checkArgsz,
  type Codec,
  emptyReply,
  encodeWithData,
  exactData,
  payloadForm,
} from "./codec.ts";
import { type Layout, layout, u32 } from "./layout.ts";

/** Asks for migration data. */
export interface MigDataReadRequest {
  /** Bytes that the reply may have, 8 or more. */
  argsz: number;
  /** Bytes of data that are wanted. */
  size: number;
}

/** Migration data. */
export interface MigData {
  /** Bytes of the message, 8 or more. */
  argsz: number;
  /** The data. Decoded: a view. */
  data: Uint8Array;
}

/** MIG_DATA_READ request. */
export const MigDataReadRequest: Codec<MigDataReadRequest> = argszRequest(
  layout("MIG_DATA_READ request", 8, { argsz: u32(0), size: u32(4) }),
);

/** The head of a MIG_DATA_READ reply; the data follow. */
export const MigDataReplyLayout: Layout<{ argsz: number; size: number }> = layout(
  "MIG_DATA_READ reply",
  8,
  { argsz: u32(0), size: u32(4) },
);
const WriteRequest = layout("MIG_DATA_WRITE request", 8, { argsz: u32(0), size: u32(4) });

/**
 * MIG_DATA_READ reply. A reply without data is the last. The specification says so of a reply with
 * fewer data than were asked for, but libvfio-user's devices send fewer in the middle. What follows
 * the data is ignored: libvfio-user pads them to the size that was asked for.
 *
 * @example
 * ```ts
 * import { MigDataReadReply } from "./migration.ts";
 *
 * const padded = new Uint8Array([12, 0, 0, 0, 2, 0, 0, 0, 0xab, 0xcd, 0, 0]);
 * console.assert(MigDataReadReply.decode(padded).data.length === 2);
 * ```
 */
export const MigDataReadReply: Codec<MigData> = {
  name: MigDataReplyLayout.name,
  form: payloadForm(MigDataReplyLayout, { kind: "bytes", name: "data", length: "size" }),
  encode({ argsz, data }) {
    return encodeWithData(MigDataReplyLayout, { argsz, size: data.length }, data);
  },
  decode(payload) {
    const { argsz, size } = MigDataReplyLayout.decode(payload);
    const room = payload.length - MigDataReplyLayout.size;
    if (size > room) {
      throw new DecodeError(MigDataReplyLayout.name, `size is ${size}, ${room} bytes of data came`);
    }
    return {
      argsz,
      data: payload.subarray(MigDataReplyLayout.size, MigDataReplyLayout.size + size),
    };
  },
};

/** MIG_DATA_WRITE request. */
export const MigDataWriteRequest: Codec<MigData> = {
  name: WriteRequest.name,
  form: payloadForm(WriteRequest, { kind: "bytes", name: "data" }),
  encode({ argsz, data }) {
    return encodeWithData(WriteRequest, { argsz, size: data.length }, data);
  },
  decode(payload) {
    const { argsz, size } = WriteRequest.decode(payload);
    checkArgsz(WriteRequest, argsz);
    return { argsz, data: exactData(WriteRequest, payload, size) };
  },
};

/** MIG_DATA_WRITE reply: no payload. */
export const MigDataWriteReply: Codec<void> = emptyReply("MIG_DATA_WRITE reply");
