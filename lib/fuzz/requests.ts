/**
 * Right requests of a client, made for the state that its connection is believed to be in.
 *
 * @module
 */

import { DecodeError } from "../base/errors.ts";
import { Command } from "../wire/command.ts";
import { DmaMapRequest, DmaUnmapRequest } from "../wire/dma.ts";
import {
  DeviceFeatureRequest,
  DeviceState,
  DeviceStateData,
  DmaLoggingReportData,
  DmaLoggingStartData,
  Feature,
  FeatureFlags,
} from "../wire/feature.ts";
import { DeviceInfoRequest } from "../wire/device.ts";
import { RegionIoFdsRequest } from "../wire/io_fds.ts";
import { IrqInfoRequest, IrqSetFlags, SetIrqsRequest } from "../wire/irq.ts";
import { type MessageCodecs, type Messages, messages } from "../wire/messages.ts";
import { MigDataReadRequest, MigDataWriteRequest } from "../wire/migration.ts";
import { RegionReadRequest, RegionWriteMultiRequest, RegionWriteRequest } from "../wire/access.ts";
import { RegionInfoRequest } from "../wire/region.ts";
import { type DescriptorName, MEMORY_SIZE } from "./descriptors.ts";
import { rightVersion } from "./versions.ts";
import type { World } from "./world.ts";

/** A request before it has a header. */
export interface Draft {
  readonly command: number;
  readonly payload: Uint8Array;
  readonly fds: readonly DescriptorName[];
}

/** The payload of a right request, and the descriptors that belong to it. */
interface Made {
  readonly payload: Uint8Array;
  readonly fds?: readonly DescriptorName[];
}

/** A way to make a request, and how often it is chosen beside the others of all messages. */
interface Template {
  readonly weight: number;
  make(world: World): Made;
}

const NOTHING: Uint8Array = new Uint8Array();
const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } =
  IrqSetFlags;
const PCI_CONFIG = 7;
/** PCI's command register, with memory, I/O and bus mastering switched on. */
const COMMAND_REGISTER = 4n;
const ALL_ON = Uint8Array.of(7, 0);
const FIRST_BAR = 0x10;

/**
 * The requests. A message without an entry gets the shortest payload that its codec takes; so does
 * one that is added to the table of messages.
 */
const REQUESTS: Readonly<Partial<Record<keyof Messages, readonly Template[]>>> = {
  VERSION: [{ weight: 1, make: ({ facts }) => ({ payload: rightVersion(facts) }) }],
  DMA_MAP: [{ weight: 6, make: mapShared }, { weight: 3, make: mapUnshared }],
  DMA_UNMAP: [{ weight: 6, make: unmapOne }, {
    weight: 1,
    make(world) {
      world.maps.length = 0;
      return { payload: DmaUnmapRequest.encode({ argsz: 24, flags: 2, address: 0n, size: 0n }) };
    },
  }],
  DEVICE_GET_INFO: [{
    weight: 2,
    make: () => ({ payload: DeviceInfoRequest.encode({ argsz: 16 }) }),
  }],
  DEVICE_GET_REGION_INFO: [{
    weight: 4,
    make: (world) => ({
      payload: RegionInfoRequest.encode({
        argsz: world.random.pick([32, 32, 64, 4096]),
        index: world.region().index,
      }),
    }),
  }],
  DEVICE_GET_REGION_IO_FDS: [{
    weight: 4,
    make: (world) => ({
      payload: RegionIoFdsRequest.encode({
        argsz: world.random.pick([16, 4096]),
        flags: 0,
        index: world.region().index,
        count: 0,
      }),
    }),
  }],
  DEVICE_GET_IRQ_INFO: [{
    weight: 2,
    make: (world) => ({ payload: IrqInfoRequest.encode({ argsz: 16, index: world.irq().index }) }),
  }],
  DEVICE_SET_IRQS: [
    { weight: 6, make: (world) => setIrqs(world, DATA_EVENTFD, ACTION_TRIGGER) },
    {
      weight: 4,
      make: (world) => setIrqs(world, DATA_NONE, anyAction(world)),
    },
    { weight: 4, make: (world) => setIrqs(world, DATA_BOOL, anyAction(world)) },
    { weight: 2, make: (world) => setIrqs(world, DATA_EVENTFD, anyAction(world)) },
    {
      weight: 1,
      make: (world) => ({
        payload: SetIrqsRequest.encode({
          argsz: 20,
          flags: DATA_NONE | ACTION_TRIGGER,
          index: world.irq().index,
          start: 0,
          count: 0,
          data: NOTHING,
        }),
      }),
    },
  ],
  REGION_READ: [{
    weight: 12,
    make(world) {
      const region = world.region();
      const count = countIn(world, Number(region.size < 0x1_0000n ? region.size : 0x1_0000n));
      const offset = world.offset(region, count);
      return { payload: RegionReadRequest.encode({ offset, region: region.index, count }) };
    },
  }],
  REGION_WRITE: [
    {
      weight: 12,
      make(world) {
        const region = world.region();
        const count = countIn(world, Number(region.size < 0x1000n ? region.size : 0x1000n));
        const offset = world.offset(region, count);
        const data = dataOf(world, count);
        return { payload: RegionWriteRequest.encode({ offset, region: region.index, data }) };
      },
    },
    // A device whose BARs have no addresses, or that is switched off, refuses the rest.
    { weight: 1, make: () => configWrite(COMMAND_REGISTER, ALL_ON) },
    {
      weight: 2,
      make(world) {
        const bar = world.random.below(6);
        const address = Uint8Array.of(0, 0, 0, 0x80 + 4 * bar);
        return configWrite(BigInt(FIRST_BAR + 4 * bar), address);
      },
    },
  ],
  DEVICE_RESET: [{ weight: 1, make: resetDevice }],
  REGION_WRITE_MULTI: [{
    weight: 4,
    make(world) {
      const writes = Array.from({ length: world.random.below(5) }, () => {
        const region = world.region();
        const data = dataOf(world, 1 + world.random.below(8));
        return { offset: world.offset(region, data.length), region: region.index, data };
      });
      return { payload: RegionWriteMultiRequest.encode({ writes }) };
    },
  }],
  DEVICE_FEATURE: [
    { weight: 3, make: setState },
    { weight: 1, make: () => feature(FeatureFlags.GET | Feature.MIGRATION, NOTHING, 16) },
    { weight: 1, make: () => feature(FeatureFlags.GET | Feature.MIG_DEVICE_STATE, NOTHING, 16) },
    {
      weight: 1,
      make: ({ random }) => feature(FeatureFlags.PROBE | random.pick(Object.values(Feature))),
    },
    {
      weight: 2,
      make(world) {
        const ranges = world.maps.slice(0, 4).map(({ address, size }) => ({
          iova: address,
          length: size,
        }));
        const data = DmaLoggingStartData.encode({ pageSize: 4096n, ranges });
        return feature(FeatureFlags.SET | Feature.DMA_LOGGING_START, data);
      },
    },
    { weight: 1, make: () => feature(FeatureFlags.SET | Feature.DMA_LOGGING_STOP) },
    {
      weight: 2,
      make(world) {
        const { address, size } = world.someMap() ?? { address: 0n, size: 0x1000n };
        const report = { iova: address, length: size, pageSize: 4096n, bitmap: NOTHING };
        const data = DmaLoggingReportData.encode(report);
        return feature(FeatureFlags.GET | Feature.DMA_LOGGING_REPORT, data, 4096);
      },
    },
  ],
  MIG_DATA_READ: [{
    weight: 2,
    make({ random }) {
      const size = random.pick([8, 4096, 65536]);
      return { payload: MigDataReadRequest.encode({ argsz: 8 + size, size }) };
    },
  }],
  MIG_DATA_WRITE: [{
    weight: 2,
    make(world) {
      const data = dataOf(world, world.random.pick([1, 8, 64, 1024]));
      return { payload: MigDataWriteRequest.encode({ argsz: 8 + data.length, data }) };
    },
  }],
};

/** No fixed part of a request is longer. */
const MAX_ZEROS = 256;

/** The shortest request of zeros that a codec takes. */
function anyRequest({ request }: MessageCodecs<unknown, unknown>): Template {
  let payload = NOTHING;
  for (let size = 0; size <= MAX_ZEROS; size++) {
    try {
      request.decode(new Uint8Array(size));
      payload = new Uint8Array(size);
      break;
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
    }
  }
  return { weight: 1, make: () => ({ payload }) };
}

/** Each template as often as it weighs, with the number of its command. */
const CHOICES: readonly (readonly [command: number, template: Template])[] = Object
  .values<MessageCodecs<unknown, unknown>>({ ...messages })
  .flatMap((each) =>
    (REQUESTS[each.name as keyof Messages] ?? [anyRequest(each)]).flatMap((template) =>
      Array.from({ length: template.weight }, () => [each.command, template] as const)
    )
  );

/** Makes a right request. */
export function rightRequest(world: World): Draft {
  // A stopped device refuses nearly all: it goes on soon.
  if (world.state !== DeviceState.RUNNING && world.random.oneIn(6)) {
    return draft(Command.DEVICE_FEATURE, moveTo(world, DeviceState.RUNNING));
  }
  const [command, template] = world.random.pick(CHOICES);
  return draft(command, template.make(world));
}

/** Requests that switch a PCI device on, and have it run: most begin with these. */
export function preparation(world: World): readonly Draft[] {
  const bars = [0, 1, 2, 3, 4, 5].map((bar) =>
    configWrite(BigInt(FIRST_BAR + 4 * bar), Uint8Array.of(0, 0, 0, 0x80 + 4 * bar))
  );
  const pci = world.facts.isPci ? [...bars, configWrite(COMMAND_REGISTER, ALL_ON)] : [];
  const state = world.facts.migration === undefined
    ? []
    : [draft(Command.DEVICE_FEATURE, moveTo(world, DeviceState.RUNNING))];
  return [...state, ...pci.map((made) => draft(Command.REGION_WRITE, made))];
}

/** The request that opens a connection. */
export function greeting({ facts }: World): Draft {
  return draft(Command.VERSION, { payload: rightVersion(facts) });
}

function draft(command: number, { payload, fds = [] }: Made): Draft {
  return { command, payload, fds };
}

function mapShared(world: World): Made {
  const pages = 1 + world.random.below(16);
  const map = { address: world.freeAddress(), size: BigInt(pages * 0x1000) };
  world.map(map);
  const room = MEMORY_SIZE / 0x1000 - pages;
  const offset = world.random.oneIn(2) ? 0n : BigInt(world.random.below(room + 1) * 0x1000);
  return { payload: mapRequest(map, offset, 1 + world.random.below(3)), fds: ["memory"] };
}

function mapUnshared(world: World): Made {
  const size = BigInt((1 + world.random.below(16)) * 0x1000);
  const map = { address: world.freeAddress(), size };
  world.map(map);
  return { payload: mapRequest(map, 0n, 3) };
}

function mapRequest(
  { address, size }: { address: bigint; size: bigint },
  offset: bigint,
  flags: number,
): Uint8Array {
  return DmaMapRequest.encode({ argsz: 32, flags, offset, address, size });
}

function unmapOne(world: World): Made {
  const map = world.someMap();
  if (map !== undefined) world.unmap(map);
  const { address, size } = map ?? { address: world.freeAddress(), size: 0x1000n };
  return { payload: DmaUnmapRequest.encode({ argsz: 24, flags: 0, address, size }) };
}

function anyAction({ random }: World): number {
  return random.pick([ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER]);
}

function setIrqs(world: World, kind: number, action: number): Made {
  const irq = world.irq();
  const most = Math.min(irq.count, 8);
  const count = 1 + world.random.below(most);
  const start = world.random.below(Math.max(1, Math.min(irq.count, 2048) - count + 1));
  const data = kind === DATA_BOOL ? world.random.bytes(count).map((byte) => byte & 1) : NOTHING;
  const payload = SetIrqsRequest.encode({
    argsz: 20 + data.length,
    flags: kind | action,
    index: irq.index,
    start,
    count,
    data,
  });
  if (kind !== DATA_EVENTFD || world.random.oneIn(8)) return { payload }; // none: they are disabled
  return { payload, fds: Array.from({ length: count }, () => "eventfd") };
}

function countIn({ random }: World, most: number): number {
  const count = random.pick([1, 2, 4, 4, 4, 4, 8, 8, 64, 256, 4096]);
  return Math.min(count, most);
}

/** Data of a write; mostly short. */
function dataOf({ random }: World, count: number): Uint8Array {
  const data = new Uint8Array(count);
  if (random.oneIn(3)) return data;
  const some = Math.min(count, 16);
  for (let i = 0; i < some; i++) data[i] = random.below(256);
  return data;
}

function configWrite(offset: bigint, data: Uint8Array): Made {
  return { payload: RegionWriteRequest.encode({ offset, region: PCI_CONFIG, data }) };
}

function resetDevice(world: World): Made {
  world.state = DeviceState.RUNNING;
  return { payload: NOTHING };
}

function feature(flags: number, data = NOTHING, argsz = 8 + data.length): Made {
  return { payload: DeviceFeatureRequest.encode({ argsz, flags, data }) };
}

/** States that a client asks for. */
const STATES = [
  DeviceState.STOP,
  DeviceState.RUNNING,
  DeviceState.RUNNING,
  DeviceState.STOP_COPY,
  DeviceState.RESUMING,
  DeviceState.PRE_COPY,
];

function setState(world: World): Made {
  return moveTo(world, world.random.pick(STATES));
}

function moveTo(world: World, state: number): Made {
  world.state = state;
  const data = DeviceStateData.encode({ state, dataFd: 0 });
  return feature(FeatureFlags.SET | Feature.MIG_DEVICE_STATE, data);
}
