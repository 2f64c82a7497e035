import { assertEquals } from "@std/assert";
import { Ticker } from "../../../lib/transport/ticker.ts";
import { DENO } from "../../_deno.ts";

Deno.test("a ticker runs again and again while it is on, and leaves no timer when off", async () => {
  let count = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const ticker = new Ticker(1, () => ++count === 3 && resolve(), true);
  ticker.isOn = true;
  ticker.isOn = true; // no second timer
  await promise;
  ticker.isOn = false;
  ticker.isOn = false;
  assertEquals(count, 3);
});

Deno.test("a ticker keeps the process alive only if it is to", async () => {
  const HOUR_MS = 3_600_000; // a process that waited for that would hang
  for (const [periodMs, keepsAlive, printed] of [[1, true, "tick\n"], [HOUR_MS, false, ""]]) {
    const script = `
      import { Ticker } from "${import.meta.resolve("../../../lib/transport/ticker.ts")}";
      const tick = () => { console.log("tick"); ticker.isOn = false; };
      const ticker = new Ticker(${periodMs}, tick, ${keepsAlive});
      ticker.isOn = true;
    `;
    const { stdout } = await new Deno.Command(DENO, { args: ["eval", "--no-check", script] })
      .output();
    assertEquals(new TextDecoder().decode(stdout), printed);
  }
});
