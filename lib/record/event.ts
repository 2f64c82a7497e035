/**
 * A recording as typed events: what a client and a server said, and what happened beside it.
 *
 * @module
 */

/** A socket of a connection: `twin` is the second one, for what the server asks. */
export type RecordedSocket = "main" | "twin";

/** The way of a message: to the device's server, or to its client, the VMM. */
export type RecordedDirection = "to-server" | "to-client";

/**
 * The author of a message: one of the two peers, a command at the side socket, or the recorder
 * itself. A reply has the origin of its request, but for those that the recorder makes.
 */
export type RecordedOrigin = "peer" | "side" | "recorder";

/** The kinds of descriptors that a recording tells apart. */
export const DESCRIPTOR_KINDS = [
  "memfd",
  "file",
  "eventfd",
  "pipe",
  "socket",
  "device",
  "other",
] as const;

/** The kind of a descriptor. */
export type DescriptorKind = typeof DESCRIPTOR_KINDS[number];

/** Seals of a memfd, as fcntl(2) names them. */
export const SEALS = ["seal", "shrink", "grow", "write", "future-write", "exec"] as const;

/** A seal of a memfd. */
export type Seal = typeof SEALS[number];

/** A descriptor that came with a message, in the order in which they came. */
export interface RecordedDescriptor {
  /** Its kind. */
  readonly kind: DescriptorKind;
  /** Bytes of its file; null if it is none. */
  readonly size: bigint | null;
  /** Seals of a memfd; empty for all others. */
  readonly seals: readonly Seal[];
  /** Accesses that it allows; null if that is unknown. */
  readonly access: "r" | "w" | "rw" | null;
  /** Device and inode, as "1:4711": equal for descriptors of one file. Null if unknown. */
  readonly identity: string | null;
  /** The descriptor that the receiver got: the same, another one of the recorder's, or none. */
  readonly fate: "passed" | "replaced" | "withheld";
}

/** The fields of all events. */
export interface RecordedEventBase {
  /** Nanoseconds since the epoch. */
  readonly timeNs: bigint;
  /** Number of the event in its file, from 0. */
  readonly index: number;
  /** Number of the client, from 0: a recorder serves one after another. */
  readonly connection: number;
  /** The socket that it came over. */
  readonly socket: RecordedSocket;
  /** A comment for a person; Wireshark shows it. */
  readonly comment?: string;
}

/** Bytes that one side sent, and what became of them. */
export interface RecordedTransfer extends RecordedEventBase {
  /** Their way. */
  readonly direction: RecordedDirection;
  /** The bytes as their sender sent them; of what the recorder made, as it made them. */
  readonly bytes: Uint8Array;
  /** The bytes as the receiver got them if they were altered; null if the recorder kept them. */
  readonly passedOn?: Uint8Array | null;
  /** Descriptors that came along. */
  readonly descriptors: readonly RecordedDescriptor[];
}

/** A whole message, header included. */
export interface RecordedMessage extends RecordedTransfer {
  /** The kind of event. */
  readonly kind: "message";
  /** Its author. */
  readonly origin: RecordedOrigin;
}

/** Bytes that are no message: a size that can't be, or an end in the middle. */
export interface RecordedGarbage extends RecordedTransfer {
  /** The kind of event. */
  readonly kind: "garbage";
}

/** Signals on the descriptors of interrupts. */
export interface RecordedInterrupt extends RecordedEventBase {
  /** The kind of event. */
  readonly kind: "interrupt";
  /** The IRQ index: 2 is MSI-X. */
  readonly irq: number;
  /** The vector in it. */
  readonly vector: number;
  /** Signals that came together: the value of the eventfd. */
  readonly count: bigint;
  /** `trigger` goes to the client, the others to the server. */
  readonly action: "trigger" | "mask" | "unmask";
}

/** Signals on a descriptor that stands in for a part of a region. */
export interface RecordedIoeventfd extends RecordedEventBase {
  /** The kind of event. */
  readonly kind: "ioeventfd";
  /** The region index. */
  readonly region: number;
  /** Bytes from the start of the region. */
  readonly offset: bigint;
  /** Bytes of the write; 0 for any. */
  readonly size: number;
  /** Signals that came together. */
  readonly count: bigint;
}

/** A socket of a connection that is there from now on. */
export interface RecordedOpen extends RecordedEventBase {
  /** The kind of event. */
  readonly kind: "open";
  /** The client's process, as "qemu-system-x86 (4711)"; null if unknown. */
  readonly client: string | null;
  /** The server's process or path; null if unknown. */
  readonly server: string | null;
}

/** The end of a connection's socket. */
export interface RecordedEnd extends RecordedEventBase {
  /** The kind of event. */
  readonly kind: "end";
  /** The side that ended it. */
  readonly side: "client" | "server" | "recorder";
  /**
   * `left`: between two messages; `cut`: in the middle of one; `failed`: the socket failed;
   * `stopped`: the recorder was asked to end.
   */
  readonly reason: "left" | "cut" | "failed" | "stopped";
  /** The reason in words. */
  readonly text: string;
}

/** A remark of the recorder, such as what it alters from now on. */
export interface RecordedNote extends RecordedEventBase {
  /** The kind of event. */
  readonly kind: "note";
  /** The remark. */
  readonly text: string;
}

/** An event of a recording. `kind` tells which. */
export type RecordedEvent =
  | RecordedMessage
  | RecordedGarbage
  | RecordedInterrupt
  | RecordedIoeventfd
  | RecordedOpen
  | RecordedEnd
  | RecordedNote;

/** An event before it is written: its number is its place in the file. */
export type NewEvent<E extends RecordedEvent = RecordedEvent> = E extends RecordedEvent
  ? Omit<E, "index">
  : never;

/**
 * The bytes of a message as its receiver got them; null if the recorder kept them.
 *
 * @example
 * ```ts
 * import { receivedBytes } from "./event.ts";
 *
 * const bytes = new Uint8Array(16);
 * console.assert(receivedBytes({ bytes }) === bytes);
 * console.assert(receivedBytes({ bytes, passedOn: null }) === null);
 * ```
 */
export function receivedBytes(
  { bytes, passedOn }: Pick<RecordedTransfer, "bytes" | "passedOn">,
): Uint8Array | null {
  return passedOn === undefined ? bytes : passedOn;
}
