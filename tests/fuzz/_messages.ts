/**
 * Messages of a client that were right once.
 *
 * @module
 */

import {
  Command,
  type CommandName,
  DeviceFeatureRequest,
  DeviceInfoRequest,
  DmaMapRequest,
  DmaUnmapRequest,
  type DroppedCommand,
  encodeMessage,
  encodeVersion,
  IrqInfoRequest,
  type MessageCodecs,
  type Messages,
  messages,
  RegionInfoRequest,
  RegionIoFdsRequest,
  RegionReadRequest,
  RegionWriteMultiRequest,
  RegionWriteRequest,
  SetIrqsRequest,
} from "../../lib/wire/mod.ts";
import type { Random } from "../../lib/base/random.ts";
import { ProtocolError } from "../../lib/base/errors.ts";

/** A message as it is sent. */
export interface Mutant {
  readonly bytes: Uint8Array;
  /** The number of descriptors that go with it. */
  readonly fdCount: number;
  /** True if the descriptors that belong there are memory, and not eventfds. */
  readonly isMemory: boolean;
  /** True if the bytes after it can't be cut into messages: the server must end the connection. */
  readonly isFatal: boolean;
}

/** Makes a right payload. */
interface Template {
  make(random: Random): Uint8Array;
  /** Descriptors that go with it; default none. */
  readonly fds?: number;
}

/** A limit is where mistakes are: these stand in for fields. */
const EDGES = [
  ...[0n, 1n, 2n, 3n, 4n, 7n, 8n, 15n, 16n, 0x20n, 0x24n, 0x40n, 0x1000n, 0x1001n, 0xffffn],
  ...[0x10000n, 0xf_ffffn, 0x10_0000n, 0x10_0001n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn],
  ...[0x1_0000_0000n, 0x7fff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n, 0xffff_ffff_ffff_ffffn],
];

/** The address from which memory is mapped; a few places, so that maps meet. */
const IOVA = 0x100000n;

const iova = (random: Random) => IOVA + BigInt(random.below(8) * 0x1000);
const region = (random: Random) => random.pick([0, 0, 2, 4, 7, 7, 1, 8, 9]);
const offset = (random: Random) => BigInt(random.below(0x70) * random.pick([1, 4, 4, 64]));
const data = (random: Random) =>
  Uint8Array.from({ length: random.pick([1, 2, 4, 4, 4, 8, 60]) }, () => random.below(256));

/** Right requests of messages. For another message the table of messages makes one. */
const BY_NAME: Readonly<Partial<Record<keyof Messages | DroppedCommand, readonly Template[]>>> = {
  VERSION: [{ make: () => encodeVersion({ major: 0, minor: 2, capabilities: {} }) }],
  DMA_MAP: [
    {
      make: (random) =>
        DmaMapRequest.encode({
          argsz: 32,
          flags: random.below(4),
          offset: BigInt(random.below(3) * 0x1000),
          address: iova(random),
          size: BigInt((1 + random.below(3)) * 0x1000),
        }),
      fds: 1,
    },
    {
      make: (random) =>
        DmaMapRequest.encode({
          argsz: 32,
          flags: 3,
          offset: 0n,
          address: iova(random),
          size: 0x1000n,
        }),
    },
  ],
  DMA_UNMAP: [
    {
      make: (random) =>
        DmaUnmapRequest.encode({ argsz: 24, flags: 0, address: iova(random), size: 0x1000n }),
    },
    { make: () => DmaUnmapRequest.encode({ argsz: 24, flags: 2, address: 0n, size: 0n }) },
  ],
  DEVICE_GET_INFO: [{ make: () => DeviceInfoRequest.encode({ argsz: 16 }) }],
  DEVICE_GET_REGION_INFO: [{
    make: (random) =>
      RegionInfoRequest.encode({ argsz: random.pick([32, 4096]), index: region(random) }),
  }],
  DEVICE_GET_REGION_IO_FDS: [{
    make: (random) =>
      RegionIoFdsRequest.encode({ argsz: 4096, flags: 0, index: region(random), count: 0 }),
  }],
  DEVICE_GET_IRQ_INFO: [{
    make: (random) => IrqInfoRequest.encode({ argsz: 16, index: random.below(6) }),
  }],
  DEVICE_SET_IRQS: [
    {
      make: (random) =>
        SetIrqsRequest.encode({
          argsz: 20,
          flags: 0x24,
          index: random.pick([0, 2]),
          start: random.below(3),
          count: 1,
          data: new Uint8Array(),
        }),
      fds: 1,
    },
    {
      make: (random) =>
        SetIrqsRequest.encode({
          argsz: 20,
          flags: random.pick([1, 2]) | random.pick([8, 16, 32]),
          index: random.below(5),
          start: 0,
          count: random.below(5),
          data: new Uint8Array(random.below(5)),
        }),
    },
  ],
  REGION_READ: [{
    make: (random) =>
      RegionReadRequest.encode({
        offset: offset(random),
        region: region(random),
        count: random.pick([1, 2, 4, 4, 4, 8, 256, 4096]),
      }),
  }],
  REGION_WRITE: [
    {
      make: (random) =>
        RegionWriteRequest.encode({
          offset: offset(random),
          region: region(random),
          data: data(random),
        }),
    },
    // The copy engine of the demo device: COMMAND, source, destination, length, start.
    ...[
      [7, 4, 6],
      [0, 0x40, 0x100000],
      [0, 0x48, 0x101000],
      [0, 0x50, 0x800],
      [0, 0x54, 0x101],
    ].map(([index, at, value]): Template => ({
      make: () =>
        RegionWriteRequest.encode({
          offset: BigInt(at!),
          region: index!,
          data: new Uint8Array(new Uint32Array([value!]).buffer),
        }),
    })),
  ],
  DMA_READ: [{ make: () => new Uint8Array(16) }],
  DMA_WRITE: [{ make: () => new Uint8Array(20) }],
  DEVICE_RESET: [{ make: () => new Uint8Array() }],
  DIRTY_PAGES: [{ make: () => new Uint8Array(8) }],
  REGION_WRITE_MULTI: [{
    make(random) {
      const writes = Array.from({ length: random.below(5) }, () => ({
        offset: offset(random),
        region: region(random),
        data: data(random).subarray(0, 8),
      }));
      return RegionWriteMultiRequest.encode({ writes });
    },
  }],
  DEVICE_FEATURE: [{
    make: (random) =>
      DeviceFeatureRequest.encode({
        argsz: 64,
        flags: random.pick([1, 2, 6, 7, 8]) |
          random.pick([0x10000, 0x20000, 0x40000, 0x60000]),
        data: data(random),
      }),
  }],
  MIG_DATA_READ: [{ make: () => new Uint8Array(new Uint32Array([8, 4096]).buffer) }],
  MIG_DATA_WRITE: [{ make: () => new Uint8Array([12, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4]) }],
};

/** The shortest request that a codec takes for right, all zeros; else bytes of any kind. */
function anyRequest({ request }: MessageCodecs<unknown, unknown>): Template {
  for (let size = 0; size <= MAX_ZEROS; size++) {
    try {
      request.decode(new Uint8Array(size));
      return { make: () => new Uint8Array(size) };
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
    }
  }
  return { make: data };
}

/** No fixed part of a request is longer. */
const MAX_ZEROS = 256;

/** The same with their numbers, those of all other messages, and an unknown command. */
const TEMPLATES: readonly (readonly [command: number, template: Template])[] = [
  ...Object.entries(BY_NAME).flatMap(([name, templates]) =>
    templates.map((each) => [Command[name as CommandName], each] as const)
  ),
  ...Object.values<MessageCodecs<unknown, unknown>>({ ...messages })
    .filter(({ name }) => !Object.hasOwn(BY_NAME, name))
    .map((each) => [each.command, anyRequest(each)] as const),
  [99, { make: data }],
];

/** A message that was right, and mostly is not any more. */
export function mutant(random: Random): Mutant {
  const [command, { make, fds: usualFds = 0 }] = random.pick(TEMPLATES);
  const payload = mutatePayload(random, make(random));
  const flags = random.oneIn(6) ? 0x10 : 0;
  const bytes = encodeMessage({ messageId: random.below(0x10000), command, flags }, payload);
  const isFatal = random.oneIn(500) && breakHeader(random, bytes);
  const fdCount = random.oneIn(12) ? random.below(random.oneIn(50) ? 40 : 5) : usualFds;
  return { bytes, fdCount, isFatal, isMemory: command === Command.DMA_MAP };
}

function mutatePayload(random: Random, payload: Uint8Array): Uint8Array {
  if (random.oneIn(3)) return payload;
  const bytes = payload.slice();
  const view = new DataView(bytes.buffer);
  for (let i = random.below(3); i >= 0 && bytes.length >= 8; i--) {
    const edge = random.pick(EDGES) + BigInt(random.below(3) - 1);
    if (random.oneIn(3)) bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
    else if (random.oneIn(2)) {
      view.setUint32(random.below(bytes.length >> 2) * 4, Number(edge & 0xffff_ffffn), true);
    } else view.setBigUint64(random.below(bytes.length >> 3) * 8, BigInt.asUintN(64, edge), true);
  }
  if (random.oneIn(8)) return bytes.subarray(0, random.below(bytes.length + 1));
  if (!random.oneIn(8)) return bytes;
  const longer = new Uint8Array(bytes.length + random.below(random.oneIn(10) ? 70_000 : 70));
  longer.set(bytes);
  return longer;
}

/** Makes the header one that no server can go on after; a type that nothing has, or a size. */
function breakHeader(random: Random, bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer);
  if (random.oneIn(2)) view.setUint32(8, 2 + random.below(14), true);
  else view.setUint32(4, random.pick([0, 1, 15, 0x7fff_ffff, 0xffff_ffff]), true);
  return true;
}

/** A VERSION that is right, or not quite. */
export function greeting(random: Random): Uint8Array {
  const capabilities = {
    maxMsgFds: random.pick([0, 1, 8, 16]),
    maxDataXferSize: random.pick([1, 4096, 1 << 20]),
    writeMultiple: random.oneIn(2),
    ...(random.oneIn(4) && { twinSocket: { supported: true } }),
  };
  const payload = encodeVersion({ major: 0, minor: random.below(3), capabilities });
  const isOdd = random.oneIn(12);
  return encodeMessage(
    { messageId: 1, command: Command.VERSION },
    isOdd ? mutatePayload(random, payload) : payload,
  );
}
