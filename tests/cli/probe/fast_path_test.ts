import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { command } from "../../../cli/commands/probe.ts";
import type { Context } from "../../../cli/shared/context.ts";
import { plainProbe } from "../../../cli/probe/fast_path.ts";
import { runHere } from "../_cli.ts";

/** Parses the line by commander; undefined if commander refuses the line. */
function parseByCommander(args: readonly string[]): unknown {
  let parsed: unknown;
  const probe = command({} as Context).exitOverride().configureOutput({ writeErr: () => {} });
  probe.action((socket, _others, options) => void (parsed = { socket, options }));
  try {
    probe.parse(args, { from: "user" });
  } catch {
    return undefined;
  }
  return parsed;
}

Deno.test("plainProbe() understands a socket, alone or with one form", () => {
  const timeout = 5000;
  const json = true, lspci = true;
  assertEquals(plainProbe(["probe", "x"]), { socket: "x", options: { timeout } });
  assertEquals(plainProbe(["probe", "x", "--json"]), { socket: "x", options: { timeout, json } });
  assertEquals(plainProbe(["probe", "--lspci", "x"]), { socket: "x", options: { timeout, lspci } });
});

Deno.test("plainProbe() leaves everything else to commander", () => {
  const lines = [
    [],
    ["probe"],
    ["probe", "--json"],
    ["probe", "--help"],
    ["probe", "x", "y"],
    ["probe", "x", "--json", "--lspci"],
    ["probe", "x", "--json", "--json"],
    ["probe", "x", "--jsn"],
    ["probe", "x", "-v"],
    ["probe", "x", "--timeout=1s"],
    ["probe", "--", "x"],
    ["probe", "x", "constructor"],
    ["-v", "probe", "x"],
    ["read", "x"],
    ["help", "probe"],
  ];
  assertEquals(lines.filter((line) => plainProbe(line) !== undefined), []);
});

Deno.test("plainProbe() understands no line otherwise than commander does", () => {
  const arg = fc.constantFrom("x", "", "-", "--", "y.sock", "--json", "--lspci", "-v", "--help");
  fc.assert(fc.property(fc.array(arg, { maxLength: 4 }), (args) => {
    const plain = plainProbe(["probe", ...args]);
    if (plain !== undefined) assertEquals(parseByCommander(args), plain);
  }));
});

Deno.test("main() fails in the same way with commander and without", async () => {
  const plain = await runHere(["probe", "/nonexistent/socket"]);
  const parsed = await runHere(["probe", "/nonexistent/socket", "--timeout", "5s"]);
  assertEquals(plain.code, 1);
  assertEquals(plain, parsed);
});
