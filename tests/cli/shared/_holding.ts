/**
 * A command that holds its thread: for ever, or (`_holding.ts once`) for a moment.
 *
 * @module
 */

import { processContext } from "../../../cli/shared/context.ts";

const say = (text: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));

const { signal, hold } = processContext();
signal.throwIfAborted(); // signals are heard from here on
if (Deno.args[0] === "once") hold!(() => {});
else {
  hold!(() => {
    say("holding");
    while (true);
  });
}
say("waiting");
const timer = setInterval(() => {}, 1000);
signal.addEventListener("abort", () => {
  say(`heard ${signal.reason.message}`);
  clearInterval(timer);
});
