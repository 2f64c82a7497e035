/**
 * A session in TypeScript: the words of session files as functions, for what a file can't say. Here
 * the demo device copies pages of random bytes, of random lengths, and each copy is compared.
 *
 * ```sh
 * deno run --allow-ffi examples/session.ts             # on the demo device, in this process
 * deno run --allow-ffi examples/session.ts /tmp/demo.sock
 * ```
 *
 * @module
 */

// deno-lint-ignore-file no-console -- an example talks to a person
import { connect, DemoDevice, embed, InteractiveSession } from "../mod.ts";

const PAGE = 4096;

/** Has the device copy so many times; returns how many bytes it moved. */
export async function copyRandomly(target: string | number, times: number): Promise<number> {
  using device = await connect(target);
  await using session = new InteractiveSession(device); // takes back what it set up
  await session.enablePci();
  await session.map("source", { iova: 0x10_0000, size: PAGE });
  await session.map("target", { iova: 0x20_0000, size: PAGE, share: "message" });
  await session.enableIrqs("msix[3]");

  let moved = 0;
  for (let i = 0; i < times; i++) {
    const length = 1 + Math.floor(Math.random() * PAGE);
    await session.put("source", crypto.getRandomValues(new Uint8Array(length)));
    await session.fill("target", new Uint8Array([0]));
    await session.write("bar0+0x40", 0x10_0000);
    await session.write("bar0+0x48", 0x20_0000);
    await session.write("bar0+0x50", length);
    await session.write("bar0+0x54", 3 << 8 | 1); // start, and vector 3 at the end
    await session.waitForIrq("msix[3]", { timeoutMs: 2000 });
    await session.expect("bar0+0x58", { equals: 1 });
    await session.expect("target", { sameAs: "source", length });
    if (length < PAGE) await session.expect(`target+${length}.b`, { equals: 0 });
    moved += length;
  }
  return moved;
}

if (import.meta.main) {
  const target = Deno.args[0] ?? embed(new DemoDevice()).fd;
  console.log(`${await copyRandomly(target, 20)} bytes were copied as they were`);
}
