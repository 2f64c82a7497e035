/**
 * Checks of a client: headers and the order of messages (specification: "Header").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { MessageFlags } from "../../wire/header.ts";
import { type Answer, clientGroup, type Scene } from "../client_check.ts";
import { join } from "../pack.ts";

const SECTION = "Header";
const { DEVICE_GET_INFO: INFO, DEVICE_GET_REGION_INFO: REGION, REGION_READ: READ } = Command;

/** Headers and the order of messages. */
export const framing = clientGroup("framing", "Framing", [
  [1, "MUST", SECTION, "A reply that comes late is taken.", "goes on", INFO, (_, t) => t.pause()],
  [2, "MUST", SECTION, "Late replies to reads are taken.", "goes on", READ, (_, t) => t.pause()],
  [3, "MUST", SECTION, "A reply with another message id is not taken.", "gives up", INFO, (a) => {
    a.messageId ^= 0x55;
  }],
  [4, "MUST", SECTION, "Data with another message id is not taken.", "gives up", READ, (a) => {
    a.messageId ^= 0x55;
  }],
  [5, "MUST", SECTION, "A reply with another command is not taken.", "gives up", INFO, (a) => {
    a.command = Command.DEVICE_GET_IRQ_INFO;
  }],
  [6, "MUST", SECTION, "Data with another command is not taken.", "gives up", READ, (a) => {
    a.command = Command.REGION_WRITE;
  }],
  [7, "MUST", SECTION, "A command in place of a reply is no reply.", "gives up", INFO, (a) => {
    a.flags = MessageFlags.COMMAND;
  }],
  [8, "MUST", SECTION, "A size below that of the header is rejected.", "gives up", INFO, (a) => {
    a.size = 15;
  }],
  [9, "MUST", SECTION, "A size of 0 is rejected.", "gives up", INFO, (a) => {
    a.size = 0;
  }],
  [10, "MUST", SECTION, "A size of 4 GiB is rejected.", "gives up", INFO, (a) => {
    a.size = 0xffff_ffff;
  }],
  [11, "MUST", SECTION, "A message that ends with the stream is lost.", "gives up", INFO, hangUp],
  [12, "MUST", SECTION, "Data that ends with the stream is lost.", "gives up", READ, hangUp],
  [13, "MUST", SECTION, "A reply that never comes is given up.", "gives up", INFO, (_, t) => {
    t.hangUp();
    return [];
  }],
  [14, "SHOULD", SECTION, "A reply to no request is survived.", "survives", INFO, (a) => [
    { ...a, messageId: a.messageId ^ 0x2000 },
    a,
  ]],
  [15, "SHOULD", SECTION, "A second reply is survived.", "survives", INFO, (a) => [a, { ...a }]],
  [16, "SHOULD", SECTION, "A second reply with data is survived.", "survives", READ, (a) => [
    a,
    { ...a },
  ]],
  [17, "MUST", SECTION, "Reserved flags of a reply are ignored.", "goes on", INFO, (a) => {
    a.flags |= 0x4000_0000;
  }],
  [
    18,
    "MUST",
    SECTION,
    "The error of a reply without the error flag is ignored.",
    "goes on",
    INFO,
    (
      a,
    ) => {
      a.error = 5;
    },
  ],
  [19, "MUST", SECTION, "A reply in two pieces is taken.", "goes on", REGION, async (a, t) => {
    if (a.fds.length > 0) return;
    await t.sendPieces(t.encode(a), 30);
    return [];
  }],
  [20, "MUST", SECTION, "A header in pieces is taken.", "goes on", INFO, async (a, t) => {
    await t.sendPieces(t.encode(a), 7);
    return [];
  }],
  [21, "MUST", SECTION, "Data in many pieces is taken.", "goes on", READ, async (a, t) => {
    const bytes = t.encode(a);
    await t.sendPieces(bytes, Math.ceil(bytes.length / 8));
    return [];
  }],
  [
    22,
    "SHOULD",
    SECTION,
    "A stray reply in one piece with the true reply is survived.",
    "survives",
    INFO,
    async (
      a,
      t,
    ) => {
      await t.sendBytes(join(t.encode(a), t.encode({ ...a, messageId: a.messageId ^ 0x2000 })));
      return [];
    },
  ],
]);

/** Sends all but the last byte. */
async function hangUp(answer: Answer, t: Scene): Promise<Answer[]> {
  const bytes = t.encode(answer);
  await t.sendBytes(bytes.subarray(0, bytes.length - 1));
  t.hangUp();
  return [];
}
