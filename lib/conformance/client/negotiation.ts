/**
 * Checks of a client: versions and capabilities (specification: "VFIO_USER_VERSION").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { MessageFlags } from "../../wire/header.ts";
import { type Answer, clientGroup, type Scene } from "../client_check.ts";
import { NotApplicable } from "../deviation.ts";
import { capabilitiesOf } from "../learn.ts";
import { MODEL_CAPABILITIES, versionWith } from "../model_device.ts";
import { join, pack, u32At } from "../pack.ts";
import { versionPayload } from "../trial.ts";

const SECTION = "VFIO_USER_VERSION";
const TWIN = "Twin sockets";
const { VERSION } = Command;

/** Answers these capabilities besides the usual ones. */
const capable = (more: object) => (answer: Answer) => {
  answer.payload = versionWith({ ...MODEL_CAPABILITIES, ...more }, u32At(answer.payload, 0) >>> 16);
};

function needTwin({ request }: Scene): void {
  if (capabilitiesOf(request.payload).twin_socket === undefined) {
    throw new NotApplicable("the client does not propose a twin socket");
  }
}

/** Versions and capabilities. */
export const negotiation = clientGroup("negotiation", "Negotiation", [
  [1, "MUST", SECTION, "A smaller minor version is taken.", "goes on", VERSION, (a) => {
    a.payload.set(pack("u16 u16", 0, 0));
  }],
  [2, "MUST", SECTION, "Another major version is rejected.", "gives up", VERSION, (a) => {
    a.payload.set(pack("u16 u16", 1, 0));
  }],
  [3, "MUST", SECTION, "A reply without JSON means all defaults.", "goes on", VERSION, (a) => {
    a.payload = versionPayload(0, 0);
  }],
  [4, "MUST", SECTION, "JSON that ends early is rejected.", "gives up", VERSION, (a) => {
    a.payload = versionPayload(0, 0, '{"capabilities":{"max_msg_fds":');
  }],
  [5, "MUST", SECTION, "A refusal of the version is reported.", "gives up", VERSION, (a) => {
    a.flags |= MessageFlags.ERROR;
    a.error = 22;
    a.payload = new Uint8Array();
  }],
  [6, "MUST", SECTION, "A version that is cut is rejected.", "gives up", VERSION, (a) => {
    a.payload = a.payload.slice(0, 2);
  }],
  [
    7,
    "MUST",
    SECTION,
    "Capabilities that are not known are ignored.",
    "goes on",
    VERSION,
    capable({ lasers: { count: 3 } }),
  ],
  [
    8,
    "SHOULD",
    SECTION,
    "A limit that is no number is survived.",
    "survives",
    VERSION,
    capable({ max_msg_fds: "many" }),
  ],
  [
    9,
    "SHOULD",
    SECTION,
    "A negative limit is survived.",
    "survives",
    VERSION,
    capable({ max_data_xfer_size: -1 }),
  ],
  [
    10,
    "MUST",
    SECTION,
    "A limit of one descriptor a message is taken.",
    "goes on",
    VERSION,
    capable({ max_msg_fds: 1 }),
  ],
  [
    11,
    "MUST",
    SECTION,
    "A limit of one map is taken.",
    "goes on",
    VERSION,
    capable({ max_dma_maps: 1 }),
  ],
  [
    12,
    "SHOULD",
    SECTION,
    "JSON of 64 KiB is survived.",
    "survives",
    VERSION,
    capable({ filler: "x".repeat(1 << 16) }),
  ],
  [13, "SHOULD", SECTION, "Deeply nested JSON is survived.", "survives", VERSION, (a) => {
    a.payload = versionPayload(0, 0, `${"[".repeat(20_000)}${"]".repeat(20_000)}`);
  }],
  [14, "SHOULD", SECTION, "Bytes behind the JSON's end are survived.", "survives", VERSION, (a) => {
    a.payload = join(a.payload, new Uint8Array([0x78, 0x78, 0]));
  }],
  [
    15,
    "SHOULD",
    SECTION,
    "A descriptor with the version is closed.",
    "survives",
    VERSION,
    (a, t) => {
      a.fds = [t.stray()];
    },
  ],
  [
    16,
    "MUST",
    TWIN,
    "A twin socket without a descriptor is rejected.",
    "gives up",
    VERSION,
    (a, t) => {
      needTwin(t);
      capable({ twin_socket: { supported: true, fd_index: 0 } })(a);
    },
  ],
  [
    17,
    "MUST",
    TWIN,
    "A twin socket of another descriptor's index is rejected.",
    "gives up",
    VERSION,
    (
      a,
      t,
    ) => {
      needTwin(t);
      a.fds = [t.stray()];
      capable({ twin_socket: { supported: true, fd_index: 7 } })(a);
    },
  ],
  [18, "MUST", TWIN, "A twin socket that was proposed is taken.", "goes on", VERSION, (a, t) => {
    needTwin(t);
    a.fds = [t.kept()];
    capable({ twin_socket: { supported: true, fd_index: 0 } })(a);
  }],
]);
