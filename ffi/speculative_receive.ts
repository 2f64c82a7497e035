/**
 * Guesses that a peer has answered by now, which spare the poll.
 *
 * A peer that shares the CPU runs when this thread yields it, and mostly is back when the thread
 * goes on. Then a receive finds what a poll would have reported. On a CPU of its own it rarely is.
 * Where others want the CPU as well, the thread may not get it back for milliseconds. There,
 * guessing is soon given up.
 *
 * @module
 */

import { libc } from "./libc.ts";

/** The number of guesses that follow one another before all that is watched has its turn. */
const MAX_GUESSES = 16;
/** A guess takes a peer some microseconds. One that takes so long has let others have the CPU. */
const SLOW_GUESS_MS = 0.5;
/**
 * The number of guesses that a wrong or slow one costs at first. Each that follows costs twice as
 * many, up to the most.
 */
const PAUSE = 64;
const MAX_PAUSE = 1 << 14;

/** Something that can be guessed about. */
export interface Guessable {
  /** Receives, and handles what came; returns whether something did. */
  readonly guess: (() => boolean) | undefined;
}

/** Decides when to guess. */
export class Guesses<T extends Guessable> {
  #about: T | undefined;
  #left = 0;
  #pause = PAUSE;
  #skip = 0;
  #right = 0; // since the pause was changed
  #start: number | undefined; // of the guess before

  /** The only one that was ready in the last poll, if it is one to guess about. */
  set about(about: T | undefined) {
    this.#about = about;
    this.#left = MAX_GUESSES;
    this.#start = undefined; // there was a poll since, which may have waited
  }

  /**
   * Picks the entry to receive from speculatively; undefined if a poll is better.
   *
   * @param now in the milliseconds of `monotonicMs`
   */
  next(now: number): T | undefined {
    const start = this.#start;
    this.#start = undefined;
    if (start !== undefined && now - start > SLOW_GUESS_MS) this.#wrong();
    const about = this.#about;
    if (about === undefined || this.#left === 0) return undefined;
    if (this.#skip > 0) {
      this.#skip--;
      return undefined;
    }
    this.#left--;
    this.#start = now;
    return about;
  }

  /** Lets the peer run, and looks. Gives whether there was something to do, which is done. */
  isRight(about: T): boolean {
    libc().sched_yield();
    if (!about.guess!()) {
      this.#start = undefined;
      this.#wrong();
      return false;
    }
    if (++this.#right === PAUSE) {
      this.#right = 0;
      this.#pause = PAUSE;
    }
    return true;
  }

  #wrong(): void {
    this.#skip = this.#pause;
    this.#pause = Math.min(this.#pause * 2, MAX_PAUSE);
    this.#right = 0;
  }
}
