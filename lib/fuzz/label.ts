/**
 * Labels: which field of which message was altered, and in which way.
 *
 * @module
 */

import { messageOf } from "../wire/messages.ts";

/** An alteration of a message; of one that is right `field` and `way` are "". */
export interface Label {
  /** The name of the command. */
  readonly message: string;
  /** The field, or the part, that was altered. */
  readonly field: string;
  /** The way in which it was altered. */
  readonly way: string;
  /** Its number, from 0 in the order of first use. */
  readonly index: number;
}

const LABELS: Label[] = [];
const BY_MESSAGE = new Map<string, Map<string, Label>>();
/** The name of all messages that the specification does not have. */
const UNKNOWN = "unknown command";

/** Returns the label of an alteration, always the same object. */
export function labelOf(command: number, field = "", way = ""): Label {
  const message = messageOf(command)?.name ?? UNKNOWN;
  let labels = BY_MESSAGE.get(message);
  if (labels === undefined) BY_MESSAGE.set(message, labels = new Map());
  const key = `${field}|${way}`;
  let label = labels.get(key);
  if (label === undefined) {
    label = { message, field, way, index: LABELS.length };
    LABELS.push(label);
    labels.set(key, label);
  }
  return label;
}

/** The label as words: "REGION_READ count: all bits set". */
export function labelText({ message, field, way }: Label): string {
  return way === "" ? message : `${message} ${field}: ${way}`;
}
