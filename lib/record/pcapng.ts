/**
 * Blocks of a pcapng file, as far as a recording has them: section headers, descriptions of
 * interfaces, and enhanced packets. What is written is little-endian; both orders are read.
 *
 * @module
 */

import { MAX_RECORDING_BLOCK } from "../base/limits.ts";

/** Types of blocks. */
export const BlockType = {
  /** Begins a section, and says its byte order. */
  SECTION: 0x0a0d0d0a,
  /** Describes an interface. */
  INTERFACE: 1,
  /** A packet in the oldest form. */
  OBSOLETE_PACKET: 2,
  /** A packet without a time. */
  SIMPLE_PACKET: 3,
  /** A packet with interface, time and options. */
  PACKET: 6,
} as const;

/** Codes of options. Those from 0x8000 on are for local use: no other program knows ours. */
export const OptionCode = {
  /** Ends a list of options. */
  END: 0,
  /** A comment, of any block. */
  COMMENT: 1,
  /** The name of an interface. */
  INTERFACE_NAME: 2,
  /** The direction of a packet. */
  PACKET_FLAGS: 2,
  /** The program that wrote a section. */
  APPLICATION: 4,
  /** The resolution of an interface's time stamps. */
  TIME_RESOLUTION: 9,
  /** Seconds that an interface's time stamps lack. */
  TIME_OFFSET: 14,
  /** Ours: facts about a message, JSON. */
  FACTS: 0xf600,
  /** Ours: the message as its receiver got it. */
  PASSED_ON: 0xf601,
} as const;

/** The type of link whose packets begin with tags that name their dissector. */
export const LINK_TYPE_UPPER_PDU = 252;

/** The longest value of an option. */
export const MAX_OPTION = 0xffff;

const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const NANOSECONDS = 9;
/** Type and both lengths. */
const BLOCK_OVERHEAD = 12;
/** The bytes of a packet block ahead of the packet. */
const PACKET_HEAD = 20;
/** Tag with the name of a dissector; with the port of the sender; that ends the tags. */
const TAG_DISSECTOR = 12;
const TAG_SOURCE_PORT = 25;
const TAG_END = 0;

/** Bytes that are no pcapng, or whose lengths lie. */
export class PcapngError extends Error {
  override readonly name = "PcapngError";

  /**
   * @param offset where in the file the block begins; undefined if the file is of another kind
   * @param reason what is wrong, a clause
   */
  constructor(readonly offset: number | undefined, reason: string) {
    super(offset === undefined ? reason : `at byte ${offset} ${reason}`);
  }
}

/** An option of a block. */
export interface BlockOption {
  /** Its number. */
  readonly code: number;
  /** Its value, at most {@linkcode MAX_OPTION} bytes. */
  readonly value: Uint8Array;
}

/** A packet, ready to be written. */
export interface PacketBlock {
  /** The number of its interface in the section. */
  readonly interfaceId: number;
  /** Nanoseconds since the epoch, below 2^64. */
  readonly timeNs: bigint;
  /** The beginning of the packet: see {@linkcode dissectorTags}. */
  readonly tags: Uint8Array;
  /** The bytes behind. */
  readonly bytes: Uint8Array;
  /** Its options. */
  readonly options: readonly BlockOption[];
}

function padded(length: number): number {
  return (length + 3) & ~3;
}

/** A section header block. */
export function sectionHeader(application: string): Uint8Array {
  const options = [{ code: OptionCode.APPLICATION, value: new TextEncoder().encode(application) }];
  return block(BlockType.SECTION, 16, options, (view) => {
    view.setUint32(0, BYTE_ORDER_MAGIC, true);
    view.setUint16(4, 1, true);
    view.setUint16(6, 0, true);
    view.setBigInt64(8, -1n, true);
  });
}

/** A block that describes an interface of tagged packets, with times in nanoseconds. */
export function interfaceDescription(name: string): Uint8Array {
  const options = [
    { code: OptionCode.INTERFACE_NAME, value: new TextEncoder().encode(name) },
    { code: OptionCode.TIME_RESOLUTION, value: Uint8Array.of(NANOSECONDS) },
  ];
  return block(BlockType.INTERFACE, 8, options, (view) => {
    view.setUint16(0, LINK_TYPE_UPPER_PDU, true);
  });
}

function block(
  type: number,
  bodySize: number,
  options: readonly BlockOption[],
  fill: (body: DataView<ArrayBuffer>) => void,
): Uint8Array {
  const size = BLOCK_OVERHEAD + bodySize + optionsSize(options);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, size, true);
  fill(new DataView(bytes.buffer, 8, bodySize));
  writeOptions(bytes, 8 + bodySize, options);
  view.setUint32(size - 4, size, true);
  return bytes;
}

/**
 * Makes the parts of a block around a packet's bytes: the block is head, bytes, tail. So a large
 * message is written from where it is.
 *
 * @throws {RangeError} if the time is none of 64 bits, or the block is too large to be read again
 */
export function packetParts(
  { interfaceId, timeNs, tags, bytes, options }: PacketBlock,
): [head: Uint8Array, tail: Uint8Array] {
  if (timeNs < 0n || timeNs >= 1n << 64n) {
    throw new RangeError(
      `Cannot record a time of ${timeNs} ns: it takes 0 to 2^64-1; ` +
        "pass nanoseconds since the epoch",
    );
  }
  const length = tags.length + bytes.length;
  const pad = padded(length) - length;
  const size = BLOCK_OVERHEAD + PACKET_HEAD + length + pad + optionsSize(options);
  if (size > MAX_RECORDING_BLOCK) {
    const limit = `the limit is ${MAX_RECORDING_BLOCK}; shorten its data or its comment`;
    throw new RangeError(`Cannot record a message: its block has ${size} bytes, ${limit}`);
  }
  const head = new Uint8Array(8 + PACKET_HEAD + tags.length);
  const view = new DataView(head.buffer);
  view.setUint32(0, BlockType.PACKET, true);
  view.setUint32(4, size, true);
  view.setUint32(8, interfaceId, true);
  view.setUint32(12, Number(timeNs >> 32n), true);
  view.setUint32(16, Number(timeNs & 0xffff_ffffn), true);
  view.setUint32(20, length, true);
  view.setUint32(24, length, true);
  head.set(tags, 8 + PACKET_HEAD);
  const tail = new Uint8Array(pad + optionsSize(options) + 4);
  writeOptions(tail, pad, options);
  new DataView(tail.buffer).setUint32(tail.length - 4, size, true);
  return [head, tail];
}

/** Fields of a packet block that stands whole in a buffer, as a copy of one without bytes. */
export interface PlainPacket {
  /** Bytes of the block. */
  readonly size: number;
  /** The number of its interface. */
  readonly interfaceId: number;
  /** Nanoseconds since the epoch, below 2^64. */
  readonly timeNs: bigint;
  /** Bytes that the packet has beyond that of the copy. */
  readonly added: number;
}

/** The halves of a time: taking a bigint apart costs more. */
const timeWords = new Uint32Array(2);
const timeOf = new BigUint64Array(timeWords.buffer);

/** Sets the fields of the packet block at `at`. */
export function putPlainPacket(view: DataView, at: number, packet: PlainPacket): void {
  const { size, interfaceId, timeNs, added } = packet;
  timeOf[0] = timeNs;
  const length = view.getUint32(at + 20, true) + added;
  view.setUint32(at + 4, size, true);
  view.setUint32(at + 8, interfaceId, true);
  view.setUint32(at + 12, timeWords[1]!, true);
  view.setUint32(at + 16, timeWords[0]!, true);
  view.setUint32(at + 20, length, true);
  view.setUint32(at + 24, length, true);
  view.setUint32(at + size - 4, size, true);
}

function optionsSize(options: readonly BlockOption[]): number {
  if (options.length === 0) return 0;
  return options.reduce((sum, { value }) => sum + 4 + padded(value.length), 4);
}

function writeOptions(into: Uint8Array, at: number, options: readonly BlockOption[]): void {
  if (options.length === 0) return;
  const view = new DataView(into.buffer, into.byteOffset);
  for (const { code, value } of options) {
    view.setUint16(at, code, true);
    view.setUint16(at + 2, value.length, true);
    into.set(value, at + 4);
    at += 4 + padded(value.length);
  }
}

/**
 * The tags of a packet that a dissector of this name takes. They are big-endian in any file.
 *
 * @param port a number of 32 bits that the dissector finds as the sender's port
 */
export function dissectorTags(name: string, port?: number): Uint8Array {
  const value = new TextEncoder().encode(name);
  const portAt = 4 + padded(value.length);
  const tags = new Uint8Array(portAt + (port === undefined ? 0 : 8) + 4);
  const view = new DataView(tags.buffer);
  view.setUint16(0, TAG_DISSECTOR);
  view.setUint16(2, padded(value.length));
  tags.set(value, 4);
  if (port === undefined) return tags;
  view.setUint16(portAt, TAG_SOURCE_PORT);
  view.setUint16(portAt + 2, 4);
  view.setUint32(portAt + 4, port);
  return tags;
}

/** Blocks that are whole. */
export interface WholeBlocks {
  /** Their bytes. */
  readonly size: number;
  /** The number of them that are packets. */
  readonly packets: number;
}

/**
 * Finds the whole blocks at the start of little-endian ones that were cut.
 *
 * Contract: the bytes begin with a block, and its size and those of all others are true.
 */
export function wholeBlocks(bytes: Uint8Array): WholeBlocks {
  const view = viewOf(bytes);
  let [size, packets] = [0, 0];
  while (size + 8 <= bytes.length) {
    const next = view.getUint32(size + 4, true);
    if (size + next > bytes.length) break;
    if (view.getUint32(size, true) === BlockType.PACKET) packets++;
    size += next;
  }
  return { size, packets };
}

/** A block as it stands in a file. */
export interface Block {
  /** Its type. */
  readonly type: number;
  /** The offset in the file at which it begins. */
  readonly offset: number;
  /** The bytes between the lengths, a view. */
  readonly body: Uint8Array;
  /** True if its numbers are little-endian. */
  readonly isLittleEndian: boolean;
}

/** Cuts blocks out of bytes, and keeps the byte order of the section. */
export class BlockParser {
  #isLittleEndian: boolean | undefined;

  /**
   * The block at the start of `bytes`, or the number of bytes that are needed to say more.
   *
   * @param offset where in the file they are
   * @throws {PcapngError} if they can't be a block
   */
  next(bytes: Uint8Array, offset: number): Block | number {
    const view = viewOf(bytes);
    if (bytes.length < 4) return this.#least();
    // A section header reads the same in both orders.
    const isSection = view.getUint32(0, true) === BlockType.SECTION;
    if (!isSection && this.#isLittleEndian === undefined) throw noPcapng(bytes);
    const least = isSection ? BLOCK_OVERHEAD + 16 : BLOCK_OVERHEAD;
    if (bytes.length < least) return least;
    if (isSection) this.#isLittleEndian = byteOrder(view, offset);
    const isLittleEndian = this.#isLittleEndian!;
    const size = view.getUint32(4, isLittleEndian);
    if (size < least || size % 4 !== 0 || size > MAX_RECORDING_BLOCK) {
      throw new PcapngError(offset, `a block claims ${size} bytes, which can't be`);
    }
    if (bytes.length < size) return size;
    const again = view.getUint32(size - 4, isLittleEndian);
    if (again !== size) {
      throw new PcapngError(offset, `a block claims ${size} bytes ahead and ${again} behind`);
    }
    if (isSection && view.getUint16(12, isLittleEndian) !== 1) {
      const version = view.getUint16(12, isLittleEndian);
      throw new PcapngError(offset, `a section is of pcapng version ${version}; only 1 is known`);
    }
    const type = view.getUint32(0, isLittleEndian);
    return { type, offset, body: bytes.subarray(8, size - 4), isLittleEndian };
  }

  #least(): number {
    return this.#isLittleEndian === undefined ? 4 : BLOCK_OVERHEAD;
  }
}

function byteOrder(view: DataView, offset: number): boolean {
  if (view.getUint32(8, true) === BYTE_ORDER_MAGIC) return true;
  if (view.getUint32(8, false) === BYTE_ORDER_MAGIC) return false;
  throw new PcapngError(offset, "a section header has no byte order");
}

/** The beginnings of other files, and the remedy for each. */
const OTHER_FILES: readonly (readonly [magic: readonly number[], what: string])[] = [
  ...[[0xd4, 0xc3, 0xb2, 0xa1], [0xa1, 0xb2, 0xc3, 0xd4], [0x4d, 0x3c, 0xb2, 0xa1], [
    0xa1,
    0xb2,
    0x3c,
    0x4d,
  ]].map((magic) => [magic, "it is a pcap file; editcap makes a pcapng file of it"] as const),
  [[0x1f, 0x8b], "it is compressed; unpack it with gunzip"],
  [[0x28, 0xb5, 0x2f, 0xfd], "it is compressed; unpack it with unzstd"],
];

function noPcapng(bytes: Uint8Array): PcapngError {
  const known = OTHER_FILES.find(([magic]) => magic.every((each, i) => bytes[i] === each));
  return new PcapngError(undefined, known?.[1] ?? "it is no pcapng file; vfu record writes one");
}

/** A view of bytes for numbers. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** An interface of a section, as it is described. */
export interface Interface {
  /** The type of its packets. */
  readonly linkType: number;
  /** Its name; "" if it has none. */
  readonly name: string;
  /** Nanoseconds since the epoch of a time stamp. */
  timeNs(stamp: bigint): bigint;
}

/**
 * Reads the description of an interface.
 *
 * @throws {PcapngError} if it is cut, or its options are
 */
export function readInterface(block: Block): Interface {
  const { body, isLittleEndian } = block;
  if (body.length < 8) {
    throw new PcapngError(block.offset, "the description of an interface is cut");
  }
  let name = "";
  let resolution = 6; // microseconds, if nothing is said
  let offsetNs = 0n;
  for (const { code, value } of readOptions(block, 8)) {
    if (code === OptionCode.INTERFACE_NAME) name = new TextDecoder().decode(value);
    if (code === OptionCode.TIME_RESOLUTION && value.length === 1) resolution = value[0]!;
    if (code === OptionCode.TIME_OFFSET && value.length === 8) {
      offsetNs = viewOf(value).getBigInt64(0, isLittleEndian) * 1_000_000_000n;
    }
  }
  // The highest bit tells powers of 2 from powers of 10.
  const perSecond = resolution & 0x80 ? 2n ** BigInt(resolution & 0x7f) : 10n ** BigInt(resolution);
  const isPlain = perSecond === 1_000_000_000n && offsetNs === 0n;
  return {
    linkType: viewOf(body).getUint16(0, isLittleEndian),
    name,
    timeNs: isPlain ? (stamp) => stamp : (stamp) => stamp * 1_000_000_000n / perSecond + offsetNs,
  };
}

/** A packet as it stands in a file. */
export interface Packet {
  /** The number of its interface in the section. */
  readonly interfaceId: number;
  /** Its time, in the interface's unit. */
  readonly stamp: bigint;
  /** Its bytes, tags included: a view. */
  readonly data: Uint8Array;
  /** The offset of its options, in the body of the block. */
  readonly optionsAt: number;
}

/**
 * Reads an enhanced packet.
 *
 * @throws {PcapngError} if its lengths lie
 */
export function readPacket({ body, offset, isLittleEndian }: Block): Packet {
  if (body.length < PACKET_HEAD) throw new PcapngError(offset, "a packet is cut");
  const view = viewOf(body);
  const length = view.getUint32(12, isLittleEndian);
  if (length > body.length - PACKET_HEAD) {
    const room = body.length - PACKET_HEAD;
    throw new PcapngError(offset, `a packet claims ${length} bytes, its block has ${room}`);
  }
  const high = view.getUint32(4, isLittleEndian);
  return {
    interfaceId: view.getUint32(0, isLittleEndian),
    stamp: (BigInt(high) << 32n) | BigInt(view.getUint32(8, isLittleEndian)),
    data: body.subarray(PACKET_HEAD, PACKET_HEAD + length),
    optionsAt: PACKET_HEAD + padded(length),
  };
}

/**
 * The options of a block from byte `at` of its body on.
 *
 * @throws {PcapngError} if one ends after the block
 */
export function* readOptions(
  { body, offset, isLittleEndian }: Block,
  at: number,
): Generator<BlockOption> {
  const view = viewOf(body);
  while (at + 4 <= body.length) {
    const code = view.getUint16(at, isLittleEndian);
    const length = view.getUint16(at + 2, isLittleEndian);
    if (code === OptionCode.END) return;
    if (at + 4 + length > body.length) {
      const left = body.length - at - 4;
      throw new PcapngError(offset, `an option claims ${length} bytes, its block has ${left}`);
    }
    yield { code, value: body.subarray(at + 4, at + 4 + length) };
    at += 4 + padded(length);
  }
}

/**
 * The name of the dissector of a tagged packet, and the bytes behind the tags.
 *
 * @param offset where in the file the block is, for errors
 * @throws {PcapngError} if a tag ends after the packet
 */
export function readTags(
  data: Uint8Array,
  offset: number,
): { readonly dissector: string; readonly bytes: Uint8Array } {
  const view = viewOf(data);
  let dissector = "";
  for (let at = 0; at + 4 <= data.length;) {
    const tag = view.getUint16(at);
    const length = view.getUint16(at + 2);
    at += 4;
    if (at + length > data.length) break;
    const value = data.subarray(at, at + length);
    at += padded(length);
    if (tag === TAG_DISSECTOR) dissector = new TextDecoder().decode(value).replace(/\0+$/, "");
    if (tag === TAG_END) return { dissector, bytes: data.subarray(at) };
  }
  throw new PcapngError(offset, "the tags of a packet do not end");
}
