/**
 * A message on its way through a recorder, which may alter it.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { HeaderLayout } from "../wire/header.ts";
import type { DescriptorFacts } from "./descriptor.ts";

const { flags: FLAGS_AT } = HeaderLayout.offsets;

/** A whole message that is about to be passed on, and may be altered. */
export interface Passage {
  /** The message as it came: a view that holds during the call. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same memory. */
  readonly view: DataView<ArrayBuffer>;
  /** Its command's number. */
  readonly command: number;
  /** True for a reply. */
  readonly isReply: boolean;
  /**
   * Descriptors to pass on; undefined in the place of one that is withheld. Code that takes one
   * out owns it. The rest are closed after they were passed on.
   */
  readonly fds: (OwnedFd | undefined)[];
  /** Facts of those that came, each with what the receiver gets. */
  readonly descriptors: DescriptorFacts[];
  /** Bytes to pass on in place of `bytes`. */
  replacement: Uint8Array<ArrayBuffer> | undefined;
  /** Alterations, in words. */
  comment: string | undefined;
  /** True if it was passed on already, in pieces, and can't be altered. */
  readonly isPassed: boolean;
  /** True if it is not to be passed on: the reply to a request that the client did not send. */
  isOurs: boolean;
}

/** Finds out whether the message came with a flag: bits of MessageFlags. */
export function hasFlag({ view }: Passage, flag: number): boolean {
  return (view.getUint32(FLAGS_AT, true) & flag) !== 0;
}

/** The bytes to alter, which are then passed on: a copy, made once. */
export function alterable(passage: Passage): DataView<ArrayBuffer> {
  const { buffer, byteOffset, length } = passage.replacement ??= passage.bytes.slice();
  return new DataView(buffer, byteOffset, length);
}

/** Adds the words for an alteration to those of earlier ones. */
export function remark(passage: Passage, text: string): void {
  passage.comment = passage.comment === undefined ? text : `${passage.comment}; ${text}`;
}
