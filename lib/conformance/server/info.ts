/** Checks of the device's facts: regions, interrupts, and itself. @module */

import { RegionCapabilityId, RegionFlags } from "../../wire/region.ts";
import { type CheckGroup, group } from "../check.ts";
import type { FoundRegion } from "../facts.ts";
import { sameBytes } from "../../base/bytes.ts";
import { u32At, u64At } from "../pack.ts";
import { deviceInfo, irqInfo, OUR_CAPABILITIES, regionInfo } from "../requests.ts";
import type { Trial } from "../trial.ts";

const DEVICE = "VFIO_USER_DEVICE_GET_INFO";
const REGION = "VFIO_USER_DEVICE_GET_REGION_INFO";
const IRQ = "VFIO_USER_DEVICE_GET_IRQ_INFO";
const VERSION = "VFIO_USER_VERSION";
/** The size of a region's struct, where capabilities begin. */
const HEAD = 32;
/** Bytes of an answer for which room is made at most. */
const MAX_ARGSZ = 1 << 16;
/** Capabilities of one region that are followed. */
const MAX_CHAIN = 64;

/** Regions of which facts came. */
function regions(t: Trial): FoundRegion[] {
  return t.facts.regions.filter((region) => region !== undefined);
}

function needIrqs(t: Trial): void {
  t.need(t.facts.numIrqs > 0, "the device has no interrupts");
}

/** Regions with capabilities. */
function withCapabilities(t: Trial): FoundRegion[] {
  const found = regions(t).filter(({ flags }) => (flags & RegionFlags.CAPS) !== 0);
  t.need(found.length > 0, "no region has capabilities");
  return found;
}

/** A capability of a region. */
interface Found {
  readonly at: number;
  readonly id: number;
  readonly next: number;
}

/** The chain of a region's capabilities, as far as it can be followed. */
function chain({ info }: FoundRegion): Found[] {
  const found: Found[] = [];
  for (let at = u32At(info, 12); at !== 0 && found.length < MAX_CHAIN;) {
    const next = u32At(info, at + 4);
    found.push({ at, id: u32At(info, at) & 0xffff, next });
    if (at + 8 > info.length) break;
    at = next;
  }
  return found;
}

/** Areas of the sparse capability of a region. */
function areas(region: FoundRegion): { offset: bigint; size: bigint }[] {
  const sparse = chain(region).find(({ id }) => id === RegionCapabilityId.SPARSE_MMAP);
  if (sparse === undefined) return [];
  const count = Math.min(u32At(region.info, sparse.at + 8), 1000);
  return Array.from({ length: count }, (_, i) => ({
    offset: u64At(region.info, sparse.at + 16 + i * 16),
    size: u64At(region.info, sparse.at + 24 + i * 16),
  }));
}

function sparse(t: Trial): FoundRegion[] {
  const found = withCapabilities(t).filter((region) => areas(region).length > 0);
  t.need(found.length > 0, "no region has areas of its own to map");
  return found;
}

/** The checks of facts. */
export const info: CheckGroup = group("info", "Device, regions, interrupts", [
  [1, "MUST", DEVICE, "The reply has 16 bytes of payload.", async (t) => {
    const reply = await t.accepts(deviceInfo());
    t.expect(reply.payload.length >= 16, "16 bytes", `${reply.payload.length}: ${reply.text}`);
  }],
  [2, "MUST", DEVICE, "argsz of the reply is that of the whole answer.", async (t) => {
    const reply = await t.accepts(deviceInfo());
    const argsz = u32At(reply.payload, 0);
    t.expect(argsz >= 16, "argsz of 16 or more", `argsz ${argsz}`);
  }],
  [3, "MUST", DEVICE, "An argsz that has no room for the answer is refused.", async (t) => {
    await t.refuses(deviceInfo(15));
    await t.inStep();
  }],
  [4, "MUST", DEVICE, "An argsz with more room than needed is legal.", async (t) => {
    await t.accepts(deviceInfo(4096));
  }],
  [5, "MUST", DEVICE, "Asked again, the answer is the same.", async (t) => {
    const [a, b] = [await t.accepts(deviceInfo()), await t.accepts(deviceInfo())];
    t.expect(sameBytes(a.payload, b.payload), "the same answer", b);
  }],
  [6, "SHOULD", DEVICE, "A device has at least one region.", async (t) => {
    const reply = await t.accepts(deviceInfo());
    t.expect(u32At(reply.payload, 8) > 0, "a region", reply);
  }],
  [7, "MUST", DEVICE, "A PCI device has the regions up to configuration space.", async (t) => {
    t.need(t.facts.isPci, "the device is no PCI device");
    const reply = await t.accepts(deviceInfo());
    t.expect(u32At(reply.payload, 8) >= 8, "8 regions or more", reply);
  }],
  [8, "MUST", DEVICE, "A PCI device has the interrupts up to MSI-X.", async (t) => {
    t.need(t.facts.isPci, "the device is no PCI device");
    const reply = await t.accepts(deviceInfo());
    t.expect(u32At(reply.payload, 12) >= 3, "3 IRQ indexes or more", reply);
  }],
  [9, "MUST", REGION, "Each index below the number of regions is answered.", async (t) => {
    for (let i = 0; i < Math.min(t.facts.numRegions, 64); i++) await t.accepts(regionInfo(i));
  }],
  [10, "MUST", REGION, "The index of the reply is that of the request.", async (t) => {
    for (const { index } of regions(t)) {
      const reply = await t.accepts(regionInfo(index));
      t.expect(u32At(reply.payload, 8) === index, `index ${index}`, reply);
    }
  }],
  [11, "MUST", REGION, "The first index that does not exist is refused.", async (t) => {
    await t.refuses(regionInfo(t.facts.numRegions));
    await t.inStep();
  }],
  [12, "MUST", REGION, "The index 0xffffffff is refused.", async (t) => {
    await t.refuses(regionInfo(0xffff_ffff));
    await t.inStep();
  }],
  [13, "MUST", REGION, "An argsz below 32 is refused.", async (t) => {
    await t.refuses(regionInfo(0, 31));
    await t.inStep();
  }],
  [14, "MUST", REGION, "The payload is 32 bytes or more, and no more than argsz.", async (t) => {
    for (const { index } of regions(t)) {
      const { payload, text } = await t.accepts(regionInfo(index));
      const { length } = payload;
      t.expect(length === HEAD, "32 bytes for an argsz of 32", `${length} bytes: ${text}`);
    }
  }],
  [
    15,
    "MUST",
    REGION,
    "Capabilities that have no room are announced by a larger argsz.",
    async (t) => {
      for (const { index } of withCapabilities(t)) {
        const reply = await t.accepts(regionInfo(index));
        t.expect(u32At(reply.payload, 0) > HEAD, "an argsz above 32", reply);
      }
    },
  ],
  [16, "MUST", REGION, "Asked with the argsz that was named, all capabilities come.", async (t) => {
    for (const { index, argsz } of withCapabilities(t)) {
      const { payload, text } = await t.accepts(regionInfo(index, argsz));
      const isWhole = (u32At(payload, 4) & RegionFlags.CAPS) !== 0 && payload.length >= 40;
      t.expect(isWhole, "CAPS and capabilities", text);
    }
  }],
  [17, "MUST", REGION, "Asked with far more room, the answer is the same.", async (t) => {
    for (const { index, info } of regions(t)) {
      const { payload, text } = await t.accepts(regionInfo(index, 65536));
      t.expect(payload.length === info.length, `${info.length} bytes`, text);
    }
  }],
  [18, "MUST", REGION, "An argsz one byte too small brings no part of a capability.", async (t) => {
    for (const { index, argsz } of withCapabilities(t)) {
      const { payload, text } = await t.accepts(regionInfo(index, argsz - 1));
      t.expect((u32At(payload, 4) & RegionFlags.CAPS) === 0, "CAPS clear", text);
    }
  }],
  [
    19,
    "MUST",
    REGION,
    "Capabilities begin behind the struct and within the payload.",
    async (t) => {
      for (const region of withCapabilities(t)) {
        for (const { at } of chain(region)) {
          const isIn = at >= HEAD && at + 8 <= region.info.length;
          t.expect(isIn, `an offset of ${HEAD} to ${region.info.length - 8}`, `offset ${at}`);
        }
      }
      await Promise.resolve();
    },
  ],
  [20, "MUST", REGION, "The chain of capabilities has an end.", async (t) => {
    for (const region of withCapabilities(t)) {
      const { length } = chain(region);
      t.expect(length < MAX_CHAIN, "a capability whose next is 0", `${length} and more`);
    }
    await Promise.resolve();
  }],
  [21, "MUST", REGION, "A region that can't be mapped has no descriptor.", async (t) => {
    for (const { index, flags, argsz } of regions(t)) {
      if ((flags & RegionFlags.MMAP) !== 0) continue;
      const reply = await t.accepts(regionInfo(index, Math.max(HEAD, argsz)));
      t.expect(reply.fds.length === 0, "no descriptor", reply);
    }
  }],
  [22, "MUST", REGION, "A region that can be mapped comes with a descriptor.", async (t) => {
    const found = regions(t).filter(({ flags }) => (flags & RegionFlags.MMAP) !== 0);
    t.need(found.length > 0, "no region can be mapped");
    for (const { index, argsz } of found) {
      const reply = await t.accepts(regionInfo(index, Math.max(HEAD, argsz)));
      t.expect(reply.fds.length >= 1, "a descriptor", reply);
    }
  }],
  [23, "SHOULD", REGION, "The file of a region is as large as its areas need.", async (t) => {
    const found = regions(t).filter(({ flags, fds }) =>
      (flags & RegionFlags.MMAP) !== 0 && fds > 0
    );
    t.need(found.length > 0, "no region can be mapped");
    for (const region of found) {
      const { payload, fds } = await t.accepts(regionInfo(region.index, region.argsz));
      const parts = areas(region);
      const end = parts.length === 0
        ? region.size
        : parts.reduce((most, { offset, size }) => offset + size > most ? offset + size : most, 0n);
      const { size } = fds[0]!.stat();
      t.need(size > 0n, "the size of the file is not known");
      const needed = u64At(payload, 24) + end;
      t.expect(size >= needed, `a file of ${needed} bytes or more`, `${size} bytes`);
    }
  }],
  [24, "MUST", REGION, "Areas that can be mapped are within their region.", async (t) => {
    for (const region of sparse(t)) {
      for (const { offset, size } of areas(region)) {
        const came = `area ${offset}+${size} of ${region.size} bytes`;
        t.expect(offset + size <= region.size, "an area within the region", came);
      }
    }
    await Promise.resolve();
  }],
  [25, "SHOULD", REGION, "Areas that can be mapped are made of whole pages.", async (t) => {
    for (const region of sparse(t)) {
      for (const { offset, size } of areas(region)) {
        const isWhole = size > 0n && offset % 4096n === 0n && size % 4096n === 0n;
        t.expect(isWhole, "multiples of 4096", `area ${offset}+${size}`);
      }
    }
    await Promise.resolve();
  }],
  [26, "SHOULD", REGION, "Areas that can be mapped do not overlap.", async (t) => {
    for (const region of sparse(t)) {
      const sorted = areas(region).sort((a, b) => a.offset < b.offset ? -1 : 1);
      const clash = sorted.find((area, i) =>
        i > 0 && sorted[i - 1]!.offset + sorted[i - 1]!.size > area.offset
      );
      t.expect(clash === undefined, "areas apart", `an overlap at ${clash?.offset}`);
    }
    await Promise.resolve();
  }],
  [27, "MUST", REGION, "Only READ, WRITE, MMAP and CAPS are set among the flags.", async (t) => {
    for (const { index } of regions(t)) {
      const reply = await t.accepts(regionInfo(index));
      t.expect((u32At(reply.payload, 4) & ~0xf) === 0, "flags below 16", reply);
    }
  }],
  [28, "MUST", REGION, "An absent region has size 0 and no descriptor.", async (t) => {
    const absent = regions(t).filter(({ flags }) => (flags & 3) === 0);
    t.need(absent.length > 0, "each region is there");
    for (const { index, size, fds } of absent) {
      t.expect(size === 0n && fds === 0, "size 0", `region ${index} of ${size} bytes`);
    }
    await Promise.resolve();
  }],
  [29, "MUST", REGION, "Configuration space has 256 or 4096 bytes, and can be read.", async (t) => {
    t.need(t.facts.isPci, "the device is no PCI device");
    const region = t.facts.regions[7];
    const isRight = (region?.size === 256n || region?.size === 4096n) && (region.flags & 1) !== 0;
    t.expect(isRight, "256 or 4096 bytes and READ", `${region?.size} bytes`);
    await Promise.resolve();
  }],
  [30, "SHOULD", DEVICE, "Flags of the device that are reserved are 0.", async (t) => {
    const reply = await t.accepts(deviceInfo());
    t.expect((u32At(reply.payload, 4) & ~3) === 0, "RESET and PCI alone", reply);
  }],
  [
    31,
    "MUST",
    DEVICE,
    "Asked with the argsz that was named, the whole answer comes.",
    async (t) => {
      const argsz = u32At((await t.accepts(deviceInfo())).payload, 0);
      t.need(argsz <= MAX_ARGSZ, "argsz is far too large");
      const { payload, text } = await t.accepts(deviceInfo(argsz));
      t.expect(payload.length >= argsz, `${argsz} bytes`, `${payload.length} bytes: ${text}`);
    },
  ],
  [32, "MUST", VERSION, "A client that takes no descriptors is sent none.", async (t) => {
    await t.negotiate(t.peer, { ...OUR_CAPABILITIES, max_msg_fds: 0 });
    for (const { index, argsz } of regions(t)) {
      const reply = await t.ask(regionInfo(index, Math.min(argsz, MAX_ARGSZ)));
      t.expect(reply.fds.length === 0, "no descriptor", reply);
    }
  }, { isRaw: true }],
  [40, "MUST", IRQ, "Each index below the number of IRQ indexes is answered.", async (t) => {
    for (let i = 0; i < Math.min(t.facts.numIrqs, 64); i++) await t.accepts(irqInfo(i));
  }],
  [41, "MUST", IRQ, "The index of the reply is that of the request.", async (t) => {
    for (const { index } of t.facts.irqs) {
      const reply = await t.accepts(irqInfo(index));
      t.expect(u32At(reply.payload, 8) === index, `index ${index}`, reply);
    }
  }],
  [42, "MUST", IRQ, "The first index that does not exist is refused.", async (t) => {
    await t.refuses(irqInfo(t.facts.numIrqs));
    await t.inStep();
  }],
  [43, "MUST", IRQ, "The index 0xffffffff is refused.", async (t) => {
    await t.refuses(irqInfo(0xffff_ffff));
    await t.inStep();
  }],
  [44, "MUST", IRQ, "An argsz below 16 is refused.", async (t) => {
    await t.refuses(irqInfo(0, 15));
    await t.inStep();
  }],
  [45, "MUST", IRQ, "The reply has 16 bytes of payload.", async (t) => {
    needIrqs(t);
    const { payload, text } = await t.accepts(irqInfo(0));
    t.expect(payload.length >= 16, "16 bytes", text);
  }],
  [46, "MUST", IRQ, "An argsz with more room than needed is legal.", async (t) => {
    needIrqs(t);
    await t.accepts(irqInfo(0, 4096));
  }],
  [47, "SHOULD", IRQ, "An index with vectors signals them by eventfd.", async (t) => {
    for (const { index, count } of t.facts.irqs) {
      const reply = await t.accepts(irqInfo(index));
      const isRight = count === 0 || (u32At(reply.payload, 4) & 1) !== 0;
      t.expect(isRight, "EVENTFD", reply);
    }
  }],
  [48, "MUST", IRQ, "An index that masks itself can be masked.", async (t) => {
    for (const { index } of t.facts.irqs) {
      const reply = await t.accepts(irqInfo(index));
      const flags = u32At(reply.payload, 4);
      t.expect((flags & 4) === 0 || (flags & 2) !== 0, "MASKABLE with AUTOMASKED", reply);
    }
  }],
  [49, "MUST", IRQ, "A PCI device has one INTx at most, and 2048 MSI-X vectors.", async (t) => {
    t.need(t.facts.isPci, "the device is no PCI device");
    const [intx, msi, msix] = [0, 1, 2].map((index) =>
      t.facts.irqs.find((each) => each.index === index)?.count
    );
    const isRight = (intx ?? 0) <= 1 && (msi ?? 0) <= 32 && (msix ?? 0) <= 2048;
    t.expect(isRight, "1, 32 and 2048 at most", `${intx}, ${msi} and ${msix}`);
    await Promise.resolve();
  }],
  [50, "SHOULD", IRQ, "Flags of an index that are reserved are 0.", async (t) => {
    for (const { index } of t.facts.irqs) {
      const reply = await t.accepts(irqInfo(index));
      t.expect((u32At(reply.payload, 4) & ~0xf) === 0, "flags below 16", reply);
    }
  }],
  [51, "MUST", IRQ, "argsz of the reply is that of the whole answer.", async (t) => {
    needIrqs(t);
    const argsz = u32At((await t.accepts(irqInfo(0))).payload, 0);
    t.need(argsz <= MAX_ARGSZ, "argsz is far too large");
    const { payload, text } = await t.accepts(irqInfo(0, Math.max(16, argsz)));
    const isRight = argsz >= 16 && payload.length >= argsz;
    t.expect(isRight, "argsz of 16 or more, and so many bytes", `argsz ${argsz}: ${text}`);
  }],
]);
