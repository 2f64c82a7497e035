/**
 * Checks of a client: interrupts and their set-up (specification: "VFIO_USER_DEVICE_SET_IRQS").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { IrqFlags, PciIrq } from "../../wire/irq.ts";
import { hangUp, late, longer, put, refuse, withStray } from "../alter.ts";
import { type Answer, ANY, clientGroup, type Scene } from "../client_check.ts";
import { NotApplicable } from "../deviation.ts";
import { u32At } from "../pack.ts";

const SECTION = "VFIO_USER_DEVICE_SET_IRQS";
const INFO_SECTION = "VFIO_USER_DEVICE_GET_IRQ_INFO";
const { DEVICE_SET_IRQS: SET, DEVICE_GET_IRQ_INFO: INFO } = Command;

/** Takes the vectors that the device is about to raise. */
function raised(t: Scene): number[] {
  if (t.interrupts.length === 0) throw new NotApplicable("the client sets off no interrupt");
  return t.interrupts.splice(0);
}

/** Signals all vectors that are enabled. */
function signalAll(t: Scene, times = 1): void {
  if (t.vectors.length === 0) throw new NotApplicable("the client enables no interrupt");
  for (const { index, vector } of t.vectors) t.signal(index, vector, times);
}

/** Enables none of the index's kinds of signals. */
const withoutEventfd = (answer: Answer) =>
  put(answer, 4, u32At(answer.payload, 4) & ~IrqFlags.EVENTFD);

/** Interrupts and their set-up. */
export const irqs = clientGroup("irqs", "Interrupts", [
  [1, "MUST", SECTION, "A late reply to the set-up is taken.", "goes on", SET, late],
  [2, "MUST", SECTION, "A refused set-up is survived.", "survives", SET, refuse(22)],
  [3, "MUST", SECTION, "A refusal without an errno is survived.", "survives", SET, refuse(0)],
  [4, "SHOULD", SECTION, "A reply with a payload is survived.", "survives", SET, longer(16)],
  [5, "SHOULD", SECTION, "A descriptor with the reply is closed.", "survives", SET, withStray],
  [6, "MUST", SECTION, "A reply that never comes is given up.", "gives up", SET, hangUp],
  [10, "MUST", SECTION, "An interrupt ahead of the reply to its cause is taken.", "goes on", ANY, (
    _,
    t,
  ) => {
    for (const vector of raised(t)) t.signal(PciIrq.MSIX, vector);
  }],
  [11, "MUST", SECTION, "An interrupt long behind its cause is taken.", "goes on", ANY, async (
    _,
    t,
  ) => {
    const vectors = raised(t);
    await t.answerNow();
    await t.pause(100);
    for (const vector of vectors) t.signal(PciIrq.MSIX, vector);
  }],
  [12, "MUST", SECTION, "Interrupts that come together are taken.", "goes on", ANY, (_, t) => {
    for (const vector of raised(t)) t.signal(PciIrq.MSIX, vector, 3);
  }],
  [
    13,
    "SHOULD",
    SECTION,
    "An interrupt without a cause is survived.",
    "survives",
    ANY,
    async (_, t) => {
      signalAll(t);
      await t.answerNow();
      signalAll(t);
    },
  ],
  [14, "SHOULD", SECTION, "A million interrupts at once are survived.", "survives", ANY, (_, t) => {
    signalAll(t, 1_000_000);
  }],
  [
    15,
    "SHOULD",
    SECTION,
    "Interrupts during the next set-up are survived.",
    "survives",
    SET,
    (_, t) => {
      signalAll(t);
    },
    "each",
  ],
  [
    20,
    "SHOULD",
    INFO_SECTION,
    "An index without eventfds is survived.",
    "survives",
    INFO,
    withoutEventfd,
    "each",
  ],
  [21, "MUST", INFO_SECTION, "An index that can't be masked is taken.", "goes on", INFO, (a) => {
    put(a, 4, u32At(a.payload, 4) & ~(IrqFlags.MASKABLE | IrqFlags.AUTOMASKED));
  }, "each"],
  [22, "MUST", INFO_SECTION, "Flags that are not known are ignored.", "goes on", INFO, (a) => {
    put(a, 4, u32At(a.payload, 4) | 0x4000_0000);
  }, "each"],
  [23, "SHOULD", INFO_SECTION, "No vector of any index is survived.", "survives", INFO, (a) => {
    put(a, 12, 0);
  }, "each"],
  [24, "SHOULD", INFO_SECTION, "A refused question is survived.", "survives", INFO, refuse(22)],
  [
    25,
    "SHOULD",
    INFO_SECTION,
    "A reply larger than its room is survived.",
    "survives",
    INFO,
    longer(8),
  ],
  [
    26,
    "SHOULD",
    INFO_SECTION,
    "Another index than was asked is rejected.",
    "gives up",
    INFO,
    (a) => {
      put(a, 8, u32At(a.payload, 8) ^ 1);
    },
  ],
]);
