import { assertEquals } from "@std/assert";
import { chooseStyle, COLOURED, PLAIN } from "../../../cli/shared/style.ts";

function isColoured(isTerminal: boolean, noColour: boolean, env: Record<string, string>): boolean {
  const style = chooseStyle({ isTerminal, noColour, env: (name) => env[name] });
  assertEquals(style === COLOURED || style === PLAIN, true);
  return style === COLOURED;
}

Deno.test("chooseStyle() colours on terminals only", () => {
  assertEquals(isColoured(true, false, {}), true);
  assertEquals(isColoured(true, false, { TERM: "xterm" }), true);
  assertEquals(isColoured(false, false, {}), false);
});

Deno.test("chooseStyle() does not colour when it is not wanted or not understood", () => {
  assertEquals(isColoured(true, true, {}), false);
  assertEquals(isColoured(true, false, { TERM: "dumb" }), false);
  assertEquals(isColoured(true, false, { FORCE_COLOR: "0" }), false);
});

Deno.test("chooseStyle() colours anything when FORCE_COLOR says so", () => {
  assertEquals(isColoured(false, false, { FORCE_COLOR: "1" }), true);
  assertEquals(isColoured(false, true, { FORCE_COLOR: "1" }), true);
  assertEquals(isColoured(false, false, { FORCE_COLOR: "" }), false);
});
