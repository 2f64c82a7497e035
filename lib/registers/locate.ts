/**
 * The names of what is at an address: maps, looked up the other way round.
 *
 * @module
 */

import { littleEndian } from "../base/little_endian.ts";
import { type AddressBase, parseAddress } from "../client/address.ts";
import { type CapabilityLists, findCapability } from "../pci/names.ts";
import { PciRegion } from "../wire/region.ts";
import { fieldWords } from "./decode.ts";
import type { Register, RegisterMap } from "./map.ts";

/** A register that an access hits. */
export interface LocatedRegister {
  /** The map that has it. */
  readonly map: RegisterMap;
  /** The register. */
  readonly register: Register;
  /** Its name with its index and where in it the access begins: "CSTS", "SQTDBL[3]", "ASQ+4". */
  readonly name: string;
  /** True if the access is to all of the register and to nothing else. */
  readonly isWhole: boolean;
}

interface Span {
  readonly map: RegisterMap;
  readonly register: Register;
  readonly start: number;
  readonly end: number;
}

/** A register of a capability: offsets count from there. */
interface CapabilitySpan extends Span {
  readonly base: AddressBase & { readonly kind: "capability" };
}

/** The places of a device's capabilities, and the parts of its regions that some of these take. */
export interface PlacedCapabilities extends CapabilityLists {
  /** As the table and the pending bits of MSI-X. No register is there. Default none. */
  readonly tables?: readonly {
    readonly region: number;
    readonly offset: number;
    readonly size: number;
  }[];
}

/** Finds registers by region index and offset. */
export class RegisterLocator {
  readonly #spans = new Map<number, Span[]>();
  readonly #inCapabilities: CapabilitySpan[] = [];
  #capabilities: PlacedCapabilities | undefined;
  /** The registers of the configuration space, once its capabilities are known. */
  #config: readonly Span[] | undefined;

  /**
   * A locator for the registers of maps. Those in a capability are found once
   * {@linkcode placeCapabilities} has said where the device has it.
   */
  constructor(maps: readonly RegisterMap[]) {
    for (const map of maps) {
      for (const register of map.registers) {
        const { base } = parseAddress(register.region);
        const { offset: start, width, array } = register;
        const end = start + width + (array ? (array.count - 1) * array.stride : 0);
        const span = { map, register, start, end };
        if (base.kind === "capability") {
          this.#inCapabilities.push({ ...span, base });
          continue;
        }
        const spans = this.#spans.get(base.index) ?? [];
        spans.push(span);
        this.#spans.set(base.index, spans);
      }
    }
  }

  /** Takes the places of a device's capabilities. The same lists again cost nothing. */
  placeCapabilities(lists: PlacedCapabilities): void {
    if (lists === this.#capabilities) return;
    this.#capabilities = lists;
    const placed = this.#inCapabilities.flatMap(({ base, map, register, start, end }) => {
      const at = findCapability(lists, base.name, base.instance);
      return at === undefined ? [] : [{ map, register, start: at + start, end: at + end }];
    });
    this.#config = [...this.#spans.get(PciRegion.CONFIG) ?? [], ...placed];
  }

  /**
   * The register that holds the first byte of an access. Of several, one that begins there and has
   * the width is taken first. There is none where a capability has its table.
   *
   * @param region the region index
   * @param offset bytes from the start of the region
   * @param count bytes of the access
   *
   * @example
   * ```ts
   * import { loadRegisterMap } from "./load.ts";
   * import { RegisterLocator } from "./locate.ts";
   *
   * const locator = new RegisterLocator([await loadRegisterMap("nvme")]);
   * if (locator.at(0, 0x1c, 4)?.name !== "CSTS") throw new Error();
   * if (locator.at(0, 0x1018, 4)?.name !== "SQTDBL[3]") throw new Error();
   * if (locator.at(0, 0x2c, 4)?.name !== "ASQ+4") throw new Error();
   * ```
   */
  at(region: number, offset: number | bigint, count: number | bigint): LocatedRegister | undefined {
    const at = Number(offset);
    const isTable = this.#capabilities?.tables?.some((each) =>
      each.region === region && at >= each.offset && at < each.offset + each.size
    );
    if (isTable) return undefined; // whatever a map has that is made for larger devices
    let best: LocatedRegister | undefined;
    const spans = region === PciRegion.CONFIG && this.#config || this.#spans.get(region);
    for (const { map, register, start, end } of spans ?? []) {
      if (at < start || at >= end) continue;
      const stride = register.array?.stride ?? end - start;
      const index = Math.floor((at - start) / stride);
      const within = (at - start) % stride;
      if (within >= register.width) continue; // between two of an array
      const isWhole = within === 0 && Number(count) === register.width;
      if (best !== undefined && !isWhole) continue;
      const name = register.name + (register.array ? `[${index}]` : "") +
        (within === 0 ? "" : `+${within}`);
      best = { map, register, name, isWhole };
      if (isWhole) break;
    }
    return best;
  }
}

/** Fields of a located register in a value: see `fieldWords`. None if it was not hit as a whole. */
export function locatedWords(located: LocatedRegister, data: Uint8Array): string[] {
  return located.isWhole && data.length === located.register.width
    ? fieldWords(located.register, littleEndian(data))
    : [];
}
