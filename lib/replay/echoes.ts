/**
 * Numbers that a client chooses and a device repeats, as the identifier of a command.
 *
 * @module
 */

/** Bytes of a command from which numbers are repeated, and of an answer in which they are. */
const MAX_SIZE = 256;

/**
 * Numbers of 16 bits in memory that the device read which are others than in the recording. A short
 * answer of the device has the client's numbers in place of the recorded ones.
 *
 * @example
 * ```ts
 * import { Echoes } from "./echoes.ts";
 *
 * const echoes = new Echoes();
 * echoes.learn(Uint8Array.of(6, 0, 24, 0), Uint8Array.of(6, 0, 31, 0));
 * console.assert(echoes.apply(Uint8Array.of(0, 0, 24, 0)).join() === "0,0,31,0");
 * ```
 */
export class Echoes {
  readonly #numbers = new Map<number, number>();

  /** Learns from memory that the recorded device read, and what is there now. */
  learn(recorded: Uint8Array, found: Uint8Array): void {
    if (recorded.length > MAX_SIZE || recorded.length !== found.length) return;
    for (let at = 0; at + 2 <= recorded.length; at += 2) {
      const [own, other] = [number(recorded, at), number(found, at)];
      if (own !== other && own !== 0) this.#numbers.set(own, other);
    }
  }

  /** The bytes that the device writes, with the client's numbers. */
  apply(data: Uint8Array): Uint8Array {
    if (this.#numbers.size === 0 || data.length > MAX_SIZE) return data;
    const changed = data.slice();
    for (let at = 0; at + 2 <= data.length; at += 2) {
      const other = this.#numbers.get(number(data, at));
      if (other === undefined) continue;
      changed[at] = other & 0xff;
      changed[at + 1] = other >> 8;
    }
    return changed;
  }
}

function number(bytes: Uint8Array, at: number): number {
  return bytes[at]! | bytes[at + 1]! << 8;
}
