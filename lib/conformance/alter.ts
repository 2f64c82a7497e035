/**
 * Alterations of an answer that checks of several groups make.
 *
 * @module
 */

import { MessageFlags } from "../wire/header.ts";
import type { Act, Answer } from "./client_check.ts";
import { join, pack } from "./pack.ts";

/** Writes 32 bits of the payload. */
export function put(answer: Answer, at: number, value: number): void {
  answer.payload.set(pack("u32", value), at);
}

/** Leaves out the last bytes of the payload. */
export const cut = (bytes: number): Act => (answer) => {
  answer.payload = answer.payload.slice(0, Math.max(0, answer.payload.length - bytes));
};

/** Leaves out the whole payload. */
export const empty: Act = (answer) => {
  answer.payload = new Uint8Array();
};

/** Adds bytes behind the payload. */
export const longer = (bytes: number): Act => (answer) => {
  answer.payload = join(answer.payload, new Uint8Array(bytes));
};

/** Answers with an error. */
export const refuse = (errno: number): Act => (answer) => {
  answer.flags |= MessageFlags.ERROR;
  answer.error = errno;
  answer.payload = new Uint8Array();
  answer.fds = [];
};

/** Adds a descriptor that the client has no use for. */
export const withStray: Act = (answer, t) => {
  answer.fds = [...answer.fds, t.stray()];
};

/** Answers late. */
export const late: Act = (_, t) => t.pause();

/** Answers two requests in one piece, the later first; of a client that does not wait. */
export const swapped: Act = async (answer, t) => [await t.next(), answer];

/** Closes the connection in place of an answer. */
export const hangUp: Act = (_, t) => {
  t.hangUp();
  return [];
};
