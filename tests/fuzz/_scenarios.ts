/**
 * Scenarios of a hostile client with an order of its own, and what the server still owes then.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { EINVAL } from "../../ffi/errno.ts";
import { DemoRegister } from "../../lib/devices/demo.ts";
import {
  Command,
  DeviceFeatureRequest,
  DeviceState,
  DeviceStateData,
  DmaMapRequest,
  DmaUnmapRequest,
  encodeMessage,
  encodeVersion,
  Feature,
  FeatureFlags,
  HeaderLayout,
  IrqSetFlags,
  MessageFlags,
  RegionIoFdsRequest,
  RegionReadRequest,
  RegionWriteRequest,
  SetIrqsRequest,
} from "../../lib/wire/mod.ts";
import type { Descriptors } from "./_descriptors.ts";
import { join, type Line } from "./_line.ts";
import type { Random } from "../../lib/base/random.ts";

/** The means of a scenario. */
export interface Stage {
  readonly line: Line;
  readonly random: Random;
  readonly descriptors: Descriptors;
}

const { NO_REPLY, REPLY, ERROR } = MessageFlags;
const { DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = IrqSetFlags;
const MSIX = 2;

/** Agrees on a version, and has a device go on that a client before has stopped. */
export const GREETING: Uint8Array = join(
  encodeMessage(
    { messageId: 1, command: Command.VERSION },
    encodeVersion({ major: 0, minor: 2, capabilities: { maxMsgFds: 16 } }),
  ),
  encodeMessage(
    { messageId: 2, command: Command.DEVICE_FEATURE },
    DeviceFeatureRequest.encode({
      argsz: 16,
      flags: FeatureFlags.SET | Feature.MIG_DEVICE_STATE,
      data: DeviceStateData.encode({ state: DeviceState.RUNNING, dataFd: 0 }),
    }),
  ),
  encodeMessage({ messageId: 3, command: Command.DEVICE_RESET }),
);

/**
 * Sends requests and a broken message in one segment: the requests are answered in their order,
 * posted writes are done, and then the connection ends.
 */
async function aheadOfBroken({ line, random, descriptors }: Stage): Promise<void> {
  line.read();
  await line.send(GREETING);
  for (const id of [1, 2, 3]) assertEquals((await line.next())?.messageId, id);
  const values = Array.from({ length: 1 + random.below(20) }, () => random.below(2 ** 31));
  const ahead = values.flatMap((value, i) => [
    write(DemoRegister.SCRATCH, value, { messageId: 100 + i, flags: NO_REPLY }),
    readScratch(200 + i),
  ]);
  const { bytes, fds, isAnswered } = broken(random, descriptors);
  await line.send(join(...ahead, bytes), fds);
  for (const [i, value] of values.entries()) {
    const answer = await line.next();
    assertEquals([answer?.messageId, answer?.flags], [200 + i, REPLY]);
    assertEquals(new DataView(answer!.payload.slice().buffer).getUint32(16, true), value);
  }
  if (isAnswered) {
    const { messageId, flags, error } = (await line.next())!;
    assertEquals([messageId, flags, error], [9999, REPLY | ERROR, EINVAL]);
  }
  assertEquals(await line.next(), undefined);
}

/** A message that can't be delimited, or has no place; and whether the server answers it. */
function broken(
  random: Random,
  descriptors: Descriptors,
): { bytes: Uint8Array; fds: number[]; isAnswered: boolean } {
  const header = { messageId: 9999, command: random.below(20), size: 16, flags: 0, error: 0 };
  const fds = Array.from({ length: random.below(4) }, () => random.pick(descriptors.all));
  switch (random.below(3)) {
    case 0: {
      const size = random.pick([0, 1, 15, 0x11_1111 + random.below(100), 0x7fff_ffff, 0xffff_ffff]);
      return { bytes: HeaderLayout.encode({ ...header, size }), fds, isAnswered: true };
    }
    case 1: {
      const flags = 2 + random.below(14);
      return { bytes: HeaderLayout.encode({ ...header, flags }), fds, isAnswered: true };
    }
    default:
      return { bytes: HeaderLayout.encode({ ...header, flags: REPLY }), fds, isAnswered: false };
  }
}

/** Toggles O_NONBLOCK of shared eventfds, fills and empties them, while the server uses them. */
async function toggled({ line, random, descriptors }: Stage): Promise<void> {
  line.read();
  await line.send(GREETING);
  await line.send(encodeMessage(
    { messageId: 4, command: Command.DEVICE_GET_REGION_IO_FDS },
    RegionIoFdsRequest.encode({ argsz: 4096, flags: 0, index: 0, count: 0 }),
  ));
  for (let i = 0; i < 4; i++) await line.next();
  const shared = [...descriptors.events, ...line.fds.map((fd) => fd.fd)];
  for (const action of [ACTION_TRIGGER, ACTION_MASK, ACTION_UNMASK]) {
    for (let vector = 0; vector < 4; vector++) {
      const fd = random.pick(descriptors.events);
      await line.send(setIrqs(DATA_EVENTFD | action, vector), [fd]);
    }
  }
  for (let round = 0; round < 200; round++) {
    const fd = random.pick(shared);
    const acts = [
      () => descriptors.toggle(fd),
      () => descriptors.fill(fd),
      () => descriptors.empty(fd),
      () => descriptors.signal(fd),
    ];
    random.pick(acts)();
    if (!random.oneIn(3)) continue;
    await line.send(
      write(DemoRegister.TRIGGER, random.below(4), { messageId: 5, flags: NO_REPLY }),
    );
  }
  await line.settle();
}

/** Maps files of all sizes, most of them empty; unmaps ranges that cover many or cut some. */
async function hugeMaps({ line, random, descriptors }: Stage): Promise<void> {
  await line.send(GREETING);
  for (let i = 0; i < 60; i++) {
    const size = 2n ** BigInt(12 + random.below(33)) * BigInt(1 + random.below(2));
    const address = BigInt(random.below(64)) * size;
    if (random.oneIn(3)) await line.send(unmap(address, size));
    else {
      const offset = random.oneIn(2) ? 0n : BigInt(random.below(4)) * 0x1000n;
      const belonging = random.oneIn(2) ? descriptors.sparse : descriptors.files;
      const payload = DmaMapRequest.encode({
        argsz: 32,
        flags: 1 + random.below(3),
        offset,
        address,
        size,
      });
      const fds = random.oneIn(4) ? [] : [descriptors.pick(random, belonging)];
      await line.send(encodeMessage({ messageId: 6, command: Command.DMA_MAP }, payload), fds);
    }
    // The device reads and writes what is there.
    if (random.oneIn(4)) await copy(line, random);
  }
  await line.send(unmap(0n, 2n ** 62n));
  await line.settle();
}

async function copy(line: Line, random: Random): Promise<void> {
  const posted = { messageId: 7, flags: NO_REPLY };
  const address = () => random.below(64) * 2 ** (12 + random.below(12));
  await line.send(join(
    encodeMessage(
      { messageId: 7, command: Command.REGION_WRITE, flags: NO_REPLY },
      RegionWriteRequest.encode({ region: 7, offset: 4n, data: new Uint8Array([6, 0]) }),
    ),
    write(DemoRegister.DMA_SRC_LO, address() % 2 ** 32, posted),
    write(DemoRegister.DMA_DST_LO, address() % 2 ** 32, posted),
    write(DemoRegister.DMA_LENGTH, random.pick([1, 4, 0x1000, 0x10_0000]), posted),
    write(DemoRegister.DMA_CONTROL, 1, posted),
  ));
}

/** Its own socket, and every other thing, in the place of interrupts and memory; then it leaves. */
async function anythingAnywhere({ line, random, descriptors }: Stage): Promise<void> {
  await line.send(GREETING);
  const things = [...descriptors.all, line.fd, line.fd, line.fd];
  for (let i = 0; i < 100; i++) {
    const action = random.pick([ACTION_TRIGGER, ACTION_MASK, ACTION_UNMASK]);
    const payload = DmaMapRequest.encode({
      argsz: 32,
      flags: 3,
      offset: 0n,
      address: BigInt(i) << 20n,
      size: 0x1000n,
    });
    const message = random.oneIn(3)
      ? encodeMessage({ messageId: 6, command: Command.DMA_MAP }, payload)
      : random.oneIn(5)
      ? readScratch(8)
      : setIrqs(DATA_EVENTFD | action, random.below(4), random.pick([0, MSIX, MSIX]));
    if (!await line.send(message, [random.pick(things)])) return;
    if (random.oneIn(4)) {
      const trigger = { messageId: 5, flags: NO_REPLY };
      await line.send(write(DemoRegister.TRIGGER, random.below(4), trigger));
    }
  }
  if (!random.oneIn(3)) await line.settle();
}

/** All scenarios. */
export const SCENARIOS: readonly ((stage: Stage) => Promise<void>)[] = [
  aheadOfBroken,
  toggled,
  hugeMaps,
  anythingAnywhere,
];

function write(
  register: number,
  value: number,
  header: { messageId: number; flags?: number },
): Uint8Array {
  const data = new Uint8Array(new Uint32Array([value]).buffer);
  const payload = RegionWriteRequest.encode({ region: 0, offset: BigInt(register), data });
  return encodeMessage({ ...header, command: Command.REGION_WRITE }, payload);
}

function readScratch(messageId: number): Uint8Array {
  const offset = BigInt(DemoRegister.SCRATCH);
  const payload = RegionReadRequest.encode({ region: 0, offset, count: 4 });
  return encodeMessage({ messageId, command: Command.REGION_READ }, payload);
}

function setIrqs(flags: number, start: number, index: number = MSIX): Uint8Array {
  const data = new Uint8Array();
  const payload = SetIrqsRequest.encode({ argsz: 20, flags, index, start, count: 1, data });
  return encodeMessage({ messageId: 4, command: Command.DEVICE_SET_IRQS }, payload);
}

function unmap(address: bigint, size: bigint): Uint8Array {
  const payload = DmaUnmapRequest.encode({ argsz: 24, flags: 0, address, size });
  return encodeMessage({ messageId: 6, command: Command.DMA_UNMAP }, payload);
}
