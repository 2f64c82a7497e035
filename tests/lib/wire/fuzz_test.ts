import { assert } from "@std/assert";
import fc from "fast-check";
import {
  type Codec,
  describeMessage,
  DeviceStateData,
  DmaLoggingReportData,
  DmaLoggingStartData,
  encodeMessage,
  Feature,
  FeatureFlags,
  HEADER_SIZE,
  messages,
  MigrationData,
  ProtocolError,
} from "../../../lib/wire/mod.ts";
import { Random } from "../../../lib/base/random.ts";
import { IS_EMULATED } from "../../_deno.ts";
import { rows } from "./_arbitraries.ts";

/** An emulator would need minutes for a million. */
const MUTATIONS = IS_EMULATED ? 20_000 : 1_000_000;
/** Fixed, so that a failure repeats; FUZZ_SEED tries another. */
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 20210301);
/** Valid messages of each codec that mutation starts from. */
const SEEDS_PER_CODEC = 20;

interface Sample {
  codec: Codec<unknown>;
  message: Uint8Array;
}

function generator(seed: number): (below: number) => number {
  const random = new Random(seed);
  return (below) => random.below(below);
}

function samplesOfRegistry(seed: number): Sample[] {
  return rows.flatMap(({ name, side, values }) => {
    const codec: Codec<unknown> = messages[name][side];
    const flags = side === "reply" ? 1 : 0;
    return fc.sample(values, { seed, numRuns: SEEDS_PER_CODEC }).map((value) => ({
      codec,
      message: encodeMessage(
        { messageId: 1, command: messages[name].command, flags },
        codec.encode(value),
      ),
    }));
  });
}

/** DEVICE_FEATURE with data that have codecs of their own. */
function samplesOfFeatures(): Sample[] {
  const range = { iova: 0x1000n, length: 0x10000n };
  const { command, request } = messages.DEVICE_FEATURE;
  const features: [number, Codec<unknown>, unknown][] = [
    [Feature.MIGRATION, MigrationData, { flags: 5n }],
    [Feature.MIG_DEVICE_STATE, DeviceStateData, { state: 3, dataFd: 0 }],
    [Feature.DMA_LOGGING_START, DmaLoggingStartData, { pageSize: 4096n, ranges: [range, range] }],
    [
      Feature.DMA_LOGGING_REPORT,
      DmaLoggingReportData,
      { ...range, pageSize: 4096n, bitmap: new Uint8Array(16) },
    ],
  ];
  return features.map(([index, codec, value]) => {
    const data = codec.encode(value);
    const flags = FeatureFlags.SET | index;
    return {
      codec: {
        ...codec,
        decode: (payload) => codec.decode(request.decode(payload).data),
      },
      message: encodeMessage(
        { messageId: 1, command },
        request.encode({ argsz: 8 + data.length, flags, data }),
      ),
    };
  });
}

const INTERESTING = [0, 1, 2, 7, 8, 9, 16, 20, 24, 32, 40, 48, 64, 0x7f, 0x80, 0xff, 0xffff];
const INTERESTING_U32 = [0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff, 0x1000_0000];

/** A mutant: a few random changes, sometimes with a header that fits again. */
function mutate(samples: readonly Sample[], message: Uint8Array, below: (n: number) => number) {
  let bytes = message.slice();
  const start = below(4) === 0 ? 0 : HEADER_SIZE;
  for (let changes = 1 + below(4); changes > 0; changes--) {
    bytes = change(samples, bytes, start, below);
  }
  if (bytes.length >= HEADER_SIZE && below(8) !== 0) {
    new DataView(bytes.buffer).setUint32(4, bytes.length, true);
  }
  return bytes;
}

function change(
  samples: readonly Sample[],
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  below: (n: number) => number,
): Uint8Array<ArrayBuffer> {
  const length = bytes.length - start;
  const at = start + (length > 0 ? below(length) : 0);
  switch (below(length > 0 ? 8 : 1)) {
    case 0: { // longer
      const longer = new Uint8Array(bytes.length + 1 + below(48));
      longer.set(bytes);
      if (below(2) === 0) longer.fill(below(256), bytes.length);
      return longer;
    }
    case 1: // shorter
      return bytes.slice(0, at);
    case 2: { // a piece of another message
      const other = samples[below(samples.length)]!.message;
      const from = below(other.length);
      bytes.set(other.subarray(from, from + Math.min(1 + below(32), bytes.length - at)), at);
      return bytes;
    }
    case 3: // one bit
      bytes[at]! ^= 1 << below(8);
      return bytes;
    case 4: // any byte
      bytes[at] = below(256);
      return bytes;
    default: { // a number that means something, on a boundary
      const aligned = start + ((at - start) & ~3);
      if (aligned + 4 > bytes.length) return bytes;
      const value = below(3) === 0
        ? INTERESTING_U32[below(INTERESTING_U32.length)]!
        : INTERESTING[below(INTERESTING.length)]!;
      new DataView(bytes.buffer).setUint32(aligned, value, true);
      return bytes;
    }
  }
}

/**
 * Reports whether the mutant still is a message. What isn't must be refused in the one way there
 * is.
 */
function decodes(codec: Codec<unknown>, mutant: Uint8Array): boolean {
  try {
    codec.decode(mutant.subarray(HEADER_SIZE));
    return true;
  } catch (error) {
    if (error instanceof ProtocolError) return false;
    throw error;
  }
}

Deno.test("mutations of valid messages give a value or a ProtocolError, and a line", () => {
  const samples = [...samplesOfRegistry(SEED), ...samplesOfFeatures()];
  const below = generator(SEED);
  let decoded = 0;
  for (let i = 0; i < MUTATIONS; i++) {
    const { codec, message } = samples[i % samples.length]!;
    const mutant = mutate(samples, message, below);
    try {
      if (decodes(codec, mutant)) decoded++;
      const line = describeMessage(mutant);
      assert(line.length > 0 && line.length <= 2000, `a line of ${line.length} characters`);
      // deno-lint-ignore no-control-regex
      assert(!/[\x00-\x1f\x7f-\x9f]/.test(line), `a control character in ${JSON.stringify(line)}`);
    } catch (cause) {
      const bytes = [...mutant].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
      throw new Error(`seed ${SEED}, mutation ${i}, ${codec.name}: ${bytes}`, { cause });
    }
  }
  // Both outcomes are common, or the mutations test nothing.
  assert(decoded > MUTATIONS / 10, `only ${decoded} mutants decoded`);
  assert(decoded < MUTATIONS * 9 / 10, `${decoded} mutants decoded`);
});
