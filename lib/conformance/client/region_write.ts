/**
 * Checks of a client: replies to writes (specification: "VFIO_USER_REGION_WRITE").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { cut, empty, hangUp, late, longer, put, refuse, swapped, withStray } from "../alter.ts";
import { clientGroup } from "../client_check.ts";
import { join, u32At } from "../pack.ts";

const SECTION = "VFIO_USER_REGION_WRITE";
const MULTI_SECTION = "VFIO_USER_REGION_WRITE_MULTI";
const { REGION_WRITE: WRITE, REGION_WRITE_MULTI: MULTI } = Command;

/** Replies to writes. */
export const regionWrite = clientGroup("region_write", "Region writes", [
  [1, "MUST", SECTION, "A late reply to a write is taken.", "goes on", WRITE, late],
  [2, "MUST", SECTION, "A refused write is survived.", "survives", WRITE, refuse(5)],
  [
    3,
    "MUST",
    SECTION,
    "A refused write without an errno is survived.",
    "survives",
    WRITE,
    refuse(0),
  ],
  [4, "SHOULD", SECTION, "A reply that is cut is rejected.", "gives up", WRITE, cut(4)],
  [5, "SHOULD", SECTION, "A reply without a payload is survived.", "survives", WRITE, empty],
  [6, "SHOULD", SECTION, "A reply that counts less is rejected.", "gives up", WRITE, (a) => {
    put(a, 12, u32At(a.payload, 12) - 1);
  }],
  [7, "SHOULD", SECTION, "A reply that counts more is rejected.", "gives up", WRITE, (a) => {
    put(a, 12, u32At(a.payload, 12) + 1);
  }],
  [8, "SHOULD", SECTION, "A reply for another region is rejected.", "gives up", WRITE, (a) => {
    put(a, 8, u32At(a.payload, 8) ^ 1);
  }],
  [9, "SHOULD", SECTION, "A reply for another offset is rejected.", "gives up", WRITE, (a) => {
    put(a, 0, u32At(a.payload, 0) ^ 0x80);
  }],
  [10, "SHOULD", SECTION, "A reply with data is survived.", "survives", WRITE, longer(8)],
  [11, "SHOULD", SECTION, "A descriptor with the reply is closed.", "survives", WRITE, withStray],
  [12, "MUST", SECTION, "A reply that never comes is given up.", "gives up", WRITE, hangUp],
  [13, "MUST", SECTION, "A reply in two pieces is taken.", "goes on", WRITE, async (a, t) => {
    await t.sendPieces(t.encode(a), 18);
    return [];
  }],
  [14, "SHOULD", SECTION, "Replies to two writes may change places.", "goes on", WRITE, swapped],
  [15, "MUST", SECTION, "Replies to two writes in one piece are taken.", "goes on", WRITE, async (
    a,
    t,
  ) => {
    const second = await t.next();
    await t.sendBytes(join(t.encode(a), t.encode(second)));
    return [];
  }],
  [16, "MUST", MULTI_SECTION, "A late reply to many writes is taken.", "goes on", MULTI, late],
  [17, "MUST", MULTI_SECTION, "Many refused writes are survived.", "survives", MULTI, refuse(22)],
  [
    18,
    "SHOULD",
    MULTI_SECTION,
    "A smaller count of writes is rejected.",
    "gives up",
    MULTI,
    (a) => {
      put(a, 0, u32At(a.payload, 0) - 1);
    },
  ],
]);
