/**
 * The wire trace of `-v`.
 *
 * @module
 */

import type { Trace } from "../../lib/transport/message.ts";
import { describeMessage } from "../../lib/wire/describe.ts";
import type { Output } from "./context.ts";

/** Shows each message as a line, with the milliseconds since the call. */
export function traceTo({ style, write }: Output): Trace {
  const startMs = performance.now();
  return (direction, bytes, fds) => {
    const time = (performance.now() - startMs).toFixed(1).padStart(8);
    const arrow = direction === "sent" ? style.cyan("->") : style.green("<-");
    write(`${style.dim(`${time} ms`)} ${arrow} ${describeMessage(bytes, { fds })}\n`);
  };
}
