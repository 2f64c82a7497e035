/**
 * Options of accesses to a region, and the parts of its device that a region needs.
 *
 * @module
 */

import type { Negotiated } from "./info.ts";
import type { KnownOfRegion } from "./refusal.ts";
import type { RemoteError } from "../base/errors.ts";
import type { VfioProxy } from "../transport/proxy.ts";

/** How an access is served: through memory that the device shares, or by a message. */
export type Via = "map" | "message";

/** How to access. */
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

/** How to access asynchronously. */
export interface AsyncAccessOptions extends AccessOptions {
  /** Ends the wait with the signal's reason. */
  signal?: AbortSignal;
}

/** How to write. */
export interface WriteOptions extends AccessOptions {
  /** Asks for no answer. The write is under way when the call returns; a later access sees it. An error is not heard of. */
  posted?: boolean;
}

/** How to read or write many bytes. */
export interface BulkOptions extends AsyncAccessOptions {
  /** Bytes that one message carries at most. Default: what was agreed on to read, 32 KiB to write, because libvfio-user may lose larger ones. */
  chunkSize?: number;
  /** Where to put what is read; its length is that of the read. Default: new memory. */
  into?: Uint8Array<ArrayBuffer>;
  /** Told after each piece how many bytes are done. */
  onProgress?: (done: number) => void;
}

/** How long to look for a value. */
export interface PollOptions extends AccessOptions {
  /** Between two looks, in milliseconds; default 1. */
  intervalMs?: number;
}

/** How long to look for a value, asynchronously. */
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

/** What a Region has of its device. */
export interface RegionHost {
  /** The connection. */
  readonly proxy: VfioProxy;
  /** What was agreed on. */
  readonly negotiated: Negotiated;
  /** Adds its reason to a refusal, if one is found. */
  explain?(region: KnownOfRegion, error: RemoteError): RemoteError;
  /** The same without blocking. */
  explainAsync?(region: KnownOfRegion, error: RemoteError): Promise<RemoteError>;
}
