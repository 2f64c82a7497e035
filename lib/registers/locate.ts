/**
 * The names of what is at an address: maps, looked up the other way round.
 *
 * @module
 */

import { regionIndex } from "../wire/region.ts";
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
  readonly end: number;
}

/** Finds registers by region index and offset. */
export class RegisterLocator {
  readonly #spans = new Map<number, Span[]>();

  /**
   * A locator for the registers of maps. Registers in a capability are left out: where they are is
   * for each device to say.
   */
  constructor(maps: readonly RegisterMap[]) {
    for (const map of maps) {
      for (const register of map.registers) {
        const region = regionIndex(register.region);
        if (region === undefined) continue;
        const { offset, width, array } = register;
        const end = offset + width + (array ? (array.count - 1) * array.stride : 0);
        const spans = this.#spans.get(region) ?? [];
        spans.push({ map, register, end });
        this.#spans.set(region, spans);
      }
    }
  }

  /**
   * The register that holds the first byte of an access. Of several, one that begins there and has
   * the width is taken first.
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
    let best: LocatedRegister | undefined;
    for (const { map, register, end } of this.#spans.get(region) ?? []) {
      if (at < register.offset || at >= end) continue;
      const stride = register.array?.stride ?? end - register.offset;
      const index = Math.floor((at - register.offset) / stride);
      const within = (at - register.offset) % stride;
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

/** The number in little-endian bytes. */
export function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => value << 8n | BigInt(byte), 0n);
}
