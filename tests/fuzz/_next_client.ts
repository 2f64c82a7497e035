/**
 * The client that comes after a hostile one, and wants what every client wants.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { connect } from "../../lib/client/connect.ts";
import { DemoRegister } from "../../lib/devices/demo.ts";

/** Uses the demo device at `path`. It has been stopped to migrate, perhaps: then it is to go on. */
export async function useDemo(path: string): Promise<void> {
  using device = await connect(path, { timeoutMs: 60_000 });
  if (await device.migration.state() === "ERROR") await device.reset();
  await device.migration.setState("RUNNING");
  await device.reset();
  assertEquals((await device.regionInfo(0)).size, 4096n);
  const register = device.region(0);
  await register.write32Async(DemoRegister.SCRATCH, 0x1234_5678);
  assertEquals(await register.read32Async(DemoRegister.SCRATCH), 0x1234_5678);
}
