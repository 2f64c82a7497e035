/** Checks of VERSION. @module */

import { Command } from "../../wire/command.ts";
import { MessageFlags } from "../../wire/header.ts";
import { type CheckGroup, type CheckRow, group } from "../check.ts";
import { capabilitiesOf } from "../learn.ts";
import { join, pack, u32At } from "../pack.ts";
import { capabilitiesText, OUR_CAPABILITIES, versionPayload } from "../requests.ts";
import type { Trial } from "../trial.ts";

const SECTION = "VFIO_USER_VERSION";
const RAW = { isRaw: true } as const;
const MAY_END = { isRaw: true, mayEnd: true } as const;

const VERSION = Command.VERSION;

/** Sends a VERSION with this JSON, and returns its reply. */
function version(t: Trial, json?: string, major = t.facts.major, minor = t.facts.minor) {
  return t.accepts({ command: VERSION, payload: versionPayload(major, minor, json) });
}

/** Sends a VERSION that is wrong. */
function refused(t: Trial, payload: Uint8Array): Promise<void> {
  return t.refusesOrCloses({ command: VERSION, payload });
}

/** Sends a VERSION with odd but legal JSON; the connection works afterwards. */
function takes(json: string | undefined): (t: Trial) => Promise<void> {
  return async (t) => {
    await version(t, json);
    await t.inStep();
  };
}

/** Sends a VERSION with JSON that is wrong; an error or the end of the connection follows. */
function refusesJson(json: string): (t: Trial) => Promise<void> {
  return (t) => refused(t, versionPayload(t.facts.major, t.facts.minor, json));
}

/** A number among the capabilities of the reply. */
function number(t: Trial, key: string, isSane: (value: number) => boolean, expected: string) {
  const value = t.facts.capabilities[key];
  t.need(value !== undefined, `the server does not say ${key}`);
  const isGood = typeof value === "number" && Number.isInteger(value) && isSane(value);
  t.expect(isGood, expected, `${key} ${JSON.stringify(value)}`);
}

/** Limits that the client proposes, and which the server only takes note of. */
const ODD_LIMITS: readonly (readonly [number: number, rule: string, capabilities: object])[] = [
  [30, "A client that takes no descriptors is served.", { max_msg_fds: 0 }],
  [31, "A client that takes one descriptor is served.", { max_msg_fds: 1 }],
  [32, "A client that takes very many descriptors is served.", { max_msg_fds: 1_000_000 }],
  [33, "A client that takes 4 KiB of data in a message is served.", { max_data_xfer_size: 4096 }],
  [34, "A client that takes 1 GiB in a message is served.", { max_data_xfer_size: 1 << 30 }],
  [35, "A client that needs one DMA map is served.", { max_dma_maps: 1 }],
  [36, "A client that needs very many DMA maps is served.", { max_dma_maps: 1_000_000_000 }],
  [37, "A client with pages of several sizes is served.", { pgsizes: 0x40201000 }],
  [38, "A client without REGION_WRITE_MULTI is served.", { write_multiple: false }],
  [39, "A client that declines a twin socket is served.", { twin_socket: { supported: false } }],
  [40, "An empty twin_socket is legal: the client has no twin socket.", { twin_socket: {} }],
];

/** The checks of negotiation. */
export const negotiation: CheckGroup = group("negotiation", "Negotiation", [
  [1, "MUST", SECTION, "The server replies to VERSION with its own version.", async (t) => {
    const reply = await version(t, capabilitiesText());
    t.expect(reply.payload.length >= 4, "a payload of 4 bytes or more", reply);
  }, RAW],
  [2, "MUST", SECTION, "The reply has the major version that the client proposed.", async (t) => {
    const reply = await version(t, capabilitiesText());
    const major = u32At(reply.payload, 0) & 0xffff;
    t.expect(major === t.facts.major, `major version ${t.facts.major}`, reply);
  }, RAW],
  [3, "MUST", SECTION, "The minor version of the reply is not above the client's.", async (t) => {
    const reply = await version(t, capabilitiesText(), t.facts.major, 0);
    const minor = u32At(reply.payload, 0) >>> 16;
    t.expect(minor === 0, "minor version 0", reply);
  }, RAW],
  [4, "MUST", SECTION, "A minor version above the server's is negotiated down.", async (t) => {
    const reply = await version(t, capabilitiesText(), t.facts.major, 0xffff);
    const minor = u32At(reply.payload, 0) >>> 16;
    t.expect(minor < 0xffff, "a minor version that the server knows", reply);
    await t.inStep();
  }, RAW],
  [
    5,
    "MUST",
    SECTION,
    "A major version that the server does not know is refused.",
    (t) => refused(t, versionPayload(0x7fff, 0, capabilitiesText())),
    MAY_END,
  ],
  [6, "MUST", SECTION, "The JSON of the reply ends with a NUL.", async (t) => {
    const { payload, text } = await version(t, capabilitiesText());
    if (payload.length > 4) t.expect(payload.at(-1) === 0, "a NUL at the end", text);
  }, RAW],
  [7, "MUST", SECTION, "The JSON of the reply is an object in UTF-8.", async (t) => {
    const { payload, text } = await version(t, capabilitiesText());
    t.need(payload.length > 4, "the reply has no JSON");
    let value: unknown;
    try {
      const json = payload.subarray(4, payload.indexOf(0, 4));
      value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
    } catch { /* said below */ }
    t.expect(typeof value === "object" && value !== null, "an object as JSON", text);
  }, RAW],
  [
    8,
    "SHOULD",
    SECTION,
    "Capabilities that the client did not propose are not in the reply.",
    async (t) => {
      const { payload, text } = await version(t, capabilitiesText({ max_msg_fds: 8 }));
      const surplus = Object.keys(capabilitiesOf(payload)).filter((key) => key !== "max_msg_fds");
      t.expect(surplus.length === 0, "max_msg_fds alone, or nothing", text);
    },
    RAW,
  ],
  [9, "MUST", SECTION, "VERSION without JSON is legal.", takes(undefined), RAW],
  [10, "MUST", SECTION, "An empty JSON object is legal.", takes("{}"), RAW],
  [11, "MUST", SECTION, "Empty capabilities are legal.", takes('{"capabilities":{}}'), RAW],
  [
    12,
    "MUST",
    SECTION,
    "Keys beside the capabilities are ignored.",
    takes('{"vendor":{"a":[1,2,{"b":null}]},"capabilities":{}}'),
    RAW,
  ],
  [
    13,
    "MUST",
    SECTION,
    "Capabilities that the server does not know are ignored.",
    takes('{"capabilities":{"x_unknown":{"deep":[true]},"max_msg_fds":8}}'),
    RAW,
  ],
  [
    14,
    "MUST",
    SECTION,
    "White space in the JSON is ignored.",
    takes('{ \n\t"capabilities" : { "max_msg_fds" : 8 } \n}'),
    RAW,
  ],
  [
    15,
    "MUST",
    SECTION,
    "Keys may be in any order, and escaped.",
    takes('{"capabilities":{"pgsizes":4096,"max_\\u006dsg_fds":8}}'),
    RAW,
  ],
  [
    16,
    "SHOULD",
    SECTION,
    "Text that is no JSON is refused.",
    refusesJson("{capabilities"),
    MAY_END,
  ],
  [
    17,
    "SHOULD",
    SECTION,
    "JSON that ends in the middle is refused.",
    refusesJson('{"capabilities":{"max_msg_fds":'),
    MAY_END,
  ],
  [
    18,
    "SHOULD",
    SECTION,
    "A limit that is text is refused.",
    refusesJson('{"capabilities":{"max_msg_fds":"many"}}'),
    MAY_END,
  ],
  [
    19,
    "SHOULD",
    SECTION,
    "A limit below 0 is refused.",
    refusesJson('{"capabilities":{"max_data_xfer_size":-1}}'),
    MAY_END,
  ],
  [20, "SHOULD", SECTION, "JSON without a NUL at its end is refused.", (t) => {
    const text = new TextEncoder().encode(capabilitiesText());
    return refused(t, join(pack("u16 u16", t.facts.major, t.facts.minor), text));
  }, MAY_END],
  [
    21,
    "MUST",
    SECTION,
    "A payload that ends within the version is refused.",
    (t) => refused(t, pack("u16", t.facts.major)),
    MAY_END,
  ],
  [22, "MUST", SECTION, "A command before VERSION is refused.", (t) =>
    t.refusesOrCloses({
      command: Command.DEVICE_GET_INFO,
      payload: pack("u32 u32 u32 u32", 16, 0, 0, 0),
    }), MAY_END],
  [23, "MUST", SECTION, "A second VERSION is refused, and changes nothing.", async (t) => {
    const payload = versionPayload(t.facts.major, 0, capabilitiesText());
    await t.refuses({ command: VERSION, payload });
    await t.inStep();
  }],
  [24, "MUST", SECTION, "The message id of VERSION is any the client chooses.", async (t) => {
    const payload = versionPayload(t.facts.major, t.facts.minor, capabilitiesText());
    await t.accepts({ command: VERSION, payload, id: 0xffff });
    await t.inStep();
  }, RAW],
  [
    25,
    "SHOULD",
    SECTION,
    "max_msg_fds of the reply is a number that is possible.",
    async (t) => await number(t, "max_msg_fds", (n) => n >= 0, "a whole number"),
  ],
  [
    26,
    "SHOULD",
    SECTION,
    "max_data_xfer_size of the reply is a number above 0.",
    async (t) => await number(t, "max_data_xfer_size", (n) => n > 0, "a whole number above 0"),
  ],
  [
    27,
    "SHOULD",
    SECTION,
    "max_dma_maps of the reply is a number that is possible.",
    async (t) => await number(t, "max_dma_maps", (n) => n >= 0, "a whole number"),
  ],
  [
    28,
    "SHOULD",
    SECTION,
    "pgsizes of the reply is a mask of page sizes that holds 4096.",
    async (t) => await number(t, "pgsizes", (n) => (n & 4096) !== 0, "a mask with the bit 4096"),
  ],
  [29, "SHOULD", SECTION, "write_multiple of the reply is a boolean.", async (t) => {
    const value = t.facts.capabilities["write_multiple"];
    t.need(value !== undefined, "the server does not say write_multiple");
    t.expect(typeof value === "boolean", "true or false", JSON.stringify(value));
    await Promise.resolve();
  }],
  ...ODD_LIMITS.map(([n, rule, capabilities]): CheckRow => [
    n,
    "MUST",
    SECTION,
    rule,
    takes(capabilitiesText({ ...OUR_CAPABILITIES, ...capabilities })),
    RAW,
  ]),
  [41, "SHOULD", SECTION, "A descriptor that comes with VERSION does no harm.", async (t) => {
    const payload = versionPayload(t.facts.major, t.facts.minor, capabilitiesText());
    const ask = { command: VERSION, payload, fds: [t.event().handle] };
    await t.refusesOrAccepts(ask);
  }, MAY_END],
  [
    42,
    "MUST",
    SECTION,
    "A VERSION that is typed as a reply is not taken for a VERSION.",
    async (t) => {
      const payload = versionPayload(t.facts.major, t.facts.minor, capabilitiesText());
      await t.send({ command: VERSION, payload, flags: MessageFlags.REPLY });
      await t.neverSucceeds();
    },
    MAY_END,
  ],
]);
