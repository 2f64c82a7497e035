/**
 * A driver of a virtio device with one queue, for tests. Its memory is at IOVA 0: descriptors,
 * rings, then what requests need.
 *
 * @module
 */

import type { DmaMap, Region } from "../../mod.ts";
import type { TestDevice } from "../../lib/testing/mod.ts";
import { PATIENT, until } from "../_until.ts";

/** Registers in BAR 4. */
export const AT = {
  DEVICE_FEATURE_SELECT: 0x00,
  DEVICE_FEATURE: 0x04,
  DRIVER_FEATURE_SELECT: 0x08,
  DRIVER_FEATURE: 0x0c,
  CONFIG_VECTOR: 0x10,
  NUM_QUEUES: 0x12,
  STATUS: 0x14,
  QUEUE_SELECT: 0x16,
  QUEUE_SIZE: 0x18,
  QUEUE_VECTOR: 0x1a,
  QUEUE_ENABLE: 0x1c,
  QUEUE_DESC: 0x20,
  QUEUE_DRIVER: 0x28,
  QUEUE_DEVICE: 0x30,
  ISR: 0x1000,
  CONFIG: 0x2000,
  NOTIFY: 0x3000,
} as const;

/** Bits of STATUS: those of a device that works, and the one of a device that does not. */
export const UP = 0x0f;
export const NEEDS_RESET = 0x40;

/** Flags of descriptors. */
export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

/** Places in the driver's memory. */
export const PLACE = { desc: 0x0000, avail: 0x1000, used: 0x2000, data: 0x4000 } as const;
export const MEMORY_SIZE = 8 << 20;

/** A descriptor; `next` is the index of the one behind it. */
export interface Descriptor {
  readonly at: number | bigint;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}

/** The setting-up of a device. */
export interface DriverOptions {
  readonly share?: "memfd" | "message";
  readonly size?: number;
  /** Features that it wants, of the first word. Default: all of them. */
  readonly features?: number;
  /** Takes no vectors. */
  readonly hasPin?: boolean;
}

export class VirtioDriver {
  readonly bar4: Region;
  readonly memory: DataView;
  readonly #options: DriverOptions;
  #available = 0;

  private constructor(readonly test: TestDevice, readonly map: DmaMap, options: DriverOptions) {
    this.bar4 = test.client.region("bar4");
    this.memory = new DataView(map.bytes.buffer, map.bytes.byteOffset, map.bytes.byteLength);
    this.#options = options;
  }

  /** Gives a device memory and sets it up. */
  static async start(test: TestDevice, options: DriverOptions = {}): Promise<VirtioDriver> {
    const { share = "memfd" } = options;
    const map = await test.client.dma.mapAsync({ iova: 0, size: MEMORY_SIZE, share });
    const driver = new VirtioDriver(test, map, options);
    await driver.setUp();
    return driver;
  }

  /** The driver as it goes on with a device that has this one's state, and memory like this. */
  async moveTo(test: TestDevice): Promise<VirtioDriver> {
    const map = await test.client.dma.mapAsync({ iova: 0, size: MEMORY_SIZE });
    map.bytes.set(this.map.bytes);
    const driver = new VirtioDriver(test, map, this.#options);
    driver.#available = this.#available;
    return driver;
  }

  get size(): number {
    return this.#options.size ?? 256;
  }

  /** The index of the used ring: how many buffers came back, modulo 2^16. */
  get used(): number {
    return this.memory.getUint16(PLACE.used + 2, true);
  }

  /** Resets the device, agrees with it, and enables its queue. */
  async setUp(): Promise<void> {
    await this.reset();
    this.map.bytes.fill(0, 0, PLACE.data);
    this.#available = 0;
    await this.agree(this.#options.features ?? 0xffffffff);
    await this.place(this.size, PLACE);
    if (!this.#options.hasPin) {
      await this.bar4.write16Async(AT.CONFIG_VECTOR, 0);
      await this.bar4.write16Async(AT.QUEUE_VECTOR, 1);
    }
    await this.bar4.write16Async(AT.QUEUE_ENABLE, 1);
    await this.bar4.write8Async(AT.STATUS, UP);
  }

  async reset(): Promise<void> {
    await this.bar4.write8Async(AT.STATUS, 0);
    await until(async () => await this.status() === 0, "STATUS of 0");
  }

  status(): Promise<number> {
    return this.bar4.read8Async(AT.STATUS);
  }

  /** Takes those of the wanted features of the first word that the device offers. */
  async agree(wanted: number): Promise<void> {
    await this.bar4.write8Async(AT.STATUS, 3);
    for (const word of [0, 1]) {
      await this.bar4.write32Async(AT.DEVICE_FEATURE_SELECT, word);
      const offered = await this.bar4.read32Async(AT.DEVICE_FEATURE);
      await this.bar4.write32Async(AT.DRIVER_FEATURE_SELECT, word);
      const features = word === 0 ? offered & wanted : offered;
      await this.bar4.write32Async(AT.DRIVER_FEATURE, features >>> 0);
    }
    await this.bar4.write8Async(AT.STATUS, 11);
  }

  /** Tells the device where the queue is. */
  async place(
    size: number,
    { desc, avail, used }: Record<"desc" | "avail" | "used", number | bigint>,
  ): Promise<void> {
    await this.bar4.write16Async(AT.QUEUE_SIZE, size);
    await this.bar4.write64Async(AT.QUEUE_DESC, BigInt(desc));
    await this.bar4.write64Async(AT.QUEUE_DRIVER, BigInt(avail));
    await this.bar4.write64Async(AT.QUEUE_DEVICE, BigInt(used));
  }

  /** Writes descriptors, from the first one on unless another is given. */
  describe(descriptors: readonly Descriptor[], first = 0): void {
    for (const [i, { at, length, flags = 0, next = 0 }] of descriptors.entries()) {
      const place = PLACE.desc + 16 * (first + i);
      this.memory.setBigUint64(place, BigInt(at), true);
      this.memory.setUint32(place + 8, length, true);
      this.memory.setUint16(place + 12, flags, true);
      this.memory.setUint16(place + 14, next, true);
    }
  }

  /** Writes a chain of descriptors that lie one behind the other. */
  chain(segments: readonly (readonly [at: number, length: number, flags?: number])[], first = 0) {
    this.describe(
      segments.map(([at, length, flags = 0], i) => ({
        at,
        length,
        flags: flags | (i + 1 < segments.length ? NEXT : 0),
        next: first + i + 1,
      })),
      first,
    );
  }

  /** Makes a buffer available, without telling the device. */
  offer(head: number): void {
    this.memory.setUint16(PLACE.avail + 4 + 2 * (this.#available % this.size), head, true);
    this.#available = (this.#available + 1) & 0xffff;
    this.memory.setUint16(PLACE.avail + 2, this.#available, true);
  }

  /** Tells the device to look at the queue. */
  notify(): Promise<void> {
    return this.bar4.write16Async(AT.NOTIFY, 0);
  }

  /** Makes a buffer available, and waits until it is used. Returns its element of the used ring. */
  async use(head: number): Promise<{ id: number; written: number }> {
    const last = this.#available;
    this.offer(head);
    await this.notify();
    await until(() => this.used === this.#available, "the buffer's return");
    const element = PLACE.used + 4 + 8 * (last % this.size);
    return {
      id: this.memory.getUint32(element, true),
      written: this.memory.getUint32(element + 4, true),
    };
  }

  /** Waits for an interrupt of a vector. */
  async interrupted(vector: number): Promise<void> {
    await this.test.irq!.waitAsync(vector, PATIENT);
  }
}

/** A request of a block device. Its header, data and result are each in a place of their own. */
export const Request = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8 } as const;
export const HEADER = PLACE.data;
export const RESULT = PLACE.data + 16;
export const DATA = PLACE.data + 0x1000;

/** Writes the header of a request, and a result that no device has. */
export function begin({ memory }: VirtioDriver, type: number, sector: number | bigint = 0): void {
  memory.setUint32(HEADER, type, true);
  memory.setUint32(HEADER + 4, 0, true);
  memory.setBigUint64(HEADER + 8, BigInt(sector), true);
  memory.setUint8(RESULT, 0xff);
}

/** Does a request with its data in one descriptor. Returns its result, and the bytes written. */
export async function request(
  driver: VirtioDriver,
  type: number,
  { sector = 0, length = 0 }: { sector?: number | bigint; length?: number } = {},
): Promise<[result: number, written: number]> {
  begin(driver, type, sector);
  const data = [DATA, length, type === Request.OUT ? 0 : WRITE] as const;
  driver.chain([[HEADER, 16], ...(length > 0 ? [data] : []), [RESULT, 1, WRITE]]);
  const { written } = await driver.use(0);
  return [driver.memory.getUint8(RESULT), written];
}
