/** Checks of DEVICE_FEATURE. @module */

import { Feature, FeatureFlags } from "../../wire/feature.ts";
import { type CheckGroup, group } from "../check.ts";
import { u32At, u64At } from "../pack.ts";
import { feature } from "../requests.ts";

const SECTION = "VFIO_USER_DEVICE_FEATURE";
const { GET, SET, PROBE } = FeatureFlags;
const { MIGRATION, MIG_DEVICE_STATE } = Feature;
const NOTHING = new Uint8Array();

/** The checks of features. */
export const features: CheckGroup = group("features", "Device features", [
  [1, "MUST", SECTION, "A feature that does not exist is refused.", async (t) => {
    for (const index of [0x7777, 0xffff]) {
      await t.refuses(feature(GET | index, NOTHING, 4096));
      await t.refuses(feature(PROBE | index, NOTHING, 4096));
    }
    await t.inStep();
  }],
  [2, "MUST", SECTION, "A feature without an operation is refused.", async (t) => {
    await t.refuses(feature(MIGRATION, NOTHING, 4096));
    await t.inStep();
  }],
  [3, "MUST", SECTION, "GET and SET at once, without PROBE, are refused.", async (t) => {
    await t.refuses(feature(GET | SET | MIG_DEVICE_STATE, new Uint8Array(8), 4096));
    await t.inStep();
  }],
  [4, "MUST", SECTION, "A device that does not migrate has no feature MIGRATION.", async (t) => {
    t.need(t.facts.migration === undefined, "the device migrates");
    await t.refuses(feature(GET | MIGRATION, NOTHING, 4096));
    await t.refuses(feature(PROBE | MIGRATION, NOTHING, 4096));
    await t.inStep();
  }],
  [5, "MUST", SECTION, "A payload without flags is refused.", async (t) => {
    await t.refuses({ command: feature(0).command, payload: new Uint8Array(4) });
    await t.inStep();
  }],
  [6, "MUST", SECTION, "An argsz below 8 is refused.", async (t) => {
    await t.refuses(feature(GET | MIGRATION, NOTHING, 7));
    await t.inStep();
  }],
  [
    7,
    "MUST",
    SECTION,
    "GET of MIGRATION has flags of 64 bits, STOP_COPY among them.",
    async (t) => {
      t.needMigration();
      const { payload, text } = await t.accepts(feature(GET | MIGRATION, NOTHING, 16));
      const isRight = payload.length === 16 && (u64At(payload, 8) & 1n) === 1n;
      t.expect(isRight, "16 bytes, and STOP_COPY", text);
    },
  ],
  [8, "MUST", SECTION, "The reply to GET repeats the flags of the request.", async (t) => {
    t.needMigration();
    const { payload, text } = await t.accepts(feature(GET | MIGRATION, NOTHING, 16));
    t.expect(u32At(payload, 4) === (GET | MIGRATION), "flags 0x10001", text);
  }],
  [9, "MUST", SECTION, "Without room for the data GET is refused.", async (t) => {
    t.needMigration();
    await t.refuses(feature(GET | MIGRATION, NOTHING, 15));
    await t.inStep();
  }],
  [10, "MUST", SECTION, "PROBE of a feature that is there succeeds.", async (t) => {
    t.needMigration();
    await t.accepts(feature(PROBE | MIGRATION, NOTHING, 4096));
    await t.accepts(feature(PROBE | GET | MIGRATION, NOTHING, 4096));
    await t.accepts(feature(PROBE | GET | SET | MIG_DEVICE_STATE, NOTHING, 4096));
  }],
  [
    11,
    "MUST",
    SECTION,
    "PROBE of an operation that a feature does not have is refused.",
    async (t) => {
      t.needMigration();
      await t.refuses(feature(PROBE | SET | MIGRATION, NOTHING, 4096));
      await t.inStep();
    },
  ],
  [12, "MUST", SECTION, "MIGRATION can't be set.", async (t) => {
    t.needMigration();
    await t.refuses(feature(SET | MIGRATION, new Uint8Array(8)));
    await t.inStep();
  }],
  [13, "MUST", SECTION, "PROBE with SET changes nothing.", async (t) => {
    t.needMigration();
    const stop = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);
    await t.ask(feature(PROBE | SET | MIG_DEVICE_STATE, stop, 4096));
    const { payload, text } = await t.accepts(feature(GET | MIG_DEVICE_STATE, NOTHING, 16));
    t.expect(u32At(payload, 8) === 2, "state 2, RUNNING", text);
  }],
  [14, "SHOULD", SECTION, "Operations that do not exist are refused.", async (t) => {
    await t.refuses(feature(GET | (1 << 20) | MIGRATION, NOTHING, 4096));
    await t.inStep();
  }],
  [15, "SHOULD", SECTION, "argsz of the reply to GET is that of the whole answer.", async (t) => {
    t.needMigration();
    const { payload, text } = await t.accepts(feature(GET | MIGRATION, NOTHING, 4096));
    t.expect(u32At(payload, 0) === payload.length, `argsz ${payload.length}`, text);
  }],
]);
