/**
 * The last messages on the wire.
 *
 * @module
 */

import type { Trace } from "../../lib/transport/message.ts";
import { describeMessage } from "../../lib/wire/describe.ts";

/** A message that was sent or received. */
export interface LoggedMessage {
  /** Since the log began, in milliseconds. */
  readonly timeMs: number;
  readonly direction: "sent" | "received";
  /** The message, on one line. */
  readonly text: string;
}

/** The number of messages that are kept. */
const KEPT = 8;
/** Larger messages are described at once rather than kept. */
const MAX_KEPT_SIZE = 1024;

interface Entry {
  readonly timeMs: number;
  readonly direction: "sent" | "received";
  readonly what: Uint8Array | string;
  readonly fds: number;
}

/** Keeps the last messages of a connection. They are described when a caller asks. */
export class WireLog {
  readonly #startMs = performance.now();
  readonly #entries: Entry[] = [];
  #next = 0;
  /** Tells which messages are left out: those that only look for the reason of a failure. */
  omits: () => boolean = () => false;

  /** To be given to `connect`. */
  readonly trace: Trace = (direction, bytes, fds) => {
    if (this.omits()) return;
    const what = bytes.length > MAX_KEPT_SIZE ? describeMessage(bytes, { fds }) : bytes.slice();
    const timeMs = performance.now() - this.#startMs;
    this.#entries[this.#next++ % KEPT] = { timeMs, direction, what, fds };
  };

  /** The last messages, the oldest first. */
  get last(): LoggedMessage[] {
    const oldest = Math.max(0, this.#next - KEPT);
    return Array.from({ length: this.#next - oldest }, (_, i) => {
      const { timeMs, direction, what, fds } = this.#entries[(oldest + i) % KEPT]!;
      const text = typeof what === "string" ? what : describeMessage(what, { fds });
      return { timeMs, direction, text };
    });
  }
}
