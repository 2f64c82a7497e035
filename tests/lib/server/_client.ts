/**
 * A client by hand for a server under test, and a device whose hooks the test sets.
 *
 * @module
 */

import { POLLIN, PollSet } from "../../../ffi/event.ts";
import { assertEquals } from "@std/assert";
import type { OwnedFd } from "../../../ffi/fd.ts";
import { ServerConnection } from "../../../lib/server/connection.ts";
import type {
  DeviceBus,
  ServedDevice,
  ServedIoFd,
  ServedIrq,
  ServedRegion,
} from "../../../lib/server/served_device.ts";
import type { DmaOptions } from "../../../lib/server/client_memory.ts";
import { Offer, type ServerOffer } from "../../../lib/server/offer.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { RegionFlags } from "../../../lib/wire/region.ts";
import { type Capabilities, encodeVersion } from "../../../lib/wire/version.ts";
import { RawPeer } from "../../_raw_peer.ts";

/** A region of bytes. */
export class BytesRegion implements ServedRegion {
  readonly bytes: Uint8Array;
  ioFds: ServedIoFd[] = [];

  constructor(
    readonly size: number,
    readonly flags: number = RegionFlags.READ | RegionFlags.WRITE,
  ) {
    this.bytes = new Uint8Array(size);
    for (let i = 0; i < size; i++) this.bytes[i] = i;
  }

  read(offset: number, into: Uint8Array): void | Promise<void> {
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  write(offset: number, data: Uint8Array): void | Promise<void> {
    this.bytes.set(data, offset);
  }
}

/**
 * A device with region 0 of 4 KiB and a region of 2 MiB. Region 1 can only be read, region 2 can
 * only be written.
 */
export class TestDevice implements ServedDevice {
  readonly flags = 3;
  readonly bar0: BytesRegion = new BytesRegion(4096);
  readonly regions: (ServedRegion | undefined)[] = [
    this.bar0,
    new BytesRegion(64, RegionFlags.READ),
    new BytesRegion(64, RegionFlags.WRITE),
    new BytesRegion(2 << 20),
    undefined,
  ];
  readonly irqs: ServedIrq[] = [{ flags: 1, count: 1 }, { flags: 9, count: 4 }];
  resets = 0;
  closes = 0;
  /** The bus of the client that is connected. */
  bus: DeviceBus | undefined;
  disconnects = 0;

  connected(bus: DeviceBus): void {
    this.bus = bus;
  }

  disconnected(): void {
    this.bus = undefined;
    this.disconnects++;
  }

  reset(): void | Promise<void> {
    this.resets++;
  }

  close(): void {
    this.closes++;
  }
}

/** A connection of a server to a client by hand. */
export interface Served extends Disposable {
  readonly device: TestDevice;
  readonly peer: RawPeer;
  readonly connection: ServerConnection;
  /** Why the connection ended, when it has. */
  readonly closed: Promise<Error | undefined>;
  /** The errors that device hooks threw. */
  readonly errors: [error: unknown, doing: string][];
}

/** The device that is served, and the options of its server. */
export interface ServeOptions extends DmaOptions, ServerOffer {
  quiesceTimeoutMs?: number;
  device?: TestDevice;
  handshakeTimeoutMs?: number;
}

/** Serves a device to a client by hand, which has said nothing yet. */
export function serve(options: ServeOptions = {}): Served {
  const { device = new TestDevice() } = options;
  const [peer, socket] = RawPeer.pair();
  const errors: [unknown, string][] = [];
  const { promise: closed, resolve } = Promise.withResolvers<Error | undefined>();
  const connection = new ServerConnection(socket, device, {
    ...options,
    offer: new Offer(options),
    onError: (error, doing) => errors.push([error, doing]),
    onClose: resolve,
  });
  return {
    device,
    peer,
    connection,
    closed,
    errors,
    [Symbol.dispose]() {
      connection.close();
      peer.close();
    },
  };
}

/** The same after VERSION. */
export async function serveNegotiated(
  options: ServeOptions & { capabilities?: Capabilities } = {},
): Promise<Served> {
  const served = serve(options);
  await negotiate(served.peer, options.capabilities);
  return served;
}

/** Agrees on a version. */
export async function negotiate(
  peer: RawPeer,
  capabilities: Capabilities = {},
): Promise<Uint8Array> {
  const reply = await ask(
    peer,
    Command.VERSION,
    encodeVersion({ major: 0, minor: 2, capabilities }),
  );
  assertEquals(reply.errno, 0);
  return reply.payload;
}

/** A reply; `errno` is 0 unless it is an error reply. */
export interface Reply {
  errno: number;
  payload: Uint8Array;
  fds: OwnedFd[];
}

let nextId = 100;

/** Sends a command and gives its reply. */
export async function ask(
  peer: RawPeer,
  command: number,
  payload?: Uint8Array,
  fds?: readonly OwnedFd[],
): Promise<Reply> {
  const id = nextId++ & 0xffff;
  peer.command(id, command, payload, fds);
  const reply = await peer.expect(command);
  assertEquals(reply.messageId, id);
  const isError = reply.flags === (MessageFlags.REPLY | MessageFlags.ERROR);
  if (!isError) assertEquals([reply.flags, reply.error], [MessageFlags.REPLY, 0]);
  else assertEquals([reply.size, reply.fds.length], [16, 0]);
  return { errno: isError ? reply.error : 0, payload: reply.payload, fds: reply.fds };
}

/** 16 bytes and data: a region access. */
export function access(
  offset: bigint,
  region: number,
  count: number,
  data: number[] = [],
): Uint8Array {
  const bytes = new Uint8Array(16 + data.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, offset, true);
  view.setUint32(8, region, true);
  view.setUint32(12, count, true);
  bytes.set(data, 16);
  return bytes;
}

/** The same command again and again, with message ids from 0, as one segment. */
export function commands(count: number, command: number, payload: Uint8Array): Uint8Array {
  const size = 16 + payload.length;
  const bytes = new Uint8Array(count * size);
  for (let messageId = 0; messageId < count; messageId++) {
    bytes.set(encodeMessage({ messageId, command }, payload), messageId * size);
  }
  return bytes;
}

/** Little-endian 32-bit words. */
export function words(...values: number[]): Uint8Array {
  return new Uint8Array(new Uint32Array(values).buffer);
}

/** The next turn of the event loop, or some milliseconds. */
export function sleep(ms = 0): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Tells whether a descriptor has something to read: for an eventfd, signals that are not heard. */
export function isReadable(fd: number): boolean {
  const set = new PollSet();
  set.add(fd, POLLIN);
  return set.wait(0) > 0;
}
