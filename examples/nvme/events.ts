/**
 * Asynchronous events of the NVMe controller: the driver leaves requests for them, which are
 * answered when something happens.
 *
 * @module
 */

import { LIMITS } from "./promises.ts";

/** The events. */
export interface Event {
  readonly type: number;
  readonly info: number;
  /** The log page that tells more; reading that makes room for the next event of the type. */
  readonly page: number;
}

/** Events, by name. */
export const EVENTS = {
  DOORBELL_REGISTER: { type: 0, info: 0, page: 1 },
  DOORBELL_VALUE: { type: 0, info: 1, page: 1 },
  TEMPERATURE: { type: 1, info: 1, page: 2 },
} as const satisfies Record<string, Event>;

/** Requests for events, and events for which there is no request. */
export class Events {
  #requests: number[] = []; // ids of commands
  #waiting: Event[] = []; // of each kind one
  #told = new Set<number>(); // types that the driver has not read about yet

  /** The number of requests that are outstanding. */
  get count(): number {
    return this.#requests.length;
  }

  /** True if a request has this id. */
  has(id: number): boolean {
    return this.#requests.includes(id);
  }

  /** Takes a request. */
  request(id: number): void {
    this.#requests.push(id);
  }

  /** Forgets a request. */
  abort(id: number): void {
    this.#requests = this.#requests.filter((each) => each !== id);
  }

  /** Something happened. */
  post(event: Event): void {
    const isSame = (each: Event) => each.type === event.type && each.info === event.info;
    if (!this.#told.has(event.type) && !this.#waiting.some(isSame)) this.#waiting.push(event);
  }

  /** True if `take` returns something. */
  get isDue(): boolean {
    return this.#requests.length > 0 && this.#next() !== undefined;
  }

  /** The request to be answered now, and with what. */
  take(): { id: number; result: number } {
    const event = this.#next()!;
    this.#waiting.splice(this.#waiting.indexOf(event), 1);
    this.#told.add(event.type);
    return {
      id: this.#requests.shift()!,
      result: event.type | event.info << 8 | event.page << 16,
    };
  }

  /** The driver has read a log page, and wants to hear of that again. */
  read(page: number): void {
    for (const each of Object.values(EVENTS)) if (each.page === page) this.#told.delete(each.type);
  }

  #next(): Event | undefined {
    return this.#waiting.find(({ type }) => !this.#told.has(type));
  }

  /** Forgets all. */
  clear(): void {
    this.#requests = [];
    this.#waiting = [];
    this.#told.clear();
  }

  /** Plain data. */
  get saved(): { requests: number[]; told: number[] } {
    return { requests: this.#requests, told: [...this.#told] };
  }

  /**
   * Takes plain data, which may be anything.
   *
   * @throws {RangeError} if it is not what was saved
   */
  restore(saved: { requests: unknown; told: unknown }): void {
    const [requests, told] = [saved.requests, saved.told].map((each) => [...each as number[]]);
    const isGood = requests!.length <= LIMITS.AERL + 1 && told!.length <= 8 &&
      [...requests!, ...told!].every((each) => Number.isInteger(each) && each >= 0 && each < 65536);
    if (!isGood) throw new RangeError("The state has requests for events that can't be");
    this.clear();
    this.#requests = requests!;
    this.#told = new Set(told);
  }
}
