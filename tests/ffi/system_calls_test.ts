import { assertEquals } from "@std/assert";
import { SYSTEM_CALLS, systemCalls } from "../../ffi/system_calls.ts";
import { IS_EMULATED } from "../_deno.ts";

/** The values in the C compiler's headers; undefined without a compiler. */
async function preprocess(header: string, names: readonly string[]): Promise<string[] | undefined> {
  try {
    const child = new Deno.Command("cc", {
      args: ["-E", "-P", "-x", "c", "-"],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const writer = child.stdin.getWriter();
    const source = `#include <${header}>\n${names.map((name) => `__NR_${name}`).join("\n")}\n`;
    await writer.write(new TextEncoder().encode(source));
    await writer.close();
    const { stdout } = await child.output();
    return new TextDecoder().decode(stdout).trim().split(/\s+/).slice(-names.length);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

Deno.test("the numbers are those of this machine's headers, where there is a compiler", async () => {
  const calls = Object.entries(systemCalls());
  const names = calls.map(([name]) => name);
  const numbers = calls.map(([, number]) => `${number}`);
  // Under an emulator the compiler is the other machine's.
  const theirs = IS_EMULATED ? undefined : await preprocess("asm/unistd.h", names);
  assertEquals(theirs ?? numbers, numbers);
});

Deno.test("aarch64's numbers are those of the generic table, where there is a compiler", async () => {
  const calls = Object.entries(SYSTEM_CALLS.aarch64);
  const names = calls.map(([name]) => name);
  const numbers = calls.map(([, number]) => `${number}`);
  assertEquals(await preprocess("asm-generic/unistd.h", names) ?? numbers, numbers);
});
