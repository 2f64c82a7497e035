/**
 * Device info, and reset (specification: "VFIO_USER_DEVICE_GET_INFO",
 * "VFIO_USER_DEVICE_RESET").
 *
 * @module
 */

import { argszRequest, type Codec, emptyReply, emptyRequest, fixedReply } from "./codec.ts";
import { layout, u32 } from "./layout.ts";

/** Flags of a {@linkcode DeviceInfoReply}. */
export const DeviceFlags = {
  /** The device knows DEVICE_RESET. */
  RESET: 1,
  /** A PCI device: regions and IRQ indexes are those of PCI. */
  PCI: 2,
} as const;

/** Asks what the device is. */
export interface DeviceInfoRequest {
  /** Bytes that the reply may have, 16 or more. */
  argsz: number;
}

/** The device's flags, and the numbers of its regions and IRQ indexes. */
export interface DeviceInfoReply {
  /** Bytes of the whole answer. */
  argsz: number;
  /** {@linkcode DeviceFlags}. */
  flags: number;
  /** Region indexes: 0 to this, exclusive. */
  numRegions: number;
  /** IRQ indexes: 0 to this, exclusive. */
  numIrqs: number;
}

/** DEVICE_GET_INFO request, 16 bytes of which only `argsz` says anything. */
export const DeviceInfoRequest: Codec<DeviceInfoRequest> = argszRequest(
  layout("DEVICE_GET_INFO request", 16, { argsz: u32(0) }),
);

/**
 * DEVICE_GET_INFO reply.
 *
 * @example
 * ```ts
 * import { DeviceFlags, DeviceInfoReply } from "./device.ts";
 *
 * const payload = new Uint8Array([16, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0]);
 * const info = DeviceInfoReply.decode(payload);
 * console.assert((info.flags & DeviceFlags.PCI) !== 0);
 * console.assert(info.numRegions === 9 && info.numIrqs === 5);
 * ```
 */
export const DeviceInfoReply: Codec<DeviceInfoReply> = fixedReply(
  layout("DEVICE_GET_INFO reply", 16, {
    argsz: u32(0),
    flags: u32(4, DeviceFlags),
    numRegions: u32(8),
    numIrqs: u32(12),
  }),
);

/** DEVICE_RESET request: no payload. */
export const DeviceResetRequest: Codec<void> = emptyRequest("DEVICE_RESET request");

/** DEVICE_RESET reply: no payload. */
export const DeviceResetReply: Codec<void> = emptyReply("DEVICE_RESET reply");
