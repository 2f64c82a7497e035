/**
 * Checks of a client: data of a region (specification: "VFIO_USER_REGION_READ").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { MessageFlags } from "../../wire/header.ts";
import { swapped } from "../alter.ts";
import { type Answer, clientGroup } from "../client_check.ts";
import { join, pack } from "../pack.ts";

const SECTION = "VFIO_USER_REGION_READ";
const READ = Command.REGION_READ;

const refuse = (errno: number) => (answer: Answer) => {
  answer.flags |= MessageFlags.ERROR;
  answer.error = errno;
  answer.payload = new Uint8Array();
};

/** Data of a region. */
export const regionRead = clientGroup("region_read", "Region reads", [
  [
    1,
    "MUST",
    SECTION,
    "A reply with less data than it names is rejected.",
    "gives up",
    READ,
    (a) => {
      a.payload = a.payload.slice(0, a.payload.length - 1);
    },
  ],
  [2, "MUST", SECTION, "A reply without data is rejected.", "gives up", READ, (a) => {
    a.payload = a.payload.slice(0, 16);
  }],
  [3, "MUST", SECTION, "A reply without a payload is rejected.", "gives up", READ, (a) => {
    a.payload = new Uint8Array();
  }],
  [4, "MUST", SECTION, "A reply that names a smaller count is no whole answer.", "gives up", READ, (
    a,
  ) => {
    a.payload = a.payload.slice(0, a.payload.length - 1);
    a.payload.set(pack("u32", a.payload.length - 16), 12);
  }],
  [
    5,
    "MUST",
    SECTION,
    "A reply with more data than was asked is rejected.",
    "gives up",
    READ,
    (a) => {
      a.payload = join(a.payload, new Uint8Array(64));
      a.payload.set(pack("u32", a.payload.length - 16), 12);
    },
  ],
  [6, "SHOULD", SECTION, "A reply for another region is rejected.", "gives up", READ, (a) => {
    a.payload.set([a.payload[8]! ^ 1], 8);
  }],
  [7, "SHOULD", SECTION, "A reply for another offset is rejected.", "gives up", READ, (a) => {
    a.payload.set([a.payload[0]! ^ 8], 0);
  }],
  [8, "MUST", SECTION, "A refusal without an errno is survived.", "survives", READ, refuse(0)],
  [9, "MUST", SECTION, "A refusal with EIO is survived.", "survives", READ, refuse(5)],
  [10, "SHOULD", SECTION, "A descriptor with data is closed.", "survives", READ, (a, t) => {
    a.fds = [t.stray()];
  }],
  [11, "SHOULD", SECTION, "Replies to two reads may change places.", "goes on", READ, swapped],
  [12, "MUST", SECTION, "Replies to two reads in one piece are taken.", "goes on", READ, async (
    a,
    t,
  ) => {
    const second = await t.next();
    await t.sendBytes(join(t.encode(a), t.encode(second)));
    return [];
  }],
  [13, "SHOULD", SECTION, "A refusal with a payload is survived.", "survives", READ, (a) => {
    a.flags |= MessageFlags.ERROR;
    a.error = 22;
  }],
  [14, "MUST", SECTION, "Each read may be late.", "goes on", READ, (_, t) => t.pause(5), "each"],
]);
