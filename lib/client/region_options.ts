/**
 * Options of accesses to a region, and the parts of its device that a region needs.
 *
 * @module
 */

import type { Negotiated } from "./info.ts";
import type { KnownOfRegion } from "./refusal.ts";
import type { RemoteError } from "../base/errors.ts";
import type { VfioProxy } from "../transport/proxy.ts";

/** Way of an access: through memory that the device shares, or by a message. */
export type Via = "map" | "message";

/** Options of an access. */
export interface AccessOptions {
  /** Through the map or by message; default through the map where that is possible. */
  via?: Via;
  /** In milliseconds; default that of the connection. Not for access through the map. */
  timeoutMs?: number;
  /**
   * Looks into a refusal for its reason, by further reads: at the same place in other widths, and
   * of the configuration space. Default true.
   */
  explain?: boolean;
}

/** Options of an asynchronous access. */
export interface AsyncAccessOptions extends AccessOptions {
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

/** Options of a write. */
export interface WriteOptions extends AccessOptions {
  /**
   * Asks for no reply. The write is in flight when the call returns, and a later access sees it.
   * Errors of the device are lost.
   */
  posted?: boolean;
}

/** Options of reading or writing many bytes. */
export interface BulkOptions extends AsyncAccessOptions {
  /**
   * Bytes that one message carries at most. Default: the agreed limit to read, 32 KiB to write,
   * because libvfio-user may lose larger ones.
   */
  chunkSize?: number;
  /** Target of a read, as long as the read. Default: new memory. */
  into?: Uint8Array<ArrayBuffer>;
  /** Called after each piece with the number of bytes that are done. */
  onProgress?: (done: number) => void;
}

/** Limits of polling for a value. */
export interface PollOptions extends AccessOptions {
  /** Between two looks, in milliseconds; default 1. */
  intervalMs?: number;
}

/** Limits of polling for a value asynchronously. */
export interface AsyncPollOptions extends PollOptions {
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

/** A write among many. */
export interface BatchedWrite {
  /** In bytes from the start of the region. */
  offset: number | bigint;
  /** 1 to 8 bytes; a register's are little-endian. */
  data: Uint8Array;
}

/** Parts of a device that a Region needs. */
export interface RegionHost {
  /** The connection. */
  readonly proxy: VfioProxy;
  /** The limits that both ends agreed on. */
  readonly negotiated: Negotiated;
  /** The name of the region in messages; default that of a PCI device. */
  readonly name?: string;
  /** Adds its reason to a refusal, if one is found. */
  explain?(region: KnownOfRegion, error: RemoteError): RemoteError;
  /** The same without blocking. */
  explainAsync?(region: KnownOfRegion, error: RemoteError): Promise<RemoteError>;
  /** Called when a message that writes to the region is sent. */
  onWrite?(): void;
}
