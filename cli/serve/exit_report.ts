/**
 * Reports of modules that end the process by `Deno.exit`, which waits for nothing and says nothing.
 *
 * @module
 */

import type { Output } from "../shared/context.ts";
import { printable } from "../shared/printable.ts";

/**
 * Says who ends the process. A code of 0 becomes 1: the command has not come to its end.
 *
 * @param who the device, or the path of its module
 * @param doing what it was at; empty if that is not known
 */
export function tellExit({ write }: Pick<Output, "write">, who: string, doing: string): void {
  if (Deno.exitCode === 0) Deno.exitCode = 1;
  const when = doing === "" ? "" : ` at ${doing}`;
  write(`vfu: ${printable(who)} ended the process${when}, with code ${Deno.exitCode}\n`);
}

/**
 * Says until it is disposed of that a module ends the process.
 *
 * @param doing what it is at
 */
export function reportExit(
  err: Pick<Output, "write">,
  who: string,
  doing: () => string,
): Disposable {
  const onUnload = () => tellExit(err, who, doing());
  globalThis.addEventListener("unload", onUnload);
  return { [Symbol.dispose]: () => globalThis.removeEventListener("unload", onUnload) };
}
