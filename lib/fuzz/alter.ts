/**
 * Alterations of a message: of its header, its fields, its length, its descriptors, its pieces.
 *
 * @module
 */

import type { Random } from "../base/random.ts";
import { Command } from "../wire/command.ts";
import { HEADER_SIZE, HeaderLayout, MessageFlags } from "../wire/header.ts";
import { DESCRIPTOR_NAMES, type DescriptorName } from "./descriptors.ts";
import { type FieldPlace, fieldsOf, type Side } from "./fields.ts";
import { type Label, labelOf } from "./label.ts";
import type { FuzzMessage, ReplyRule } from "./message.ts";
import { oddVersion, TEXT_NAMES } from "./versions.ts";
import { alterField, WAY_NAMES } from "./ways.ts";
import type { World } from "./world.ts";

/** A message that may be altered. */
export interface Altered {
  bytes: Uint8Array;
  fds: readonly DescriptorName[];
  cuts: readonly number[];
}

/** The most descriptors that Linux passes at once. */
const MAX_FDS = 253;
/** More than any server takes in one message. */
const OVER_LIMIT = (1 << 20) + 8192;

/** A way to alter, of one part. */
interface Alteration {
  /** The part. */
  readonly field: string;
  /** The name of the way. */
  readonly way: string;
  /** Its share among the others. */
  readonly weight: number;
  /** The side of messages that it is for; default both. */
  readonly side?: Side;
  /** Alters; returns false of a message that has no such part. */
  apply(message: Altered, world: AlterationWorld): boolean;
}

/** The surroundings of a message that is altered. */
export interface AlterationWorld extends Pick<World, "random" | "facts" | "lastId"> {
  /** The side of the message; default a request. */
  readonly side?: Side;
}

const { size: SIZE, flags: FLAGS, error: ERROR, command: COMMAND, messageId: ID } =
  HeaderLayout.offsets;

const resized = (bytes: Uint8Array, size: number) => {
  const other = new Uint8Array(size);
  other.set(bytes.subarray(0, size));
  return other;
};

/** Sets 32 bits of a message; always done. */
const put =
  (at: number, value: (size: number, random: Random) => number, bits: 16 | 32 = 32) =>
  (message: Altered, { random }: AlterationWorld) => {
    const view = viewOf(message.bytes);
    const number = value(message.bytes.length, random);
    if (bits === 32) view.setUint32(at, number, true);
    else view.setUint16(at, number, true);
    return true;
  };

/** Sets bits of the flags. */
const flag = (bits: number) => put(FLAGS, () => bits);

/** Changes the length, with a header that says so. */
const length =
  (change: (size: number, random: Random) => number) =>
  (message: Altered, { random }: AlterationWorld) => {
    const size = change(message.bytes.length, random);
    if (size < HEADER_SIZE || size === message.bytes.length) return false;
    message.bytes = resized(message.bytes, size);
    viewOf(message.bytes).setUint32(SIZE, size, true);
    return true;
  };

/** Changes the descriptors. */
const fds =
  (choose: (fds: readonly DescriptorName[], random: Random) => readonly DescriptorName[]) =>
  (message: Altered, { random }: AlterationWorld) => {
    message.fds = choose(message.fds, random);
    return true;
  };

const any = (random: Random) => random.pick(DESCRIPTOR_NAMES);

/** Cuts into pieces that are sent apart. */
const cut =
  (choose: (size: number, random: Random) => readonly number[]) =>
  (message: Altered, { random }: AlterationWorld) => {
    const size = message.bytes.length;
    message.cuts = choose(size, random).filter((at) => at > 0 && at < size);
    return message.cuts.length > 0;
  };

/** A command that is not in the specification's table. */
const unknown = (_: number, random: Random) => random.pick([0, 14, 19, 99, 0x7fff, 0xffff]);

/** The alterations of all messages. */
const ALTERATIONS: readonly Alteration[] = [
  { field: "id", way: "used before", weight: 6, apply: reuseId },
  { field: "command", way: "unknown", weight: 6, apply: put(COMMAND, unknown, 16) },
  { field: "command", way: "of another message", weight: 6, apply: put(COMMAND, otherCommand, 16) },
  { field: "flags", way: "no reply", weight: 16, apply: flag(MessageFlags.NO_REPLY) },
  { field: "flags", way: "reply", weight: 3, side: "request", apply: flag(MessageFlags.REPLY) },
  {
    field: "flags",
    way: "reply, reserved",
    weight: 3,
    side: "reply",
    apply: put(FLAGS, reservedInReply),
  },
  { field: "error", way: "refusal", weight: 12, side: "reply", apply: refuse },
  { field: "error", way: "refusal with data", weight: 6, side: "reply", apply: refuseWithData },
  { field: "flags", way: "error reply", weight: 2, apply: flag(0x21) },
  { field: "flags", way: "error", weight: 3, apply: flag(MessageFlags.ERROR) },
  { field: "flags", way: "reserved", weight: 3, apply: put(FLAGS, reserved) },
  { field: "flags", way: "unknown type", weight: 2, apply: put(FLAGS, (_, r) => 2 + r.below(14)) },
  { field: "error", way: "of a command", weight: 3, apply: put(ERROR, (_, r) => r.below(200)) },
  { field: "length", way: "shorter", weight: 20, apply: length(shorter) },
  { field: "length", way: "header alone", weight: 4, apply: length(() => HEADER_SIZE) },
  {
    field: "length",
    way: "longer",
    weight: 12,
    apply: length((size, r) => size + 1 + r.below(64)),
  },
  {
    field: "length",
    way: "much longer",
    weight: 2,
    apply: length((size, random) => size + random.below(60_000)),
  },
  { field: "bytes", way: "over the limit", weight: 1, apply: length(() => OVER_LIMIT) },
  {
    field: "size",
    way: "more than comes",
    weight: 1,
    apply: put(SIZE, (s, r) => s + 1 + r.below(99)),
  },
  { field: "size", way: "less than comes", weight: 1, apply: put(SIZE, less) },
  { field: "size", way: "below the header", weight: 1, apply: put(SIZE, (_, r) => r.below(16)) },
  { field: "size", way: "huge", weight: 1, apply: put(SIZE, (_, r) => 0xffff_ffff - r.below(9)) },
  { field: "size", way: "sign bit", weight: 1, apply: put(SIZE, () => 0x8000_0000) },
  { field: "bytes", way: "end early", weight: 1, apply: endEarly },
  { field: "pieces", way: "header and rest", weight: 2, apply: cut(() => [HEADER_SIZE]) },
  { field: "pieces", way: "inside the header", weight: 2, apply: cut((_, r) => [1 + r.below(15)]) },
  { field: "pieces", way: "inside the rest", weight: 2, apply: cut((s, r) => [16 + r.below(s)]) },
  { field: "pieces", way: "single bytes", weight: 1, apply: cut(singleBytes) },
  { field: "descriptors", way: "none", weight: 6, apply: fewer },
  { field: "descriptors", way: "one", weight: 8, apply: fds((_, r) => [any(r)]) },
  { field: "descriptors", way: "one more", weight: 8, apply: fds((had, r) => [...had, any(r)]) },
  { field: "descriptors", way: "another kind", weight: 8, apply: otherKinds },
  { field: "descriptors", way: "too many", weight: 2, apply: fds((_, r) => many(r, 17, 64)) },
  { field: "descriptors", way: "253", weight: 1, apply: fds((_, r) => many(r, MAX_FDS, MAX_FDS)) },
  { field: "descriptors", way: "its own socket", weight: 2, apply: fds(() => ["self"]) },
];

/** Each alteration of a side as often as it weighs. */
const choicesOf = (side: Side): readonly Alteration[] =>
  ALTERATIONS.filter((each) => (each.side ?? side) === side)
    .flatMap((each) => Array.from({ length: each.weight }, () => each));
const CHOICES: Readonly<Record<Side, readonly Alteration[]>> = {
  request: choicesOf("request"),
  reply: choicesOf("reply"),
};
/** Parts whose alterations end a connection, or take their time: once in so many tries. */
const RARE: ReadonlySet<string> = new Set(["size", "bytes", "pieces"]);
const RARITY = 8;
/** Alterations of fields beside those. */
const FIELD_WEIGHT = 260;

/**
 * Alters a message once.
 *
 * @param isMuted reports labels that are not wanted
 * @returns the label of the alteration; undefined if none was found that fits
 */
export function alter(
  message: Altered,
  world: AlterationWorld,
  isMuted: (label: Label, random: Random) => boolean,
): Label | undefined {
  const { random, side = "request" } = world;
  const choices = CHOICES[side];
  const { command } = HeaderLayout.decode(message.bytes);
  for (let i = 0; i < 8; i++) {
    const choice = random.below(choices.length + FIELD_WEIGHT);
    if (choice >= choices.length) {
      const label = alterSomeField(message, command, world, isMuted);
      if (label !== undefined) return label;
      continue;
    }
    const { field, way, apply } = choices[choice]!;
    const label = labelOf(command, field, way);
    if (RARE.has(field) && !random.oneIn(RARITY)) continue;
    if (!isMuted(label, random) && apply(message, world)) return label;
  }
  return undefined;
}

function alterSomeField(
  message: Altered,
  command: number,
  world: AlterationWorld,
  isMuted: (label: Label, random: Random) => boolean,
): Label | undefined {
  const { random, facts, side } = world;
  if (command === Command.VERSION && random.oneIn(2)) {
    const way = random.pick(TEXT_NAMES);
    const label = labelOf(command, "json", way);
    if (isMuted(label, random)) return undefined;
    const payload = oddVersion(way, random, facts);
    message.bytes = resized(message.bytes, HEADER_SIZE + payload.length);
    message.bytes.set(payload, HEADER_SIZE);
    viewOf(message.bytes).setUint32(SIZE, message.bytes.length, true);
    return label;
  }
  const fields: readonly FieldPlace[] = fieldsOf(command, message.bytes, side);
  if (fields.length === 0) return undefined;
  const place = random.pick(fields);
  const way = random.pick(WAY_NAMES);
  const label = labelOf(command, place.name, way);
  if (isMuted(label, random)) return undefined;
  alterField(viewOf(message.bytes), place, way, random);
  return label;
}

/** Makes the message that is sent, with the replies that its header asks for. */
export function finished({ bytes, fds, cuts }: Altered, label: Label): FuzzMessage {
  return { bytes, fds: fds.slice(0, MAX_FDS), cuts, label, ...rulesOf(bytes) };
}

/** Finds what bytes ask for: replies, and whether what follows them can be told apart. */
export function rulesOf(bytes: Uint8Array): { reply: ReplyRule; isLast: boolean } {
  if (bytes.length < HEADER_SIZE) return { reply: "any", isLast: true };
  const view = viewOf(bytes);
  if (view.getUint32(SIZE, true) !== bytes.length) return { reply: "any", isLast: true };
  // A message over the limit may end the connection, or be drained.
  if (bytes.length >= OVER_LIMIT) return { reply: "any", isLast: true };
  const flags = view.getUint32(FLAGS, true);
  if ((flags & MessageFlags.TYPE_MASK) !== MessageFlags.COMMAND) {
    return { reply: "any", isLast: false };
  }
  return { reply: (flags & MessageFlags.NO_REPLY) === 0 ? "one" : "none", isLast: false };
}

function viewOf({ buffer, byteOffset, length }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, length);
}

function reuseId(message: Altered, world: AlterationWorld): boolean {
  viewOf(message.bytes).setUint16(ID, world.lastId() - 1 & 0xffff, true);
  return true;
}

function otherCommand(_: number, random: Random): number {
  return random.pick(Object.values(Command));
}

/** A reserved bit, above those that mean something. */
function reserved(_: number, random: Random): number {
  return (1 << 6 + random.below(26)) >>> 0;
}

/** A reply with a reserved bit. */
function reservedInReply(size: number, random: Random): number {
  return (MessageFlags.REPLY | reserved(size, random)) >>> 0;
}

/** Makes a reply one of an error, with all that it has behind its header. */
function refuseWithData({ bytes }: Altered, { random }: AlterationWorld): boolean {
  viewOf(bytes).setUint32(FLAGS, MessageFlags.REPLY | MessageFlags.ERROR, true);
  viewOf(bytes).setUint32(ERROR, 1 + random.below(133), true);
  return true;
}

function refuse(message: Altered, world: AlterationWorld): boolean {
  message.bytes = resized(message.bytes, HEADER_SIZE);
  viewOf(message.bytes).setUint32(SIZE, HEADER_SIZE, true);
  message.fds = [];
  return refuseWithData(message, world);
}

function shorter(size: number, random: Random): number {
  return HEADER_SIZE + random.below(Math.max(1, size - HEADER_SIZE));
}

function less(size: number, random: Random): number {
  return size <= HEADER_SIZE ? 15 : HEADER_SIZE + random.below(size - HEADER_SIZE);
}

function endEarly(message: Altered, { random }: AlterationWorld): boolean {
  message.bytes = message.bytes.slice(0, 1 + random.below(message.bytes.length - 1));
  return true;
}

function singleBytes(size: number): readonly number[] {
  return Array.from({ length: Math.min(size, 24) }, (_, at) => at);
}

function fewer(message: Altered): boolean {
  if (message.fds.length === 0) return false;
  message.fds = message.fds.slice(1);
  return true;
}

function otherKinds(message: Altered, { random }: AlterationWorld): boolean {
  if (message.fds.length === 0) return false;
  message.fds = message.fds.map(() => any(random));
  return true;
}

function many(random: Random, least: number, most: number): readonly DescriptorName[] {
  const name = any(random);
  const count = least + random.below(most - least + 1);
  return Array.from({ length: count }, () => name);
}
