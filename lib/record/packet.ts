/**
 * Events as packets of a pcapng file.
 *
 * A message is a packet whose dissector is `vfio_user`: Wireshark shows it without help. What has
 * no bytes of a peer is a packet of `vfio_user_event`, JSON. An interface is one socket of one
 * client.
 *
 * @module
 */

import { joined } from "../base/bytes.ts";
import { RECORDING_BUFFER } from "../base/limits.ts";
import {
  type BareKind,
  FormError,
  readBareEvent,
  readTransferFacts,
  type TransferFacts,
  writeBareEvent,
  writeTransferFacts,
} from "./event_json.ts";
import { HEADER_SIZE, HeaderLayout, MessageFlags } from "../wire/header.ts";
import {
  type NewEvent,
  receivedBytes,
  type RecordedDirection,
  type RecordedEvent,
  type RecordedGarbage,
  type RecordedMessage,
  type RecordedSocket,
} from "./event.ts";
import {
  type Block,
  type BlockOption,
  dissectorTags,
  MAX_OPTION,
  OptionCode,
  type Packet,
  type PacketBlock,
  PcapngError,
  readOptions,
  readTags,
  viewOf,
} from "./pcapng.ts";

/** The dissector of messages. */
export const MESSAGE_DISSECTOR = "vfio_user";
/** The dissector of all other events. */
export const EVENT_DISSECTOR = "vfio_user_event";

const MESSAGE_TAGS = dissectorTags(MESSAGE_DISSECTOR);
const EVENT_TAGS = dissectorTags(EVENT_DISSECTOR);
const NO_BYTES = new Uint8Array();

/** Bits of a {@linkcode pairing}: there is one, and the recorder itself answers or did. */
export const PairingFlags = { SET: 0x2_0000, OWN: 0x1_0000 } as const;

/** The lowest two bits of a packet's flags, seen from the client. */
const INBOUND = 1;
const OUTBOUND = 2;
const DIRECTIONS: Readonly<Record<RecordedDirection, BlockOption>> = {
  "to-client": { code: OptionCode.PACKET_FLAGS, value: Uint8Array.of(INBOUND, 0, 0, 0) },
  "to-server": { code: OptionCode.PACKET_FLAGS, value: Uint8Array.of(OUTBOUND, 0, 0, 0) },
};

/** The name of the interface of one socket of a client. */
export function interfaceName(connection: number, socket: RecordedSocket): string {
  return `client ${connection} ${socket}`;
}

/**
 * Finds the client and socket that a name means; the first client's main socket for other names.
 */
export function interfaceOf(
  name: string,
): { readonly connection: number; readonly socket: RecordedSocket } {
  const match = /^client (\d{1,10}) (main|twin)$/.exec(name);
  if (match === null) return { connection: 0, socket: "main" };
  return { connection: Number(match[1]), socket: match[2] as RecordedSocket };
}

/**
 * An event as a packet of the interface with a number.
 *
 * @throws {RangeError} if it has a number that would not be read again
 */
export function packetOf(event: NewEvent, interfaceId: number): PacketBlock {
  try {
    return packetBlock(event, interfaceId);
  } catch (error) {
    if (!(error instanceof FormError)) throw error;
    throw new RangeError(`Cannot record an event: it ${error.message}`);
  }
}

function packetBlock(event: NewEvent, interfaceId: number): PacketBlock {
  const { timeNs, comment } = event;
  const options = comment === undefined ? [] : [commentOption(comment)];
  if (event.kind !== "message" && event.kind !== "garbage") {
    const bytes = new TextEncoder().encode(writeBareEvent(event));
    return { interfaceId, timeNs, tags: EVENT_TAGS, bytes, options };
  }
  options.push(DIRECTIONS[event.direction], ...factOptions(event));
  const pair = event.kind === "message" ? pairing(event) : undefined;
  const tags = pair === undefined ? MESSAGE_TAGS : dissectorTags(MESSAGE_DISSECTOR, pair);
  return { interfaceId, timeNs, tags, bytes: event.bytes, options };
}

/**
 * The number by which a dissector finds request and reply that have different ids, or the same as
 * others. A recorder assigns own ids to requests of its side socket, and answers some itself.
 * Undefined for all other messages.
 */
function pairing(event: NewEvent<RecordedMessage>): number | undefined {
  const { bytes, origin } = event;
  if (bytes.length < HEADER_SIZE) return undefined;
  const own = HeaderLayout.decode(bytes);
  let [id, isOwn] = [own.messageId, origin === "recorder"];
  if ((own.flags & MessageFlags.TYPE_MASK) === MessageFlags.COMMAND) {
    const received = receivedBytes(event);
    isOwn = received === null || received.length < HEADER_SIZE;
    if (!isOwn) id = HeaderLayout.decode(received!).messageId;
  }
  if (id === own.messageId && !isOwn) return undefined;
  return PairingFlags.SET | (isOwn ? PairingFlags.OWN : 0) | id;
}

/** A comment, as much of it as an option holds. */
function commentOption(comment: string): BlockOption {
  const whole = new TextEncoder().encode(comment);
  if (whole.length <= MAX_OPTION) return { code: OptionCode.COMMENT, value: whole };
  const { written } = new TextEncoder().encodeInto(comment, whole.subarray(0, MAX_OPTION));
  return { code: OptionCode.COMMENT, value: whole.subarray(0, written) };
}

/** Nothing for a message that is plain: most are. */
function factOptions(event: NewEvent & { kind: "message" | "garbage" }): BlockOption[] {
  const { kind, descriptors, passedOn } = event;
  const origin = event.kind === "message" ? event.origin : "peer";
  const isPlain = kind === "message" && origin === "peer" && passedOn === undefined &&
    descriptors.length === 0;
  if (isPlain) return [];
  const receiver = passedOn === undefined ? "same" : passedOn === null ? "none" : "altered";
  const facts = writeTransferFacts({ kind, origin, receiver, descriptors });
  return [
    ...chunks(OptionCode.FACTS, new TextEncoder().encode(facts)),
    ...chunks(OptionCode.PASSED_ON, passedOn ?? NO_BYTES),
  ];
}

/** Bytes as options that follow one another. */
function chunks(code: number, bytes: Uint8Array): BlockOption[] {
  const options: BlockOption[] = [];
  for (let at = 0; at < bytes.length; at += MAX_OPTION) {
    options.push({ code, value: bytes.subarray(at, at + MAX_OPTION) });
  }
  return options;
}

const PLAIN: TransferFacts = { kind: "message", origin: "peer", receiver: "same", descriptors: [] };

/** The facts of a packet beside its bytes. */
export interface PacketPlace {
  /** Nanoseconds since the epoch. */
  readonly timeNs: bigint;
  /** The number of its event. */
  readonly index: number;
  /** The client. */
  readonly connection: number;
  /** The client's socket. */
  readonly socket: RecordedSocket;
}

/**
 * The event of a packet; undefined if the packet is of another program, or of an event that later
 * versions have. Small messages are copies,
 * so that they don't hold what was read with them; large ones are views of the block.
 *
 * @throws {PcapngError} if its lengths lie, or if it is no event
 */
export function eventOf(
  block: Block,
  { data, optionsAt }: Packet,
  place: PacketPlace,
): RecordedEvent | undefined {
  const { offset } = block;
  const { dissector, bytes } = readTags(data, offset);
  if (dissector !== MESSAGE_DISSECTOR && dissector !== EVENT_DISSECTOR) return undefined;
  const options = readPacketOptions(block, optionsAt);
  const { comment } = options;
  const base = { ...place, ...(comment !== undefined && { comment }) };
  try {
    if (dissector === EVENT_DISSECTOR) {
      const event = readBareEvent(new TextDecoder().decode(bytes));
      return event && { ...base, ...event } as RecordedEvent & { kind: BareKind };
    }
    return transferOf(base, bytes, options);
  } catch (error) {
    if (!(error instanceof FormError)) throw error;
    throw new PcapngError(offset, `an event ${error.message}`);
  }
}

function transferOf(
  base: PacketPlace,
  bytes: Uint8Array,
  { direction, facts, passedOn }: PacketOptions,
): RecordedMessage | RecordedGarbage {
  const { kind, origin, receiver, descriptors } = facts.length === 0
    ? PLAIN
    : readTransferFacts(new TextDecoder().decode(joined(facts)));
  const transfer = {
    ...base,
    direction,
    bytes: bytes.length < RECORDING_BUFFER ? bytes.slice() : bytes,
    ...(receiver === "none" && { passedOn: null }),
    ...(receiver === "altered" && { passedOn: joined(passedOn) }),
    descriptors,
  };
  return kind === "garbage" ? { kind, ...transfer } : { kind, origin, ...transfer };
}

interface PacketOptions {
  direction: RecordedDirection;
  comment: string | undefined;
  readonly facts: Uint8Array[];
  readonly passedOn: Uint8Array[];
}

function readPacketOptions(block: Block, at: number): PacketOptions {
  const found: PacketOptions = {
    direction: "to-server",
    comment: undefined,
    facts: [],
    passedOn: [],
  };
  for (const { code, value } of readOptions(block, at)) {
    if (code === OptionCode.FACTS) found.facts.push(value);
    if (code === OptionCode.PASSED_ON) found.passedOn.push(value);
    if (code === OptionCode.COMMENT) {
      const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(value);
      found.comment = found.comment === undefined ? text : `${found.comment}\n${text}`;
    }
    if (code === OptionCode.PACKET_FLAGS && value.length === 4) {
      const flags = viewOf(value).getUint32(0, block.isLittleEndian);
      found.direction = (flags & 3) === INBOUND ? "to-client" : "to-server";
    }
  }
  return found;
}
