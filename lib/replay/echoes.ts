/**
 * Numbers that a client chooses and a device repeats, as the identifier of a command.
 *
 * @module
 */

/** Bytes of a command in which such numbers are, and of an answer that repeats them. */
const MAX_SIZE = 256;
/** Sizes of commands, and of answers, that are looked at. */
const MAX_SIZES = 16;
/** Commands that may have no answer yet. */
const MAX_OPEN = 256;

/** The places in commands of one size whose number a place in answers may repeat. */
interface Echo {
  /** A bit for each number of the command. */
  from: bigint;
  /** The number that was repeated, if it is not 0. */
  seen: number | undefined;
  /** True once another number was repeated. */
  isVaried: boolean;
}

/** Commands of one size, the last ones first to go. */
interface Commands {
  readonly last: Uint8Array[];
  /** The numbers at each place, and how many of the commands have them. */
  readonly numbers: readonly Map<number, number>[];
  /** A bit for each place at which a number is. */
  readonly placesOf: Map<number, bigint>;
}

/**
 * Places at which a recorded device repeats numbers of 16 bits. In each answer of a size, the
 * number is that of some command before it, and not the same each time.
 */
export class EchoPlaces {
  readonly #commands = new Map<number, Commands>();
  /** By the size of the command and that of the answer. */
  readonly #echoes = new Map<string, Echo[]>();
  readonly #answers = new Set<number>();

  /** Notes memory that the recorded device read. */
  addRead(data: Uint8Array): void {
    const size = data.length;
    if (size > MAX_SIZE || size < 4) return;
    let commands = this.#commands.get(size);
    if (commands === undefined) {
      if (this.#commands.size >= MAX_SIZES) return;
      const numbers = Array.from({ length: size >> 1 }, () => new Map<number, number>());
      commands = { last: [], numbers, placesOf: new Map() };
      this.#commands.set(size, commands);
    }
    const { last, numbers, placesOf } = commands;
    last.push(data);
    for (const [i, counts] of numbers.entries()) {
      const value = number(data, 2 * i);
      const count = counts.get(value) ?? 0;
      counts.set(value, count + 1);
      if (count === 0) placesOf.set(value, (placesOf.get(value) ?? 0n) | 1n << BigInt(i));
    }
    if (last.length <= MAX_OPEN) return;
    const gone = last.shift()!;
    for (const [i, counts] of numbers.entries()) {
      const value = number(gone, 2 * i);
      const left = counts.get(value)! - 1;
      if (left > 0) {
        counts.set(value, left);
        continue;
      }
      counts.delete(value);
      const places = placesOf.get(value)! ^ 1n << BigInt(i);
      if (places === 0n) placesOf.delete(value);
      else placesOf.set(value, places);
    }
  }

  /** Notes memory that the recorded device wrote. */
  addWrite(data: Uint8Array): void {
    const size = data.length;
    if (size > MAX_SIZE || size < 2) return;
    if (!this.#answers.has(size) && this.#answers.size >= MAX_SIZES) return;
    const isFirst = !this.#answers.has(size);
    this.#answers.add(size);
    for (const [commandSize, { placesOf }] of this.#commands) {
      const key = `${commandSize} ${size}`;
      let echoes = this.#echoes.get(key);
      if (echoes === undefined) {
        // An answer came before there was any command of that size: it does not answer these.
        echoes = isFirst ? allPairs(commandSize, size) : [];
        this.#echoes.set(key, echoes);
      }
      for (const [i, echo] of echoes.entries()) {
        if (echo.from === 0n) continue;
        const value = number(data, 2 * i);
        echo.from &= placesOf.get(value) ?? 0n;
        if (value === 0) continue;
        echo.seen ??= value;
        echo.isVaried ||= echo.seen !== value;
      }
    }
  }

  /** The places in answers of a size, with the size of the command. */
  ofAnswer(size: number): { commandSize: number; from: number; to: number }[] {
    const found = [];
    for (const [key, echoes] of this.#echoes) {
      const [commandSize, answerSize] = key.split(" ").map(Number) as [number, number];
      if (answerSize !== size) continue;
      for (const [i, echo] of echoes.entries()) {
        for (const from of placesIn(echo)) found.push({ commandSize, from, to: 2 * i });
      }
    }
    return found;
  }

  /** The places in commands of a size whose numbers are repeated. */
  ofCommand(size: number): Set<number> {
    const found = new Set<number>();
    for (const [key, echoes] of this.#echoes) {
      if (Number(key.split(" ")[0]) !== size) continue;
      for (const echo of echoes) for (const from of placesIn(echo)) found.add(from);
    }
    return found;
  }
}

/**
 * Numbers of the client that is served now, in place of those of the recording.
 *
 * @example
 * ```ts
 * import { EchoPlaces, Echoes } from "./echoes.ts";
 *
 * const places = new EchoPlaces();
 * for (const id of [24, 25]) {
 *   places.addRead(Uint8Array.of(6, 0, id, 0));
 *   places.addWrite(Uint8Array.of(0, 0, id, 0));
 * }
 * const echoes = new Echoes(places);
 * echoes.learn(Uint8Array.of(6, 0, 24, 0), Uint8Array.of(6, 0, 31, 0));
 * console.assert(echoes.apply(Uint8Array.of(0, 0, 24, 0))?.join() === "0,0,31,0");
 * console.assert(echoes.apply(Uint8Array.of(0, 0, 25, 0)) === undefined);
 * ```
 */
export class Echoes {
  readonly #places: EchoPlaces;
  readonly #ofAnswer = new Map<number, ReturnType<EchoPlaces["ofAnswer"]>>();
  readonly #ofCommand = new Map<number, Set<number>>();
  /** The client's numbers by the recorded ones, by the size of the command and the place. */
  readonly #numbers = new Map<string, Map<number, number>>();

  /** @param places those of the recording */
  constructor(places: EchoPlaces) {
    this.#places = places;
  }

  /** Tells if a byte of a command of that size is of a number that the client chooses. */
  isOwn(size: number, at: number): boolean {
    return this.#placesOf(size).has(at & ~1);
  }

  /** Learns from a command that the recorded device read, and the client's in its place. */
  learn(recorded: Uint8Array, found: Uint8Array): void {
    for (const from of this.#placesOf(recorded.length)) {
      const key = `${recorded.length} ${from}`;
      const numbers = this.#numbers.get(key) ?? new Map<number, number>();
      this.#numbers.set(key, numbers);
      numbers.set(number(recorded, from), number(found, from));
    }
  }

  /** Forgets a command that the client has not given. */
  forget(recorded: Uint8Array): void {
    for (const from of this.#placesOf(recorded.length)) {
      this.#numbers.get(`${recorded.length} ${from}`)?.delete(number(recorded, from));
    }
  }

  /** Forgets all. */
  clear(): void {
    this.#numbers.clear();
  }

  /**
   * The bytes that the device writes, with the client's numbers.
   *
   * @returns undefined if they repeat a number of a command that the client has not given
   */
  apply(data: Uint8Array): Uint8Array | undefined {
    if (data.length > MAX_SIZE) return data;
    let places = this.#ofAnswer.get(data.length);
    if (places === undefined) {
      this.#ofAnswer.set(data.length, places = this.#places.ofAnswer(data.length));
    }
    if (places.length === 0) return data;
    const changed = data.slice();
    const repeated = new Map<number, number>();
    for (const { commandSize, from, to } of places) {
      const other = this.#numbers.get(`${commandSize} ${from}`)?.get(number(data, to));
      // Places of the command that agreed in the recording have to agree now.
      if (other === undefined || (repeated.get(to) ?? other) !== other) return undefined;
      repeated.set(to, other);
      changed[to] = other & 0xff;
      changed[to + 1] = other >> 8;
    }
    return changed;
  }

  #placesOf(size: number): Set<number> {
    let places = this.#ofCommand.get(size);
    if (places === undefined) this.#ofCommand.set(size, places = this.#places.ofCommand(size));
    return places;
  }
}

function allPairs(commandSize: number, size: number): Echo[] {
  const from = (1n << BigInt(commandSize >> 1)) - 1n;
  return Array.from({ length: size >> 1 }, () => ({ from, seen: undefined, isVaried: false }));
}

/** The places in commands whose numbers are repeated. */
function* placesIn({ from, isVaried }: Echo): Generator<number> {
  if (!isVaried) return;
  for (let at = 0; from >> BigInt(at) !== 0n; at++) {
    if ((from >> BigInt(at) & 1n) !== 0n) yield 2 * at;
  }
}

function number(bytes: Uint8Array, at: number): number {
  return bytes[at]! | bytes[at + 1]! << 8;
}
