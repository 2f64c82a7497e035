/**
 * Changes that a fuzzer makes to a right device: bytes of one reply, or a message of its own.
 *
 * @module
 */

import { HEADER_SIZE, HeaderLayout, MessageFlags } from "../../wire/header.ts";
import type { DescriptorName } from "../descriptors.ts";
import type { Label } from "../label.ts";

/** Equal bytes between two that differ, up to which both are one patch. */
const MAX_GAP = 8;

/** A request of the client: the n-th of its command, from 1. */
export interface Occasion {
  readonly command: number;
  readonly nth: number;
}

/** The ways in which a message is sent. */
export const TIMINGS = ["once", "late", "twice", "never", "then end"] as const;

/** The way in which a message is sent; "then end" closes the connection behind it. */
export type Timing = typeof TIMINGS[number];

/**
 * The part of a message that a change belongs to: the reply to a request, or a message before or
 * behind that.
 */
export const CHANGE_KINDS = ["reply", "before", "after"] as const;

/** The kind of a {@linkcode Change}. */
export type ChangeKind = typeof CHANGE_KINDS[number];

/** Bytes of a message that are replaced. */
export interface Patch {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** A change. It is data, so that another version of the fuzzer makes the same one. */
export interface Change extends Occasion {
  readonly kind: ChangeKind;
  /** The length of the message. */
  readonly length: number;
  /** Bytes that differ: from those of the right reply, or from zeros. */
  readonly patches: readonly Patch[];
  /** Descriptors that go with it; undefined for those of the right reply. */
  readonly fds: readonly DescriptorName[] | undefined;
  /** Places at which the bytes are cut, ascending; each piece is sent by itself. */
  readonly cuts: readonly number[];
  readonly timing: Timing;
  readonly label: Label;
}

/** A message as it is sent. */
export interface Draft {
  readonly bytes: Uint8Array;
  /** Descriptors; undefined for those of the right reply. */
  readonly fds: readonly DescriptorName[] | undefined;
  readonly cuts: readonly number[];
}

/** Finds the change that makes a message of another one; `before` is empty for one of its own. */
export function changeOf(
  occasion: Occasion,
  kind: ChangeKind,
  before: Uint8Array,
  { bytes, fds, cuts }: Draft,
  timing: Timing,
  label: Label,
): Change {
  const patches: Patch[] = [];
  let [start, end] = [-1, -1];
  const close = () => start >= 0 && patches.push({ at: start, bytes: bytes.slice(start, end) });
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] === (before[at] ?? 0)) continue;
    if (start < 0 || at - end > MAX_GAP) {
      close();
      start = at;
    }
    end = at + 1;
  }
  close();
  const { command, nth } = occasion;
  return { kind, command, nth, length: bytes.length, patches, fds, cuts, timing, label };
}

/** Reports whether a change leaves a reply as it is. */
export function isIdle(change: Change, right: Uint8Array): boolean {
  const { kind, length, patches, fds, cuts, timing } = change;
  return kind === "reply" && length === right.length && patches.length === 0 &&
    fds === undefined && cuts.length === 0 && timing === "once";
}

/** Makes the bytes of a change; those of the right reply are empty for a message of its own. */
export function changedBytes({ kind, length, patches }: Change, right: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(length);
  if (kind === "reply") bytes.set(right.subarray(0, length));
  for (const { at, bytes: part } of patches) {
    if (at < length) bytes.set(part.subarray(0, length - at), at);
  }
  return bytes;
}

/**
 * Reports whether a client may wait for more after these bytes, for ever: they are no whole reply
 * to its request.
 */
export function leavesWaiting(bytes: Uint8Array, right: Uint8Array, timing: Timing): boolean {
  if (timing === "never" || bytes.length < HEADER_SIZE) return true;
  const [is, was] = [HeaderLayout.decode(bytes), HeaderLayout.decode(right)];
  return (is.size >= HEADER_SIZE && is.size !== bytes.length) ||
    is.messageId !== was.messageId || is.command !== was.command ||
    (is.flags & MessageFlags.TYPE_MASK) !== MessageFlags.REPLY;
}

/** A key that two occasions share if they are the same. */
export function occasionKey({ command, nth }: Occasion): string {
  return `${command} ${nth}`;
}
