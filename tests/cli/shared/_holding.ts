/**
 * A command that holds its thread: for ever, or (`_holding.ts once`) for a moment.
 *
 * @module
 */

import { processContext } from "../../../cli/shared/context.ts";

const { signal, hold } = processContext();
signal.throwIfAborted(); // signals are heard from here on
if (Deno.args[0] === "once") hold!(() => {});
else {
  hold!(() => {
    console.log("holding");
    while (true);
  });
}
console.log("waiting");
const timer = setInterval(() => {}, 1000);
signal.addEventListener("abort", () => {
  console.log(`heard ${signal.reason.message}`);
  clearInterval(timer);
});
