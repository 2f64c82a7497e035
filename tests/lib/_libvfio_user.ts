/**
 * A server that behaves as libvfio-user of 2026 was measured to. It has the table of what is served
 * in which state, short and padded answers of migration data, and its log of dirty pages.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { closeAll } from "../../ffi/fd.ts";
import { EINVAL, ENOENT, ENOTSUP } from "../../ffi/errno.ts";
import type { IncomingRequest } from "../../lib/transport/incoming.ts";
import type { VfioProxy } from "../../lib/transport/proxy.ts";
import { migrationPath } from "../../lib/server/migration.ts";
import {
  RegionAccessLayout,
  RegionReadRequest,
  RegionWriteRequest,
} from "../../lib/wire/access.ts";
import { Command } from "../../lib/wire/command.ts";
import { DeviceFlags, DeviceInfoReply } from "../../lib/wire/device.ts";
import { DmaMapRequest, DmaUnmapRequest } from "../../lib/wire/dma.ts";
import {
  DeviceFeatureReply,
  DeviceFeatureRequest,
  DeviceState,
  DeviceStateData,
  DmaLoggingReportData,
  DmaLoggingStartData,
  Feature,
  FeatureFlags,
  MigrationData,
} from "../../lib/wire/feature.ts";
import { IrqInfoReply, IrqInfoRequest } from "../../lib/wire/irq.ts";
import {
  MigDataReadRequest,
  MigDataReplyLayout,
  MigDataWriteRequest,
} from "../../lib/wire/migration.ts";
import { encodeRegionInfo, PciRegion, RegionInfoRequest } from "../../lib/wire/region.ts";
import { encodeVersion } from "../../lib/wire/version.ts";
import { serveOddly } from "../cli/_server.ts";

const { STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY } = DeviceState;
const { GET, SET, INDEX_MASK } = FeatureFlags;

/** Commands that are served while a device does not work; all others get EINVAL. */
const SERVED: Readonly<Record<number, readonly number[]>> = {
  [STOP]: [Command.REGION_READ, Command.REGION_WRITE, Command.DEVICE_FEATURE],
  [STOP_COPY]: [Command.DEVICE_FEATURE, Command.MIG_DATA_READ],
};

/** The most bytes that the server takes in one write: a longer write may be lost. */
const MAX_WRITE = 32 << 10;

interface ModelMap {
  readonly address: bigint;
  readonly size: bigint;
}

/** A device of libvfio-user with a configuration space, that migrates. */
export class LibvfioUser implements Disposable {
  /** The configuration space: 1b36:1234, subsystem 1af4:1100, revision 2. */
  readonly config: Uint8Array = new Uint8Array(256);
  /** The state that MIG_DATA_READ returns and MIG_DATA_WRITE replaces. */
  state: Uint8Array = new Uint8Array();
  /** The bytes of `state` that PRE_COPY saves. */
  preCopied = 0;
  /** Returns the number of bytes that the device's callback delivers, of those that are wanted. */
  give: (wanted: number) => number = (wanted) => wanted;
  /** Replaces an answer to MIG_DATA_READ by an error. */
  failRead: (at: number) => number | undefined = () => undefined;
  /** A command that is always refused. */
  refuses: number | undefined;
  /** The most that one MIG_DATA_READ may ask for: a device asserts on more. */
  largestRead: number = Infinity;
  /** Replaces an answer to DMA_LOGGING_REPORT by an error. */
  failReport: (iova: bigint) => number | undefined = () => undefined;
  /** Called when configuration space was written. */
  onWrite: () => void = () => {};
  /** The state of the device. */
  migrationState: number = RUNNING;
  /** The commands that came, VERSION apart. */
  readonly commands: number[] = [];
  /** The states that were set. */
  readonly states: number[] = [];
  /** Bytes that MIG_DATA_READ was asked for. */
  readonly asked: number[] = [];
  /** Pages that the device has written through shared memory, by address. */
  readonly dirty = new Set<bigint>();
  /** The client, once there is one. */
  client: VfioProxy | undefined;
  readonly #maps: ModelMap[] = [];
  readonly #server: Disposable;
  #pageSize: bigint | undefined; // of the log, while it is on
  #at = 0;
  #written: number[] = [];

  /** Listens. */
  constructor(readonly path: string, readonly version: { minPageSize?: bigint } = {}) {
    const view = new DataView(this.config.buffer);
    view.setUint32(0, 0x1234_1b36, true);
    view.setUint32(8, 0x0108_0202, true);
    view.setUint32(0x2c, 0x1100_1af4, true);
    this.#server = serveOddly(path, (request) => this.#answer(request), (client) => {
      this.client = client;
    });
  }

  [Symbol.dispose](): void {
    this.#server[Symbol.dispose]();
  }

  #answer(request: IncomingRequest): void {
    const { command, payload } = request;
    if (command === Command.VERSION) return this.#negotiate(request);
    this.commands.push(command);
    const served = SERVED[this.migrationState];
    if (served !== undefined && !served.includes(command)) return request.fail(EINVAL);
    if (command === this.refuses) return request.fail(EINVAL);
    switch (command) {
      case Command.DEVICE_GET_INFO: {
        const info = { argsz: 16, flags: DeviceFlags.PCI | DeviceFlags.RESET, numRegions: 9 };
        return request.reply(DeviceInfoReply.encode({ ...info, numIrqs: 5 }));
      }
      case Command.DEVICE_GET_REGION_INFO: {
        const { index, argsz } = RegionInfoRequest.decode(payload);
        const size = index === PciRegion.CONFIG ? 256n : 0n;
        const info = { index, flags: 3, size, offset: 0n, capabilities: [] };
        return request.reply(encodeRegionInfo(info, argsz));
      }
      case Command.DEVICE_GET_IRQ_INFO: {
        const { index } = IrqInfoRequest.decode(payload);
        return request.reply(IrqInfoReply.encode({ argsz: 16, flags: 1, index, count: 1 }));
      }
      case Command.REGION_READ:
        return this.#readConfig(request);
      case Command.REGION_WRITE: {
        const { offset, data } = RegionWriteRequest.decode(payload);
        this.config.set(data, Number(offset));
        this.onWrite();
        return request.reply(payload.subarray(0, RegionAccessLayout.size));
      }
      case Command.DMA_MAP: {
        closeAll(request.takeFds());
        const { address, size } = DmaMapRequest.decode(payload);
        this.#maps.push({ address, size });
        return request.reply();
      }
      case Command.DMA_UNMAP: {
        const { address } = DmaUnmapRequest.decode(payload);
        const index = this.#maps.findIndex((map) => map.address === address);
        if (index < 0) return request.fail(ENOENT);
        this.#maps.splice(index, 1);
        return request.reply(payload);
      }
      case Command.DEVICE_RESET: // keeps the state
        return request.reply();
      case Command.DEVICE_FEATURE:
        return this.#feature(request);
      case Command.MIG_DATA_READ:
        return this.#readData(request);
      case Command.MIG_DATA_WRITE:
        return this.#writeData(request);
      default:
        return request.fail(EINVAL);
    }
  }

  /** Writes into the client's memory by one message, though that may be shared. */
  async writeByMessage(iova: bigint, data: readonly number[]): Promise<void> {
    const head = new BigUint64Array([iova, BigInt(data.length)]);
    const payload = new Uint8Array([...new Uint8Array(head.buffer), ...data]);
    const { payload: answer } = await this.client!.request(Command.DMA_WRITE, payload);
    assertEquals(answer, new Uint8Array(head.buffer));
  }

  #negotiate(request: IncomingRequest): void {
    const capabilities = {
      maxMsgFds: 8,
      maxDataXferSize: 1 << 20,
      migration: { pgsize: 4096 },
    };
    request.reply(encodeVersion({ major: 0, minor: 1, capabilities }));
  }

  #readConfig(request: IncomingRequest): void {
    const { region, offset, count } = RegionReadRequest.decode(request.payload);
    if (region !== PciRegion.CONFIG || ![1, 2, 4, 8].includes(count)) return request.fail(EINVAL);
    const at = Number(offset);
    request.reply(request.payload, this.config.subarray(at, at + count));
  }

  #feature(request: IncomingRequest): void {
    const { flags, data } = DeviceFeatureRequest.decode(request.payload);
    const reply = (data: Uint8Array) =>
      request.reply(DeviceFeatureReply.encode({ argsz: 8 + data.length, flags, data }));
    const index = flags & INDEX_MASK;
    const isSet = (flags & SET) !== 0;
    if (index === Feature.MIGRATION && (flags & GET) !== 0) {
      return reply(MigrationData.encode({ flags: 5n }));
    }
    if (index === Feature.MIG_DEVICE_STATE) {
      if (!isSet) return reply(DeviceStateData.encode({ state: this.migrationState, dataFd: 0 }));
      const { state } = DeviceStateData.decode(data);
      const path = migrationPath(this.migrationState, state);
      if (path === undefined) return request.fail(EINVAL);
      this.states.push(state);
      for (const each of path) this.#enter(each);
      return reply(data);
    }
    if (index === Feature.DMA_LOGGING_START && isSet) {
      const start = DmaLoggingStartData.decode(data);
      const { minPageSize = 4096n } = this.version;
      this.#pageSize = start.pageSize < minPageSize ? minPageSize : start.pageSize;
      return reply(DmaLoggingStartData.encode({ ...start, pageSize: this.#pageSize }));
    }
    if (index === Feature.DMA_LOGGING_STOP && isSet) {
      this.#pageSize = undefined;
      return reply(data);
    }
    if (index !== Feature.DMA_LOGGING_REPORT || this.#pageSize === undefined) {
      return request.fail(EINVAL);
    }
    const asked = DmaLoggingReportData.decode(data.subarray(0, 24));
    const errno = this.failReport(asked.iova) ?? this.#reportErrno(asked);
    if (errno !== 0) return request.fail(errno);
    reply(DmaLoggingReportData.encode({ ...asked, bitmap: this.#bitmap(asked) }));
  }

  /** It knows maps by their beginning only. */
  #reportErrno({ iova }: DmaLoggingReportData): number {
    return this.#maps.some(({ address }) => address === iova) ? 0 : ENOTSUP;
  }

  /** Returns the bitmap of one map; two adjacent maps have none in common. */
  #bitmap({ iova, length, pageSize }: DmaLoggingReportData): Uint8Array {
    const map = this.#maps.find(({ address }) => address === iova)!;
    if (length > map.size) return new Uint8Array();
    const bitmap = new Uint8Array(Number((length / pageSize + 63n) / 64n) * 8);
    for (const address of this.dirty) {
      if (address < iova || address >= iova + length) continue;
      const page = Number((address - iova) / pageSize);
      bitmap[page >> 3]! |= 1 << (page & 7);
      this.dirty.delete(address);
    }
    return bitmap;
  }

  #enter(state: number): void {
    const before = this.migrationState;
    if (before === RESUMING) this.state = new Uint8Array(this.#written);
    if (state === PRE_COPY || (state === STOP_COPY && before === STOP)) this.#at = 0;
    if (state === RESUMING) this.#written = [];
    this.migrationState = state;
  }

  #readData(request: IncomingRequest): void {
    const { argsz, size } = MigDataReadRequest.decode(request.payload);
    this.asked.push(size);
    const isSaving = this.migrationState === PRE_COPY || this.migrationState === STOP_COPY;
    if (!isSaving || argsz < 8 + size || size > this.largestRead) return request.fail(EINVAL);
    const errno = this.failRead(this.#at);
    if (errno !== undefined) return request.fail(errno);
    const end = this.migrationState === PRE_COPY ? this.preCopied : this.state.length;
    const left = Math.max(0, end - this.#at);
    const count = left === 0 ? 0 : Math.min(left, size, Math.max(1, this.give(size)));
    const data = new Uint8Array(size); // padded with zeros to the size asked
    data.set(this.state.subarray(this.#at, this.#at + count));
    this.#at += count;
    request.reply(MigDataReplyLayout.encode({ argsz: 8 + count, size: count }), data);
  }

  #writeData(request: IncomingRequest): void {
    if (request.payload.length > 8 + MAX_WRITE) return request.fail(EINVAL);
    const { argsz, data } = MigDataWriteRequest.decode(request.payload);
    if (this.migrationState !== RESUMING || argsz < 8 + data.length) return request.fail(EINVAL);
    for (const byte of data) this.#written.push(byte);
    request.reply();
  }
}
