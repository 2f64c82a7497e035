/** Checks of migration: states, streams, and the log of written pages. @module */

import { DeviceState, deviceStateName, Feature, FeatureFlags } from "../../wire/feature.ts";
import { MessageFlags } from "../../wire/header.ts";
import { type CheckGroup, type CheckRow, group } from "../check.ts";
import { NotApplicable } from "../deviation.ts";
import { limitsOf } from "../limits.ts";
import { sameBytes } from "../../base/bytes.ts";
import { join, pack, u32At, u64At } from "../pack.ts";
import { dmaMap, dmaUnmap, feature, migRead, migWrite, read, reset } from "../requests.ts";
import type { Trial } from "../trial.ts";

const STATE = "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE";
const READ = "VFIO_USER_MIG_DATA_READ";
const WRITE = "VFIO_USER_MIG_DATA_WRITE";
const LOGGING = "VFIO_DEVICE_FEATURE_DMA_LOGGING";
const RISKY = { isDestructive: true } as const;
const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY } = DeviceState;
const { GET, SET } = FeatureFlags;
/** The flag PRE_COPY of the feature MIGRATION. */
const HAS_PRE_COPY = 4n;
const CHUNK = 1 << 17;
/** The most of a state that is read, in bytes: larger devices have other tests. */
const MOST = 8 << 20;
/** The reads that this may take, of a server with a small limit. */
const MOST_READS = 4096;

/** SET of a state. */
function to(state: number) {
  return feature(SET | Feature.MIG_DEVICE_STATE, pack("u32 u32", state, 0));
}

/** Begins: the device migrates, runs, and is set back afterwards. */
async function begin(t: Trial, state?: number): Promise<void> {
  t.needMigration();
  const isKnown = state !== PRE_COPY || (t.facts.migration! & HAS_PRE_COPY) !== 0n;
  t.need(isKnown, "the device does not know PRE_COPY");
  t.atEnd(() => setBack(t));
  // The state outlives a connection that a check before has broken.
  if (await stateOf(t) !== RUNNING) await setBack(t);
}

/** Takes the device to RUNNING. */
async function setBack(t: Trial): Promise<void> {
  for (const state of [STOP, RUNNING]) {
    const reply = await t.ask(to(state));
    if ((reply.flags & MessageFlags.ERROR) !== 0) await t.ask(reset());
  }
}

/** The state that the device says it is in. */
async function stateOf(t: Trial): Promise<number> {
  const ask = feature(GET | Feature.MIG_DEVICE_STATE, new Uint8Array(), 16);
  return u32At((await t.accepts(ask)).payload, 8);
}

async function isIn(t: Trial, state: number): Promise<void> {
  const now = await stateOf(t);
  t.expect(now === state, deviceStateName(state), deviceStateName(now));
}

/** Goes through states, one after the other. */
async function go(t: Trial, ...states: number[]): Promise<void> {
  for (const state of states) await t.accepts(to(state));
}

/** Reads a state to its end. */
async function save(t: Trial, most = CHUNK): Promise<Uint8Array> {
  const chunk = Math.min(most, limitsOf(t.facts).data);
  const parts: Uint8Array[] = [];
  for (let size = 0; size < MOST;) {
    const { payload, text } = await t.accepts(migRead(chunk));
    const length = u32At(payload, 4);
    t.expect(length === payload.length - 8 && length <= chunk, `${chunk} bytes at most`, text);
    if (length === 0) return join(...parts);
    parts.push(payload.slice(8));
    t.need(parts.length < MOST_READS, `the state takes more than ${MOST_READS} reads`);
    size += length;
  }
  throw new NotApplicable(`the state has more than ${MOST} bytes`);
}

/** Writes a state in pieces that the server takes. */
async function restore(t: Trial, state: Uint8Array): Promise<void> {
  const chunk = Math.min(CHUNK, limitsOf(t.facts).data);
  for (let at = 0; at < state.length; at += chunk) {
    await t.accepts(migWrite(state.subarray(at, at + chunk)));
  }
}

/** The states of a saved device, from RUNNING. */
async function saved(t: Trial): Promise<Uint8Array> {
  await go(t, STOP, STOP_COPY);
  const state = await save(t);
  await go(t, STOP);
  return state;
}

/** Ways that a device goes: the states on them. */
const WAYS: readonly (readonly number[])[] = [
  [STOP],
  [STOP, RUNNING],
  [STOP, STOP_COPY],
  [STOP, STOP_COPY, STOP],
  [STOP, RESUMING],
  [STOP_COPY],
  [STOP_COPY, RUNNING],
  [RESUMING],
  [PRE_COPY],
  [PRE_COPY, RUNNING],
  [PRE_COPY, STOP_COPY],
  [PRE_COPY, STOP],
];

/** States that can't be asked for, after those that lead there. */
const REFUSED: readonly (readonly [name: string, before: readonly number[], state: number])[] = [
  ["ERROR", [], ERROR],
  ["A state that does not exist", [], 99],
  ["The state 2^32 - 1", [], 0xffff_ffff],
  ["PRE_COPY from STOP_COPY", [PRE_COPY, STOP_COPY], PRE_COPY],
];

const names = (states: readonly number[]) => states.map(deviceStateName).join(", ");

const PAGES_AT = 0x6000_0000n;
const PAGES_SIZE = 0x10000n;

/** Begins a log of memory that is mapped. */
async function log(t: Trial): Promise<void> {
  t.need(t.facts.logs, "the device does not log what it writes");
  await t.accepts(dmaMap(PAGES_AT, PAGES_SIZE, { fds: [t.memory(Number(PAGES_SIZE))] }));
  t.atEnd(async () => {
    await t.ask(feature(SET | Feature.DMA_LOGGING_STOP));
    await t.ask(dmaUnmap(PAGES_AT, PAGES_SIZE));
  });
}

function start(pageSize = 4096n, ranges = [[PAGES_AT, PAGES_SIZE]], count = ranges.length) {
  const parts = ranges.map(([iova, length]) => pack("u64 u64", iova!, length!));
  const data = join(pack("u64 u32 u32", pageSize, count, 0), ...parts);
  return feature(SET | Feature.DMA_LOGGING_START, data);
}

function report(iova = PAGES_AT, length = PAGES_SIZE, pageSize = 4096n, argsz = 4096) {
  const data = pack("u64 u64 u64", iova, length, pageSize);
  return feature(GET | Feature.DMA_LOGGING_REPORT, data, argsz);
}

/** The checks of migration. */
export const migration: CheckGroup = group("migration", "Migration", [
  [1, "MUST", STATE, "A device begins in RUNNING.", async (t) => {
    t.needMigration();
    await isIn(t, RUNNING);
  }],
  ...WAYS.map((way, i): CheckRow => [
    2 + i,
    "MUST",
    STATE,
    `The device goes from RUNNING to ${names(way)}.`,
    async (t) => {
      await begin(t, way[0]);
      for (const state of way) {
        await go(t, state);
        await isIn(t, state);
      }
    },
  ]),
  [14, "MUST", STATE, "The reply to SET repeats the request.", async (t) => {
    await begin(t);
    const { payload, text } = await t.accepts(to(STOP));
    t.expect(payload.length === 16 && u32At(payload, 8) === STOP, "16 bytes with STOP", text);
  }],
  [15, "MUST", STATE, "A state that the device is in can be set again.", async (t) => {
    await begin(t);
    await go(t, RUNNING, RUNNING, STOP, STOP);
    await isIn(t, STOP);
  }],
  ...REFUSED.map((
    [name, before, state],
    i,
  ): CheckRow => [
    16 + i,
    "MUST",
    STATE,
    `${name} can't be set.`,
    async (t) => {
      await begin(t, before[0]);
      await go(t, ...before);
      await t.refuses(to(state));
    },
  ]),
  [20, "MUST", STATE, "A state that is refused leaves the device where it was.", async (t) => {
    await begin(t);
    await go(t, STOP);
    await t.refuses(to(99));
    await isIn(t, STOP);
  }],
  [21, "MUST", STATE, "PRE_COPY is refused by a device that does not know it.", async (t) => {
    await begin(t);
    t.need((t.facts.migration! & HAS_PRE_COPY) === 0n, "the device knows PRE_COPY");
    await t.refuses(to(PRE_COPY));
  }],
  [22, "MUST", STATE, "Data of SET that end early are refused.", async (t) => {
    await begin(t);
    await t.refuses(feature(SET | Feature.MIG_DEVICE_STATE, pack("u16", STOP), 16));
    await isIn(t, RUNNING);
  }],
  [23, "SHOULD", STATE, "Configuration space can be read in STOP.", async (t) => {
    await begin(t);
    const { index } = t.config();
    await go(t, STOP);
    await t.accepts(read(index, 0, 4));
  }],
  [24, "SHOULD", STATE, "A device that ran again is the same.", async (t) => {
    await begin(t);
    const { index } = t.config();
    const before = (await t.accepts(read(index, 0, 4))).payload.slice(16);
    await saved(t);
    await go(t, RUNNING);
    const after = await t.accepts(read(index, 0, 4));
    const isSame = sameBytes(after.payload.subarray(16), before);
    t.expect(isSame, "the same vendor and device id", after);
  }],
  [30, "MUST", READ, "A state has an end: a read of 0 bytes.", async (t) => {
    await begin(t);
    await saved(t);
  }],
  [31, "SHOULD", READ, "Behind the end there are no more bytes.", async (t) => {
    await begin(t);
    await go(t, STOP, STOP_COPY);
    await save(t);
    const { payload, text } = await t.accepts(migRead(CHUNK));
    t.expect(u32At(payload, 4) === 0, "0 bytes", text);
  }],
  [32, "SHOULD", READ, "A stopped device has the same state twice.", async (t) => {
    await begin(t);
    const [first, second] = [await saved(t), await saved(t)];
    t.expect(
      sameBytes(first, second),
      `${first.length} bytes as before`,
      `${second.length} other bytes`,
    );
  }],
  [33, "MUST", READ, "The state does not depend on the size of the reads.", async (t) => {
    await begin(t);
    const whole = await saved(t);
    t.need(whole.length < 1 << 18, "the state is too large for small reads");
    await go(t, STOP_COPY);
    const pieces = await save(t, 1000);
    t.expect(pieces.length === whole.length, `${whole.length} bytes`, `${pieces.length} bytes`);
  }],
  [34, "MUST", READ, "In RUNNING no state is read.", async (t) => {
    await begin(t);
    await t.refuses(migRead(CHUNK));
    await isIn(t, RUNNING);
  }],
  [35, "MUST", READ, "In RESUMING no state is read.", async (t) => {
    await begin(t);
    await go(t, RESUMING);
    await t.refuses(migRead(CHUNK));
  }],
  [36, "MUST", READ, "An argsz without room for the bytes is refused.", async (t) => {
    await begin(t);
    await go(t, STOP_COPY);
    await t.refuses(migRead(CHUNK, 8));
  }],
  [37, "MUST", READ, "A size of 4 GiB less one byte is refused.", async (t) => {
    await begin(t);
    await go(t, STOP_COPY);
    await t.refuses(migRead(0xffff_ffff, 0xffff_ffff));
  }, RISKY],
  [38, "MUST", READ, "In PRE_COPY a state is read.", async (t) => {
    await begin(t, PRE_COPY);
    await go(t, PRE_COPY);
    await t.accepts(migRead(CHUNK));
  }],
  [40, "MUST", WRITE, "A saved state is restored.", async (t) => {
    await begin(t);
    const state = await saved(t);
    await go(t, RESUMING);
    await restore(t, state);
    await go(t, STOP, RUNNING);
    await isIn(t, RUNNING);
  }],
  [41, "MUST", WRITE, "A restored device has the state that it was given.", async (t) => {
    await begin(t);
    const state = await saved(t);
    await go(t, RESUMING);
    await restore(t, state);
    await go(t, STOP);
    await go(t, STOP_COPY);
    const after = await save(t);
    t.expect(after.length === state.length, `${state.length} bytes`, `${after.length} bytes`);
  }],
  [42, "MUST", WRITE, "The reply has no payload.", async (t) => {
    await begin(t);
    const state = await saved(t);
    await go(t, RESUMING);
    const reply = await t.accepts(migWrite(state.subarray(0, CHUNK)));
    t.expect(reply.payload.length === 0, "no payload", reply);
  }],
  [43, "MUST", WRITE, "In RUNNING no state is written.", async (t) => {
    await begin(t);
    await t.refuses(migWrite(new Uint8Array(16)));
    await isIn(t, RUNNING);
  }],
  [44, "MUST", WRITE, "In STOP_COPY no state is written.", async (t) => {
    await begin(t);
    await go(t, STOP_COPY);
    await t.refuses(migWrite(new Uint8Array(16)));
  }],
  [45, "MUST", WRITE, "A size above the bytes that came is refused.", async (t) => {
    await begin(t);
    await go(t, RESUMING);
    await t.refuses(migWrite(new Uint8Array(16), 4096));
  }, RISKY],
  [46, "SHOULD", WRITE, "A state that is cut does not run.", async (t) => {
    await begin(t);
    const state = await saved(t);
    t.need(state.length > 1, "the state is too short to be cut");
    await go(t, RESUMING);
    await t.ask(migWrite(state.subarray(0, Math.min(CHUNK, state.length >> 1))));
    const reply = await t.ask(to(STOP));
    const isRefused = (reply.flags & MessageFlags.ERROR) !== 0;
    t.expect(isRefused, "an error reply to STOP", reply);
  }, RISKY],
  [47, "MUST", WRITE, "Bytes that are no state are survived.", async (t) => {
    await begin(t);
    await go(t, RESUMING);
    await t.ask(migWrite(new Uint8Array(CHUNK).fill(0x5a)));
    await t.ask(to(STOP));
    await stateOf(t);
  }, RISKY],
  [48, "SHOULD", STATE, "A reset leads back to RUNNING from PRE_COPY, or keeps it.", async (t) => {
    await begin(t, PRE_COPY);
    t.need(t.facts.canReset, "the device can't be reset");
    await go(t, PRE_COPY);
    await t.ask(reset());
    const now = await stateOf(t);
    t.expect(now === RUNNING || now === PRE_COPY, "RUNNING or PRE_COPY", deviceStateName(now));
  }],
  [49, "MUST", STATE, "A reset that succeeds in RESUMING leads to RUNNING.", async (t) => {
    await begin(t);
    await go(t, RESUMING);
    const { flags } = await t.ask(reset());
    t.need((flags & MessageFlags.ERROR) === 0, "the device is not reset in RESUMING");
    await isIn(t, RUNNING);
  }],
  [60, "MUST", LOGGING, "A log is begun and ended.", async (t) => {
    await log(t);
    await t.accepts(start());
    await t.accepts(feature(SET | Feature.DMA_LOGGING_STOP));
  }],
  [61, "MUST", LOGGING, "A report has a bit for each page.", async (t) => {
    await log(t);
    await t.accepts(start());
    const { payload, text } = await t.accepts(report());
    t.expect(payload.length === 8 + 24 + 8, "40 bytes: one of 64 bits as bitmap", text);
  }],
  [62, "SHOULD", LOGGING, "Memory that was not written is not reported.", async (t) => {
    await log(t);
    await t.accepts(start());
    await t.accepts(report());
    const { payload, text } = await t.accepts(report());
    t.expect(u64At(payload, 32) === 0n, "no page", text);
  }],
  [63, "MUST", LOGGING, "Without a log there is no report.", async (t) => {
    await log(t);
    await t.refuses(report());
    await t.inStep();
  }],
  [64, "MUST", LOGGING, "A report without room for the bitmap is refused.", async (t) => {
    await log(t);
    await t.accepts(start());
    await t.refuses(report(PAGES_AT, PAGES_SIZE, 4096n, 32));
    await t.inStep();
  }],
  [65, "MUST", LOGGING, "A report for pages of 0 bytes is refused.", async (t) => {
    await log(t);
    await t.accepts(start());
    await t.refuses(report(PAGES_AT, PAGES_SIZE, 0n));
    await t.inStep();
  }, RISKY],
  [66, "MUST", LOGGING, "A report of all of 2^64 bytes is refused.", async (t) => {
    await log(t);
    await t.accepts(start());
    await t.refuses(report(0n, 0xffff_ffff_ffff_f000n));
    await t.inStep();
  }, RISKY],
  [67, "MUST", LOGGING, "More ranges than came are refused.", async (t) => {
    await log(t);
    await t.refuses(start(4096n, [], 1));
    await t.refuses(start(4096n, [[PAGES_AT, PAGES_SIZE]], 0xffff_ffff));
    await t.inStep();
  }, RISKY],
  [68, "MUST", LOGGING, "A range that wraps around 2^64 is refused.", async (t) => {
    await log(t);
    await t.refuses(start(4096n, [[0xffff_ffff_ffff_f000n, 0x10000n]]));
    await t.inStep();
  }, RISKY],
  [69, "SHOULD", LOGGING, "After the end of a log there is no report.", async (t) => {
    await log(t);
    await t.accepts(start());
    await t.accepts(feature(SET | Feature.DMA_LOGGING_STOP));
    await t.refuses(report());
    await t.inStep();
  }],
  [70, "SHOULD", LOGGING, "A report of memory that is not logged is refused.", async (t) => {
    await log(t);
    await t.accepts(start());
    await t.refuses(report(PAGES_AT + PAGES_SIZE));
    await t.inStep();
  }],
  [71, "SHOULD", LOGGING, "Another log beside one that is on is refused.", async (t) => {
    await log(t);
    await t.accepts(start());
    await t.refuses(start(4096n, [[PAGES_AT, PAGES_SIZE / 2n]]));
    await t.inStep();
  }],
]);
