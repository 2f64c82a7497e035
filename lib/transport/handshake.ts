/**
 * The time that a client has for its first message.
 *
 * @module
 */

import { ProtocolError } from "../base/errors.ts";
import { DEFAULT_TIMEOUT_MS } from "../base/limits.ts";

/**
 * Closes the connection of a client that says nothing: it keeps others waiting.
 *
 * @param timeoutMs as long as a request has, unless something else is said
 * @returns a function to call once VERSION has come, or the connection has ended
 */
export function limitHandshake(
  close: (cause: ProtocolError) => void,
  timeoutMs: number = DEFAULT_TIMEOUT_MS,
): () => void {
  const late = () => close(new ProtocolError(`The client sent no VERSION within ${timeoutMs} ms`));
  const timer = setTimeout(late, timeoutMs);
  return () => clearTimeout(timer);
}
