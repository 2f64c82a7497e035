/**
 * The server's end of an ioregionfd: a socket that carries accesses to a part of a region, as KVM's
 * patches for `KVM_SET_IOREGION` define them.
 *
 * A command has 32 bytes: what to do, user data, offset, data. Two forms of the first word exist.
 * One has all bits in a byte; the other has the command in a byte, and the rest in the next. A
 * response has 32 bytes as well, of which the first 8 are the data.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { EAGAIN, EINTR } from "../../ffi/errno.ts";
import { POLLIN } from "../../ffi/event.ts";
import { closeAll, OwnedFd } from "../../ffi/fd.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import { UnixSocket } from "../../ffi/socket.ts";

/** Bytes of a command, and of a response. */
const MESSAGE_SIZE = 32;
const OFFSET_AT = 16;
const DATA_AT = 24;
const READ = 0;
const WRITE = 1;

/** An access that came over the socket. */
export interface IoRegionCommand {
  readonly isWrite: boolean;
  /** Bytes from the start of the part. */
  readonly offset: bigint;
  /** Bytes: 1, 2, 4 or 8. */
  readonly size: number;
  /** The value of a write. */
  readonly data: bigint;
  /** True if the client waits for a response. */
  readonly wantsResponse: boolean;
}

/**
 * Decodes a command.
 *
 * @returns undefined if there is no such command
 *
 * @example
 * ```ts
 * import { decodeIoRegionCommand } from "./io_region.ts";
 *
 * const command = new Uint8Array(32);
 * command[0] = 0x61; // write, 4 bytes, with a response
 * const decoded = decodeIoRegionCommand(command);
 * console.assert(decoded?.isWrite && decoded.size === 4 && decoded.wantsResponse);
 * ```
 */
export function decodeIoRegionCommand(bytes: Uint8Array): IoRegionCommand | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, MESSAGE_SIZE);
  const [low, high] = [view.getUint8(0), view.getUint8(1)];
  const isApart = high !== 0; // the later form
  const command = isApart ? low : low & 0xf;
  const exponent = isApart ? high & 0xf : low >> 4 & 3;
  const responds = isApart ? high >> 4 & 1 : low >> 6 & 1;
  if ((command !== READ && command !== WRITE) || exponent > 3) return undefined;
  return {
    isWrite: command === WRITE,
    offset: view.getBigUint64(OFFSET_AT, true),
    size: 1 << exponent,
    data: view.getBigUint64(DATA_AT, true),
    wantsResponse: command === READ || responds === 1,
  };
}

/** Does an access; returns the value of a read. Never rejected. */
export type DoIoRegion = (command: IoRegionCommand) => Promise<bigint>;

/**
 * Takes commands from a socket, one at a time, and answers them. A client that sends no command, or
 * takes no responses, finds the end of the stream, and is not listened to any more.
 */
export class IoRegionSocket implements Disposable {
  /** The client's end. */
  readonly fd: OwnedFd;
  readonly #socket: UnixSocket;
  readonly #act: DoIoRegion;
  readonly #command = new IoBuffer(MESSAGE_SIZE);
  readonly #response = new IoBuffer(MESSAGE_SIZE);
  #length = 0; // of the command, as far as it has come
  #watch: Watch | undefined;

  /** @throws {SystemError} if there are no sockets left */
  constructor(act: DoIoRegion) {
    const [ours, theirs] = UnixSocket.pair();
    this.#socket = ours;
    this.fd = new OwnedFd(theirs.release());
    this.#act = act;
    this.#listen();
  }

  #listen(): void {
    this.#watch = watch(this.#socket.fd, POLLIN, () => this.#receive());
  }

  #receive(): void {
    const left = MESSAGE_SIZE - this.#length;
    const came = this.#socket.receive(this.#command, this.#length, left);
    closeAll(this.#socket.receivedFds);
    if (came === -EAGAIN || came === -EINTR) return;
    if (came <= 0) return this.#end();
    this.#length += came;
    if (this.#length < MESSAGE_SIZE) return;
    this.#length = 0;
    const command = decodeIoRegionCommand(this.#command.bytes);
    if (command === undefined) return this.#end();
    // The next command waits in the socket, so that nothing piles up here.
    this.#stop();
    this.#answer(command);
  }

  async #answer(command: IoRegionCommand): Promise<void> {
    const value = await this.#act(command);
    if (!this.#socket.isOpen) return;
    if (command.wantsResponse) {
      this.#response.view.setBigUint64(0, command.isWrite ? 0n : value, true);
      if (this.#socket.send(this.#response, 0, MESSAGE_SIZE) !== MESSAGE_SIZE) return this.#end();
    }
    this.#listen();
  }

  #end(): void {
    this.#stop();
    this.#socket.shutdown();
  }

  #stop(): void {
    this.#watch?.close();
    this.#watch = undefined;
  }

  /** Closes both ends. */
  [Symbol.dispose](): void {
    this.#stop();
    this.#socket.close();
    this.fd.close();
  }
}
