/**
 * Checks of a client: the end of a connection (specification: "Socket Disconnection Behavior").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { hangUp } from "../alter.ts";
import { type Act, ANY, clientGroup } from "../client_check.ts";
import { NotApplicable } from "../deviation.ts";

const SECTION = "Socket Disconnection Behavior";
const { VERSION, DEVICE_GET_INFO: INFO, REGION_READ: READ } = Command;

/** Answers, and then closes the connection. */
const answerAndHangUp: Act = async (answer, t) => {
  await t.send(answer);
  t.hangUp();
  return [];
};

/** Ends the direction to the client in place of an answer; the other stays open. */
const halfClose: Act = (_, t) => {
  t.endSending();
  return [];
};

/** The end of a connection. */
export const connection = clientGroup("connection", "Connections", [
  [
    1,
    "MUST",
    SECTION,
    "An end in place of VERSION's reply is reported.",
    "gives up",
    VERSION,
    hangUp,
  ],
  [
    2,
    "MUST",
    SECTION,
    "An end right behind VERSION is reported.",
    "gives up",
    VERSION,
    answerAndHangUp,
  ],
  [3, "MUST", SECTION, "An end behind a reply is survived.", "survives", INFO, answerAndHangUp],
  [4, "MUST", SECTION, "An end behind data is survived.", "survives", READ, answerAndHangUp],
  [5, "MUST", SECTION, "A half-closed connection is given up.", "gives up", INFO, halfClose],
  [
    6,
    "MUST",
    SECTION,
    "A connection half-closed for data is given up.",
    "gives up",
    READ,
    halfClose,
  ],
  [7, "MUST", SECTION, "An end with memory mapped is survived.", "survives", ANY, (_, t) => {
    if (t.maps.length === 0) throw new NotApplicable("the client maps no memory");
    t.hangUp();
    return [];
  }],
]);
