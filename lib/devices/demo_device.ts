/**
 * The demo device as a class, for programs that serve it themselves.
 *
 * @module
 */

import type { Activity } from "../server/activity.ts";
import type {
  DeviceBus,
  ErrorReport,
  ResetReason,
  ServedDevice,
  ServedIrq,
  ServedMigration,
  ServedRegion,
} from "../server/served_device.ts";
import { demoDevice } from "./demo.ts";

/** The demo device, as `demoDevice.create()` makes it. */
export class DemoDevice implements ServedDevice {
  readonly #device = demoDevice.create();
  /** RESET and PCI. */
  readonly flags: number = this.#device.flags;
  /** By region index. */
  readonly regions: readonly (ServedRegion | undefined)[] = this.#device.regions;
  /** INTx 1, MSI-X 4, ERR 1, REQ 1. */
  readonly irqs: readonly ServedIrq[] = this.#device.irqs;
  /** Hooks that save and restore its state. */
  readonly migration: ServedMigration = this.#device.migration!;

  /** Errors of the device go to `report`. */
  served(report: ErrorReport, activity?: Activity): void {
    this.#device.served?.(report, activity);
  }

  /** Its interrupts and its DMA go to this client now. */
  connected(bus: DeviceBus): void {
    return this.#device.connected?.(bus);
  }

  /** A copy that is under way fails. */
  disconnected(): void {
    return this.#device.disconnected?.();
  }

  /** Puts registers and configuration space back; memory keeps what it holds. */
  reset(reason: ResetReason = "device"): void | Promise<void> {
    return this.#device.reset(reason);
  }

  /** Frees the memory. */
  close(): void {
    return this.#device.close?.();
  }
}
