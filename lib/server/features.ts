/**
 * Answers DEVICE_FEATURE, MIG_DATA_READ and MIG_DATA_WRITE for a device that migrates.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import {
  type DeviceFeature,
  DeviceFeatureReply,
  DeviceFeatureRequest,
  DeviceState,
  DeviceStateData,
  DmaLoggingReportData,
  DmaLoggingStartData,
  Feature,
  FeatureFlags,
  featureName,
  MigrationData,
} from "../wire/feature.ts";
import { MigDataReadRequest, MigDataWriteRequest } from "../wire/migration.ts";
import { DeviceError } from "./served_device.ts";
import type { ClientMemory } from "./client_memory.ts";
import type { Offer } from "./offer.ts";
import type { MigrationMachine } from "./migration.ts";

const { GET, SET, PROBE, INDEX_MASK } = FeatureFlags;
const OPERATIONS = GET | SET | PROBE;

/** Operations that each feature supports. */
const SUPPORTED: Readonly<Record<number, number>> = {
  [Feature.MIGRATION]: GET,
  [Feature.MIG_DEVICE_STATE]: GET | SET,
  [Feature.DMA_LOGGING_START]: SET,
  [Feature.DMA_LOGGING_STOP]: SET,
  [Feature.DMA_LOGGING_REPORT]: GET,
};

/** The states in which a device works. */
const WORKING: ReadonlySet<number> = new Set([DeviceState.RUNNING, DeviceState.PRE_COPY]);

/** Bytes of a reply ahead of the data of a feature; of MIG_DATA_READ ahead of the state. */
const HEAD_SIZE = 8;

/** The subjects of features. */
export interface FeatureContext {
  /** The device's state. */
  readonly migration: MigrationMachine;
  /** The client's memory. */
  readonly memory: ClientMemory;
  /** Limits and capabilities of this server. */
  readonly offer: Offer;
  /** Makes a change once the device is quiet. */
  stop(act: () => Promise<void>): void | Promise<void>;
}

/**
 * The payload of the answer to a DEVICE_FEATURE.
 *
 * @throws {DeviceError} EINVAL for a feature or an operation that is not known, and for data or
 *   room for them that are too short
 */
export async function answerFeature(
  payload: Uint8Array,
  context: FeatureContext,
): Promise<Uint8Array> {
  const request = DeviceFeatureRequest.decode(payload);
  const { argsz, flags, data } = request;
  const index = flags & INDEX_MASK;
  const operations = flags & ~INDEX_MASK;
  const wanted = operations & ~PROBE;
  const supported = SUPPORTED[index] ?? 0;
  const isOne = wanted === GET || wanted === SET;
  const isKnown = (flags & ~(INDEX_MASK | OPERATIONS)) === 0 && supported !== 0 &&
    (wanted & ~supported) === 0 && ((operations & PROBE) !== 0 || isOne);
  if (!isKnown) {
    throw new DeviceError(EINVAL, `${featureName(index)} can't be had so (flags ${flags})`);
  }
  const isEcho = wanted !== GET || (operations & PROBE) !== 0; // the answer is the request
  if (isEcho) checkRoom(argsz, payload.length);
  if ((operations & PROBE) !== 0) return payload.slice();
  if (wanted === SET) {
    const answer = payload.slice(); // while the device takes its time, the message goes
    const changed = await setFeature(index, data, context);
    if (changed !== undefined) answer.set(changed, HEAD_SIZE);
    return answer;
  }
  // The server's limit is for bitmaps: the others are a few bytes.
  const maxSize = Math.min(argsz, context.offer.maxDataXferSize) - HEAD_SIZE;
  const got = getFeature(index, request, maxSize, context);
  checkRoom(argsz, HEAD_SIZE + got.length);
  return DeviceFeatureReply.encode({ argsz: HEAD_SIZE + got.length, flags, data: got });
}

/** Refuses an answer that is longer than the client takes, before anything is done. */
function checkRoom(argsz: number, needed: number): void {
  if (argsz < needed) throw new DeviceError(EINVAL, `argsz is ${argsz}, ${needed} are needed`);
}

/**
 * Sets a feature. Returns the data of the answer where they begin otherwise than those of the
 * request.
 */
async function setFeature(
  index: number,
  data: Uint8Array,
  { migration, memory, stop }: FeatureContext,
): Promise<Uint8Array | undefined> {
  if (index === Feature.MIG_DEVICE_STATE) {
    const { state } = DeviceStateData.decode(data);
    const act = () => migration.setState(state);
    const isStop = WORKING.has(migration.state) && !WORKING.has(state);
    await (isStop ? stop(act) : act());
  } else if (index === Feature.DMA_LOGGING_START) {
    const start = DmaLoggingStartData.decode(data);
    const pageSize = memory.startLogging(start);
    return DmaLoggingStartData.encode({ ...start, pageSize });
  } else memory.stopLogging();
}

function getFeature(
  index: number,
  { data }: DeviceFeature,
  maxSize: number,
  { migration, memory }: FeatureContext,
): Uint8Array {
  if (index === Feature.MIGRATION) return MigrationData.encode({ flags: migration.flags });
  if (index === Feature.MIG_DEVICE_STATE) {
    return DeviceStateData.encode({ state: migration.state, dataFd: 0 });
  }
  const asked = DmaLoggingReportData.decode(data);
  const headSize = DmaLoggingReportData.encode({ ...asked, bitmap: new Uint8Array() }).length;
  const bitmap = memory.report(asked, Math.max(0, maxSize - headSize));
  return DmaLoggingReportData.encode({ ...asked, bitmap });
}

/**
 * The next bytes of the device's state, which hold until the next call.
 *
 * @param maxDataXferSize what client and server take in one message
 * @throws {DeviceError} EINVAL if there is no room for the bytes, or the state is not one in which
 *   the device is read
 */
export function readState(
  payload: Uint8Array,
  migration: MigrationMachine,
  maxDataXferSize: number,
): Uint8Array | Promise<Uint8Array> {
  const { argsz, size } = MigDataReadRequest.decode(payload);
  if (size > maxDataXferSize || argsz - HEAD_SIZE < size) {
    throw new DeviceError(EINVAL, `there is no room for ${size} bytes of migration data`);
  }
  return migration.read(size);
}

/**
 * Takes the next bytes of a state that is restored.
 *
 * @throws {DeviceError} EINVAL if they are too many, or the state is not RESUMING; also errors of
 *   the device's refusal
 */
export function writeState(
  payload: Uint8Array,
  migration: MigrationMachine,
  maxDataXferSize: number,
): void | Promise<void> {
  const { data } = MigDataWriteRequest.decode(payload);
  if (data.length > maxDataXferSize) {
    throw new DeviceError(EINVAL, `${data.length} bytes are too many`);
  }
  return migration.write(data);
}
