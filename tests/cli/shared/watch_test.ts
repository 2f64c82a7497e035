import { assertEquals, assertRejects } from "@std/assert";
import type { Output } from "../../../cli/shared/context.ts";
import { PLAIN } from "../../../cli/shared/style.ts";
import { watch } from "../../../cli/shared/watch.ts";

Deno.test("watch() leaves nothing behind at the signal for each look", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  let listeners = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    listeners++;
    addEventListener.apply(signal, args);
  };
  signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    listeners--;
    removeEventListener.apply(signal, args);
  };
  let text = "";
  const out: Output = {
    isTerminal: false,
    columns: 80,
    style: PLAIN,
    write: (more) => text += more,
    writeBytes: () => {},
  };
  let looks = 0;
  const most: number[] = [];
  const watching = watch({ out, err: out, signal }, 1, {
    isJson: false,
    look: () => {
      most.push(listeners);
      if (++looks === 5) controller.abort(new Error("enough"));
      return Promise.resolve(looks);
    },
    screen: (now) => [`all ${now}`],
    changes: (now) => [`now ${now}`],
  });
  await assertRejects(() => watching, Error, "enough");
  assertEquals(most, [0, 0, 0, 0, 0]);
  assertEquals(text, "all 1\nnow 2\nnow 3\nnow 4\n");
});
