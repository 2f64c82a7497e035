/**
 * Interrupts: what an IRQ index is, and setting it up, masking and firing it (specification:
 * "VFIO_USER_DEVICE_GET_IRQ_INFO", "VFIO_USER_DEVICE_SET_IRQS", and `struct vfio_irq_set` of
 * linux/vfio.h).
 *
 * @module
 */

import { DecodeError, type ProtocolError } from "../base/errors.ts";
import {
  argszRequest,
  checkArgsz,
  type Codec,
  emptyReply,
  encodeWithData,
  payloadForm,
} from "./codec.ts";
import { type Layout, layout, u32 } from "./layout.ts";
import { hex } from "../text/hex.ts";

/** IRQ indexes of a PCI device. */
export const PciIrq = {
  /** The interrupt pin. */
  INTX: 0,
  /** Message signalled interrupts. */
  MSI: 1,
  /** Message signalled interrupts, extended. */
  MSIX: 2,
  /** An error of the device that it can't recover from. */
  ERR: 3,
  /** The device asks to be released. */
  REQ: 4,
} as const;

const IRQ_NAMES = Object.keys(PciIrq).map((name) => name.toLowerCase());

/**
 * The name of an IRQ index of a PCI device, in lower case.
 *
 * @example
 * ```ts
 * import { irqName } from "./irq.ts";
 *
 * console.assert(irqName(2) === "msix" && irqName(5) === "irq 5");
 * ```
 */
export function irqName(index: number): string {
  return IRQ_NAMES[index] ?? `irq ${index}`;
}

/** The same of a device that may not be on the PCI bus: its indexes have numbers alone. */
export function irqNameOf(index: number, isPci: boolean): string {
  return isPci ? irqName(index) : `irq ${index}`;
}

/** Vectors of an IRQ index as people write them: `msix[0]`, `msix[0-3]`, `irq7[0]`. */
export function vectorsName(name: string, start: number, count = 1): string {
  return `${name.replace(" ", "")}[${count === 1 ? start : `${start}-${start + count - 1}`}]`;
}

/**
 * The IRQ index that has this name, in lower case: one of a PCI device, or "irq2" of any. Undefined
 * if none has.
 */
export function irqIndex(name: string): number | undefined {
  const index = IRQ_NAMES.indexOf(name);
  if (index >= 0) return index;
  const number = /^irq(\d{1,9})$/.exec(name)?.[1];
  return number === undefined ? undefined : Number(number);
}

/** Flags of an {@linkcode IrqInfoReply}. */
export const IrqFlags = {
  /** Interrupts can be signalled by eventfd. */
  EVENTFD: 1,
  /** They can be masked and unmasked. */
  MASKABLE: 2,
  /** One that fires is masked by that. */
  AUTOMASKED: 4,
  /** To set up more vectors, all must be torn down first. */
  NORESIZE: 8,
} as const;

/** Asks about an IRQ index. */
export interface IrqInfoRequest {
  /** Bytes that the reply may have, 16 or more. */
  argsz: number;
  /** The IRQ index. */
  index: number;
}

/** The flags of an IRQ index, and the number of its vectors. */
export interface IrqInfoReply {
  /** Bytes of the whole answer. */
  argsz: number;
  /** {@linkcode IrqFlags}. */
  flags: number;
  /** The IRQ index. */
  index: number;
  /** Vectors of the index; 0 if the device does not have it. */
  count: number;
  /** Bytes after the struct, if any: no version of the specification defines them. A view. */
  extra?: Uint8Array;
}

const InfoLayout = layout("DEVICE_GET_IRQ_INFO reply", 16, {
  argsz: u32(0),
  flags: u32(4, IrqFlags),
  index: u32(8),
  count: u32(12),
});

/** DEVICE_GET_IRQ_INFO request, 16 bytes; those that a reply fills are 0. */
export const IrqInfoRequest: Codec<IrqInfoRequest> = argszRequest(
  layout("DEVICE_GET_IRQ_INFO request", 16, { argsz: u32(0), index: u32(8) }),
);

/** DEVICE_GET_IRQ_INFO reply. */
export const IrqInfoReply: Codec<IrqInfoReply> = {
  name: InfoLayout.name,
  form: payloadForm(InfoLayout, { kind: "bytes", name: "extra" }),
  encode: (value) => encodeWithData(InfoLayout, value, value.extra ?? new Uint8Array()),
  decode(payload) {
    const info = InfoLayout.decode(payload);
    const extra = payload.subarray(InfoLayout.size);
    return extra.length > 0 ? { ...info, extra } : info;
  },
};

/** Flags of a {@linkcode SetIrqsRequest}: one DATA flag and one ACTION flag. */
export const IrqSetFlags = {
  /** The bits that say what the data are. */
  DATA_MASK: 0x07,
  /** No data: the action is for every vector of the range. */
  DATA_NONE: 0x01,
  /** One byte a vector: the action is for those that are not 0. */
  DATA_BOOL: 0x02,
  /** One file descriptor a vector, an eventfd, in the control message. */
  DATA_EVENTFD: 0x04,
  /** The bits that say what is done. */
  ACTION_MASK_BITS: 0x38,
  /** Masks. */
  ACTION_MASK: 0x08,
  /** Unmasks. */
  ACTION_UNMASK: 0x10,
  /** Fires; with eventfds: names those that are signalled. */
  ACTION_TRIGGER: 0x20,
} as const;

/** Sets up, tears down, masks, unmasks or fires vectors of an IRQ index. */
export interface SetIrqsRequest {
  /**
   * Bytes of the request, 20 or more. Clients that forward the kernel's struct count an int an
   * eventfd.
   */
  argsz: number;
  /** {@linkcode IrqSetFlags}. */
  flags: number;
  /** The IRQ index. */
  index: number;
  /** The first vector. */
  start: number;
  /** The number of vectors. */
  count: number;
  /** With DATA_BOOL `count` bytes; else empty, or with DATA_EVENTFD the kernel's ints. A view. */
  data: Uint8Array;
}

/** The fields of a DEVICE_SET_IRQS request ahead of its data. */
export const SetIrqsLayout: Layout<Omit<SetIrqsRequest, "data">> = layout(
  "DEVICE_SET_IRQS request",
  20,
  {
    argsz: u32(0),
    flags: u32(4, IrqSetFlags),
    index: u32(8),
    start: u32(12),
    count: u32(16),
  },
);

/**
 * DEVICE_SET_IRQS request. Decoding refuses anything but one DATA flag and one ACTION flag, and
 * data of another length than these say.
 *
 * @example
 * ```ts
 * import { IrqSetFlags, PciIrq, SetIrqsRequest } from "./irq.ts";
 *
 * const fire = SetIrqsRequest.encode({
 *   argsz: 20,
 *   flags: IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER,
 *   index: PciIrq.MSIX,
 *   start: 3,
 *   count: 1,
 *   data: new Uint8Array(),
 * });
 * console.assert(fire.length === 20 && fire[4] === 0x21);
 * ```
 */
export const SetIrqsRequest: Codec<SetIrqsRequest> = {
  name: SetIrqsLayout.name,
  form: payloadForm(SetIrqsLayout, { kind: "bytes", name: "data" }),
  encode: (value) => encodeWithData(SetIrqsLayout, value, value.data),
  decode(payload) {
    const data = payload.subarray(SetIrqsLayout.size);
    const value = { ...SetIrqsLayout.decode(payload), data };
    checkArgsz(SetIrqsLayout, value.argsz);
    checkSetIrqs(value);
    return value;
  },
};

/** DEVICE_SET_IRQS reply: no payload. */
export const SetIrqsReply: Codec<void> = emptyReply("DEVICE_SET_IRQS reply");

function checkSetIrqs({ flags, count, data }: SetIrqsRequest): void {
  const kind = flags & IrqSetFlags.DATA_MASK;
  const action = flags & IrqSetFlags.ACTION_MASK_BITS;
  const unknown = (flags & ~(IrqSetFlags.DATA_MASK | IrqSetFlags.ACTION_MASK_BITS)) >>> 0;
  if (unknown !== 0) {
    throw new DecodeError(SetIrqsLayout.name, `flags ${hex(unknown)} are not defined`);
  }
  if (!isOneBit(kind)) throw flagsFailure(flags, "data");
  if (!isOneBit(action)) throw flagsFailure(flags, "action");
  const fits = kind === IrqSetFlags.DATA_BOOL
    ? data.length === count
    : data.length === 0 || (kind === IrqSetFlags.DATA_EVENTFD && data.length === 4 * count);
  if (!fits) {
    const wanted = kind === IrqSetFlags.DATA_BOOL ? count : 0;
    throw new DecodeError(
      SetIrqsLayout.name,
      `${data.length} bytes of data came, ${wanted} are needed`,
    );
  }
}

function isOneBit(bits: number): boolean {
  return bits !== 0 && (bits & (bits - 1)) === 0;
}

function flagsFailure(flags: number, what: string): ProtocolError {
  return new DecodeError(
    SetIrqsLayout.name,
    `flags ${hex(flags)} have not exactly one ${what} bit`,
  );
}
