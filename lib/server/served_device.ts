/**
 * The interface between a server and the device that it serves.
 *
 * @module
 */

import { describeErrno } from "../../ffi/errno.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import type { IoFdType } from "../wire/io_fds.ts";
import type { RegionCapability } from "../wire/region.ts";
import type { Activity } from "./activity.ts";
import type { DeviceDma, DmaRange } from "./device_dma.ts";

/**
 * A device refuses an access: the client receives `errno` as the answer. A failed access to the
 * client's memory also answers an errno. That is the errno of the client's own refusal, ETIMEDOUT,
 * or EINVAL after an answer against the protocol. Anything else that a hook throws becomes EIO.
 */
export class DeviceError extends Error {
  /** The name of the class. */
  override readonly name: string = "DeviceError";
  /** Linux's error number for the client, above 0. */
  readonly errno: number;

  /**
   * A refusal.
   *
   * @param errno Linux's error number, above 0
   */
  constructor(errno: number, message?: string) {
    super(message ?? describeErrno(errno));
    this.errno = errno;
  }
}

/**
 * A failed access to the client's memory. EFAULT: nothing is mapped there, or not any
 * more. EACCES: the client does not allow the access.
 */
export class DmaError extends DeviceError {
  /** The name of the class. */
  override readonly name: string = "DmaError";
}

/** A place in memory that a device shares. */
export interface ShadowPlace {
  /** The file of the memory. It stays the device's. */
  readonly fd: OwnedFd;
  /** Bytes from the start of the file. */
  readonly offset: bigint;
}

/**
 * A part of a region that a client may access through a file descriptor, without a message
 * (specification: "VFIO_USER_DEVICE_GET_REGION_IO_FDS").
 *
 * Without an `fd` the server makes the descriptors for each client, and calls the region's hooks:
 *
 * - An ioeventfd stands for one write. When it is signalled, the server calls `write` once, however
 *   many signals came, with the `size` bytes of `datamatch`, or zeros.
 * - A shadow ioeventfd has memory besides, in which the client leaves the value before it signals.
 *   The server calls `write` with the value that is there.
 * - An ioregionfd is a socket that carries each read and write, and their answers.
 *
 * A part with an `fd` is the device's to listen to; parts may share one `fd`. A part whose `fd` is
 * null has no descriptor: it is accessed by messages, though the parts around it may have one.
 */
export type ServedIoFd =
  & {
    /** Bytes from the start of the region. */
    readonly offset: number;
    /** Bytes of the part: of an ioeventfd 1, 2, 4 or 8. */
    readonly size: number;
    /** Flags for the kernel, as of `KVM_IOEVENTFD`: bit 0 is set for a `datamatch`. Default 0. */
    readonly flags?: number;
  }
  & (
    | {
      /** An eventfd. */
      readonly type: typeof IoFdType.IOEVENTFD;
      /** The only value whose write signals it; default any. */
      readonly datamatch?: bigint;
      /** The device's own eventfd. It stays the device's. */
      readonly fd?: OwnedFd | null;
    }
    | {
      /** An eventfd, and memory for the value that was written. */
      readonly type: typeof IoFdType.SHADOW_IOEVENTFD;
      /** The only value whose write signals it; default any. */
      readonly datamatch?: bigint;
      /** None: the server makes both, or the part has no descriptor. */
      readonly fd?: null;
      readonly shadow?: undefined;
    }
    | {
      /** The same, of the device's own. */
      readonly type: typeof IoFdType.SHADOW_IOEVENTFD;
      /** The only value whose write signals it; default any. */
      readonly datamatch?: bigint;
      /** The device's own eventfd. It stays the device's. */
      readonly fd: OwnedFd;
      /** The place of the value. */
      readonly shadow: ShadowPlace;
    }
    | {
      /** A socket that carries each access. */
      readonly type: typeof IoFdType.IOREGIONFD;
      /** Told with each access; default 0. */
      readonly userData?: bigint;
      /** The client's end of the device's own socket. It stays the device's. */
      readonly fd?: OwnedFd | null;
    }
  );

/** Memory that clients map. A new version of the device can go on with it: see `ServedRegion`. */
export interface AdoptableMemory {
  /** Bytes. */
  readonly size: number;
  /**
   * Becomes the memory of another region.
   *
   * @throws if it can't; it then is as it was
   */
  adopt(other: AdoptableMemory): void;
}

/** A region of a served device. */
export interface ServedRegion {
  /** `RegionFlags`: READ and WRITE are enforced; MMAP goes with `fds`. */
  readonly flags: number;
  /** Bytes of the region, above 0. */
  readonly size: number;
  /** Offset of the region in the file that a client maps; default 0. */
  readonly fdOffset?: number;
  /** Files that a client may map: with flag MMAP. The device keeps the descriptors. */
  readonly fds?: readonly OwnedFd[];
  /**
   * The memory in `fds`. Without it a device whose memory may be mapped is replaced by no new
   * version while a client is connected.
   */
  readonly memory?: AdoptableMemory;
  /** Says which areas may be mapped, and more. */
  readonly capabilities?: readonly RegionCapability[];
  /**
   * Parts that a client may access through file descriptors. A client that takes only few receives
   * the first ones.
   */
  readonly ioFds?: readonly ServedIoFd[];
  /**
   * Fills `into` with the bytes from `offset` on, all of which are in the region. A hook that
   * returns a promise is answered when that is settled; the client's next request waits.
   *
   * @throws {DeviceError} to refuse
   */
  read(offset: number, into: Uint8Array): void | Promise<void>;
  /**
   * The bytes from `offset` on in place, all of which are in the region. The server sends a long
   * read from there, without a copy by `read`. For memory, whose reading has no other effect.
   *
   * @returns exactly `length` bytes, none of which are held after the call; undefined to have
   *   `read` called instead
   * @throws {DeviceError} to refuse
   */
  view?(offset: number, length: number): Uint8Array | undefined;
  /**
   * Takes the bytes written from `offset` on, all of which are in the region. As `read`. `data`
   * holds until the hook is done.
   */
  write(offset: number, data: Uint8Array): void | Promise<void>;
}

/** An access of a client to a region, which was done. */
export interface ServedAccess {
  /** Index of the region. */
  readonly index: number;
  /** The region. */
  readonly region: ServedRegion;
  /** Bytes from its start. */
  readonly offset: number;
  /** The bytes that were read or written; they hold only for now. */
  readonly bytes: Uint8Array;
  /** True for a write. */
  readonly isWrite: boolean;
}

/** Vectors of an IRQ index of a served device. */
export interface ServedIrq {
  /** `IrqFlags`. */
  readonly flags: number;
  /** The number of vectors; 0 if the device does not have the index. */
  readonly count: number;
}

/** The client's interrupts: what it has set up to hear of the device's. */
export interface DeviceIrqs {
  /**
   * Fires a vector. A masked one fires once when it is unmasked. One with flag AUTOMASKED is masked
   * by that.
   *
   * @returns false if the client has set up no eventfd for it: the interrupt is lost
   * @throws {RangeError} if the device has no such vector
   */
  raise(index: number, vector: number): boolean;
  /**
   * Sets the level of a pin. The interrupt fires when the level goes up. While the level is up, the
   * interrupt fires again each time that it is unmasked or set up.
   *
   * @param index default INTx
   */
  setLevel(isUp: boolean, index?: number): void;
  /** Tells if the client has set up an eventfd for a vector. */
  isEnabled(index: number, vector: number): boolean;
}

/**
 * Takes an error of a device that belongs to no request of a client.
 *
 * @param doing what it was doing, in a word or two
 */
export type ErrorReport = (error: unknown, doing: string) => void;

/** The way from the device to its client, for as long as that is connected. */
export interface DeviceBus {
  /** The client's memory. */
  readonly dma: DeviceDma;
  /** The client's interrupts. */
  readonly irqs: DeviceIrqs;
}

/**
 * Takes the state of a device that was saved elsewhere. `StateReader` checks a stream and keeps it
 * until all of it has come.
 */
export interface MigrationSink {
  /**
   * Takes the next bytes of the stream, cut anywhere. They hold until the hook is done.
   *
   * @throws to refuse: nothing more is taken, `abort` is called, and the device keeps the state
   *   that it had
   */
  write(data: Uint8Array): void | Promise<void>;
  /**
   * All of the stream has come: checks it as a whole, and only then puts the device into that
   * state. Not called if nothing has come.
   *
   * @throws to refuse: `abort` is called, and the device keeps the state that it had
   */
  commit(): void | Promise<void>;
  /** Discards what has come: the stream will not be completed. */
  abort(): void;
  /**
   * True if what has come has changed the device, which then has no state to keep. A stream that is
   * refused or ends early leaves the device in ERROR. Default false.
   */
  readonly hasChanged?: boolean;
}

/**
 * Hooks of a device for its migration. The server handles the states and the messages, and calls
 * the hooks one at a time.
 *
 * A chunk of a stream holds until the next chunk is asked for, so that a device may fill one buffer
 * again and again. `StateWriter` does. An empty one of `preCopy` says that there is nothing for
 * now; one of `stopCopy` is passed over.
 */
export interface ServedMigration {
  /**
   * The device is to stand still: no DMA and no interrupts of its own from when this is settled.
   *
   * @throws if it can't: the device is then in the state ERROR, which only a reset ends
   */
  stop?(): void | Promise<void>;
  /** It works again. As `stop`. */
  start?(): void | Promise<void>;
  /**
   * State that may be saved while the device runs. A device without this hook has no PRE_COPY. The
   * server ends the stream early (`return`) when the state is left; chunks yielded so far remain
   * part of the stream if that goes on. A reset meanwhile leaves the stream as it is: the chunks of
   * `stopCopy` then include all that the reset has changed.
   */
  preCopy?(): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /**
   * The state of the device, which stands still.
   *
   * @param continues true if the stream has begun with `preCopy`, which was asked for a chunk at
   *   least. Then `stopCopy` yields only the rest; else all of the state
   */
  stopCopy(continues: boolean): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /** Saving has ended, complete or early: frees what was kept for it. */
  saveEnded?(): void;
  /** Begins to take a state. */
  resume(): MigrationSink;
}

/** Hooks of a device that is replaced by a new version of it while it is served. */
export interface ServedSuccession {
  /** As `ServedMigration.stop`. */
  stop(): void | Promise<void>;
  /** As `ServedMigration.start`. */
  start(): void | Promise<void>;
  /**
   * Takes the state of the version that goes. Both stand still.
   *
   * @returns what of the state is lost, in words; undefined to be given the stream of its migration
   * @throws if the state can't be taken: this version is closed, and the old one goes on as it was
   */
  take(old: ServedDevice): Promise<readonly string[]> | undefined;
}

/**
 * The change for which a device is to be quiet: DMA_MAP, DMA_UNMAP, a state in which the device
 * stands still, DEVICE_RESET.
 */
export type QuietReason = "map" | "unmap" | "stop" | "reset";

/**
 * The cause of a reset: DEVICE_RESET, a function level reset, or the end of the client, of a device
 * with `resetsWithClient`.
 */
export type ResetReason = "device" | "flr" | "disconnected";

/**
 * A device that can be served. Its state outlives its clients.
 *
 * @example Writing an IOVA to this one has it add up the 16 bytes there, and raise an interrupt
 * ```ts
 * import { IrqFlags } from "../wire/irq.ts";
 * import { RegionFlags } from "../wire/region.ts";
 * import type { DeviceBus, ServedDevice } from "./served_device.ts";
 *
 * let bus: DeviceBus | undefined;
 * let sum = 0;
 * const adder: ServedDevice = {
 *   flags: 0,
 *   regions: [{
 *     flags: RegionFlags.READ | RegionFlags.WRITE,
 *     size: 8,
 *     read: (_offset, into) => void into.fill(sum),
 *     async write(_offset, data) {
 *       const iova = new DataView(data.buffer, data.byteOffset).getBigUint64(0, true);
 *       const bytes = await bus!.dma.read(iova, 16); // fails with EFAULT if it is not mapped
 *       sum = bytes.reduce((a, b) => a + b) & 0xff;
 *       bus!.irqs.raise(0, 0);
 *     },
 *   }],
 *   irqs: [{ flags: IrqFlags.EVENTFD, count: 1 }],
 *   connected: (client) => void (bus = client),
 *   disconnected: () => void (bus = undefined),
 *   reset: () => void (sum = 0),
 * };
 * console.assert(adder.regions.length === 1);
 * ```
 */
export interface ServedDevice {
  /** `DeviceFlags`: RESET, PCI. */
  readonly flags: number;
  /** By region index; undefined where the device has none. */
  readonly regions: readonly (ServedRegion | undefined)[];
  /** By IRQ index. */
  readonly irqs: readonly ServedIrq[];
  /** Saves and restores the state of the device, if it can migrate. */
  readonly migration?: ServedMigration;
  /**
   * Hands the state of the device on to a new version of it in this process, for
   * `Server.replaceDevice`. Default: as `migration` does.
   */
  readonly succession?: ServedSuccession;
  /**
   * A server has taken the device, which may `report` errors that belong to no request from now on.
   *
   * @param activity hears when the thread enters and leaves what the device does by itself
   */
  served?(report: ErrorReport, activity?: Activity): void;
  /**
   * A client has agreed on a version; it has mapped and set up nothing yet. If this hook throws,
   * the client is refused. An asynchronous result is not awaited.
   */
  connected?(bus: DeviceBus): void;
  /**
   * The client is gone: its memory is unmapped, its interrupts go nowhere, pending accesses fail.
   */
  disconnected?(): void;
  /**
   * A change of the client's is to come. The server waits until the hook is done: the device ends
   * its work in flight first. The client's next requests wait as well, its answers to DMA do not.
   *
   * The server waits 4 s, or as its option `quiesceTimeoutMs` says. After that the client receives
   * ETIMEDOUT, nothing changes, and the server reports it.
   *
   * @throws {DeviceError} to refuse: the client receives the errno, and nothing changes
   */
  quiesce?(reason: QuietReason): void | Promise<void>;
  /**
   * The client has mapped a range. It is not asked for again when the client repeats a DMA_MAP.
   *
   * @throws {DeviceError} to refuse: the range is unmapped, and `unmapped` is not called
   */
  mapped?(range: DmaRange): void;
  /** The client has unmapped a range, or has gone: it can't be accessed any more. */
  unmapped?(range: DmaRange): void;
  /**
   * The client has masked or unmasked a vector, by DEVICE_SET_IRQS or by an eventfd for that. A
   * vector that the client disables is unmasked, too. An interrupt that masks itself is not
   * reported, and neither is the end of the connection.
   *
   * @param index `PciIrq`, of a PCI device
   */
  masked?(index: number, vector: number, isMasked: boolean): void;
  /** True if the server resets the device when its client is gone. Default false: it is kept. */
  readonly resetsWithClient?: boolean;
  /** Resets it. */
  reset(reason: ResetReason): void | Promise<void>;
  /** Frees what it holds. No client is connected any more. */
  close?(): void;
}
