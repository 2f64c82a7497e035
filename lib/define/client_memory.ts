/**
 * The client's memory, as a defined device reaches it.
 *
 * @module
 */

import { ENXIO, EPERM } from "../../ffi/errno.ts";
import { type DeviceDma, DeviceError } from "../server/device.ts";

/** The memory of whichever client is connected, as long as the device may be bus master. */
export class ConnectedMemory implements DeviceDma {
  readonly #isMaster: () => boolean;
  #dma: DeviceDma | undefined;

  /** @param isMaster whether the device may access memory now */
  constructor(isMaster: () => boolean) {
    this.#isMaster = isMaster;
  }

  /** From here on it is this client's. */
  connect(dma: DeviceDma): void {
    this.#dma = dma;
  }

  /** It is nobody's. */
  disconnect(): void {
    this.#dma = undefined;
  }

  /** As {@linkcode DeviceDma.read}. */
  // deno-lint-ignore require-await -- what can't be done rejects, as the rest does
  async read(iova: bigint, length: number): Promise<Uint8Array<ArrayBuffer>> {
    return this.#get("read").read(iova, length);
  }

  /** As {@linkcode DeviceDma.write}. */
  // deno-lint-ignore require-await -- as read
  async write(iova: bigint, data: Uint8Array): Promise<void> {
    return this.#get("write").write(iova, data);
  }

  /** As {@linkcode DeviceDma.readSync}. */
  readSync(iova: bigint, length: number): Uint8Array<ArrayBuffer> {
    return this.#get("read").readSync(iova, length);
  }

  /** As {@linkcode DeviceDma.writeSync}. */
  writeSync(iova: bigint, data: Uint8Array): void {
    this.#get("write").writeSync(iova, data);
  }

  /** As {@linkcode DeviceDma.view}; undefined as well while there is no client, or the device may not be bus master. */
  view(iova: bigint, length: number, rights?: number): Uint8Array<ArrayBuffer> | undefined {
    return this.#isMaster() ? this.#dma?.view(iova, length, rights) : undefined;
  }

  #get(verb: "read" | "write"): DeviceDma {
    const doing = `Cannot ${verb} the client's memory`;
    if (this.#dma === undefined) throw new DeviceError(ENXIO, `${doing}: no client is connected`);
    if (this.#isMaster()) return this.#dma;
    throw new DeviceError(
      EPERM,
      `${doing}: bus master enable is off in COMMAND (needsBusMaster: false in pci does without)`,
    );
  }
}
