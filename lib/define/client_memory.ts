/**
 * The client's memory, as a defined device reaches it.
 *
 * @module
 */

import { ECANCELED, ENXIO, EPERM } from "../../ffi/errno.ts";
import { DMA_TURN } from "../limits.ts";
import { type DeviceDma, DeviceError } from "../server/device.ts";

/** The memory of whichever client is connected, as long as the device may be bus master. */
export class ConnectedMemory implements DeviceDma {
  readonly #isMaster: () => boolean;
  #dma: DeviceDma | undefined;
  #isCancelled = false;
  #count = 0; // of accesses since others had their turn

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

  /** While the device is reset, what still runs in the background gets no further: each access fails. */
  set isCancelled(isCancelled: boolean) {
    this.#isCancelled = isCancelled;
  }

  /** As {@linkcode DeviceDma.read}. */
  async read(iova: bigint, length: number): Promise<Uint8Array<ArrayBuffer>> {
    if (++this.#count >= DMA_TURN) await this.#turn();
    return this.#get("read").read(iova, length);
  }

  /** As {@linkcode DeviceDma.readInto}. */
  async readInto(iova: bigint, into: Uint8Array): Promise<void> {
    if (++this.#count >= DMA_TURN) await this.#turn();
    return this.#get("read").readInto(iova, into);
  }

  /** As {@linkcode DeviceDma.write}. */
  async write(iova: bigint, data: Uint8Array): Promise<void> {
    if (++this.#count >= DMA_TURN) await this.#turn();
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

  /** Accesses to memory that is shared never wait: a device that makes one after the other would keep everybody else waiting. */
  #turn(): Promise<void> {
    this.#count = 0;
    return new Promise((resolve) => setTimeout(resolve));
  }

  #get(verb: "read" | "write"): DeviceDma {
    const doing = `Cannot ${verb} the client's memory`;
    if (this.#dma === undefined) throw new DeviceError(ENXIO, `${doing}: no client is connected`);
    if (this.#isCancelled) throw new DeviceError(ECANCELED, `${doing}: the device is being reset`);
    if (this.#isMaster()) return this.#dma;
    throw new DeviceError(
      EPERM,
      `${doing}: bus master enable is off in COMMAND (needsBusMaster: false in pci does without)`,
    );
  }
}
