/**
 * The client's memory, as a defined device reaches it.
 *
 * @module
 */

import { ECANCELED, ENXIO, EPERM } from "../../ffi/errno.ts";
import { DMA_PIECE, MAX_DMA_ACCESS } from "../base/limits.ts";
import type { DeviceDma, DmaAccessOptions, DmaRange, DmaWindow } from "../server/device_dma.ts";
import { DeviceError } from "../server/served_device.ts";
import { bytesOf } from "../server/dma_window.ts";
import { turn } from "../base/turn.ts";

/** The memory of whichever client is connected, as long as the device may be bus master. */
export class ConnectedMemory implements DeviceDma {
  readonly #isMaster: () => boolean;
  #dma: DeviceDma | undefined;
  #isCancelled = false;

  /** @param isMaster whether the device may access memory now */
  constructor(isMaster: () => boolean) {
    this.#isMaster = isMaster;
  }

  /** From here on it is this client's. */
  connect(dma: DeviceDma): void {
    this.#dma = dma;
  }

  /** Detaches the client; accesses fail with ENXIO until the next one connects. */
  disconnect(): void {
    this.#dma = undefined;
  }

  /** Cancels background work while the device is reset: each access fails. */
  set isCancelled(isCancelled: boolean) {
    this.#isCancelled = isCancelled;
  }

  // Accesses to memory that is shared never wait. A device that makes one after the other would
  // keep all others waiting, and so would one that is very long: each piece looks at the clock.

  /** As {@linkcode DeviceDma.read}. */
  async read(
    iova: bigint,
    length: number,
    options?: DmaAccessOptions,
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (isLong(length)) {
      this.#get("read"); // before memory is found for it
      const into = new Uint8Array(length);
      await this.readInto(iova, into, options);
      return into;
    }
    const others = turn();
    if (others !== undefined) await others;
    return this.#get("read").read(iova, length, options);
  }

  /** As {@linkcode DeviceDma.readInto}. */
  async readInto(iova: bigint, into: Uint8Array, options?: DmaAccessOptions): Promise<void> {
    into = bytesOf(into);
    let at = 0;
    for (; isLong(into.length - at); at += DMA_PIECE) {
      await turn();
      const piece = into.subarray(at, at + DMA_PIECE);
      await this.#get("read").readInto(iova + BigInt(at), piece, options);
    }
    const others = turn();
    if (others !== undefined) await others;
    return this.#get("read").readInto(
      iova + BigInt(at),
      at === 0 ? into : into.subarray(at),
      options,
    );
  }

  /** As {@linkcode DeviceDma.write}. */
  async write(iova: bigint, data: Uint8Array, options?: DmaAccessOptions): Promise<void> {
    data = bytesOf(data);
    let at = 0;
    for (; isLong(data.length - at); at += DMA_PIECE) {
      await turn();
      const piece = data.subarray(at, at + DMA_PIECE);
      await this.#get("write").write(iova + BigInt(at), piece, options);
    }
    const others = turn();
    if (others !== undefined) await others;
    return this.#get("write").write(
      iova + BigInt(at),
      at === 0 ? data : data.subarray(at),
      options,
    );
  }

  /** As {@linkcode DeviceDma.readSync}. */
  readSync(
    iova: bigint,
    length: number,
    options?: DmaAccessOptions,
  ): Uint8Array<ArrayBuffer> {
    return this.#get("read").readSync(iova, length, options);
  }

  /** As {@linkcode DeviceDma.writeSync}. */
  writeSync(iova: bigint, data: Uint8Array, options?: DmaAccessOptions): void {
    this.#get("write").writeSync(iova, data, options);
  }

  /** As {@linkcode DeviceDma.maps}; the device need not be bus master. */
  maps(): DmaRange[] {
    return this.#dma?.maps() ?? [];
  }

  /**
   * As {@linkcode DeviceDma.view}; undefined as well while there is no client, or the device may
   * not be bus master.
   */
  view(iova: bigint, length: number, rights?: number): Uint8Array<ArrayBuffer> | undefined {
    return this.#isMaster() ? this.#dma?.view(iova, length, rights) : undefined;
  }

  /**
   * As {@linkcode DeviceDma.window}; undefined as well while there is no client, or the device may
   * not be bus master. Each access of the window is checked again.
   */
  window(iova: number | bigint, length: number): DmaWindow | undefined {
    return this.#isMaster() ? this.#dma?.window(iova, length, this.#check) : undefined;
  }

  /** As {@linkcode DeviceDma.copyTo}. */
  copyTo(iova: number | bigint, into: Uint8Array | Uint32Array): Promise<void> | undefined {
    const { byteLength } = into;
    const window = isLong(byteLength) ? undefined : this.window(iova, byteLength);
    if (window === undefined) return this.readInto(BigInt(iova), bytesOf(into));
    window.copyTo(iova, into);
  }

  /** As {@linkcode DeviceDma.copyFrom}. */
  copyFrom(iova: number | bigint, data: Uint8Array | Uint32Array): Promise<void> | undefined {
    const { byteLength } = data;
    const window = isLong(byteLength) ? undefined : this.window(iova, byteLength);
    if (window === undefined) return this.write(BigInt(iova), bytesOf(data));
    window.copyFrom(iova, data);
  }

  /** Refuses an access of a window that the device may not do now. */
  readonly #check = (): void => {
    if (this.#isCancelled || !this.#isMaster()) this.#get("access");
  };

  /**
   * Lets others have their turn when this thread has been busy for a millisecond; see `turn`.
   *
   * @throws {DeviceError} ECANCELED while the device is being reset: what runs in the background is
   *   to end
   */
  turn(): Promise<void> | undefined {
    if (this.#isCancelled) throw cancelled("Cannot go on");
    return turn();
  }

  #get(verb: "read" | "write" | "access"): DeviceDma {
    const doing = `Cannot ${verb} the client's memory`;
    if (this.#dma === undefined) throw new DeviceError(ENXIO, `${doing}: no client is connected`);
    if (this.#isCancelled) throw cancelled(doing);
    if (this.#isMaster()) return this.#dma;
    throw new DeviceError(
      EPERM,
      `${doing}: bus master enable is off in COMMAND (needsBusMaster: false in pci does without)`,
    );
  }
}

function cancelled(doing: string): DeviceError {
  return new DeviceError(ECANCELED, `${doing}: the device is being reset`);
}

/**
 * Tells whether an access is done in pieces. One that is longer than any may be is not: it is
 * refused whole.
 */
function isLong(length: number): boolean {
  return length > DMA_PIECE && length <= MAX_DMA_ACCESS;
}
