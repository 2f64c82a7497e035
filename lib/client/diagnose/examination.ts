/**
 * Reads of a device for evidence: they may fail, and all of them together take a bounded time.
 *
 * @module
 */

import { monotonicMs } from "../../../ffi/clock.ts";
import { RemoteError } from "../../base/errors.ts";
import { BAR_BITS, COMMAND, HEADER, HEADER_NORMAL } from "../../pci/registers.ts";
import { PciRegion } from "../../wire/region.ts";
import type { Device } from "../device.ts";
import type { DeviceInfo, IrqInfo, RegionInfo, Width } from "../info.ts";
import type { IrqIndex } from "../irq.ts";

/** Limit of all reads together, in milliseconds. */
const BUDGET_MS = 1000;
/** Vectors that are looked at. */
const MAX_VECTORS = 16;
const BAR_COUNT = 6;

/** An access to a register that a read does not change. */
export interface HarmlessRead {
  /** The region index. */
  readonly region: number;
  /** Bytes from its start. */
  readonly offset: number;
  /** Bytes of the access. */
  readonly width: Width;
}

/** Options of an {@linkcode Examination}. */
export interface ExaminationOptions {
  /** Limit of all reads together, in milliseconds; default 1000. */
  readonly budgetMs?: number;
  /** Limit of each read, in milliseconds; default what is left for all. */
  readonly answerMs?: number;
  /** The IRQ index of which an interrupt did not come. */
  readonly irqs?: IrqIndex;
  /** Its vectors; default those that are enabled. */
  readonly vectors?: readonly number[];
  /** True to read a register of each BAR, for a comparison with the flags of the region. */
  readonly readBars?: boolean;
  /** Registers that may be read for that. */
  readonly harmless?: readonly HarmlessRead[];
}

/** A BAR with a region behind it. */
export interface BarState {
  /** 0 to 5. */
  readonly index: number;
  /** Bytes of its region. */
  readonly size: bigint;
  /** True if it decodes I/O ports. */
  readonly isIo: boolean;
  /** Its address; 0 if it has none. */
  readonly address: bigint;
  /** The value of its register, or of the lower one of two. */
  readonly low: number;
}

/** The outcome of an access: the server's answer, or the refusal. */
export type Tried = { readonly value: number } | { readonly refusal: RemoteError };

/** Reads of one device. None of them throws: what can't be read is undefined. */
export class Examination {
  readonly device: Device;
  /** The IRQ index of which an interrupt did not come. */
  readonly irqs: IrqIndex | undefined;
  readonly options: ExaminationOptions;
  readonly #deadline: number;
  readonly #known = new Map<string, Promise<unknown>>();
  #failure: unknown;
  #isOver = false;

  /** Reads of `device` within the time from now on. */
  constructor(device: Device, options: ExaminationOptions = {}) {
    this.device = device;
    this.irqs = options.irqs;
    this.options = options;
    this.#deadline = monotonicMs() + this.budgetMs;
  }

  /** True if the device did not answer in time, or the connection ended. */
  get isOver(): boolean {
    return this.#isOver || this.device.state !== "CONNECTED" || monotonicMs() >= this.#deadline;
  }

  /** The failure that ended the reads; undefined if they took too long together, or go on. */
  get failure(): unknown {
    return this.#failure;
  }

  /** The time for all reads together, in milliseconds. */
  get budgetMs(): number {
    return this.options.budgetMs ?? BUDGET_MS;
  }

  /** The facts about the device. */
  info(): Promise<DeviceInfo | undefined> {
    return this.#once("info", (wait) => this.device.info(wait));
  }

  /** The facts about a region. */
  regionInfo(index: number): Promise<RegionInfo | undefined> {
    return this.#once(`region ${index}`, (wait) => this.device.regionInfo(index, wait));
  }

  /** The facts about an IRQ index. */
  irqInfo(index: number): Promise<IrqInfo | undefined> {
    return this.#once(`irq ${index}`, (wait) => this.device.irqInfo(index, wait));
  }

  /** The server's refusal to tell about an IRQ index; undefined if it tells. */
  async irqRefusal(index: number): Promise<RemoteError | undefined> {
    return await this.#once(`refusal of irq ${index}`, async (wait) => {
      try {
        await this.device.irqInfo(index, wait);
      } catch (error) {
        if (error instanceof RemoteError) return error;
        throw error;
      }
      return undefined;
    });
  }

  /** COMMAND; undefined if the device is no PCI device, or does not answer. */
  async command(): Promise<number | undefined> {
    const command = await this.#onceConfig(HEADER.COMMAND, 2);
    return command === 0xffff ? undefined : command; // ones only: there is no function
  }

  /** True if no function answers in the configuration space: all ones. */
  async isGone(): Promise<boolean> {
    return await this.config(HEADER.VENDOR_ID, 4) === 0xffff_ffff;
  }

  /** A capability and its control register; undefined if the device has none of that name. */
  async control(name: string): Promise<{ at: number; control: number } | undefined> {
    if (await this.command() === undefined) return undefined;
    const at = await this.capability(name);
    const control = at === undefined ? undefined : await this.#onceConfig(at + 2, 2);
    return at === undefined || control === undefined ? undefined : { at, control };
  }

  /** The vectors to look at, of a capability that has `count` of them. */
  vectors(count: number): readonly number[] {
    const { irqs, vectors } = this.options;
    if (vectors !== undefined || irqs !== undefined) {
      return (vectors ?? irqs!.enabled).slice(0, MAX_VECTORS);
    }
    return Array.from({ length: Math.min(count, MAX_VECTORS) }, (_, vector) => vector);
  }

  /** The BARs of a function with an ordinary header that have regions. */
  async bars(): Promise<BarState[]> {
    if (await this.command() === undefined) return [];
    const type = await this.config(HEADER.HEADER_TYPE, 1);
    if (type === undefined || (type & 0x7f) !== 0) return [];
    const bars: BarState[] = [];
    for (let index = 0; index < BAR_COUNT; index++) {
      const at = HEADER_NORMAL.BASE_ADDRESS_0 + index * 4;
      const low = await this.#onceConfig(at, 4);
      if (low === undefined) continue;
      const isIo = (low & BAR_BITS.IO) !== 0;
      const is64Bit = !isIo && (low & BAR_BITS.TYPE_MASK) === BAR_BITS.TYPE_64 &&
        index + 1 < BAR_COUNT;
      const high = is64Bit ? await this.#onceConfig(at + 4, 4) ?? 0 : 0;
      const address = (BigInt(high) << 32n) | BigInt((low & ~(isIo ? 0x3 : 0xf)) >>> 0);
      const size = (await this.regionInfo(index))?.size ?? 0n;
      if (size > 0n) bars.push({ index, size, isIo, address, low });
      if (is64Bit) index++;
    }
    return bars;
  }

  /** True if the device answers accesses to a BAR: it has an address, and its decoder is on. */
  async isDecoded({ address, isIo }: BarState): Promise<boolean> {
    const command = await this.command();
    return address !== 0n && command !== undefined &&
      (command & (isIo ? COMMAND.IO : COMMAND.MEMORY)) !== 0;
  }

  /** The number at an offset of a region. */
  async read(region: number, offset: number, width: Width): Promise<number | undefined> {
    const info = await this.regionInfo(region);
    if (info === undefined || info.size < BigInt(offset + width)) return undefined;
    return await this.#attempt(async (wait) => {
      const options = { ...wait, explain: false };
      return Number(await this.device.region(region).readWidthAsync(offset, width, options));
    });
  }

  /** The outcome of a read by message, whatever the flags of the region say. */
  async tryRead(
    region: number,
    offset: number,
    width: Width,
  ): Promise<Tried | undefined> {
    return await this.#attempt(async (wait): Promise<Tried> => {
      try {
        const bytes = await this.device.readRegion(region, BigInt(offset), width, wait);
        return { value: bytes.reduceRight((value, byte) => value * 256 + byte, 0) };
      } catch (error) {
        if (error instanceof RemoteError) return { refusal: error };
        throw error;
      }
    });
  }

  /** The number at an offset of the configuration space. */
  config(offset: number, width: Width): Promise<number | undefined> {
    return this.read(PciRegion.CONFIG, offset, width);
  }

  /** The offset of a capability by its name. */
  capability(name: string): Promise<number | undefined> {
    return this.#once(name, (wait) => this.device.pci.capability(name, 0, wait));
  }

  /** The state of the migration of a device that can tell. */
  async migrationState(): Promise<string | undefined> {
    // A server of 0.0 may lose step over the question, as Cloud Hypervisor's crate does.
    if (this.device.negotiated.minor === 0) return undefined;
    return await this.#once("state", (wait) => this.device.migration.state(wait));
  }

  #onceConfig(offset: number, width: Width): Promise<number | undefined> {
    const key = `config ${offset} ${width}`;
    const known = this.#known.get(key) as Promise<number | undefined> | undefined;
    const value = known ?? this.config(offset, width);
    if (known === undefined) this.#known.set(key, value);
    return value;
  }

  /** Asks once only. */
  #once<T>(
    key: string,
    look: (wait: { timeoutMs: number }) => Promise<T>,
  ): Promise<T | undefined> {
    const known = this.#known.get(key) as Promise<T | undefined> | undefined;
    const answer = known ?? this.#attempt(look);
    if (known === undefined) this.#known.set(key, answer);
    return answer;
  }

  /**
   * Gives up at the first failure that is no refusal: a device that does not answer would cost the
   * time again.
   */
  async #attempt<T>(look: (wait: { timeoutMs: number }) => Promise<T>): Promise<T | undefined> {
    const leftMs = this.#deadline - monotonicMs();
    const timeoutMs = Math.min(leftMs, this.options.answerMs ?? leftMs);
    if (this.#isOver || timeoutMs <= 0 || this.device.state !== "CONNECTED") return undefined;
    try {
      return await this.device.explaining(() => look({ timeoutMs }));
    } catch (error) {
      const isRefused = error instanceof RemoteError || error instanceof RangeError ||
        error instanceof TypeError;
      if (!isRefused) {
        this.#isOver = true;
        this.#failure = error;
      }
      return undefined;
    }
  }
}
