/**
 * Checks of a client: versions and capabilities (specification: "VFIO_USER_VERSION").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { MessageFlags } from "../../wire/header.ts";
import { cut } from "../alter.ts";
import { type Act, ANY, clientGroup, type Scene } from "../client_check.ts";
import { Deviation, NotApplicable } from "../deviation.ts";
import { capabilitiesOf } from "../learn.ts";
import { MODEL_CAPABILITIES, versionWith } from "../model_device.ts";
import { join, pack, u32At } from "../pack.ts";
import { versionPayload } from "../requests.ts";

const SECTION = "VFIO_USER_VERSION";
const TWIN = "Twin sockets";
const { VERSION, REGION_READ: READ, REGION_WRITE: WRITE } = Command;

/** Answers these capabilities besides the usual ones. */
const capable = (more: object): Act => (answer) => {
  const agreed = { ...capabilitiesOf(answer.payload), ...more };
  answer.payload = versionWith(agreed, u32At(answer.payload, 0) >>> 16);
};

/** Answers this JSON. */
const json = (text: string): Act => (answer) => {
  answer.payload = versionPayload(0, u32At(answer.payload, 0) >>> 16, text);
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
    "SHOULD",
    SECTION,
    "A limit of one map is survived.",
    "survives",
    VERSION,
    capable({
      max_dma_maps: 1,
    }),
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
      capable({ twin_socket: { supported: true, fd_index: 0 } })(a, t);
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
      capable({ twin_socket: { supported: true, fd_index: 7 } })(a, t);
    },
  ],
  [18, "MUST", TWIN, "A twin socket that was proposed is taken.", "goes on", VERSION, (a, t) => {
    needTwin(t);
    a.fds = [t.kept()];
    capable({ twin_socket: { supported: true, fd_index: 0 } })(a, t);
  }],
  [19, "MUST", SECTION, "A limit of 4 KiB of data a message is kept.", "goes on", ANY, (a, t) => {
    if (t.request.command === VERSION) return capable({ max_data_xfer_size: 4096 })(a, t);
    const { command, payload } = t.request;
    const count = command === READ || command === WRITE ? u32At(payload, 12) : 0;
    if (count > 4096) throw new Deviation("accesses of 4096 bytes at most", t.request.text);
  }, "each"],
  [20, "MUST", SECTION, "A limit of one descriptor a message is kept.", "goes on", ANY, (a, t) => {
    if (t.request.command === VERSION) return capable({ max_msg_fds: 1 })(a, t);
    if (t.request.fds.length > 1) throw new Deviation("one descriptor at most", t.request.text);
  }, "each"],
  [
    21,
    "SHOULD",
    SECTION,
    "A limit of 8 bytes a message is survived.",
    "survives",
    VERSION,
    capable({
      max_data_xfer_size: 8,
    }),
  ],
  [
    22,
    "SHOULD",
    SECTION,
    "Limits of 0 are survived.",
    "survives",
    VERSION,
    capable({
      max_data_xfer_size: 0,
      max_msg_fds: 0,
      max_dma_maps: 0,
    }),
  ],
  [23, "MUST", SECTION, "An empty JSON object means all defaults.", "goes on", VERSION, json("{}")],
  [
    24,
    "MUST",
    SECTION,
    "Spaces and line ends in JSON are legal.",
    "goes on",
    VERSION,
    json(
      JSON.stringify({ capabilities: MODEL_CAPABILITIES }, null, "\n \t "),
    ),
  ],
  [
    25,
    "MUST",
    SECTION,
    "Escapes in JSON are legal.",
    "goes on",
    VERSION,
    json(
      '{"c\\u0061pabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576}}',
    ),
  ],
  [
    26,
    "MUST",
    SECTION,
    "Keys beside the capabilities are ignored.",
    "goes on",
    VERSION,
    json(
      JSON.stringify({ vendor: { name: "x" }, capabilities: MODEL_CAPABILITIES }),
    ),
  ],
  [
    27,
    "SHOULD",
    SECTION,
    "Capabilities that are null are survived.",
    "survives",
    VERSION,
    json(
      '{"capabilities":null}',
    ),
  ],
  [28, "SHOULD", SECTION, "A JSON array is survived.", "survives", VERSION, json("[1,2]")],
  [
    29,
    "SHOULD",
    SECTION,
    "A number in place of an object is survived.",
    "survives",
    VERSION,
    json("7"),
  ],
  [
    30,
    "SHOULD",
    SECTION,
    "The same key twice is survived.",
    "survives",
    VERSION,
    json(
      '{"capabilities":{"max_msg_fds":16,"max_msg_fds":2}}',
    ),
  ],
  [31, "SHOULD", SECTION, "Bytes that are no UTF-8 are survived.", "survives", VERSION, (a) => {
    a.payload = join(versionPayload(0, 0), new Uint8Array([0x7b, 0xff, 0xfe, 0x7d, 0]));
  }],
  [32, "SHOULD", SECTION, "JSON without a NUL is survived.", "survives", VERSION, cut(1)],
  [
    33,
    "SHOULD",
    SECTION,
    "A minor version above the proposed one is rejected.",
    "gives up",
    VERSION,
    (
      a,
      { request },
    ) => {
      a.payload.set(pack("u16", (u32At(request.payload, 0) >>> 16) + 1), 2);
    },
  ],
  [
    34,
    "MUST",
    SECTION,
    "A migration that is not wanted is ignored.",
    "goes on",
    VERSION,
    capable({
      migration: { pgsize: 4096 },
    }),
  ],
  [
    35,
    "SHOULD",
    SECTION,
    "Page sizes of 0 are survived.",
    "survives",
    VERSION,
    capable({ pgsizes: 0 }),
  ],
  [
    36,
    "SHOULD",
    SECTION,
    "A fraction for a limit is survived.",
    "survives",
    VERSION,
    capable({
      max_data_xfer_size: 4096.5,
    }),
  ],
  [
    37,
    "SHOULD",
    SECTION,
    "A limit of 10^300 is survived.",
    "survives",
    VERSION,
    json(
      '{"capabilities":{"max_data_xfer_size":1e300,"max_msg_fds":1e300}}',
    ),
  ],
  [
    38,
    "SHOULD",
    TWIN,
    "A file in place of the twin socket is survived.",
    "survives",
    VERSION,
    (a, t) => {
      needTwin(t);
      capable({ twin_socket: { supported: true, fd_index: 0 } })(a, t);
      a.fds = [t.memory(4096)];
    },
  ],
  [39, "SHOULD", TWIN, "An end of the twin socket is survived.", "survives", VERSION, (a, t) => {
    t.offerTwin(a);
    t.endTwin();
  }],
]);
