/**
 * One client of a server: negotiation, then its requests, dispatched to the device.
 *
 * Errors are answered as libvfio-user does: EINVAL for anything out of range or malformed; the connection lives on, unless it is
 * the first VERSION that fails or a message that can't be delimited.
 *
 * @module
 */

import { EINVAL, EIO, ENOTSUP, ETIMEDOUT } from "../../ffi/errno.ts";
import { closeAll, OwnedFd } from "../../ffi/fd.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { ConnectionError, ProtocolError, RemoteError, TimeoutError } from "../errors.ts";
import {
  DEFAULT_MAX_DMA_MAPS,
  DEFAULT_PGSIZES,
  DEFAULT_TIMEOUT_MS,
  HEADER_SIZE,
  HOOK_PATIENCE_MS,
  MAX_MSG_FDS,
  MESSAGE_OVERHEAD,
  MIN_LOGGING_PAGE_SIZE,
  OFFERED_MAX_DATA_XFER_SIZE,
  OFFERED_MAX_MSG_FDS,
  SERVE_SEND_BUFFER,
} from "../limits.ts";
import { type IncomingRequest, VfioProxy } from "../proxy.ts";
import type { Trace } from "../stream.ts";
import {
  RegionAccessLayout,
  RegionReadRequest,
  RegionWriteMultiReply,
  RegionWriteMultiRequest,
  RegionWriteRequest,
} from "../wire/access.ts";
import { Command, commandName } from "../wire/command.ts";
import { DeviceInfoReply, DeviceInfoRequest, DeviceResetRequest } from "../wire/device.ts";
import { DmaMapRequest, DmaUnmapReply, DmaUnmapRequest } from "../wire/dma.ts";
import { deviceStateName } from "../wire/feature.ts";
import { RegionIoFdsRequest } from "../wire/io_fds.ts";
import { IrqInfoReply, IrqInfoRequest, SetIrqsRequest } from "../wire/irq.ts";
import { MigDataReplyLayout } from "../wire/migration.ts";
import {
  encodeRegionInfo,
  RegionFlags,
  RegionInfoRequest,
  regionInfoSize,
} from "../wire/region.ts";
import {
  type Capabilities,
  decodeVersion,
  encodeVersion,
  limitsOf,
  PROTOCOL_VERSION,
  subsetOf,
  VERSION_NUMBERS_SIZE,
} from "../wire/version.ts";
import { DeviceError, type ServedDevice, type ServedRegion } from "./device.ts";
import { ClientMemory, CutMapError, type DmaOptions } from "./dma.ts";
import type { Faults } from "./faults.ts";
import { ClientIoFds } from "./io_fds.ts";
import { answerFeature, readState, writeState } from "./features.ts";
import { callHook, reportLater } from "./hook.ts";
import { ClientIrqs } from "./irq.ts";
import { MigrationMachine, RefusedState } from "./migration.ts";

/** Data of reads go through one buffer that is used again and again; so large it is at first. */
const SCRATCH_SIZE = 64;

/** From so many bytes on the data of a read are sent from where they are, if the region can tell: below, the copy costs less. */
const VIEW_LIMIT = 8 << 10;

/** What a connection tells its server. */
export interface ConnectionOptions extends DmaOptions {
  /** Sees every message. */
  trace?: Trace | undefined;
  /** How long a client may take to send its VERSION. In milliseconds; default 5000. */
  handshakeTimeoutMs?: number | undefined;
  /** What goes wrong on purpose. */
  faults?: Faults | undefined;
  /** Hears of what a device hook threw that was no DeviceError, and why a state was refused. */
  onError: (error: unknown, doing: string) => void;
  /** Called once when the client is gone and its last request is done with; with the reason why it went. */
  onClose: (cause: Error | undefined) => void;
}

/** What a client has that has agreed on a version. */
interface Session {
  /** What it said of itself. */
  readonly client: Capabilities;
  readonly memory: ClientMemory;
  readonly irqs: ClientIrqs;
  readonly ioFds: ClientIoFds;
}

/** One connected client. */
export class ServerConnection {
  readonly #proxy: VfioProxy;
  readonly #device: ServedDevice;
  readonly #options: ConnectionOptions;
  readonly #handshake: ReturnType<typeof setTimeout>;
  #scratch = new Uint8Array(SCRATCH_SIZE); // what a region's hook fills; as large as the largest read so far
  readonly #accessHead = new Uint8Array(RegionAccessLayout.size);
  readonly #migration: MigrationMachine | undefined; // if the device migrates
  readonly #running = new Set<Promise<void>>(); // device hooks that take their time
  #isClosing = false; // whether the server wants its end
  #stuck: ReturnType<typeof setTimeout> | undefined; // while the client is gone, and a hook is not done
  #refused: RefusedState | undefined; // the last that was reported
  #hasCutMap = false; // whether an unmap of a part of a map was reported
  #session: Session | undefined; // once the client has sent its VERSION
  #twin: VfioProxy | undefined; // for the server's own commands, if the client wants that

  /** Takes over an accepted socket and serves it. */
  constructor(socket: UnixSocket, device: ServedDevice, options: ConnectionOptions) {
    this.#device = device;
    this.#options = options;
    this.#migration = MigrationMachine.of(device);
    socket.setSendBuffer(SERVE_SEND_BUFFER);
    // A client that says nothing keeps others waiting: it gets as long as a request does.
    const { handshakeTimeoutMs = DEFAULT_TIMEOUT_MS } = options;
    this.#handshake = setTimeout(() => {
      this.#proxy.close(
        new ProtocolError(`The client sent no VERSION within ${handshakeTimeoutMs} ms`),
      );
    }, handshakeTimeoutMs);
    const { faults } = options;
    const ended = new AbortController();
    const faulty = {
      serve: (request: IncomingRequest) => this.#handle(request),
      refuse: (request: IncomingRequest, error: Error) => this.#refuse(request, error),
      close: () => this.#proxy.close(),
      signal: ended.signal,
    };
    this.#proxy = new VfioProxy(socket, {
      role: "server",
      handler: faults
        ? (request) => faults.serve(request, faulty)
        : (request) => this.#handle(request),
      ...(options.trace && { trace: options.trace }),
      onClose: (cause) => {
        ended.abort();
        clearTimeout(this.#handshake);
        this.#release(cause);
        // The next client does not get a device that is still busy with this one's request.
        if (this.#running.size === 0) options.onClose(cause);
        else this.#afterHooks(() => options.onClose(cause));
      },
    });
    this.#proxy.serving = true;
  }

  /** Ends the connection. The server that does it sees itself how long hooks take. */
  close(): void {
    this.#isClosing = true;
    clearTimeout(this.#stuck);
    this.#proxy.close();
  }

  /** When the hooks have ended that the client has called. If that takes long it is told: nobody else is served meanwhile. */
  #afterHooks(act: () => void): void {
    const tell = () =>
      this.#options.onError(
        new Error(
          `A hook that the client has called still runs, ${HOOK_PATIENCE_MS} ms after it left: ` +
            "no other client is served before it ends",
        ),
        "disconnect",
      );
    if (!this.#isClosing) this.#stuck = setTimeout(tell, HOOK_PATIENCE_MS);
    Promise.all(this.#running).then(() => {
      clearTimeout(this.#stuck);
      act();
    });
  }

  #handle(request: IncomingRequest): void | Promise<void> {
    const { command } = request;
    try {
      if (request.fdCount > 0 && !takesFds(command)) {
        throw new ProtocolError(
          `${request.fdCount} file descriptor${request.fdCount === 1 ? "" : "s"} came with ${
            commandName(command)
          }, where none belong`,
        );
      }
      if (this.#session === undefined) return this.#negotiate(request);
      const result = this.#dispatch(request, this.#session);
      if (result instanceof Promise) {
        return this.#track(result.catch((error) => this.#refuse(request, error)));
      }
    } catch (error) {
      this.#refuse(request, error);
    }
  }

  #track(running: Promise<void>): Promise<void> {
    this.#running.add(running);
    return running.finally(() => this.#running.delete(running));
  }

  /** Lets go of all that was the client's, and tells the device. */
  #release(cause: Error | undefined): void {
    const session = this.#session;
    this.#twin?.close(cause);
    if (session === undefined) return;
    session.ioFds.close();
    session.irqs.close();
    session.memory.close();
    callHook(
      () => this.#device.disconnected?.(),
      (error) => this.#options.onError(error, "disconnect"),
    );
  }

  #refuse(request: IncomingRequest, error: unknown): void {
    if (!request.isAnswered) request.fail(errnoOf(error));
    if (this.#isReported(error)) this.#options.onError(error, commandName(request.command));
    // The first VERSION decides: without one there is nothing to talk about.
    if (this.#session === undefined) {
      this.#proxy.close(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Some refusals are reported once, though an errno has been answered: it does not say enough. */
  #isReported(error: unknown): boolean {
    if (error instanceof RefusedState) { // the same error is thrown for all that follows
      const isNew = error !== this.#refused;
      this.#refused = error;
      return isNew;
    }
    if (error instanceof CutMapError) {
      const isFirst = !this.#hasCutMap;
      this.#hasCutMap = true;
      return isFirst;
    }
    return !isExpected(error);
  }

  #negotiate(request: IncomingRequest): void {
    if (request.command !== Command.VERSION) {
      throw new ProtocolError(
        `The client's first command is ${commandName(request.command)}, not VERSION`,
      );
    }
    const { major, minor, capabilities } = decodeVersion(request.payload);
    if (major !== PROTOCOL_VERSION.major) {
      throw new ProtocolError(
        `The client proposes version ${major}.${minor}, which we do not speak`,
      );
    }
    clearTimeout(this.#handshake);
    this.#proxy.limits = {
      maxFds: MAX_MSG_FDS,
      maxMessageSize: HEADER_SIZE + MESSAGE_OVERHEAD + OFFERED_MAX_DATA_XFER_SIZE,
    };
    this.#proxy.peerMaxFds = limitsOf(capabilities).maxMsgFds;
    const hasTwin = (capabilities.twinSocket?.supported ?? false) && this.#proxy.peerMaxFds > 0;
    const server = subsetOf(capabilities, {
      maxMsgFds: OFFERED_MAX_MSG_FDS,
      maxDataXferSize: OFFERED_MAX_DATA_XFER_SIZE,
      maxDmaMaps: this.#options.maxDmaMaps ?? DEFAULT_MAX_DMA_MAPS,
      pgsizes: BigInt(DEFAULT_PGSIZES),
      ...(capabilities.writeMultiple && { writeMultiple: true }),
      ...(hasTwin && { twinSocket: { supported: true, fdIndex: 0 } }),
      ...(this.#migration && { migration: { pgsize: MIN_LOGGING_PAGE_SIZE } }),
    });
    const reply = encodeVersion({
      ...PROTOCOL_VERSION,
      minor: Math.min(minor, PROTOCOL_VERSION.minor),
      capabilities: server,
      // A client that sends JSON gets some, for its reader may insist on it.
      ...(request.payload.length > VERSION_NUMBERS_SIZE && { extra: {} }),
    });
    using twinEnd = hasTwin ? this.#makeTwin() : undefined;
    this.#begin(capabilities);
    request.reply(reply, undefined, twinEnd && [twinEnd]);
  }

  /** Makes a socket for the server's commands; either socket's end is that of both. Returns the client's end of it. */
  #makeTwin(): OwnedFd {
    const [ours, theirs] = UnixSocket.pair();
    const { trace } = this.#options;
    this.#twin = new VfioProxy(ours, {
      role: "server",
      ...(trace && { trace }),
      onClose: (cause) => {
        if (cause instanceof ConnectionError) this.#proxy.closeAfterPeer(cause);
        else this.#proxy.close(cause);
      },
    });
    this.#twin.limits = this.#proxy.limits;
    this.#twin.serving = true; // to hear of its end; the client has nothing to ask there
    return new OwnedFd(theirs.release());
  }

  /** From here on the client is one, and the device knows of it. */
  #begin(client: Capabilities): void {
    const memory = new ClientMemory(this.#twin ?? this.#proxy, client, this.#options);
    const irqs = new ClientIrqs(this.#device.irqs);
    const ioFds = new ClientIoFds((region, offset, data) => this.#kick(region, offset, data));
    const connected = this.#device.connected?.({ dma: memory, irqs });
    reportLater(connected, (error) => this.#options.onError(error, "connect"));
    this.#session = { client, memory, irqs, ioFds };
  }

  #dispatch(request: IncomingRequest, session: Session): void | Promise<void> {
    this.#assertServed(request.command);
    switch (request.command) {
      case Command.REGION_READ:
        return this.#regionRead(request);
      case Command.REGION_WRITE:
        return this.#regionWrite(request);
      case Command.REGION_WRITE_MULTI:
        return this.#regionWriteMulti(request, session);
      case Command.DEVICE_GET_INFO:
        return this.#deviceInfo(request);
      case Command.DEVICE_GET_REGION_INFO:
        return this.#regionInfo(request);
      case Command.DEVICE_GET_IRQ_INFO:
        return this.#irqInfo(request);
      case Command.DEVICE_GET_REGION_IO_FDS:
        return this.#regionIoFds(request, session);
      case Command.DEVICE_SET_IRQS:
        return setIrqs(request, session);
      case Command.DMA_MAP:
        return mapDma(request, session);
      case Command.DMA_UNMAP:
        return unmapDma(request, session);
      case Command.DEVICE_RESET:
        return this.#reset(request);
      case Command.DEVICE_FEATURE:
        return this.#feature(request, session);
      case Command.MIG_DATA_READ:
        return this.#migDataRead(request, session);
      case Command.MIG_DATA_WRITE:
        return this.#migDataWrite(request);
      case Command.VERSION:
        throw new DeviceError(EINVAL, "VERSION came twice");
      case Command.DIRTY_PAGES:
        throw new DeviceError(ENOTSUP);
      default:
        throw new DeviceError(EINVAL, `${commandName(request.command)} is not served`);
    }
  }

  /** A device that is stopped for a migration does nothing that would change it. */
  #assertServed(command: number): void {
    const migration = this.#migration;
    if (migration === undefined || migration.serves(command)) return;
    throw new DeviceError(
      EINVAL,
      `${commandName(command)} is not served in the state ${deviceStateName(migration.state)}`,
    );
  }

  async #feature(request: IncomingRequest, { memory }: Session): Promise<void> {
    const migration = this.#mustMigrate();
    request.reply(await answerFeature(request.payload, { migration, memory }));
  }

  #migDataRead(request: IncomingRequest, { client }: Session): void | Promise<void> {
    const { maxDataXferSize } = limitsOf(client);
    const data = readState(request.payload, this.#mustMigrate(), maxDataXferSize);
    const reply = (data: Uint8Array) => {
      const size = data.length;
      const head = MigDataReplyLayout.encode({ argsz: MigDataReplyLayout.size + size, size });
      request.reply(head, data);
    };
    return data instanceof Promise ? data.then(reply) : reply(data);
  }

  #migDataWrite(request: IncomingRequest): void | Promise<void> {
    const result = writeState(request.payload, this.#mustMigrate());
    return result instanceof Promise ? result.then(() => request.reply()) : request.reply();
  }

  #mustMigrate(): MigrationMachine {
    if (this.#migration === undefined) throw new DeviceError(EINVAL, "the device does not migrate");
    return this.#migration;
  }

  #deviceInfo(request: IncomingRequest): void {
    DeviceInfoRequest.decode(request.payload);
    const { flags, regions, irqs } = this.#device;
    request.reply(
      DeviceInfoReply.encode({
        argsz: 16,
        flags,
        numRegions: regions.length,
        numIrqs: irqs.length,
      }),
    );
  }

  #regionInfo(request: IncomingRequest): void {
    const { index, argsz } = RegionInfoRequest.decode(request.payload);
    if (index >= this.#device.regions.length) {
      throw new DeviceError(EINVAL, `there is no region ${index}`);
    }
    const region = this.#device.regions[index];
    const info = {
      index,
      flags: region?.flags ?? 0,
      size: BigInt(region?.size ?? 0),
      offset: BigInt(region?.fdOffset ?? 0),
      capabilities: [...(region?.capabilities ?? [])],
    };
    let fds = region?.fds ?? [];
    if (fds.length > this.#proxy.peerMaxFds) { // the client can't be given what it would map
      info.flags &= ~RegionFlags.MMAP;
      fds = [];
    }
    // Without room for the capabilities no descriptor goes along: the client asks again.
    const fits = regionInfoSize(info.capabilities) <= argsz;
    request.reply(encodeRegionInfo(info, argsz), undefined, fits ? fds : []);
  }

  #regionIoFds(request: IncomingRequest, { ioFds }: Session): void {
    const asked = RegionIoFdsRequest.decode(request.payload);
    const { regions } = this.#device;
    if (asked.index >= regions.length) {
      throw new DeviceError(EINVAL, `there is no region ${asked.index}`);
    }
    const { payload, fds } = ioFds.answer(asked, regions[asked.index], this.#proxy.peerMaxFds);
    request.reply(payload, undefined, fds);
  }

  /** The client has signalled an ioeventfd. A request that is under way comes first. */
  #kick(region: ServedRegion, offset: number, data: Uint8Array): Promise<void> {
    const write = async () => {
      try {
        this.#assertServed(Command.REGION_WRITE);
        await region.write(offset, data);
      } catch (error) {
        if (!isExpected(error)) this.#options.onError(error, "ioeventfd");
      }
    };
    return this.#track(this.#running.size === 0 ? write() : Promise.all(this.#running).then(write));
  }

  #irqInfo(request: IncomingRequest): void {
    const { index } = IrqInfoRequest.decode(request.payload);
    const irq = this.#device.irqs[index];
    if (irq === undefined) throw new DeviceError(EINVAL, `there is no IRQ index ${index}`);
    request.reply(IrqInfoReply.encode({ argsz: 16, flags: irq.flags, index, count: irq.count }));
  }

  #reset(request: IncomingRequest): void | Promise<void> {
    DeviceResetRequest.decode(request.payload);
    const reset = () => this.#device.reset();
    const result = this.#migration?.isWorking === false ? this.#migration.reset(reset) : reset();
    if (result instanceof Promise) return result.then(() => request.reply());
    request.reply();
  }

  #regionRead(request: IncomingRequest): void | Promise<void> {
    const access = RegionReadRequest.decode(request.payload);
    const { count } = access;
    const region = this.#region(access.region, RegionFlags.READ, access.offset, count);
    if (count >= VIEW_LIMIT && region?.view !== undefined) {
      const view = region.view(Number(access.offset), count);
      if (view?.length === count) return request.reply(this.#echo(request), view);
    }
    if (count > this.#scratch.length) this.#scratch = new Uint8Array(count);
    const data = this.#scratch.subarray(0, count);
    data.fill(0); // a hook that fills less leaves no bytes of earlier answers
    const result = region?.read(Number(access.offset), data);
    const reply = () => request.reply(this.#echo(request), data);
    return result instanceof Promise ? result.then(reply) : reply();
  }

  #regionWrite(request: IncomingRequest): void | Promise<void> {
    const { region: index, offset, data } = RegionWriteRequest.decode(request.payload);
    const region = this.#region(index, RegionFlags.WRITE, offset, data.length);
    const result = region?.write(Number(offset), data);
    const reply = () => request.reply(request.noReply ? undefined : this.#echo(request));
    return result instanceof Promise ? result.then(reply) : reply();
  }

  /** What the reply to an access begins with: offset, region and count of the request, which was decoded before. */
  #echo({ payload }: IncomingRequest): Uint8Array {
    this.#accessHead.set(payload.subarray(0, RegionAccessLayout.size));
    return this.#accessHead;
  }

  async #regionWriteMulti(request: IncomingRequest, { client }: Session): Promise<void> {
    if (!client.writeMultiple) {
      throw new DeviceError(EINVAL, "REGION_WRITE_MULTI was not agreed on");
    }
    const { writes } = RegionWriteMultiRequest.decode(request.payload);
    let count = 0n;
    try {
      for (const { region: index, offset, data } of writes) {
        const region = this.#region(index, RegionFlags.WRITE, offset, data.length);
        const result = region?.write(Number(offset), data);
        if (result instanceof Promise) await result;
        count++;
      }
    } catch (error) {
      // Those before it are done: the reply says how many. Only if none is does the message fail.
      if (count === 0n) throw error;
      if (!isExpected(error)) this.#options.onError(error, commandName(request.command));
    }
    request.reply(RegionWriteMultiReply.encode({ count }));
  }

  /** The region of an access that is within its bounds and rights; undefined for an access of no bytes. */
  #region(index: number, right: number, offset: bigint, count: number): ServedRegion | undefined {
    const region = this.#device.regions[index];
    if (region === undefined) throw new DeviceError(EINVAL, `there is no region ${index}`);
    if (count > OFFERED_MAX_DATA_XFER_SIZE) {
      throw new DeviceError(EINVAL, `${count} bytes are too many`);
    }
    if (offset + BigInt(count) > BigInt(region.size)) {
      throw new DeviceError(EINVAL, "the access leaves the region");
    }
    if ((region.flags & right) === 0) throw new DeviceError(EINVAL, "the region does not allow it");
    return count === 0 ? undefined : region;
  }
}

function setIrqs(request: IncomingRequest, { irqs }: Session): void {
  irqs.set(SetIrqsRequest.decode(request.payload), request.takeFds());
  request.reply();
}

function mapDma(request: IncomingRequest, { memory }: Session): void {
  const fds = request.takeFds();
  try {
    memory.map(DmaMapRequest.decode(request.payload), fds);
  } finally {
    closeAll(fds);
  }
  request.reply();
}

function unmapDma(request: IncomingRequest, { memory }: Session): void {
  closeAll(request.takeFds()); // SPDK's client sends the file along; the maps know it already
  const { flags, address, size } = DmaUnmapRequest.decode(request.payload);
  memory.unmap({ argsz: 24, flags, address, size });
  request.reply(DmaUnmapReply.encode({ argsz: 24, flags, address, size }));
}

function takesFds(command: number): boolean {
  return command === Command.DMA_MAP || command === Command.DMA_UNMAP ||
    command === Command.DEVICE_SET_IRQS;
}

/** Whether it is the client's doing, or what the device means to say: nothing that a developer has to hear of. */
function isExpected(error: unknown): boolean {
  return EXPECTED.some((type) => error instanceof type);
}

const EXPECTED = [DeviceError, ProtocolError, RemoteError, TimeoutError, ConnectionError];

function errnoOf(error: unknown): number {
  if (error instanceof DeviceError) return error.errno;
  if (error instanceof RemoteError) return error.errno || EIO;
  if (error instanceof TimeoutError) return ETIMEDOUT;
  return error instanceof ProtocolError ? EINVAL : EIO;
}
