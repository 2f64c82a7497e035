/**
 * Succession of a defined device by a new version of it in the same process. Configuration space,
 * registers and memory are carried as far as both versions have them. The rest goes by the device's
 * hooks.
 *
 * @module
 */

import { hex } from "../text/hex.ts";
import type { ConfigRegion } from "../server/config.ts";
import type { ServedDevice, ServedSuccession } from "../server/served_device.ts";
import { regionNameOf } from "../wire/region.ts";
import type { DeviceRegion } from "./device_region.ts";
import { decodePlain, encodePlain } from "./plain_data.ts";
import type { StateHooks } from "./state.ts";

/** The parts of a device that its succession works on. */
export interface SuccessionParts {
  /** True if the device is on the PCI bus, where regions have names. */
  readonly isPci: boolean;
  /** Its configuration space. */
  readonly config: ConfigRegion;
  /** Bytes of its interrupts that are state. */
  readonly interrupts: readonly Uint8Array[];
  /** Its regions by index, without configuration space. */
  readonly regions: readonly (DeviceRegion | undefined)[];
  /** Hooks for the state elsewhere; false if the device says that it does not migrate. */
  readonly state: StateHooks | false | undefined;
  /** True if the state is a stream in a form of the device's own, which alone knows it. */
  readonly isOwnStream: boolean;
  /** Tasks that the device begins when it goes on; calling the returned function drops them. */
  heldTasks(): () => void;
  /** Takes the level of the pin from configuration space. */
  refresh(): void;
  /** The device is to stand still. */
  stop(): Promise<void>;
  /** It goes on. */
  start(): void;
}

/** The replacement of a defined device by a new version of it. */
export class DeviceSuccession implements ServedSuccession {
  readonly #parts: SuccessionParts;

  constructor(parts: SuccessionParts) {
    this.#parts = parts;
  }

  /** Settled when nothing of the device runs. */
  stop(): Promise<void> {
    return this.#parts.stop();
  }

  /** It goes on. */
  start(): void {
    this.#parts.start();
  }

  /**
   * As `ServedSuccession.take`. A state comes as a stream if it has another version that is among
   * the `earlier` ones, or if the stream is the device's own.
   */
  take({ succession }: ServedDevice): Promise<readonly string[]> | undefined {
    if (!(succession instanceof DeviceSuccession)) return undefined;
    if (succession.#parts.isOwnStream || this.#parts.isOwnStream) return undefined;
    const [from, to] = [versionOf(succession.#parts), versionOf(this.#parts)];
    if (from === to) return this.#take(succession.#parts);
    const { state } = this.#parts;
    if (state && state.earlier?.some(({ version }) => version === from)) return undefined;
    throw new Error(
      `its state is of version ${from}, the new device takes version ${to}; ` +
        `describe version ${from} in state.earlier`,
    );
  }

  async #take(old: SuccessionParts): Promise<readonly string[]> {
    const { isPci, config, regions, state } = this.#parts;
    if (!config.mayBecome(old.config.bytes)) {
      throw new Error("what is read-only in its configuration space differs");
    }
    const lost: string[] = [];
    const dropHeld = this.#parts.heldTasks(); // what was begun with the state that goes
    config.bytes.set(old.config.bytes);
    carryAll("the interrupts", old.interrupts, this.#parts.interrupts);
    for (const [index, region] of old.regions.entries()) {
      if (region === undefined) continue;
      lost.push(...carry(regionNameOf(index, isPci), region, regions[index], old.state));
    }
    const [kept, own] = [old.state || undefined, state || undefined];
    if (kept !== undefined && own !== undefined) {
      lost.push(...carryAll("state.bytes", kept.bytes ?? [], own.bytes ?? []));
      await own.restore(decodePlain(encodePlain(kept.save())));
    } else if (kept !== undefined) lost.push("what the old version's state.save returns");
    else if (own !== undefined) lost.push("what state.restore takes: the old version had no state");
    this.#parts.refresh();
    dropHeld();
    return lost;
  }
}

function versionOf({ state }: SuccessionParts): number {
  return (state || undefined)?.version ?? 1;
}

/** Copies the contents of a region, and returns what could not be copied. */
function carry(
  name: string,
  old: DeviceRegion,
  now: DeviceRegion | undefined,
  state: SuccessionParts["state"],
): string[] {
  if (now === undefined) return [`all of ${name}`];
  if (old.contents === undefined) return state ? [] : [`what the callbacks of ${name} keep`];
  if (now.contents === undefined) return [`the contents of ${name}, which now are callbacks`];
  return carryAll(name, old.contents, now.contents);
}

function carryAll(
  name: string,
  old: readonly Uint8Array[],
  now: readonly Uint8Array[],
): string[] {
  return [...old.entries()].flatMap(([i, bytes]) => {
    const into = now[i] ?? new Uint8Array(0);
    into.set(bytes.subarray(0, into.length));
    const place = old.length > 1 ? `part ${i} of ${name}` : name;
    return bytes.length > into.length ? [`${place} from ${hex(into.length)} on`] : [];
  });
}
