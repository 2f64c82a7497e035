/**
 * Checks of a client: replies to a reset (specification: "VFIO_USER_DEVICE_RESET").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { hangUp, late, longer, refuse, withStray } from "../alter.ts";
import { clientGroup } from "../client_check.ts";

const SECTION = "VFIO_USER_DEVICE_RESET";
const RESET = Command.DEVICE_RESET;

/** Replies to a reset. */
export const reset = clientGroup("reset", "Reset", [
  [1, "MUST", SECTION, "A late reply to a reset is taken.", "goes on", RESET, late],
  [2, "MUST", SECTION, "A refused reset is survived.", "survives", RESET, refuse(5)],
  [
    3,
    "MUST",
    SECTION,
    "A refused reset without an errno is survived.",
    "survives",
    RESET,
    refuse(0),
  ],
  [4, "SHOULD", SECTION, "A reply with a payload is survived.", "survives", RESET, longer(8)],
  [5, "SHOULD", SECTION, "A descriptor with the reply is closed.", "survives", RESET, withStray],
  [6, "MUST", SECTION, "A reply that never comes is given up.", "gives up", RESET, hangUp],
]);
