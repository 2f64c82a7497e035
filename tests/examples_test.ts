/**
 * The examples that need no other software, run as a user would.
 * The examples for QEMU's devices are in `peers/examples_test.ts`.
 */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { copyBoth } from "../examples/dma_copy.ts";
import { startDemo } from "./_demo_process.ts";
import { testFds } from "./_fds.ts";
import { DENO } from "./_deno.ts";
import { PATIENCE_MS } from "./_until.ts";

async function run(
  example: string,
  ...args: string[]
): Promise<{ code: number; out: string; err: string }> {
  const path = new URL(`../examples/${example}`, import.meta.url).pathname;
  const { code, stdout, stderr } = await new Deno.Command(DENO, {
    args: ["run", "--no-prompt", "--allow-ffi", "--allow-read", "--allow-write", path, ...args],
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test("demo.ts shows the demo device", async () => {
  const { code, out, err } = await run("demo.ts");
  assertEquals([code, err], [0, ""]);
  assertStringIncludes(out, "1234:0de5");
});

testFds("dma_copy.ts copies over shared memory and by message", async () => {
  const demo = await startDemo();
  try {
    assertEquals(await copyBoth(demo.path), { shared: true, message: true });
    const { code, out, err } = await run("dma_copy.ts", demo.path);
    assertEquals([code, err], [0, ""]);
    assertEquals(out, "Shared memory:     copied\nMemory by message: copied\n");
  } finally {
    await demo.stop();
  }
});

Deno.test("session.ts runs on the demo device of its own process, and on one of another", async () => {
  const here = await run("session.ts");
  assertEquals([here.code, here.err], [0, ""]);
  const demo = await startDemo();
  try {
    const { code, out, err } = await run("session.ts", demo.path);
    assertEquals([code, err], [0, ""]);
    assertMatch(out, /^\d+ bytes were copied as they were\n$/);
  } finally {
    await demo.stop();
  }
});

for (const example of ["dma_copy.ts", "edu_dma.ts", "nvme_identify.ts"]) {
  Deno.test(`${example} says how it is used`, async () => {
    const { code, err } = await run(example);
    assertEquals([code, err], [2, `Usage: ${example} SOCKET\n`]);
  });
}
