/**
 * Findings of an import: mistakes, which end it, and notes, in spite of which there is a map.
 *
 * @module
 */

import { FileProblems, type Position, type Problem } from "../../yaml/problem.ts";
import { MAX_REGISTERS } from "../check.ts";

/** Mistakes that are listed; a file with more is not what it is taken for. */
const MAX_MISTAKES = 100;
/** Parts of a map: registers, fields, values. As text, no map can have as many. */
const MAX_PARTS = 4 * MAX_REGISTERS;
/** Elements that are looked at again, for what others take from them. */
const MAX_STEPS = 20_000_000;
/** Notes that are kept. */
const MAX_NOTES = 1000;
/** Code units of a message, which may have a word of the file in it. */
const MAX_MESSAGE = 240;
/** Code units of a name: a map has 63 of them. */
const MAX_NAME = 200;

/** The end of an import that was told to do more than a map can hold. */
class TooMuch extends Error {}

/** Collects the findings of one file. Places are offsets in its text. */
export class Findings {
  readonly #file: string;
  readonly #positionOf: (at: number) => Position;
  readonly #mistakes: Problem[] = [];
  readonly #notes: Problem[] = [];
  readonly #told = new Set<string>();
  #parts = MAX_PARTS;
  #steps = MAX_STEPS;

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

  /**
   * Notes a mistake, which ends the import without a map.
   *
   * @throws {TooMuch} if there are more than are listed
   */
  mistake(at: number, message: string, hint?: string): void {
    this.#add(this.#mistakes, at, message, hint);
    if (this.#mistakes.length >= MAX_MISTAKES) throw new TooMuch();
  }

  /** Notes a part of the file that the map lacks, or has in another form. */
  note(at: number, message: string): void {
    if (this.#notes.length < MAX_NOTES) this.#add(this.#notes, at, message);
  }

  /**
   * Counts parts of the map: a register or a group of them, a field, a value.
   *
   * @throws {TooMuch} if there are too many: a few lines of a file can mean millions
   */
  count(at: number, count = 1): void {
    this.#parts -= count;
    if (this.#parts >= 0) return;
    this.mistake(at, "There are more registers, fields and values than a map can hold");
    throw new TooMuch();
  }

  /**
   * Counts elements that are looked at once more, for what another element takes from them.
   *
   * @throws {TooMuch} if there are so many that it would take minutes
   */
  look(at: number, count: number): void {
    this.#steps -= count;
    if (this.#steps >= 0) return;
    this.mistake(at, "Too much of the file is derived from elements that have too much in them");
    throw new TooMuch();
  }

  /** Checks the length of a name, with which the names of its parts begin. */
  name(at: number, name: string): string {
    if (name.length <= MAX_NAME) return name;
    this.mistake(at, `The name ${name.slice(0, 20)}... is longer than ${MAX_NAME} letters`);
    return name.slice(0, MAX_NAME);
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
    const short = message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message;
    const key = `${at} ${short}`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const problem = { file: this.#file, ...this.#positionOf(at), message: short };
    list.push(hint === undefined ? problem : { ...problem, hint });
  }
}

function sorted(problems: readonly Problem[]): Problem[] {
  return problems.toSorted((a, b) => a.line - b.line || a.column - b.column);
}
