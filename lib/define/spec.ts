/**
 * The form of a device's definition.
 *
 * @module
 */

import type { DeviceDma, DmaRange } from "../server/device_dma.ts";
import type { QuietReason, ResetReason } from "../server/served_device.ts";
import type { CapabilityHooks, DeviceCapability } from "./capability.ts";
import type { InterruptSpec } from "./index_interrupts.ts";
import type { Interrupts } from "./interrupts.ts";
import type { DeviceOptions, OptionValues } from "./option.ts";
import type { PciSpec } from "./pci.ts";
import type { DevicePoll, DevicePollOptions, PollLook } from "./polls.ts";
import type { DeviceRegion } from "./device_region.ts";
import type { DeviceMemoryRegion, MemoryOptions } from "./memory.ts";
import type { BusState } from "./bus_state.ts";
import type { StateHooks, StateStream } from "./state.ts";
import type { DeviceTimers } from "./timers.ts";

/** The context of a device that is made: the ways to its client, and its time. */
export interface DeviceContext<O extends DeviceOptions = DeviceOptions> {
  /** The chosen values. */
  readonly options: OptionValues<O>;
  /**
   * Makes a region of memory that belongs to the device. It is freed when the device is closed, and
   * when making the device fails. After that `memory` makes no more, and throws.
   */
  readonly memory: (options: MemoryOptions) => DeviceMemoryRegion;
  /** Its interrupts. */
  readonly irq: Interrupts;
  /**
   * The client's memory. Besides the errors of {@linkcode DeviceDma}, accesses fail with EPERM
   * while COMMAND's bus master enable is off, and with ENXIO while no client is connected. Now and
   * then an access waits for a turn of the event loop. So a device that makes one access after the
   * other does not block the server's other work.
   */
  readonly dma: DeviceDma;
  /**
   * Tells if the device may access the client's memory now: COMMAND's bus master enable is on, or
   * the device does without.
   */
  readonly isBusMaster: () => boolean;
  /** The state that the kit keeps, for a device that migrates in a form of its own. */
  readonly bus: BusState;
  /**
   * The bytes of a capability that the device declares, as they are in configuration space: from
   * its id on. With hooks the device hears of the client's accesses. A reset puts back what was
   * declared.
   *
   * @throws {RangeError} if the device does not declare it, or has no such bytes
   */
  readonly capability: (declared: DeviceCapability, hooks?: CapabilityHooks) => Uint8Array;
  /** Its timers. A reset ends them. */
  readonly timers: DeviceTimers;
  /**
   * Makes a poll, for work that a client announces in memory which it has mapped: `look` does one
   * piece of it. The poll looks busily while there is work, and by timer when idle. It begins with
   * `start`; a reset ends it. See {@linkcode DevicePoll}.
   */
  readonly poll: (look: PollLook, options?: DevicePollOptions) => DevicePoll;
  /**
   * Lets other work of the thread go on: `await turn()` belongs into every loop whose length a
   * client decides. The loops of all devices share a budget of one millisecond. While it lasts,
   * `turn` returns undefined, which costs 0.1 microseconds. Reads and writes of `dma` do that by
   * themselves; a loop over `dma.view`, or over the device's own memory, has to.
   *
   * Throws a `DeviceError` with ECANCELED during a reset, so that the loop ends.
   */
  readonly turn: () => Promise<void> | undefined;
  /**
   * Does something in the background, so that a client that started the task need not wait. A
   * reset, and standing still for the migration, wait until the task is done. So the task may not
   * itself wait for a timer, and has to end some time. During a reset its DMA fails with ECANCELED.
   * Errors that the task throws are reported to the server.
   */
  readonly run: (task: () => Promise<void>) => void;
  /** Logs a line for the user who serves the device. */
  readonly log: (line: string) => void;
  /** Aborted when the device is closed. */
  readonly signal: AbortSignal;
}

/** The regions of a device, by their names. */
export interface DeviceRegions {
  /** Base address register 0, and so on. */
  readonly bar0?: DeviceRegion;
  /** See bar0. */
  readonly bar1?: DeviceRegion;
  /** See bar0. */
  readonly bar2?: DeviceRegion;
  /** See bar0. */
  readonly bar3?: DeviceRegion;
  /** See bar0. */
  readonly bar4?: DeviceRegion;
  /** See bar0. */
  readonly bar5?: DeviceRegion;
  /** The expansion ROM. */
  readonly rom?: DeviceRegion;
  /** VGA's ranges. */
  readonly vga?: DeviceRegion;
}

/** The regions and hooks of one device. */
export interface DeviceParts {
  /** Its regions: by name, or by index for a device that is not on the PCI bus. */
  readonly regions: DeviceRegions | readonly (DeviceRegion | undefined)[];
  /**
   * Resets state that is in no register. Configuration space and registers hold their reset values
   * already, timers are ended, and nothing runs in the background. The hook decides about memory.
   *
   * @param reason DEVICE_RESET, a function level reset, or the end of the client, of a device with
   *   `resetsWithClient`
   */
  reset?(reason: ResetReason): void | Promise<void>;
  /** A client has connected; it has mapped and set up nothing yet. */
  connected?(): void;
  /** The client is gone. */
  disconnected?(): void;
  /**
   * The client has mapped a range of its memory.
   *
   * @throws {DeviceError} to refuse: the range is unmapped
   */
  mapped?(range: DmaRange): void;
  /** The client has unmapped a range, or has gone: it can't be accessed any more. */
  unmapped?(range: DmaRange): void;
  /**
   * The client has masked or unmasked a vector by its requests, whatever the device's own mask bits
   * say. An interrupt that is raised meanwhile is pending, and fires after that. See
   * `ServedDevice.masked` for what is not reported.
   *
   * @param index `PciIrq`
   */
  masked?(index: number, vector: number, isMasked: boolean): void;
  /**
   * A DMA_MAP, a DMA_UNMAP, a reset, or a state in which the device stands still is to come: ends
   * the work in flight. See `ServedDevice.quiesce` for how long it may take.
   *
   * @throws {DeviceError} to refuse: the client receives the errno, and nothing changes
   */
  quiesce?(reason: QuietReason): void | Promise<void>;
  /**
   * Stops, for a migration, work of the device that neither `run` nor timers nor polls know. When
   * the hook is done, the device does no DMA and raises no interrupts.
   */
  stop?(): void | Promise<void>;
  /** The device goes on, perhaps in a state that was restored. */
  start?(): void;
  /** Frees what the device holds. */
  close?(): void;
  /**
   * State that is in no register and no memory, so that the device can migrate. Without it the
   * registers and memory are the whole state; a device with callbacks does not migrate then.
   * `false`: the device does not migrate.
   *
   * With `stopCopy` and `resume` the device has a stream in a form of its own.
   */
  readonly state?: StateHooks | StateStream | false;
}

/** A device as it is written. */
export interface DeviceSpec<O extends DeviceOptions> {
  /** Its name: a word, as "gpio". */
  readonly name: string;
  /** The device in a few words. */
  readonly title?: string;
  /** Options that can be chosen when a device is made. */
  readonly options?: O;
  /**
   * The device on the PCI bus; the declaration may depend on the options. `false`: it is not on
   * that bus. Such a device has regions and interrupts by index, and no configuration space.
   */
  readonly pci: PciSpec | ((options: OptionValues<O>) => PciSpec) | false;
  /** The IRQ indexes of a device that is not on the PCI bus, from 0 on. Default none. */
  readonly interrupts?: readonly InterruptSpec[];
  /**
   * True if a device starts anew for each client: it is reset when its client is gone, and the next
   * client waits for that. Default false: the next client finds it as the last one left it.
   */
  readonly resetsWithClient?: boolean;
  /** Makes one. */
  create(context: DeviceContext<O>): DeviceParts;
}
