/**
 * Reasons of a device for refusing a request: found by further requests to the same device.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { ConnectionError, RemoteError } from "../base/errors.ts";
import { littleEndian } from "../base/little_endian.ts";
import { drive, driveAsync } from "../base/plan.ts";
import type { Negotiated, RegionInfo, WaitOptions } from "./info.ts";
import { type KnownOfRegion, type Look, lookIntoRefusal } from "./refusal.ts";
import type { Region } from "./region.ts";
import { Command } from "../wire/command.ts";
import { PciRegion } from "../wire/region.ts";

/** The states in which a device answers nearly nothing. */
const STOPPED_STATES: ReadonlySet<string> = new Set(["STOP", "STOP_COPY", "RESUMING"]);

/** Limit of one look into a refusal, in milliseconds. */
const LOOK_TIMEOUT_MS = 1000;
/** Options of reads that look into a refusal: by message, and without a look of their own. */
const LOOKING = { via: "message", explain: false, timeoutMs: LOOK_TIMEOUT_MS } as const;

/** The parts of a device that a look into its refusals needs. */
export interface RefusingDevice {
  /** The limits that both ends agreed on. */
  readonly negotiated: Negotiated;
  /** False if it is known not to be on the PCI bus: it has no configuration space to look at. */
  readonly mayBePci: boolean;
  /** Its migration, of which the state counts. */
  readonly migration: { state(options?: WaitOptions): Promise<string> };
  /** Opens a region, as `Device.region`. */
  region(index: number): Region;
  /** Reads the facts about a region, as `Device.regionInfo`. */
  regionInfo(index: number, options?: WaitOptions): Promise<RegionInfo>;
}

/**
 * Looks of one device into its refusals. None of them throws: a refusal comes back as it was, or
 * with its reason.
 */
export class RefusalReasons {
  readonly #device: RefusingDevice;
  #looking = 0;

  /** Looks into refusals of `device`. */
  constructor(device: RefusingDevice) {
    this.#device = device;
  }

  /** True if messages are under way that only look for a reason. */
  get isLooking(): boolean {
    return this.#looking > 0;
  }

  /** Does what looks for a reason. */
  async looking<T>(look: () => Promise<T>): Promise<T> {
    this.#looking++;
    try {
      return await look();
    } finally {
      this.#looking--;
    }
  }

  /** Adds its reason to the refusal of an access to a region, blocking. */
  explain(known: KnownOfRegion, refusal: RemoteError): RemoteError {
    this.#looking++;
    try {
      const reason = drive(lookIntoRefusal(refusal, known), (look) => this.#lookSync(look));
      return reason === undefined ? refusal : refusal.because(reason);
    } catch (error) {
      return notLookedInto(refusal, error);
    } finally {
      this.#looking--;
    }
  }

  /** As `explain`, asynchronously. It also finds out if the device is stopped for a migration. */
  explainAsync(known: KnownOfRegion, refusal: RemoteError): Promise<RemoteError> {
    return this.looking(async () => {
      try {
        const state = await this.#stoppedState(refusal);
        const reason = state !== undefined
          ? stoppedWords(state)
          : await driveAsync(lookIntoRefusal(refusal, known), (look) => this.#look(look));
        return reason === undefined ? refusal : refusal.because(reason);
      } catch (error) {
        return notLookedInto(refusal, error);
      }
    });
  }

  /**
   * Finds out if a request failed because the device is stopped for a migration: such a device
   * refuses nearly everything with EINVAL.
   *
   * @returns the error, with its reason if that is it
   * @throws the reason of the signal if that ends the look
   */
  async explainStopped(error: unknown, command: number, options: WaitOptions): Promise<unknown> {
    if (!(error instanceof RemoteError) || error.errno !== EINVAL) return error;
    const { negotiated, migration } = this.#device;
    // Others are asked only when nothing works: one that knows no features may be out of step then.
    const mayBeStopped = negotiated.server.migration !== undefined ||
      command === Command.DEVICE_GET_INFO;
    if (!mayBeStopped) return error;
    try {
      const state = await migration.state(options);
      return STOPPED_STATES.has(state) ? error.because(stoppedWords(state)) : error;
    } catch {
      options.signal?.throwIfAborted();
      return error;
    }
  }

  /** The migration state of a device that refuses with EINVAL, if it is a stopped one and tells. */
  async #stoppedState({ errno }: RemoteError): Promise<string | undefined> {
    if (errno !== EINVAL || this.#device.negotiated.server.migration === undefined) {
      return undefined;
    }
    try {
      const state = await this.#device.migration.state({ timeoutMs: LOOK_TIMEOUT_MS });
      return STOPPED_STATES.has(state) ? state : undefined;
    } catch (error) {
      return refusedLook(error); // older servers announce a migration of another protocol
    }
  }

  #isThere(region: number): boolean {
    return region !== PciRegion.CONFIG || this.#device.mayBePci;
  }

  /** Does a read that may explain a refusal. */
  async #look({ region, offset, count }: Look): Promise<bigint | undefined> {
    if (!this.#isThere(region)) return undefined;
    try {
      await this.#device.regionInfo(region, { timeoutMs: LOOK_TIMEOUT_MS });
      return littleEndian(
        (await this.#device.region(region).readAsync(offset, count, LOOKING)).subarray(0, 8),
      );
    } catch (error) {
      return refusedLook(error);
    }
  }

  #lookSync({ region, offset, count }: Look): bigint | undefined {
    if (!this.#isThere(region)) return undefined;
    try {
      return littleEndian(this.#device.region(region).read(offset, count, LOOKING).subarray(0, 8));
    } catch (error) {
      return refusedLook(error);
    }
  }
}

function stoppedWords(state: string): string {
  return `the device is stopped for a migration (state ${state}); set it to RUNNING ` +
    "(vfu migrate state SOCKET RUNNING, or device.migration.setState), or restart its server";
}

/** Counts a refused read, or one outside the region, as an answer. Other failures end the look. */
function refusedLook(error: unknown): undefined {
  const isRefused = error instanceof RemoteError || error instanceof RangeError ||
    error instanceof TypeError;
  if (!isRefused) throw error;
}

/** The refusal alone; if the connection ended with the look into it, the message says so. */
function notLookedInto(refusal: RemoteError, error: unknown): RemoteError {
  return error instanceof ConnectionError
    ? refusal.because(`to look for the reason was not possible: ${error.message}`)
    : refusal;
}
