/**
 * A server that answers as the test says: every request goes to a function, at once and in order.
 * Without one it is well-behaved: {@linkcode answerWell}.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { POLLIN } from "../../ffi/event.ts";
import { type Watch, watch } from "../../ffi/poller.ts";
import { connect, type ConnectOptions } from "../../lib/client/connect.ts";
import type { Device } from "../../lib/client/device.ts";
import { RegionReadReply, RegionReadRequest } from "../../lib/wire/access.ts";
import { Command } from "../../lib/wire/command.ts";
import { DeviceFlags, DeviceInfoReply } from "../../lib/wire/device.ts";
import { HeaderLayout, MessageFlags } from "../../lib/wire/header.ts";
import { IrqFlags, IrqInfoReply, IrqInfoRequest } from "../../lib/wire/irq.ts";
import { encodeRegionInfo, PciRegion, RegionInfoRequest } from "../../lib/wire/region.ts";
import { encodeVersion } from "../../lib/wire/version.ts";
import { RawPeer } from "../_raw_peer.ts";
import { PATIENT } from "../_until.ts";

/** A request as it came. */
export interface ScriptedRequest {
  readonly messageId: number;
  readonly command: number;
  readonly payload: Uint8Array;
}

/** The answer of a well-behaved server: bytes of the payload, and descriptors. */
export interface ScriptedAnswer {
  payload: Uint8Array;
  fds?: readonly OwnedFd[];
}

/** Does with a request what the test wants. `index` counts the requests, VERSION is 0. */
export type Script = (peer: RawPeer, request: ScriptedRequest, index: number) => void;

/** Bytes of configuration space of the well-behaved server. */
export const CONFIG_SIZE = 32;

/**
 * The answer of a well-behaved server; region 0 says that it can be mapped, with the descriptor
 * `memory`.
 */
export function answerWell(request: ScriptedRequest, memory?: OwnedFd): ScriptedAnswer {
  const { command, payload } = request;
  switch (command) {
    case Command.VERSION:
      return { payload: encodeVersion({ major: 0, minor: 1, capabilities: { maxMsgFds: 8 } }) };
    case Command.DEVICE_GET_INFO: {
      const flags = DeviceFlags.PCI | DeviceFlags.RESET;
      return { payload: DeviceInfoReply.encode({ argsz: 16, flags, numRegions: 9, numIrqs: 5 }) };
    }
    case Command.DEVICE_GET_REGION_INFO:
      return answerRegionInfo(payload, memory);
    case Command.DEVICE_GET_IRQ_INFO: {
      const { index } = IrqInfoRequest.decode(payload);
      return {
        payload: IrqInfoReply.encode({ argsz: 16, flags: IrqFlags.EVENTFD, index, count: 1 }),
      };
    }
    case Command.REGION_READ: {
      const { region, offset, count } = RegionReadRequest.decode(payload);
      const data = Uint8Array.from({ length: count }, (_, i) => Number(offset) + i);
      return { payload: RegionReadReply.encode({ region, offset, data }) };
    }
    default:
      return { payload: new Uint8Array() };
  }
}

function answerRegionInfo(payload: Uint8Array, memory: OwnedFd | undefined): ScriptedAnswer {
  const { index, argsz } = RegionInfoRequest.decode(payload);
  const isMemory = index === PciRegion.BAR0 && memory !== undefined;
  const size = isMemory ? 0x3000n : index === PciRegion.CONFIG ? BigInt(CONFIG_SIZE) : 0n;
  const areas = [{ offset: 0x1000n, size: 0x1000n }];
  const info = {
    index,
    flags: isMemory ? 7 : 3,
    size,
    offset: 0n,
    capabilities: isMemory ? [{ kind: "sparse_mmap" as const, version: 1, areas }] : [],
  };
  const reply = { payload: encodeRegionInfo(info, argsz) };
  return isMemory && argsz > 32 ? { ...reply, fds: [memory] } : reply;
}

/** Drives the server's end of a connection. */
export class ScriptedServer implements Disposable {
  readonly #script: Script;
  readonly #buffer = new IoBuffer(1 << 16);
  #watch: Watch | undefined;
  #received = new Uint8Array();
  #count = 0;

  constructor(readonly peer: RawPeer, script: Script) {
    this.#script = script;
    this.#watch = watch(peer.socket.fd, POLLIN, () => this.#onReady());
  }

  /** Requests that came. */
  get count(): number {
    return this.#count;
  }

  #onReady(): void {
    const { socket } = this.peer;
    const count = socket.receive(this.#buffer, 0, this.#buffer.length);
    closeAll(socket.receivedFds);
    if (count <= 0) return this.stop();
    const joined = new Uint8Array(this.#received.length + count);
    joined.set(this.#received);
    joined.set(this.#buffer.bytes.subarray(0, count), this.#received.length);
    this.#received = joined;
    while (this.#received.length >= 16 && this.#watch !== undefined) {
      const { size, messageId, command, flags } = HeaderLayout.decode(this.#received);
      if (this.#received.length < size) break;
      const payload = this.#received.slice(16, size);
      this.#received = this.#received.slice(size);
      if ((flags & MessageFlags.TYPE_MASK) !== MessageFlags.COMMAND) continue;
      this.#script(this.peer, { messageId, command, payload }, this.#count++);
    }
  }

  /** Reads no more. */
  stop(): void {
    this.#watch?.close();
    this.#watch = undefined;
  }

  /** Closes the connection. */
  close(): void {
    this.stop();
    this.peer.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * A server on a socket pair that answers well where `script` returns false, and the device behind
 * it.
 */
export async function connectScripted(
  script: (peer: RawPeer, request: ScriptedRequest, index: number) => boolean | void,
  options: ConnectOptions = {},
): Promise<[Device, ScriptedServer]> {
  const [peer, socket] = RawPeer.pair();
  const server = new ScriptedServer(peer, (peer, request, index) => {
    if (script(peer, request, index) !== false) return;
    const { payload, fds } = answerWell(request);
    try {
      peer.reply(request, payload, fds);
    } catch { /* the client has gone, or the script has ended the connection */ }
  });
  return [await connect(socket.release(), { ...PATIENT, ...options }), server];
}
