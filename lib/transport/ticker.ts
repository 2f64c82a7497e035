/**
 * `Ticker`: a timer that runs as long as it is needed.
 *
 * @module
 */

/** Calls a function again and again while switched on. */
export class Ticker {
  readonly #periodMs: number;
  readonly #run: () => void;
  readonly #keepsAlive: boolean;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param keepsAlive true if the process does not end while the ticker is switched on */
  constructor(periodMs: number, run: () => void, keepsAlive: boolean) {
    this.#periodMs = periodMs;
    this.#run = run;
    this.#keepsAlive = keepsAlive;
  }

  /** Starts or stops the timer, unless it is as wanted already. */
  set isOn(on: boolean) {
    if (on === (this.#timer !== undefined)) return;
    if (on) {
      this.#timer = setInterval(this.#run, this.#periodMs);
      if (!this.#keepsAlive) Deno.unrefTimer(this.#timer);
    } else {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }
}
