/** Checks of DEVICE_RESET. @module */

import { sameBytes } from "../../base/bytes.ts";
import { type CheckGroup, group } from "../check.ts";
import { dmaMap, dmaUnmap, read, reset } from "../requests.ts";
import type { Trial } from "../trial.ts";

const SECTION = "VFIO_USER_DEVICE_RESET";

function needReset(t: Trial): void {
  t.need(t.facts.canReset, "the device can't be reset");
}

/** The checks of reset. */
export const resetChecks: CheckGroup = group("reset", "Reset", [
  [1, "MUST", SECTION, "A device that says so can be reset.", async (t) => {
    needReset(t);
    await t.accepts(reset());
    await t.inStep();
  }],
  [2, "MUST", SECTION, "The reply has no payload.", async (t) => {
    needReset(t);
    const reply = await t.accepts(reset());
    t.expect(reply.payload.length === 0, "no payload", reply);
  }],
  [3, "MUST", SECTION, "A device that names no reset answers one, if by an error.", async (t) => {
    t.need(!t.facts.canReset, "the device can be reset");
    await t.survives(reset());
  }],
  [4, "MUST", SECTION, "After a reset the device is the same.", async (t) => {
    needReset(t);
    const { index } = t.config();
    const before = (await t.accepts(read(index, 0, 4))).payload.slice(16);
    await t.accepts(reset());
    const after = await t.accepts(read(index, 0, 4));
    const isSame = sameBytes(after.payload.subarray(16), before);
    t.expect(isSame, "the same vendor and device id", after);
  }],
  [5, "MUST", SECTION, "Three resets under way are answered, in order.", async (t) => {
    needReset(t);
    const ids = [await t.send(reset()), await t.send(reset()), await t.send(reset())];
    for (const id of ids) await t.reply(reset(), id);
    await t.inStep();
  }],
  [6, "SHOULD", SECTION, "Maps outlive a reset: they are the connection's.", async (t) => {
    needReset(t);
    const [at, size] = [0x5000_0000n, 4096n];
    await t.accepts(dmaMap(at, size, { fds: [t.memory(4096)] }));
    await t.accepts(reset());
    await t.accepts(dmaUnmap(at, size));
  }],
]);
