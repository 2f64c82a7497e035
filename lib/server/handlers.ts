/**
 * Handlers of the messages of a client that has agreed on a version.
 *
 * @module
 */

import { EINVAL, ENOTSUP } from "../../ffi/errno.ts";
import { closeAll } from "../../ffi/fd.ts";
import type { IncomingRequest } from "../transport/incoming.ts";
import {
  RegionAccessLayout,
  RegionReadRequest,
  RegionWriteMultiReply,
  RegionWriteMultiRequest,
  RegionWriteRequest,
} from "../wire/access.ts";
import { Command, type CommandName } from "../wire/command.ts";
import { DeviceInfoReply, DeviceInfoRequest, DeviceResetRequest } from "../wire/device.ts";
import { DmaMapRequest, DmaUnmapReply, DmaUnmapRequest } from "../wire/dma.ts";
import { RegionIoFdsRequest } from "../wire/io_fds.ts";
import { IrqInfoReply, IrqInfoRequest, IrqSetFlags, SetIrqsRequest } from "../wire/irq.ts";
import type { CommandOf, DroppedCommand, Messages } from "../wire/messages.ts";
import { MigDataReplyLayout } from "../wire/migration.ts";
import {
  encodeRegionInfo,
  RegionFlags,
  RegionInfoRequest,
  regionInfoSize,
} from "../wire/region.ts";
import type { PeerLimits } from "../wire/version.ts";
import {
  DeviceError,
  type ErrorReport,
  type ServedAccess,
  type ServedDevice,
  type ServedRegion,
} from "./served_device.ts";
import type { ClientMemory } from "./client_memory.ts";
import { answerFeature, readState, writeState } from "./features.ts";
import type { ClientIoFds } from "./io_fds.ts";
import type { ClientIrqs } from "./client_irqs.ts";
import type { MigrationMachine } from "./migration.ts";
import { callHook } from "./device_hooks.ts";
import type { Offer } from "./offer.ts";
import { whenQuiet } from "./quiet.ts";

const { offset: OFFSET_AT, region: REGION_AT, count: COUNT_AT } = RegionAccessLayout.offsets;
const HEAD_SIZE = RegionAccessLayout.size;

/** Bytes of the buffer that reads are answered from, at first. */
const ANSWER_SIZE = 64;

/** Up to so many bytes a loop clears sooner than a call does. */
const SMALL = 16;

/**
 * From so many bytes on the data of a read are sent from where they are, if the region can tell.
 * Below that the copy costs less.
 */
const VIEW_LIMIT = 8 << 10;

/** The objects of a client that has agreed on a version. */
export interface ClientSession {
  readonly device: ServedDevice;
  /** Limits and capabilities of this server. */
  readonly offer: Offer;
  /** True if REGION_WRITE_MULTI was agreed on. */
  readonly takesWriteMultiple: boolean;
  /** The limits of one message to the client. */
  readonly limits: PeerLimits;
  readonly memory: ClientMemory;
  readonly irqs: ClientIrqs;
  readonly ioFds: ClientIoFds;
  /** The states of a device that migrates. */
  readonly migration: MigrationMachine | undefined;
  /** The buffer in which answers to accesses are assembled. */
  readonly answers: AnswerBuffer;
  /** Hears of each access that was done. */
  readonly onAccess: ((access: ServedAccess) => void) | undefined;
  /** The time that the device may take to become quiet, in milliseconds. */
  readonly quiesceTimeoutMs: number;
  /** Takes an error of which the answer says nothing, unless the client caused it. */
  readonly report: ErrorReport;
}

/**
 * Answers a request. Descriptors that came with the request and are not taken are closed after it:
 * one where the specification lists none is no reason to refuse.
 *
 * @throws what the request is refused with
 */
export type Handler = (request: IncomingRequest, session: ClientSession) => void | Promise<void>;

/** The reason why a message is never served. */
export interface NeverServed {
  /** Linux's error number for the client. */
  readonly errno: number;
  /** The reason, as it follows a colon. */
  readonly reason: string;
}

/** Each message of the protocol: one without an entry does not compile. */
type Handlers = {
  readonly [K in keyof Messages | DroppedCommand]: K extends CommandOf<"client">
    ? Handler | NeverServed
    : NeverServed;
};

const SERVERS_OWN: NeverServed = { errno: EINVAL, reason: "only a server sends it" };

const HANDLERS: Handlers = {
  VERSION: { errno: EINVAL, reason: "a version was agreed on before" },
  DMA_MAP: mapDma,
  DMA_UNMAP: unmapDma,
  DEVICE_GET_INFO: deviceInfo,
  DEVICE_GET_REGION_INFO: regionInfo,
  DEVICE_GET_REGION_IO_FDS: regionIoFds,
  DEVICE_GET_IRQ_INFO: irqInfo,
  DEVICE_SET_IRQS: setIrqs,
  REGION_READ: regionRead,
  REGION_WRITE: regionWrite,
  DMA_READ: SERVERS_OWN,
  DMA_WRITE: SERVERS_OWN,
  DEVICE_RESET: reset,
  DIRTY_PAGES: { errno: ENOTSUP, reason: "the specification has dropped it" },
  REGION_WRITE_MULTI: regionWriteMulti,
  DEVICE_FEATURE: feature,
  MIG_DATA_READ: migDataRead,
  MIG_DATA_WRITE: migDataWrite,
};

/** The same by number. */
const BY_COMMAND: (Handler | NeverServed | undefined)[] = [];
for (const [name, handler] of Object.entries<Handler | NeverServed>(HANDLERS)) {
  BY_COMMAND[Command[name as CommandName]] = handler;
}

/** Finds the handler of a command; undefined for one that the protocol does not have. */
export function handlerOf(command: number): Handler | NeverServed | undefined {
  return BY_COMMAND[command];
}

/** The buffers of answers to accesses, which are used again and again. */
export class AnswerBuffer {
  readonly #head = new Uint8Array(HEAD_SIZE);
  readonly #headView = new DataView(this.#head.buffer);
  #buffer = new Uint8Array(ANSWER_SIZE); // as large as the largest read so far
  #data = this.#buffer; // the part that the last read had

  /**
   * The head of a reply: offset, region and count of its request, which has a head. It is taken
   * ahead of the hook, which may detach the request's bytes.
   */
  head(request: IncomingRequest): Uint8Array {
    for (let at = 0; at < HEAD_SIZE; at += 4) {
      this.#headView.setUint32(at, request.uint32(at), true);
    }
    return this.#head;
  }

  /** Zeros for a hook to fill: one that fills less leaves no bytes of earlier answers. */
  data(count: number): Uint8Array {
    if (count !== this.#data.length) { // also if a hook has detached it
      if (count > this.#buffer.length) this.#buffer = new Uint8Array(count);
      this.#data = this.#buffer.subarray(0, count);
    }
    if (count > SMALL) return this.#data.fill(0);
    for (let i = 0; i < count; i++) this.#data[i] = 0;
    return this.#data;
  }
}

// ---- What the device is

function deviceInfo(request: IncomingRequest, { device }: ClientSession): void {
  DeviceInfoRequest.decode(request.payload);
  const { flags, regions, irqs } = device;
  request.reply(
    DeviceInfoReply.encode({
      argsz: 16,
      flags,
      numRegions: regions.length,
      numIrqs: irqs.length,
    }),
  );
}

function regionInfo(request: IncomingRequest, { device, limits }: ClientSession): void {
  const { index, argsz } = RegionInfoRequest.decode(request.payload);
  const region = regionAt(device, index);
  const info = {
    index,
    flags: region?.flags ?? 0,
    size: BigInt(region?.size ?? 0),
    offset: BigInt(region?.fdOffset ?? 0),
    capabilities: [...(region?.capabilities ?? [])],
  };
  let fds = region?.fds ?? [];
  if (fds.length > limits.maxMsgFds) { // the client can't be given what it would map
    info.flags &= ~RegionFlags.MMAP;
    fds = [];
  }
  // Without room for the capabilities no descriptor goes along: the client asks again.
  const fits = regionInfoSize(info.capabilities) <= argsz;
  request.reply(encodeRegionInfo(info, argsz), undefined, fits ? fds : []);
}

function regionIoFds(request: IncomingRequest, { device, ioFds, limits }: ClientSession): void {
  const asked = RegionIoFdsRequest.decode(request.payload);
  if (asked.flags !== 0 || asked.count !== 0) {
    throw new DeviceError(EINVAL, "flags and count of the request are not 0");
  }
  const { payload, fds } = ioFds.answer(asked, regionAt(device, asked.index), limits.maxMsgFds);
  request.reply(payload, undefined, fds);
}

/** Finds the region at an index, if there is one. */
function regionAt({ regions }: ServedDevice, index: number): ServedRegion | undefined {
  if (index >= regions.length) throw new DeviceError(EINVAL, `there is no region ${index}`);
  return regions[index];
}

function irqInfo(request: IncomingRequest, { device }: ClientSession): void {
  const { index } = IrqInfoRequest.decode(request.payload);
  const irq = device.irqs[index];
  if (irq === undefined) throw new DeviceError(EINVAL, `there is no IRQ index ${index}`);
  request.reply(IrqInfoReply.encode({ argsz: 16, flags: irq.flags, index, count: irq.count }));
}

// ---- What the client lends

function setIrqs(request: IncomingRequest, { irqs }: ClientSession): void {
  const set = SetIrqsRequest.decode(request.payload);
  irqs.set(set, (set.flags & IrqSetFlags.DATA_EVENTFD) !== 0 ? request.takeFds() : []);
  request.reply();
}

function mapDma(request: IncomingRequest, session: ClientSession): void | Promise<void> {
  const { memory, device } = session;
  const map = DmaMapRequest.decode(request.payload);
  const fds = request.takeFds();
  const act = () => {
    // The stream has closed sockets.
    if (!fds.every((fd) => fd.isOpen)) throw new DeviceError(EINVAL, "a socket is no memory");
    const range = memory.map(map, fds);
    if (range !== undefined) {
      try {
        device.mapped?.(range);
      } catch (error) {
        memory.unmap({ argsz: 24, flags: 0, address: range.iova, size: range.size });
        throw error;
      }
    }
    request.reply();
  };
  let result: void | Promise<void> = undefined;
  try {
    result = whenQuiet(session, "map", act);
    return result?.finally(() => closeAll(fds));
  } finally {
    if (result === undefined) closeAll(fds);
  }
}

function unmapDma(request: IncomingRequest, session: ClientSession): void | Promise<void> {
  const { flags, address, size } = DmaUnmapRequest.decode(request.payload);
  const { memory, device, report } = session;
  return whenQuiet(session, "unmap", () => {
    for (const range of memory.unmap({ argsz: 24, flags, address, size })) {
      callHook(() => device.unmapped?.(range), (error) => report(error, "unmapped"));
    }
    request.reply(DmaUnmapReply.encode({ argsz: 24, flags, address, size }));
  });
}

// ---- Accesses

function regionRead(
  request: IncomingRequest,
  session: ClientSession,
): void | Promise<void> {
  const { answers } = session;
  if (request.payloadSize !== HEAD_SIZE) RegionReadRequest.decode(request.payload); // throws
  const count = request.uint32(COUNT_AT);
  const offset = offsetOf(request);
  const index = request.uint32(REGION_AT);
  const region = accessed(session, index, RegionFlags.READ, offset, count);
  const head = answers.head(request);
  if (count >= VIEW_LIMIT && region?.view !== undefined) {
    const view = region.view(offset, count);
    if (view?.length === count) {
      session.onAccess?.({ index, region, offset, bytes: view, isWrite: false });
      return request.reply(head, view);
    }
  }
  const data = answers.data(count);
  const result = region?.read(offset, data);
  if (session.onAccess !== undefined && region !== undefined) {
    const { onAccess } = session;
    return after(result, () => {
      onAccess({ index, region, offset, bytes: data, isWrite: false });
      replyRead(request, head, data, count);
    });
  }
  if (result instanceof Promise) return result.then(() => replyRead(request, head, data, count));
  replyRead(request, head, data, count);
}

/** Acts once a hook is done: at once, or later. */
function after(hook: void | Promise<void>, act: () => void): void | Promise<void> {
  return hook instanceof Promise ? hook.then(act) : act();
}

function replyRead(
  request: IncomingRequest,
  head: Uint8Array,
  data: Uint8Array,
  count: number,
): void {
  if (data.length !== count) throw new TypeError("The read hook has detached its buffer");
  request.reply(head, data);
}

/** The offset of an access. From 2^53 on it is rounded, and beyond every region. */
function offsetOf(request: IncomingRequest): number {
  return request.uint32(OFFSET_AT) + request.uint32(OFFSET_AT + 4) * 0x1_0000_0000;
}

function regionWrite(
  request: IncomingRequest,
  session: ClientSession,
): void | Promise<void> {
  const count = request.payloadSize - HEAD_SIZE;
  if (count < 0 || count !== request.uint32(COUNT_AT)) {
    RegionWriteRequest.decode(request.payload); // throws
  }
  const offset = offsetOf(request);
  const index = request.uint32(REGION_AT);
  const region = accessed(session, index, RegionFlags.WRITE, offset, count);
  const head = request.noReply ? undefined : session.answers.head(request);
  const data = request.payloadFrom(HEAD_SIZE);
  const result = region?.write(offset, data);
  if (session.onAccess !== undefined && region !== undefined) {
    const { onAccess } = session;
    return after(result, () => {
      onAccess({ index, region, offset, bytes: data, isWrite: true });
      replyWrite(request, head, data, count);
    });
  }
  if (result instanceof Promise) return result.then(() => replyWrite(request, head, data, count));
  replyWrite(request, head, data, count);
}

function replyWrite(
  request: IncomingRequest,
  head: Uint8Array | undefined,
  data: Uint8Array,
  count: number,
): void {
  if (data.length !== count) throw new TypeError("The write hook has detached its buffer");
  request.reply(head);
}

async function regionWriteMulti(
  request: IncomingRequest,
  session: ClientSession,
): Promise<void> {
  if (!session.takesWriteMultiple) {
    throw new DeviceError(EINVAL, "REGION_WRITE_MULTI was not agreed on");
  }
  const { writes } = RegionWriteMultiRequest.decode(request.payload);
  let count = 0n;
  try {
    for (const { region: index, offset, data } of writes) {
      const at = Number(offset);
      const region = accessed(session, index, RegionFlags.WRITE, at, data.length);
      const result = region?.write(at, data);
      if (result instanceof Promise) await result;
      if (region !== undefined) {
        session.onAccess?.({ index, region, offset: at, bytes: data, isWrite: true });
      }
      count++;
    }
  } catch (error) {
    // Those before it are done: the reply says how many. Only if none is does the message fail.
    if (count === 0n) throw error;
    session.report(error, "REGION_WRITE_MULTI");
  }
  request.reply(RegionWriteMultiReply.encode({ count }));
}

/**
 * The region of an access that is within its bounds and rights; undefined for an access of no
 * bytes.
 */
function accessed(
  { device: { regions }, offer }: ClientSession,
  index: number,
  right: number,
  offset: number,
  count: number,
): ServedRegion | undefined {
  const region = regions[index];
  if (region === undefined) throw new DeviceError(EINVAL, `there is no region ${index}`);
  if (count > offer.maxDataXferSize) {
    throw new DeviceError(EINVAL, `${count} bytes are too many`);
  }
  if (offset + count > region.size) {
    throw new DeviceError(EINVAL, "the access leaves the region");
  }
  if ((region.flags & right) === 0) throw new DeviceError(EINVAL, "the region does not allow it");
  return count === 0 ? undefined : region;
}

// ---- Reset and migration

function reset(
  request: IncomingRequest,
  session: ClientSession,
): void | Promise<void> {
  const { device, migration } = session;
  DeviceResetRequest.decode(request.payload);
  const act = () => device.reset("device");
  const result = whenQuiet(
    session,
    "reset",
    () => migration?.isWorking === false ? migration.reset(act) : act(),
  );
  return result instanceof Promise ? result.then(() => request.reply()) : request.reply();
}

async function feature(request: IncomingRequest, session: ClientSession): Promise<void> {
  const { memory, offer } = session;
  const migration = mustMigrate(session);
  const stop = (act: () => Promise<void>) => whenQuiet(session, "stop", act);
  request.reply(await answerFeature(request.payload, { migration, memory, offer, stop }));
}

function migDataRead(request: IncomingRequest, session: ClientSession): void | Promise<void> {
  const maxDataXferSize = Math.min(session.limits.maxDataXferSize, session.offer.maxDataXferSize);
  const data = readState(request.payload, mustMigrate(session), maxDataXferSize);
  const reply = (data: Uint8Array) => {
    const size = data.length;
    const head = MigDataReplyLayout.encode({ argsz: MigDataReplyLayout.size + size, size });
    request.reply(head, data);
  };
  return data instanceof Promise ? data.then(reply) : reply(data);
}

function migDataWrite(request: IncomingRequest, session: ClientSession): void | Promise<void> {
  const result = writeState(request.payload, mustMigrate(session), session.offer.maxDataXferSize);
  return result instanceof Promise ? result.then(() => request.reply()) : request.reply();
}

function mustMigrate({ migration }: ClientSession): MigrationMachine {
  if (migration === undefined) throw new DeviceError(EINVAL, "the device does not migrate");
  return migration;
}
