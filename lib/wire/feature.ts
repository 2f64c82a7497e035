/**
 * Features: migration and the logging of dirty pages (specification: "VFIO_USER_DEVICE_FEATURE",
 * and `struct vfio_device_feature` of linux/vfio.h).
 *
 * @module
 */

import { DecodeError } from "../base/errors.ts";
import {
  checkArgsz,
  type Codec,
  encodeWithData,
  fixedReply,
  payloadForm,
  type PayloadVariants,
} from "./codec.ts";
import { layout, u32, u64 } from "./layout.ts";

/** Flags of a {@linkcode DeviceFeature}: the index of a feature and what is to be done. */
export const FeatureFlags = {
  /** The bits that hold the index, one of {@linkcode Feature}. */
  INDEX_MASK: 0xffff,
  /** Reads the feature. */
  GET: 1 << 16,
  /** Writes it. */
  SET: 1 << 17,
  /** Only asks whether GET or SET, if given too, would be taken. */
  PROBE: 1 << 18,
} as const;

/** Indexes of features. */
export const Feature = {
  /** GET: how the device can migrate, a {@linkcode MigrationData}. */
  MIGRATION: 1,
  /** GET, SET: the state of the device, a {@linkcode DeviceStateData}. */
  MIG_DEVICE_STATE: 2,
  /** SET: starts logging which pages the device writes, a {@linkcode DmaLoggingStartData}. */
  DMA_LOGGING_START: 6,
  /** SET: stops it; no data. */
  DMA_LOGGING_STOP: 7,
  /** GET: which pages were written, a {@linkcode DmaLoggingReportData}. */
  DMA_LOGGING_REPORT: 8,
} as const;

const FEATURE_NAMES = new Map<number, string>(
  Object.entries(Feature).map(([name, index]) => [index, name]),
);

/**
 * The name of a feature index: "MIGRATION"; "feature 99" for an unknown feature.
 *
 * @example
 * ```ts
 * import { Feature, featureName } from "./feature.ts";
 *
 * console.assert(featureName(Feature.MIGRATION) === "MIGRATION");
 * ```
 */
export function featureName(index: number): string {
  return FEATURE_NAMES.get(index) ?? `feature ${index}`;
}

/** States of a device that migrates. */
export const DeviceState = {
  /** It failed; DEVICE_RESET leads back to RUNNING. */
  ERROR: 0,
  /** It stands still. */
  STOP: 1,
  /** It works. */
  RUNNING: 2,
  /** It stands still and its state is read. */
  STOP_COPY: 3,
  /** Its state is written. */
  RESUMING: 4,
  /** It works but starts no DMA; not used by vfio-user. */
  RUNNING_P2P: 5,
  /** It works and its state is read. */
  PRE_COPY: 6,
  /** PRE_COPY without DMA of its own; not used by vfio-user. */
  PRE_COPY_P2P: 7,
} as const;

const STATE_NAMES = Object.keys(DeviceState);

/**
 * The name of a device state: "STOP_COPY"; "state 9" for one that is not known.
 *
 * @example
 * ```ts
 * import { deviceStateName } from "./feature.ts";
 *
 * console.assert(deviceStateName(2) === "RUNNING" && deviceStateName(9) === "state 9");
 * ```
 */
export function deviceStateName(state: number): string {
  return STATE_NAMES[state] ?? `state ${state}`;
}

/**
 * Gets, sets or probes a feature; the reply to SET and PROBE says the same, that to GET has the
 * data.
 */
export interface DeviceFeature {
  /** Bytes of the message, or, in a GET request, bytes that the reply may have; 8 or more. */
  argsz: number;
  /** {@linkcode FeatureFlags}. */
  flags: number;
  /** The data of the feature, for the codec of its index. A view. */
  data: Uint8Array;
}

/** Flags of a {@linkcode MigrationData}. They are 64 bits wide, so these are bigints. */
export const MigrationFlags = {
  /** The states STOP_COPY and RESUMING are known. */
  STOP_COPY: 1n,
  /** The P2P states are known. */
  P2P: 2n,
  /** The state PRE_COPY is known. */
  PRE_COPY: 4n,
} as const;

/** Data of the feature MIGRATION. */
export interface MigrationData {
  /** {@linkcode MigrationFlags}. */
  flags: bigint;
}

/** Data of the feature MIGRATION, 8 bytes. */
export const MigrationData: Codec<MigrationData> = fixedReply(
  layout("MIGRATION feature", 8, { flags: u64(0, MigrationFlags) }),
);

/** Data of the feature MIG_DEVICE_STATE. */
export interface DeviceStateData {
  /** One of {@linkcode DeviceState}. */
  state: number;
  /** Not used by vfio-user. */
  dataFd: number;
}

/** Data of the feature MIG_DEVICE_STATE, 8 bytes. */
export const DeviceStateData: Codec<DeviceStateData> = fixedReply(
  layout("MIG_DEVICE_STATE feature", 8, { state: u32(0), dataFd: u32(4) }),
);

/** A range of the client's memory whose pages are logged. */
export interface DmaLoggingRange {
  /** The first address. */
  iova: bigint;
  /** Bytes of the range. */
  length: bigint;
}

/** Data of the feature DMA_LOGGING_START. */
export interface DmaLoggingStartData {
  /** Bytes of a page, that is, of memory that one bit stands for. */
  pageSize: bigint;
  /** The ranges that are logged. */
  ranges: DmaLoggingRange[];
}

const StartLayout = layout("DMA_LOGGING_START feature", 16, {
  pageSize: u64(0),
  numRanges: u32(8),
});
const RangeLayout = layout("DMA logging range", 16, { iova: u64(0), length: u64(8) });

/** Data of the feature DMA_LOGGING_START, 16 bytes and 16 more a range. */
export const DmaLoggingStartData: Codec<DmaLoggingStartData> = {
  name: StartLayout.name,
  form: payloadForm(StartLayout, {
    kind: "entries",
    name: "ranges",
    count: "numRanges",
    forms: [RangeLayout],
  }),
  encode({ pageSize, ranges }) {
    const bytes = new Uint8Array(StartLayout.size + ranges.length * RangeLayout.size);
    StartLayout.write({ pageSize, numRanges: ranges.length }, bytes);
    for (const [i, range] of ranges.entries()) {
      RangeLayout.write(range, bytes, StartLayout.size + i * RangeLayout.size);
    }
    return bytes;
  },
  decode(data) {
    const { pageSize, numRanges } = StartLayout.decode(data);
    const room = data.length - StartLayout.size;
    if (numRanges * RangeLayout.size > room) {
      throw new DecodeError(
        StartLayout.name,
        `${numRanges} ranges of 16 bytes, ${room} bytes came`,
      );
    }
    const ranges = Array.from(
      { length: numRanges },
      (_, i) => RangeLayout.decode(data, StartLayout.size + i * RangeLayout.size),
    );
    return { pageSize, ranges };
  },
};

/** Data of the feature DMA_LOGGING_REPORT. */
export interface DmaLoggingReportData {
  /** The first address. */
  iova: bigint;
  /** Bytes of the range. */
  length: bigint;
  /** Bytes of a page. */
  pageSize: bigint;
  /** In a reply: one bit a page, the lowest first, in whole u64s; else empty. A view. */
  bitmap: Uint8Array;
}

const ReportLayout = layout("DMA_LOGGING_REPORT feature", 24, {
  iova: u64(0),
  length: u64(8),
  pageSize: u64(16),
});

/** Data of the feature DMA_LOGGING_REPORT, 24 bytes and the bitmap. */
export const DmaLoggingReportData: Codec<DmaLoggingReportData> = {
  name: ReportLayout.name,
  form: payloadForm(ReportLayout, { kind: "bytes", name: "bitmap" }),
  encode: (value) => encodeWithData(ReportLayout, value, value.bitmap),
  decode(data) {
    const value = ReportLayout.decode(data);
    const bitmap = data.subarray(ReportLayout.size);
    if (bitmap.length % 8 !== 0) {
      throw new DecodeError(
        ReportLayout.name,
        `a bitmap of ${bitmap.length} bytes, not whole u64s`,
      );
    }
    return { ...value, bitmap };
  },
};

/** Data of the features that have some. */
const VARIANTS: PayloadVariants = {
  field: "flags",
  mask: FeatureFlags.INDEX_MASK,
  forms: {
    [Feature.MIGRATION]: { name: "MIGRATION", form: MigrationData.form },
    [Feature.MIG_DEVICE_STATE]: { name: "MIG_DEVICE_STATE", form: DeviceStateData.form },
    [Feature.DMA_LOGGING_START]: { name: "DMA_LOGGING_START", form: DmaLoggingStartData.form },
    [Feature.DMA_LOGGING_REPORT]: { name: "DMA_LOGGING_REPORT", form: DmaLoggingReportData.form },
  },
};

/**
 * DEVICE_FEATURE request.
 *
 * @example
 * ```ts
 * import { DeviceFeatureRequest, DeviceState, DeviceStateData } from "./feature.ts";
 * import { Feature, FeatureFlags } from "./feature.ts";
 *
 * const stop = DeviceFeatureRequest.encode({
 *   argsz: 16,
 *   flags: FeatureFlags.SET | Feature.MIG_DEVICE_STATE,
 *   data: DeviceStateData.encode({ state: DeviceState.STOP, dataFd: 0 }),
 * });
 * console.assert(stop.length === 16 && stop[8] === 1);
 * ```
 */
export const DeviceFeatureRequest: Codec<DeviceFeature> = deviceFeature(
  "DEVICE_FEATURE request",
  true,
);

/** DEVICE_FEATURE reply. */
export const DeviceFeatureReply: Codec<DeviceFeature> = deviceFeature(
  "DEVICE_FEATURE reply",
  false,
);

function deviceFeature(name: string, isRequest: boolean): Codec<DeviceFeature> {
  const head = layout(name, 8, { argsz: u32(0), flags: u32(4, FeatureFlags) });
  return {
    name,
    form: payloadForm(head, { kind: "bytes", name: "data", variants: VARIANTS }),
    encode: (value) => encodeWithData(head, value, value.data),
    decode(payload) {
      const value = head.decode(payload);
      if (isRequest) checkArgsz(head, value.argsz);
      return { ...value, data: payload.subarray(head.size) };
    },
  };
}
