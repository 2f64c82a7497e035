/**
 * The clock that deadlines are measured with.
 *
 * @module
 */

import { IoBuffer } from "./buffer.ts";
import { type Libc, libc } from "./libc.ts";

const CLOCK_MONOTONIC = 1;

let time: IoBuffer | undefined; // struct timespec: i64 sec, i64 nsec
let c: Libc;
let words: Uint32Array;

/**
 * Milliseconds since some moment, with fractions; never goes back. A third of what
 * `performance.now()` costs, which counts where a whole round trip takes a few microseconds.
 */
export function monotonicMs(): number {
  if (time === undefined) {
    c = libc();
    time = new IoBuffer(16);
    words = new Uint32Array(time.bytes.buffer);
  }
  c.clock_gettime(CLOCK_MONOTONIC, time.pointer);
  return words[0]! * 1000 + words[2]! / 1e6; // 32 bits of seconds since boot are 136 years
}
