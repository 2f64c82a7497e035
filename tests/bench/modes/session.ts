/**
 * A session of many reads, and the same reads in a loop.
 *
 * @module
 */

import { DemoRegister } from "../../../lib/devices/demo.ts";
import { parseSession } from "../../../lib/session/file/load.ts";
import type { Session } from "../../../lib/session/model.ts";
import { runSession } from "../../../lib/session/run/runner.ts";
import { type Mode, sink } from "./mode.ts";

/** Modes by name. */
export const sessionModes: Record<string, Mode> = {
  "session-read4"(device) {
    let session: Session | undefined;
    return async (count) => {
      if (session?.steps.length !== count) session = await readsOf(count);
      for await (const { status, outcome } of runSession(session, device, { blocking: true })) {
        if (status !== "passed") throw new Error("A step failed");
        sink[0]! ^= Number(outcome.seen!.value);
      }
    };
  },

  async "loop-read4"(device) {
    await device.regionInfo(0);
    const region = device.region("bar0");
    return (count) => {
      let last = 0;
      for (let i = 0; i < count; i++) last ^= region.read32(DemoRegister.SCRATCH);
      sink[0] = last;
    };
  },
};

/** A session of so many reads. */
async function readsOf(count: number): Promise<Session> {
  const text = `steps:\n${`  - read: bar0+${DemoRegister.SCRATCH}.l\n`.repeat(count)}`;
  const { session, problems } = await parseSession(text, "reads.yaml");
  if (session === undefined) throw new Error(problems[0]!.message);
  return session;
}
