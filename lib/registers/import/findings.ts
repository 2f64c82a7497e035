/**
 * Findings of an import: mistakes, which end it, and notes, in spite of which there is a map.
 *
 * @module
 */

import { FileProblems, type Position, type Problem } from "../../yaml/problem.ts";
import { MAX_REGISTERS } from "../check.ts";

/** Mistakes that are listed; a file with more is not what it is taken for. */
const MAX_MISTAKES = 100;
/** Notes that are kept. */
const MAX_NOTES = 1000;
/** Code units of a message, which may have a word of the file in it. */
const MAX_MESSAGE = 240;

/** The end of an import that was told to do more than a map can hold. */
class TooMuch extends Error {}

/** Collects the findings of one file. Places are offsets in its text. */
export class Findings {
  readonly #file: string;
  readonly #positionOf: (at: number) => Position;
  readonly #mistakes: Problem[] = [];
  readonly #notes: Problem[] = [];
  readonly #told = new Set<string>();
  #budget = 2 * MAX_REGISTERS;

  /**
   * @param file as messages call it
   * @param positionOf an offset in its text
   */
  constructor(file: string, positionOf: (at: number) => Position) {
    this.#file = file;
    this.#positionOf = positionOf;
  }

  /** The notes, from the first line to the last. */
  get notes(): readonly Problem[] {
    return sorted(this.#notes);
  }

  /** Notes a mistake: without a map for it, there is none at all. */
  mistake(at: number, message: string, hint?: string): void {
    if (this.#mistakes.length < MAX_MISTAKES) this.#add(this.#mistakes, at, message, hint);
  }

  /** Notes what is in the map in another way than in the file, or is left out. */
  note(at: number, message: string): void {
    if (this.#notes.length < MAX_NOTES) this.#add(this.#notes, at, message);
  }

  /**
   * Counts one more part of the map: a register, or a group of them.
   *
   * @throws {TooMuch} if there are too many: a few lines of a file can mean millions
   */
  count(at: number): void {
    if (this.#budget-- > 0) return;
    this.mistake(at, `There are more than ${MAX_REGISTERS} registers; choose a part of the file`);
    throw new TooMuch();
  }

  /**
   * Does work that notes mistakes.
   *
   * @throws {FileProblems} if there were any
   */
  run<T>(work: () => T): T {
    let result: T | undefined;
    try {
      result = work();
    } catch (error) {
      if (!(error instanceof TooMuch)) throw error;
    }
    if (this.#mistakes.length > 0) throw new FileProblems(this.#file, sorted(this.#mistakes));
    return result!;
  }

  #add(list: Problem[], at: number, message: string, hint?: string): void {
    // What several registers are derived from is looked at for each
    const key = `${at} ${message}`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const short = message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message;
    const problem = { file: this.#file, ...this.#positionOf(at), message: short };
    list.push(hint === undefined ? problem : { ...problem, hint });
  }
}

function sorted(problems: readonly Problem[]): Problem[] {
  return problems.toSorted((a, b) => a.line - b.line || a.column - b.column);
}
