/**
 * The PCI function of a virtio device (Virtio 1.2, section 4.1), of the modern kind and with one
 * queue. The file has its capabilities, and the registers by which a driver sets the device up.
 *
 * @module
 */

import {
  cap,
  ConnectionError,
  type DeviceContext,
  DeviceError,
  type DeviceRegion,
  overlay,
  type PciSpec,
  type RegisterHooks,
  registers,
} from "../../mod.ts";
import { type Chain, MAX_SIZE, QueueError, Virtqueue } from "./queue.ts";
import { openWindow, WINDOW } from "./window.ts";

/** The structures, each at its place in BAR 4: QEMU has them there, too. */
const COMMON = { type: 1, at: 0x0000, size: 0x38 } as const;
const ISR = { type: 3, at: 0x1000, size: 1 } as const;
const DEVICE = { type: 4, at: 0x2000 } as const;
const NOTIFY = { type: 2, at: 0x3000, size: 4 } as const;

/** The BAR of all structures. */
const BAR = 4;

/** Vectors: Linux takes one for changes of the configuration, and one for the queue. */
const VECTORS = 2;
const NO_VECTOR = 0xffff;

const MAP = {
  name: "virtio",
  registers: [
    { name: "DEVICE_FEATURE_SELECT", offset: 0x00, width: 4 },
    { name: "DEVICE_FEATURE", offset: 0x04, width: 4, access: "ro" },
    { name: "DRIVER_FEATURE_SELECT", offset: 0x08, width: 4 },
    { name: "DRIVER_FEATURE", offset: 0x0c, width: 4 },
    { name: "CONFIG_VECTOR", offset: 0x10, width: 2, reset: NO_VECTOR },
    { name: "NUM_QUEUES", offset: 0x12, width: 2, access: "ro", reset: 1 },
    { name: "STATUS", offset: 0x14, width: 1 },
    { name: "CONFIG_GENERATION", offset: 0x15, width: 1, access: "ro" },
    { name: "QUEUE_SELECT", offset: 0x16, width: 2 },
    { name: "QUEUE_SIZE", offset: 0x18, width: 2, reset: MAX_SIZE },
    { name: "QUEUE_VECTOR", offset: 0x1a, width: 2, reset: NO_VECTOR },
    { name: "QUEUE_ENABLE", offset: 0x1c, width: 2 },
    { name: "QUEUE_NOTIFY_OFF", offset: 0x1e, width: 2, access: "ro" },
    { name: "QUEUE_DESC", offset: 0x20, width: 8 },
    { name: "QUEUE_DRIVER", offset: 0x28, width: 8, description: "The available ring" },
    { name: "QUEUE_DEVICE", offset: 0x30, width: 8, description: "The used ring" },
    { name: "ISR", offset: ISR.at, width: 1, access: "ro" },
    { name: "NOTIFY", offset: NOTIFY.at, width: 2, access: "wo" },
  ],
} as const;

/** Bits of STATUS. */
const DRIVER_OK = 4;
const FEATURES_OK = 8;
const NEEDS_RESET = 64;

/** Bits of ISR. */
const QUEUE_INTERRUPT = 1;
const CONFIG_INTERRUPT = 2;

/** Features of each device, in the second word: VERSION_1 and ACCESS_PLATFORM. */
const VERSION_1 = 1;
const ACCESS_PLATFORM = 2;

const ENXIO = 6;
const ECANCELED = 125;

/** Tells if the whole device is reset, or the client is gone: that is no fault of the driver. */
function isEnded(error: unknown): boolean {
  return error instanceof ConnectionError ||
    (error instanceof DeviceError && [ENXIO, ECANCELED].includes(error.errno));
}

/**
 * A vendor-specific capability that says where a structure is.
 * NOTIFY's ends with the bytes from one queue's register to the next one's.
 */
function structure({ type, at, size }: { type: number; at: number; size: number }) {
  const words = Uint32Array.of(at, size, ...(type === NOTIFY.type ? [NOTIFY.size] : []));
  return cap.vendor([type, BAR, 0, 0, 0, ...new Uint8Array(words.buffer)]);
}

/** The PCI function of a virtio device of a type, with `configSize` bytes of its own registers. */
export function virtioPci(type: number, deviceClass: number, configSize: number): PciSpec {
  return {
    vendor: 0x1af4,
    device: 0x1040 + type,
    revision: 1,
    class: deviceClass,
    subsystem: { vendor: 0x1af4, device: 0x1100 },
    interruptPin: "A",
    capabilities: [
      cap.msix({ vectors: VECTORS, bar: 1 }),
      ...[COMMON, NOTIFY, ISR, { ...DEVICE, size: configSize }].map(structure),
      cap.pm(),
      cap.express(),
      WINDOW,
    ],
  };
}

/** A kind of virtio device. */
export interface VirtioKind {
  /** Features that it offers: bits 0 to 23. */
  readonly features: number;
  /** Registers of its own. */
  readonly config: DeviceRegion;
  /**
   * Does what a buffer asks for.
   *
   * @param accepted features that the driver wants
   * @returns how many bytes of the buffer were written, from the start of what is writable
   */
  serve(buffer: Chain, accepted: number): Promise<number>;
}

/** The registers of a virtio device, for BAR 4, and hooks for the definition of the device. */
export function virtioFunction(
  context: DeviceContext,
  { features, config, serve }: VirtioKind,
) {
  const { irq, dma, run, turn, log } = context;
  const offered = [features, VERSION_1 | ACCESS_PLATFORM];
  const queue = new Virtqueue(dma);
  // An eventfd of NOTIFY stands for 0, which is the queue.
  const common = registers(MAP, { size: 0x4000, ioeventfds: ["NOTIFY"] });
  const { regs } = common;
  let accepted = [0, 0]; // of the features
  let isBusy = false;
  let isRung = false; // since the last look at the queue
  let isLeaving = false; // the driver has reset the device, which is not done yet

  function reset(): void {
    common.reset();
    irq.intx.set(false);
    accepted = [0, 0];
    queue.taken = 0;
    isBusy = isRung = isLeaving = false;
  }

  /** Interrupts by a vector, or on the pin if the client has not set that up. */
  function interrupt(bit: number, vector: number): void {
    const isSent = vector < VECTORS && irq.msix(vector).raise();
    if (!isSent || bit === CONFIG_INTERRUPT) regs.ISR.value |= bit;
    if (!isSent) irq.intx.set(true);
  }

  function fail(error: Error): void {
    log(`${error.message}: the driver has to reset the device`);
    const isUp = (regs.STATUS.value & DRIVER_OK) !== 0;
    regs.STATUS.value |= NEEDS_RESET;
    if (isUp) interrupt(CONFIG_INTERRUPT, regs.CONFIG_VECTOR.value);
  }

  /** There may be buffers in the queue. */
  function ring(): void {
    isRung = true;
    const isUp = (regs.STATUS.value & (DRIVER_OK | NEEDS_RESET)) === DRIVER_OK;
    if (isBusy || !isUp || regs.QUEUE_ENABLE.value === 0) return;
    isBusy = true;
    run(work);
  }

  async function work(): Promise<void> {
    try {
      while (isRung && !isLeaving) {
        isRung = false;
        await turn();
        const buffer = await queue.take();
        if (buffer === undefined) continue;
        isRung = true; // there may be more
        const isWanted = await queue.finish(buffer, await serve(buffer, accepted[0]!));
        if (isWanted) interrupt(QUEUE_INTERRUPT, regs.QUEUE_VECTOR.value);
      }
    } catch (error) {
      if (isEnded(error)) return;
      fail(error as Error);
      if (!(error instanceof QueueError || error instanceof DeviceError)) throw error;
    } finally {
      isBusy = false;
      if (isLeaving) reset();
    }
  }

  function placeQueue(): void {
    queue.place({
      size: regs.QUEUE_SIZE.value,
      descriptors: regs.QUEUE_DESC.value,
      available: regs.QUEUE_DRIVER.value,
      used: regs.QUEUE_DEVICE.value,
    });
  }

  /** Hooks of a queue's register: there is but queue 0, which stays as it was enabled. */
  function ofQueue<V extends number | bigint>(
    register: { value: V },
    none: V,
    possible: (value: V) => V = (value) => value,
  ): RegisterHooks<V> {
    return {
      read: () => regs.QUEUE_SELECT.value === 0 ? register.value : none,
      write(value, old) {
        const isOpen = regs.QUEUE_SELECT.value === 0 && regs.QUEUE_ENABLE.value === 0;
        register.value = isOpen ? possible(value) : old;
      },
    };
  }

  const vector = (value: number) => value < VECTORS ? value : NO_VECTOR;

  common.on({
    DEVICE_FEATURE: { read: () => offered[regs.DEVICE_FEATURE_SELECT.value] ?? 0 },
    DRIVER_FEATURE: {
      read: () => accepted[regs.DRIVER_FEATURE_SELECT.value] ?? 0,
      write(value) {
        const select = regs.DRIVER_FEATURE_SELECT.value;
        const isOpen = (regs.STATUS.value & FEATURES_OK) === 0;
        if (isOpen && select < accepted.length) accepted[select] = value;
      },
    },
    CONFIG_VECTOR: { write: (value) => void (regs.CONFIG_VECTOR.value = vector(value)) },
    STATUS: {
      write(value, old) {
        regs.STATUS.value = old;
        if (value === 0) {
          // It reads as 0 as soon as nothing is done for the driver any more.
          isLeaving = isBusy;
          if (!isBusy) reset();
        } else if (!isLeaving) {
          const isKnown = offered.every((word, i) => (accepted[i]! & ~word) === 0);
          const isAgreed = isKnown && (accepted[1]! & VERSION_1) !== 0;
          regs.STATUS.value = value & ~(isAgreed ? 0 : FEATURES_OK) | old & NEEDS_RESET;
          ring(); // buffers may have been there before DRIVER_OK
        }
      },
    },
    QUEUE_SIZE: ofQueue(regs.QUEUE_SIZE, 0),
    QUEUE_VECTOR: ofQueue(regs.QUEUE_VECTOR, NO_VECTOR, vector),
    QUEUE_DESC: ofQueue(regs.QUEUE_DESC, 0n),
    QUEUE_DRIVER: ofQueue(regs.QUEUE_DRIVER, 0n),
    QUEUE_DEVICE: ofQueue(regs.QUEUE_DEVICE, 0n),
    QUEUE_ENABLE: {
      read: () => regs.QUEUE_SELECT.value === 0 ? undefined : 0,
      write(value, old) {
        regs.QUEUE_ENABLE.value = old;
        if (value !== 1 || old === 1 || regs.QUEUE_SELECT.value !== 0) return;
        try {
          placeQueue();
          regs.QUEUE_ENABLE.value = 1;
        } catch (error) {
          fail(error as QueueError);
        }
      },
    },
    NOTIFY: {
      write(index) {
        if (index === 0) ring();
      },
    },
    ISR: {
      read() {
        const bits = regs.ISR.value;
        regs.ISR.value = 0; // reading acknowledges
        irq.intx.set(false);
        return bits;
      },
    },
  });

  const bar4 = overlay(common, [{ offset: DEVICE.at, region: config }]);

  openWindow(context, BAR, bar4);
  return {
    bar4,
    reset,
    start() {
      if (isRung) ring(); // while the device stood still
    },
    save: () => ({ accepted, taken: queue.taken, isRung }),
    restore(saved: unknown) {
      const state = saved as { accepted: number[]; taken: number; isRung: boolean };
      accepted = offered.map((_, i) => Number(state.accepted[i]) >>> 0);
      queue.taken = Number(state.taken) & 0xffff;
      isRung = state.isRung === true;
      isBusy = isLeaving = false;
      if (regs.QUEUE_ENABLE.value !== 0) placeQueue();
    },
  };
}
