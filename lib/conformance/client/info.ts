/**
 * Checks of a client: what a device is, its regions and interrupts (specification:
 * "VFIO_USER_DEVICE_GET_INFO", "VFIO_USER_DEVICE_GET_REGION_INFO").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { MessageFlags } from "../../wire/header.ts";
import { type Answer, clientGroup } from "../client_check.ts";
import { join, pack, u32At } from "../pack.ts";

const DEVICE = "VFIO_USER_DEVICE_GET_INFO";
const SECTION = "VFIO_USER_DEVICE_GET_REGION_INFO";
const { DEVICE_GET_INFO: INFO, DEVICE_GET_REGION_INFO: REGION } = Command;
const IRQ = Command.DEVICE_GET_IRQ_INFO;

/** Writes 32 bits of a payload. */
function put(answer: Answer, at: number, value: number): void {
  answer.payload.set(pack("u32", value), at);
}

const cut = (answer: Answer) => {
  answer.payload = answer.payload.slice(0, answer.payload.length - 4);
};
const refuse = (errno: number) => (answer: Answer) => {
  answer.flags |= MessageFlags.ERROR;
  answer.error = errno;
  answer.payload = new Uint8Array();
  answer.fds = [];
};

/** Information of the device. */
export const info = clientGroup("info", "Device, regions and interrupts", [
  [1, "MUST", DEVICE, "Device information that is cut is rejected.", "gives up", INFO, cut],
  [2, "MUST", DEVICE, "Empty device information is rejected.", "gives up", INFO, (a) => {
    a.payload = new Uint8Array();
  }],
  [3, "MUST", DEVICE, "A refusal of device information is reported.", "gives up", INFO, refuse(5)],
  [4, "MUST", DEVICE, "An error reply with errno 0 is an error.", "gives up", INFO, refuse(0)],
  [
    5,
    "MUST",
    DEVICE,
    "An errno that Linux does not know is survived.",
    "survives",
    INFO,
    refuse(
      0x7fff_ffff,
    ),
  ],
  [
    6,
    "SHOULD",
    DEVICE,
    "Device information with 4 billion regions is survived.",
    "survives",
    INFO,
    (
      a,
    ) => put(a, 8, 0xffff_ffff),
  ],
  [
    7,
    "SHOULD",
    DEVICE,
    "Device information with 4 billion interrupts is survived.",
    "survives",
    INFO,
    (
      a,
    ) => put(a, 12, 0xffff_ffff),
  ],
  [8, "MUST", DEVICE, "Flags that are not known are ignored.", "goes on", INFO, (a) => {
    put(a, 4, u32At(a.payload, 4) | 0x4000_0000);
  }],
  [9, "MUST", SECTION, "Region information that is cut is rejected.", "gives up", REGION, cut],
  [10, "SHOULD", SECTION, "A capability chain that is a circle is survived.", "survives", REGION, (
    a,
  ) => {
    a.payload = join(a.payload.slice(0, 32), pack("u16 u16 u32", 3, 1, 32));
    put(a, 0, 40);
    put(a, 4, u32At(a.payload, 4) | 8);
    put(a, 12, 32);
  }, "each"],
  [
    11,
    "SHOULD",
    SECTION,
    "A capability behind the end of the reply is survived.",
    "survives",
    REGION,
    (
      a,
    ) => {
      put(a, 4, u32At(a.payload, 4) | 8);
      put(a, 12, 0xffff_fff0);
    },
    "each",
  ],
  [12, "SHOULD", SECTION, "A demand for 4 GiB of capabilities is survived.", "survives", REGION, (
    a,
  ) => put(a, 0, 0xffff_ffff), "each"],
  [
    13,
    "SHOULD",
    SECTION,
    "A descriptor of a region without mapping is closed.",
    "survives",
    REGION,
    (
      a,
      t,
    ) => {
      if (a.fds.length === 0) a.fds = [t.stray()];
    },
  ],
  [14, "SHOULD", DEVICE, "A descriptor with device information is closed.", "survives", INFO, (
    a,
    t,
  ) => {
    a.fds = [t.stray()];
  }],
  [15, "SHOULD", DEVICE, "Each of eight stray descriptors is closed.", "survives", INFO, (a, t) => {
    a.fds = Array.from({ length: 8 }, () => t.stray());
  }],
  [
    16,
    "MUST",
    "VFIO_USER_DEVICE_GET_IRQ_INFO",
    "Interrupt information that is cut is rejected.",
    "gives up",
    IRQ,
    cut,
  ],
  [
    17,
    "SHOULD",
    "VFIO_USER_DEVICE_GET_IRQ_INFO",
    "An index with 4 billion interrupts is survived.",
    "survives",
    IRQ,
    (
      a,
    ) => put(a, 12, 0xffff_ffff),
    "each",
  ],
  [18, "MUST", SECTION, "A larger reply than needed is taken.", "goes on", REGION, (a) => {
    if (a.fds.length > 0) return;
    a.payload = join(a.payload, new Uint8Array(8));
  }],
  [19, "MUST", SECTION, "Information of another region is rejected.", "gives up", REGION, (a) => {
    put(a, 8, u32At(a.payload, 8) ^ 1);
  }],
  [
    20,
    "SHOULD",
    SECTION,
    "A mapping without a descriptor is survived.",
    "survives",
    REGION,
    (a) => {
      put(a, 4, u32At(a.payload, 4) | 4);
      a.fds = [];
    },
    "each",
  ],
  [21, "SHOULD", SECTION, "A region of 2^64 bytes is survived.", "survives", REGION, (a) => {
    a.payload.fill(0xff, 16, 24);
  }, "each"],
  [
    22,
    "SHOULD",
    SECTION,
    "A demand for room that grows for ever is survived.",
    "survives",
    REGION,
    (
      a,
      { request },
    ) => put(a, 0, Math.max(32, u32At(request.payload, 0)) + 32),
    "each",
  ],
  [23, "SHOULD", SECTION, "Four billion sparse areas are survived.", "survives", REGION, (a) => {
    if (a.payload.length > 40) put(a, 40, 0xffff_ffff);
  }, "each"],
  [
    24,
    "SHOULD",
    SECTION,
    "A sparse area outside the region is survived.",
    "survives",
    REGION,
    (a) => {
      if (a.payload.length > 48) a.payload.fill(0xf0, 48, 64);
    },
    "each",
  ],
]);
