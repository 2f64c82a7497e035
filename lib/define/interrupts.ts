/**
 * The interrupts of a defined device.
 *
 * @module
 */

import { COMMAND, HEADER, MSI_CONTROL, MSIX_CONTROL, STATUS } from "../pci/registers.ts";
import type { ConfigRegion } from "../server/config.ts";
import type { DeviceIrqs, ServedIrq } from "../server/served_device.ts";
import { IrqFlags, PciIrq } from "../wire/irq.ts";
import type { DeviceCapability } from "./capability.ts";
import type { MsixTable } from "./msix.ts";
import type { BuiltConfig, PciSpec } from "./pci.ts";
import { sealClass, sealed } from "./sealed.ts";

/** One vector of a device. */
export interface InterruptVector {
  /**
   * Fires it. A masked one is pending, and fires once when it is unmasked.
   *
   * @returns false if the interrupt is lost: no client has set it up, or it is switched off
   */
  raise(): boolean;
  /** True if a client has set the vector up. */
  readonly isEnabled: boolean;
}

/** A pin: an interrupt with a level. */
export interface InterruptPin {
  /**
   * Sets its level. The interrupt fires when the level goes up, and again when it is unmasked while
   * the level is up.
   */
  set(isUp: boolean): void;
  /** Its level. */
  readonly isUp: boolean;
}

/**
 * The interrupts of a device. `interruptMasking` of its `pci` says which side masks them. A device
 * that is not on the PCI bus has `at` and `pin` alone.
 */
export interface Interrupts {
  /** The INTx pin. */
  readonly intx: InterruptPin;
  /** A vector of MSI. A RangeError if there is no such vector. */
  msi(vector: number): InterruptVector;
  /** A vector of MSI-X. A RangeError if there is no such vector. */
  msix(vector: number): InterruptVector;
  /** The error interrupt, by which the device says that it can't go on. */
  readonly error: InterruptVector;
  /** The request interrupt, by which the device asks the client to let go of it. */
  readonly request: InterruptVector;
  /** A vector by its IRQ index; `vector` is 0 by default. A RangeError if there is none. */
  at(index: number, vector?: number): InterruptVector;
  /** The pin of an IRQ index; `PciIrq.INTX` on the PCI bus. A RangeError if there is none. */
  pin(index: number): InterruptPin;
}

/** The interrupts of a device, as its server and its migration see them. */
export interface ServedInterrupts extends Interrupts {
  /** By IRQ index, as they are served. */
  readonly served: readonly ServedIrq[];
  /** State of theirs that is in no register. */
  readonly contents: readonly Uint8Array[];
  /** From here on they go to this client. */
  connect(irqs: DeviceIrqs): void;
  /** They go nowhere. */
  disconnect(): void;
  /** A reset. */
  reset(): void;
  /** State was restored, or registers were written: fires what is due. */
  refresh(): void;
}

/** Flags of an index whose vectors the server masks and unmasks for the client. */
const MASKABLE = IrqFlags.EVENTFD | IrqFlags.MASKABLE;

/** Permission of a vector to fire now. */
type Gate = "open" | "masked" | "off";

/** Decides if the vectors of an index may fire, where the device masks. */
interface Gatekeeper {
  gate(vector: number): Gate;
  isPending(vector: number): boolean;
  setPending(vector: number, isPending: boolean): void;
}

const OPEN: Gatekeeper = { gate: () => "open", isPending: () => false, setPending: () => {} };

/** The interrupts of one device, for whichever client is connected. */
export class DeviceInterrupts implements ServedInterrupts {
  /** By IRQ index, as they are served. */
  readonly served: readonly ServedIrq[];
  /** None: levels and pending bits are in registers. */
  readonly contents: readonly Uint8Array[] = [];
  readonly #config: ConfigRegion;
  readonly #masks: boolean;
  readonly #keepers = new Map<number, Gatekeeper>();
  readonly #vectors: readonly (readonly Vector[])[]; // by index
  #irqs: DeviceIrqs | undefined;
  #isUp = false;

  /** @param table of MSI-X, if the device has that */
  constructor(spec: PciSpec, { config, placeOf }: BuiltConfig, table: MsixTable | undefined) {
    const { capabilities = [], interruptPin, interruptMasking = "client" } = spec;
    const pinFlags = spec.interruptPinMasksItself ? MASKABLE | IrqFlags.AUTOMASKED : MASKABLE;
    this.#config = config;
    this.#masks = interruptMasking === "device";
    const msi = capabilities.find((each) => each.msi !== undefined);
    const msix = capabilities.find((each) => each.msix !== undefined);
    if (msi !== undefined) this.#keepers.set(PciIrq.MSI, msiKeeper(config, msi, placeOf.get(msi)!));
    if (msix !== undefined && table !== undefined) {
      this.#keepers.set(PciIrq.MSIX, msixKeeper(config, table, placeOf.get(msix)!));
    }
    if (interruptPin) config.change(HEADER.STATUS, STATUS.INTERRUPT);
    this.served = [
      { flags: interruptPin ? pinFlags : IrqFlags.EVENTFD, count: interruptPin ? 1 : 0 },
      // Not NORESIZE: the server adds a vector without a break in the others.
      { flags: msi ? MASKABLE : IrqFlags.EVENTFD, count: msi?.msi?.vectors ?? 0 },
      { flags: msix ? MASKABLE : IrqFlags.EVENTFD, count: msix?.msix?.vectors ?? 0 },
      { flags: IrqFlags.EVENTFD, count: 1 },
      { flags: IrqFlags.EVENTFD, count: 1 },
    ];
    this.#vectors = this.served.map(({ count }, index) =>
      Array.from(
        { length: count },
        (_, vector) => new Vector(this, index, vector, vectorName(index, vector)),
      )
    );
    this.#watch(msi, msix, placeOf);
  }

  /** The pin. */
  readonly intx = ((self: DeviceInterrupts) =>
    sealed({
      set: (isUp: boolean) => self.#setPin(isUp),
      get isUp() {
        return self.#isUp;
      },
    }, { path: "irq.intx" }))(this);

  /** As {@linkcode Interrupts.msi}. */
  msi(vector: number): InterruptVector {
    return this.#vector(PciIrq.MSI, vector, "MSI");
  }

  /** As {@linkcode Interrupts.msix}. */
  msix(vector: number): InterruptVector {
    return this.#vector(PciIrq.MSIX, vector, "MSI-X");
  }

  /** As {@linkcode Interrupts.error}. */
  get error(): InterruptVector {
    return this.#vector(PciIrq.ERR, 0, "error interrupt");
  }

  /** As {@linkcode Interrupts.request}. */
  get request(): InterruptVector {
    return this.#vector(PciIrq.REQ, 0, "request interrupt");
  }

  /** As {@linkcode Interrupts.at}. */
  at(index: number, vector = 0): InterruptVector {
    return this.#vector(index, vector, `IRQ index ${index}`);
  }

  /** As {@linkcode Interrupts.pin}. */
  pin(index: number): InterruptPin {
    if (index === PciIrq.INTX) return this.intx;
    throw new RangeError(`IRQ index ${index} is no pin; PciIrq.INTX is`);
  }

  /** From here on they go to this client. */
  connect(irqs: DeviceIrqs): void {
    this.#irqs = irqs;
    this.#showPin();
  }

  /** They go nowhere. */
  disconnect(): void {
    this.#irqs = undefined;
  }

  /** The pin goes down. The rest is in registers. */
  reset(): void {
    this.#setPin(false);
  }

  /** State was restored, or registers were written: fires what is due. */
  refresh(): void {
    this.#isUp = (this.#config.bytes[HEADER.STATUS]! & STATUS.INTERRUPT) !== 0;
    this.#showPin();
    for (const index of this.#keepers.keys()) this.#firePending(index);
  }

  /** Fires a vector, if it may. */
  raise(index: number, vector: number): boolean {
    const keeper = this.#keeper(index);
    const gate = keeper.gate(vector);
    if (gate === "open") return this.#irqs?.raise(index, vector) ?? false;
    // for the next client, if there is none now
    if (gate === "masked") keeper.setPending(vector, true);
    return gate === "masked";
  }

  /** Tells if a client has set a vector up. */
  isEnabled(index: number, vector: number): boolean {
    return this.#irqs?.isEnabled(index, vector) ?? false;
  }

  #keeper(index: number): Gatekeeper {
    return this.#masks ? this.#keepers.get(index) ?? OPEN : OPEN;
  }

  #vector(index: number, vector: number, what: string): Vector {
    const found = this.#vectors[index]?.[vector];
    if (found !== undefined) return found;
    throw new RangeError(`The device has no vector ${vector} of ${what}; declare it in pci`);
  }

  #setPin(isUp: boolean): void {
    if (this.served[PciIrq.INTX]!.count === 0) {
      if (!isUp) return;
      throw new RangeError("The device has no interrupt pin; declare interruptPin in pci");
    }
    this.#isUp = isUp;
    const { bytes } = this.#config;
    if (isUp) bytes[HEADER.STATUS]! |= STATUS.INTERRUPT;
    else bytes[HEADER.STATUS]! &= ~STATUS.INTERRUPT;
    this.#showPin();
  }

  /** Gives the client the level of the pin, which COMMAND may hold back. */
  #showPin(): void {
    if (this.served[PciIrq.INTX]!.count === 0) return;
    const isHeld = this.#masks &&
      (this.#config.get16(HEADER.COMMAND) & COMMAND.INTX_DISABLE) !== 0;
    this.#irqs?.setLevel(this.#isUp && !isHeld);
  }

  #watch(
    msi: DeviceCapability | undefined,
    msix: DeviceCapability | undefined,
    placeOf: BuiltConfig["placeOf"],
  ): void {
    if (!this.#masks) return;
    this.#config.onWrite(HEADER.COMMAND, 2, () => this.#showPin());
    for (const [each, index] of [[msi, PciIrq.MSI], [msix, PciIrq.MSIX]] as const) {
      if (each === undefined) continue;
      this.#config.onWrite(placeOf.get(each)!, each.size, () => this.#firePending(index));
    }
  }

  /** Fires what was pending and is not masked any more. */
  #firePending(index: number): void {
    const keeper = this.#keeper(index);
    for (const vector of this.#vectors[index]!.keys()) {
      if (!keeper.isPending(vector) || keeper.gate(vector) !== "open") continue;
      keeper.setPending(vector, false);
      this.#irqs?.raise(index, vector);
    }
  }
}

/** The words for a vector, as its device names it. */
function vectorName(index: number, vector: number): string {
  const names: Readonly<Record<number, string>> = {
    [PciIrq.MSI]: `msi(${vector})`,
    [PciIrq.MSIX]: `msix(${vector})`,
    [PciIrq.ERR]: "error",
    [PciIrq.REQ]: "request",
  };
  return names[index] ?? "intx";
}

/** One vector of a device's interrupts. */
export class Vector implements InterruptVector {
  readonly #interrupts: Pick<DeviceIrqs, "raise" | "isEnabled">;
  readonly #index: number;
  readonly #vector: number;
  readonly #name: string;

  static {
    sealClass<Vector>(this.prototype, { path: (self) => `irq.${self.#name}` });
  }

  /** @param name as the device has it, behind `irq.` */
  constructor(
    interrupts: Pick<DeviceIrqs, "raise" | "isEnabled">,
    index: number,
    vector: number,
    name: string,
  ) {
    this.#interrupts = interrupts;
    this.#index = index;
    this.#vector = vector;
    this.#name = name;
  }

  raise(): boolean {
    return this.#interrupts.raise(this.#index, this.#vector);
  }

  get isEnabled(): boolean {
    return this.#interrupts.isEnabled(this.#index, this.#vector);
  }
}

function msixKeeper(config: ConfigRegion, table: MsixTable, at: number): Gatekeeper {
  return {
    gate(vector) {
      const control = config.get16(at + 2);
      if ((control & MSIX_CONTROL.ENABLE) === 0) return "off";
      const isMasked = (control & MSIX_CONTROL.FUNCTION_MASK) !== 0 || table.isMasked(vector);
      return isMasked ? "masked" : "open";
    },
    isPending: (vector) => table.isPending(vector),
    setPending: (vector, isPending) => table.setPending(vector, isPending),
  };
}

function msiKeeper(config: ConfigRegion, { msi }: DeviceCapability, at: number): Gatekeeper {
  const masks = msi?.masking ? at + (msi.is64Bit ? 16 : 12) : undefined;
  const isSet = (from: number, vector: number) =>
    (config.bytes[from + (vector >> 3)]! & 1 << (vector & 7)) !== 0;
  return {
    gate(vector) {
      const control = config.get16(at + 2);
      const enabled = 1 << (control >> 4 & 7); // how many vectors the client has switched on
      if ((control & MSI_CONTROL.ENABLE) === 0 || vector >= enabled) return "off";
      return masks !== undefined && isSet(masks, vector) ? "masked" : "open";
    },
    isPending: (vector) => masks !== undefined && isSet(masks + 4, vector),
    setPending(vector, isPending) {
      if (masks === undefined) return;
      const byte = masks + 4 + (vector >> 3);
      if (isPending) config.bytes[byte]! |= 1 << (vector & 7);
      else config.bytes[byte]! &= ~(1 << (vector & 7));
    },
  };
}
