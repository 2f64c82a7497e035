/**
 * One device of a definition, as it is served.
 *
 * @module
 */

import { COMMAND, HEADER } from "../pci/registers.ts";
import type { DeviceDma, DmaRange } from "../server/device_dma.ts";
import type {
  DeviceBus,
  ErrorReport,
  QuietReason,
  ResetReason,
  ServedDevice,
  ServedMigration,
  ServedRegion,
} from "../server/served_device.ts";
import { DeviceFlags } from "../wire/device.ts";
import { PciRegion } from "../wire/region.ts";
import { checkParts, checkPci, REGION_NAMES } from "./check.ts";
import { ConnectedMemory } from "./client_memory.ts";
import type { DeviceHost } from "./definition.ts";
import { MACHINE_CLOCK } from "./device_clock.ts";
import type { DeviceContext, DeviceParts, DeviceRegions, DeviceSpec } from "./spec.ts";
import { IndexInterrupts } from "./index_interrupts.ts";
import { type BusState, KeptState } from "./bus_state.ts";
import { DeviceInterrupts, type Interrupts, type ServedInterrupts } from "./interrupts.ts";
import { MsixTable } from "./msix.ts";
import type { DeviceOptions, OptionValues } from "./option.ts";
import { buildConfig, type BuiltConfig, declareBars, openCapability, type PciSpec } from "./pci.ts";
import {
  assertFunction,
  Attempts,
  checkOptions,
  DefinitionError,
  type Forms,
  isObject,
  NUMBER,
} from "./mistakes.ts";
import { type DevicePollOptions, Polls } from "./polls.ts";
import { type DeviceRegion, resetAll } from "./device_region.ts";
import { type DeviceMemoryRegion, memory, type MemoryOptions } from "./memory.ts";
import { handedOut, sealed } from "./sealed.ts";
import { DeviceMigration, isStateStream, type StateHooks, type StateStream } from "./state.ts";
import { DeviceSuccession } from "./succession.ts";
import type { Activity } from "../server/activity.ts";
import { DeviceTasks } from "./tasks.ts";
import { type DeviceTimers, Timers } from "./timers.ts";

/** The regions that have base address registers, by index; the ROM's is one of its own. */
const BAR_NAMES = REGION_NAMES.filter((name) => name !== "vga");

/** Device Control, in the PCI Express capability, and the bit that resets. */
const DEVCTL = 8;
const DEVCTL_FLR = 0x8000;

const IRQ_NAMES = {
  intx: true,
  msi: true,
  msix: true,
  error: true,
  request: true,
  at: true,
  pin: true,
} as const;

/** The configuration space, which no client sees, of a device that is not on the PCI bus. */
const NO_PCI: PciSpec = { vendor: 0, device: 0, needsBusMaster: false };
const BUS_NAMES = { save: true, restore: true } as const;
const TIMERS_NAMES = { after: true, every: true, clear: true } as const;
const DMA_NAMES = {
  read: true,
  readInto: true,
  write: true,
  readSync: true,
  writeSync: true,
  view: true,
  window: true,
  maps: true,
  copyTo: true,
  copyFrom: true,
} as const;
const POLL_OPTIONS: Forms<DevicePollOptions> = { spinMs: NUMBER, idleMs: NUMBER };

/** A device that was made of a definition. */
export class DefinedDevice<O extends DeviceOptions> implements ServedDevice {
  /** RESET, and PCI for a device on that bus. */
  readonly flags: number;
  /** By region index. */
  readonly regions: readonly (ServedRegion | undefined)[];
  /** By IRQ index. */
  readonly irqs: ServedInterrupts["served"];
  /** As `ServedDevice.quiesce`, if the device has such a hook. */
  readonly quiesce?: (reason: QuietReason) => void | Promise<void>;
  /** As `DeviceSpec.resetsWithClient`. */
  readonly resetsWithClient: boolean;
  /** The hooks of its migration, if it migrates. */
  readonly migration?: ServedMigration;
  /** The hooks of its replacement by a new version. */
  readonly succession: DeviceSuccession;
  readonly #parts: DeviceParts;
  readonly #resources: DisposableStack;
  readonly #built: BuiltConfig;
  readonly #regions: readonly DeviceRegion[];
  readonly #byIndex: readonly (DeviceRegion | undefined)[];
  readonly #irq: ServedInterrupts;
  readonly #dma: ConnectedMemory;
  readonly #tasks = new DeviceTasks();
  readonly #timers: Timers;
  readonly #polls = new Polls(this.#tasks);
  readonly #closing = new AbortController();
  #pauses = 0; // how often it was to stand still, or to go on

  /**
   * As `DeviceDefinition.create`.
   *
   * @param resources what is made for the device: `close` disposes it, or the caller if this throws
   */
  constructor(
    spec: DeviceSpec<O>,
    options: OptionValues<O>,
    { log, clock = MACHINE_CLOCK }: DeviceHost,
    resources: DisposableStack,
  ) {
    this.#resources = resources;
    this.resetsWithClient = spec.resetsWithClient ?? false;
    this.#timers = new Timers(this.#tasks, clock);
    const isPci = spec.pci !== false;
    this.flags = DeviceFlags.RESET | (isPci ? DeviceFlags.PCI : 0);
    const pci = typeof spec.pci === "function" ? spec.pci(options) : spec.pci || NO_PCI;
    if (typeof spec.pci === "function") checkPci(spec.name, pci);
    const built = this.#built = buildConfig(pci, `Cannot make the device ${spec.name}`);
    const msix = pci.capabilities?.find((each) => each.msix !== undefined)?.msix;
    const table = msix && new MsixTable(msix, () => this.#irq.refresh());
    this.#irq = isPci
      ? new DeviceInterrupts(pci, built, table)
      : new IndexInterrupts(spec.interrupts ?? []);
    this.irqs = this.#irq.served;
    const isMaster = () => (built.config.get16(HEADER.COMMAND) & COMMAND.MASTER) !== 0;
    const isBusMaster = pci.needsBusMaster === false ? () => true : isMaster;
    this.#dma = new ConnectedMemory(isBusMaster);
    const parts = spec.create(sealed<DeviceContext<O>>({
      options,
      memory: (options) => this.#makeMemory(options),
      irq: handedOut<Interrupts>("irq", this.#irq, IRQ_NAMES),
      dma: handedOut<DeviceDma>("dma", this.#dma, DMA_NAMES),
      isBusMaster,
      timers: handedOut<DeviceTimers>("timers", this.#timers, TIMERS_NAMES),
      poll: (look, options) => {
        assertFunction("Cannot make a poll", look);
        if (options !== undefined) {
          checkOptions("Cannot make a poll", "poll", options, POLL_OPTIONS);
        }
        return this.#polls.make(look, options);
      },
      bus: handedOut<BusState>(
        "bus",
        new KeptState(built.config, [...this.#irq.contents, ...table?.contents ?? []]),
        BUS_NAMES,
      ),
      capability: (declared, hooks) => openCapability(built, declared, hooks),
      turn: () => this.#dma.turn(),
      run: (task) => {
        assertFunction("Cannot run a background task", task);
        this.#tasks.run("background task", task);
      },
      log: log ?? (() => {}),
      signal: this.#closing.signal,
    }, { path: "context" }));
    this.#parts = parts;
    try {
      checkParts(spec.name, parts, isPci);
      const regions = isListed(parts.regions)
        ? parts.regions
        : declareRegions(spec.name, parts.regions, { built, table, pci });
      this.#byIndex = regions;
      this.#regions = regions.filter((each) => each !== undefined);
      this.regions = isPci
        ? Array.from(regions, (each, i) => i === PciRegion.CONFIG ? built.config : each)
        : regions;
      this.#watchReset(pci);
    } catch (error) {
      discard(parts);
      throw error;
    }
    const migration = this.#makeMigration(spec.name, pci);
    if (migration !== undefined) this.migration = migration;
    this.succession = new DeviceSuccession({
      isPci,
      config: built.config,
      interrupts: this.#irq.contents,
      regions: this.#byIndex,
      ...hooksOf(parts.state),
      heldTasks: () => this.#tasks.held(),
      refresh: () => this.#irq.refresh(),
      stop: () => this.#stop(),
      start: () => this.#start(),
    });
    if (parts.quiesce !== undefined) this.quiesce = (reason) => parts.quiesce!(reason);
  }

  /** Errors of timers and background tasks go there. */
  served(report: ErrorReport, activity?: Activity): void {
    this.#tasks.report = report;
    this.#tasks.activity = activity;
  }

  /** Its interrupts and its DMA go to this client now, unless the device's hook refuses it. */
  connected({ dma, irqs }: DeviceBus): void {
    this.#dma.connect(dma);
    this.#irq.connect(irqs);
    this.#polls.isConnected = true;
    try {
      // a promise, if the hook is asynchronous: its failure is reported
      return this.#parts.connected?.();
    } catch (error) {
      this.#disconnect();
      throw error;
    }
  }

  /** As `ServedDevice.mapped`. */
  mapped(range: DmaRange): void {
    return this.#parts.mapped?.(range);
  }

  /** As `ServedDevice.unmapped`. */
  unmapped(range: DmaRange): void {
    return this.#parts.unmapped?.(range);
  }

  /** As `ServedDevice.masked`. */
  masked(index: number, vector: number, isMasked: boolean): void {
    return this.#parts.masked?.(index, vector, isMasked);
  }

  /** They go nowhere. */
  disconnected(): void {
    this.#disconnect();
    return this.#parts.disconnected?.();
  }

  #disconnect(): void {
    this.#dma.disconnect();
    this.#irq.disconnect();
    this.#polls.isConnected = false;
  }

  /**
   * Puts configuration space and registers back, then calls the device's own reset. Background work
   * ends first.
   */
  reset(reason: ResetReason = "device"): void | Promise<void> {
    this.#timers.clear();
    this.#polls.clear();
    const idle = this.#tasks.idle();
    if (idle === undefined) return this.#reset(reason);
    this.#dma.isCancelled = true;
    return idle.then(() => this.#reset(reason));
  }

  #reset(reason: ResetReason): void | Promise<void> {
    this.#dma.isCancelled = false;
    this.#timers.clear(); // what ran in the background may have set some
    this.#polls.clear();
    this.#tasks.held()(); // of a device that stands still: what a client began meanwhile
    this.#built.config.reset();
    const late = resetAll(this.#regions);
    this.#irq.reset();
    const own = () => this.#parts.reset?.(reason);
    return late === undefined ? own() : late.then(own);
  }

  /** Ends timers and polls, aborts the signal, frees the device's own and the memory. */
  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#timers.close();
    this.#polls.close();
    this.#tasks.close();
    this.#closing.abort(new DOMException("The device is closed", "AbortError"));
    try {
      return this.#parts.close?.();
    } finally {
      for (const each of this.#regions) each.close?.();
      this.#resources.dispose();
    }
  }

  #makeMemory(options: MemoryOptions): DeviceMemoryRegion {
    if (this.#resources.disposed) {
      throw new Error("Cannot make a region of memory: the device is closed, or was not made");
    }
    return this.#resources.use(memory(options));
  }

  /** A client may reset the device by PCI Express's Device Control. */
  #watchReset({ capabilities = [] }: PciSpec): void {
    const express = capabilities.find((each) => each.flr);
    if (express === undefined) return;
    const { config, placeOf } = this.#built;
    const at = placeOf.get(express)! + DEVCTL;
    config.onWrite(at, 2, () => {
      const control = config.get16(at);
      if ((control & DEVCTL_FLR) === 0) return;
      config.bytes[at + 1]! &= ~(DEVCTL_FLR >> 8); // it reads as 0
      return this.reset("flr");
    });
  }

  /** A migration whose stream is the device's own. */
  #ownStream(state: StateStream): ServedMigration {
    return {
      ...(state.preCopy && { preCopy: () => state.preCopy!() }),
      stopCopy: (continues) => state.stopCopy(continues),
      saveEnded: () => state.saveEnded?.(),
      resume: () => state.resume(),
      stop: () => this.#stop(),
      start: () => this.#start(),
    };
  }

  #makeMigration(name: string, pci: PciSpec): ServedMigration | undefined {
    const { state: chosen } = this.#parts;
    if (chosen && isStateStream(chosen)) return this.#ownStream(chosen);
    const { state } = hooksOf(chosen);
    const knowsAll = this.#regions.every((each) => each.contents !== undefined);
    if (state === false || (state === undefined && !knowsAll)) return undefined;
    return new DeviceMigration({
      identity: {
        name,
        vendor: pci.vendor,
        device: pci.device,
        subsystemVendor: pci.subsystem?.vendor ?? 0,
        subsystem: pci.subsystem?.device ?? 0,
        version: state?.version ?? 1,
      },
      regions: this.regions,
      contents: [
        this.#built.config.bytes,
        ...this.#irq.contents,
        ...this.#regions.flatMap(({ contents }) => contents ?? []),
        ...(state?.bytes ?? []),
      ],
      config: this.#built.config,
      resetRegions: () => resetAll(this.#regions),
      state,
      heldTasks: () => this.#tasks.held(),
      stop: () => this.#stop(),
      start: () => this.#start(),
    });
  }

  /** Settled when nothing of the device runs. */
  async #stop(): Promise<void> {
    const pause = ++this.#pauses;
    this.#timers.stop();
    this.#polls.stop();
    await this.#tasks.stop();
    if (pause === this.#pauses) await this.#parts.stop?.(); // else it goes on already
  }

  /** It goes on, perhaps with a state that was restored. */
  #start(): void {
    this.#pauses++;
    this.#irq.refresh();
    this.#parts.start?.();
    this.#tasks.start();
    this.#timers.start();
    this.#polls.start();
  }
}

/** The state of a device that the kit carries; without hooks if it is a stream of its own form. */
function hooksOf(
  state: DeviceParts["state"],
): { state: StateHooks | false | undefined; isOwnStream: boolean } {
  if (state && isStateStream(state)) return { state: undefined, isOwnStream: true };
  return { state, isOwnStream: false };
}

/**
 * Frees what a `create` returned for a device that can't be made, of whatever form it is. What an
 * asynchronous one returns is freed when it comes.
 */
function discard(parts: unknown): void {
  if (parts instanceof Promise) return void parts.then(discard, () => {});
  if (!isObject(parts)) return;
  const regions = isObject(parts["regions"]) ? Object.values(parts["regions"]) : [];
  for (const each of [...regions, parts]) {
    if (isObject(each) && typeof each["close"] === "function") each["close"]();
  }
}

/**
 * Declares the base address registers. Returns the regions by index, but for configuration space.
 *
 * @throws {RangeError} for a BAR that can't be
 * @throws {DefinitionError} if MSI-X does not fit, or with all mistakes
 */
function declareRegions(
  name: string,
  regions: DeviceRegions,
  { built, table, pci }: {
    built: BuiltConfig;
    table: MsixTable | undefined;
    pci: PciSpec;
  },
): (DeviceRegion | undefined)[] {
  const doing = `Cannot make the device ${name}`;
  const attempts = new Attempts();
  const capability = pci.capabilities?.find((each) => each.msix !== undefined);
  const below = capability?.msix && regions[`bar${capability.msix.bar}` as keyof DeviceRegions];
  const misfit = below && table?.misfit(below);
  attempts.try(() => {
    if (misfit) throw new DefinitionError(doing, [misfit]);
  }, capability);
  const bars = regionsOf(regions, misfit ? undefined : table, capability?.msix?.bar);
  declareBars(built, bars, attempts);
  attempts.throwAny(doing);
  bars[PciRegion.VGA] = regions.vga;
  return bars;
}

function isListed(
  regions: DeviceParts["regions"],
): regions is readonly (DeviceRegion | undefined)[] {
  return Array.isArray(regions);
}

/**
 * The regions of base address registers and of the ROM, by index. MSI-X lies on top of one of them.
 */
function regionsOf(
  regions: DeviceRegions,
  table: MsixTable | undefined,
  msixBar: number | undefined,
): (DeviceRegion | undefined)[] {
  return BAR_NAMES.map((key, index) => {
    const region = regions[key];
    return table !== undefined && index === msixBar ? table.region(region) : region;
  });
}
