/**
 * The way in which a device is made to copy memory of the client: the steps of a session.
 *
 * @module
 */

import type { Session } from "../session/model.ts";

/** IOVA from which checks copy, below 2^28: QEMU's edu reaches no more. */
export const SOURCE = 0x0800_0000n;
/** IOVA to which they copy. */
export const DESTINATION = 0x0900_0000n;
/** Bytes of the largest copy of a check. */
export const MOST_COPIED = 0x4000;
/** The fewest bytes that a device has to copy at once: some checks look at so many. */
export const LEAST_COPIED = 64;

/** A session whose steps have the device copy once, from one IOVA to another. */
export interface CopySession {
  /** The session, whose variables `source`, `destination` and `length` each copy sets. */
  readonly session: Session;
  /** The most bytes of a copy: the value that the file has for `length`, or what checks copy. */
  readonly most: number;
}

/** The same, once the device has copied by it. */
export interface Copying extends CopySession {
  /** True if the server asks by message for memory that came without a descriptor. */
  readonly asks: boolean;
}
