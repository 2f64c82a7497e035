/**
 * The succession of a device by a new version of it. Facts that clients have learnt may not change,
 * and the state is handed on.
 *
 * @module
 */

import { within } from "../base/wait.ts";
import { HEADER, HEADER_NORMAL } from "../pci/registers.ts";
import { DeviceFlags } from "../wire/device.ts";
import { deviceStateName } from "../wire/feature.ts";
import { irqNameOf } from "../wire/irq.ts";
import { encodeRegionInfo, PciRegion, RegionFlags, regionNameOf } from "../wire/region.ts";
import { ConfigRegion } from "./config.ts";
import { MigrationMachine } from "./migration.ts";
import { type QuietContext, whenQuiet } from "./quiet.ts";
import type { MigrationSink, ServedDevice, ServedIoFd, ServedRegion } from "./served_device.ts";

/** The way in which a new version took the place of the old one. */
export interface Succession {
  /** `now`; or with the next client, because the one that is connected could not go on. */
  readonly when: "now" | "next client";
  /** The reason why it could not, or why the state was not handed on; undefined for neither. */
  readonly reason?: unknown;
  /** Parts of the state that were lost, in words. */
  readonly lost: readonly string[];
}

/**
 * Lists what a client may have learnt of a device, and what differs in a new version of it.
 *
 * @returns a sentence for each difference
 */
export function shapeChanges(old: ServedDevice, next: ServedDevice): string[] {
  const changes: string[] = [];
  const isPci = (old.flags & DeviceFlags.PCI) !== 0;
  const compare = <T>(what: string, before: T, now: T) => {
    if (before !== now) changes.push(`${what} is ${now}, was ${before}`);
  };
  compare("the device's flags", old.flags, next.flags);
  compare("the number of regions", old.regions.length, next.regions.length);
  compare("the number of IRQ indexes", old.irqs.length, next.irqs.length);
  if ((old.migration === undefined) !== (next.migration === undefined)) {
    changes.push(next.migration === undefined ? "it does not migrate any more" : "it migrates now");
  }
  for (const [index, before] of old.regions.entries()) {
    const change = regionChange(before, next.regions[index]);
    if (change !== undefined) changes.push(`${regionNameOf(index, isPci)} ${change}`);
  }
  for (const [index, { count, flags }] of old.irqs.entries()) {
    const { count: vectors = 0, flags: now = 0 } = next.irqs[index] ?? {};
    const name = irqNameOf(index, isPci);
    compare(`the number of vectors of ${name}`, count, vectors);
    if (count === vectors) compare(`the flags of ${name}`, flags, now);
  }
  const [before, now] = [old, next].map(({ regions }) => regions[PciRegion.CONFIG]);
  if (before instanceof ConfigRegion && now instanceof ConfigRegion) {
    const places = new Set(now.differences(before.bytes).map(placeInConfig));
    if (places.size > 0) changes.push(`configuration space has another ${[...places].join(", ")}`);
  }
  return changes;
}

function regionChange(
  before: ServedRegion | undefined,
  now: ServedRegion | undefined,
): string | undefined {
  if (before === undefined && now === undefined) return undefined;
  if (before === undefined) return "is new";
  if (now === undefined) return "is gone";
  if (before.size !== now.size) return `has ${now.size} bytes, had ${before.size}`;
  if (before.flags !== now.flags) return "may be accessed in another way";
  if (infoOf(before) !== infoOf(now)) return "has other areas that may be mapped";
  const isMapped = (before.flags & RegionFlags.MMAP) !== 0;
  if (isMapped && (before.memory === undefined || now.memory === undefined)) {
    return "is memory of the device's own making, which a client may have mapped";
  }
  if ((before.ioFds?.length ?? 0) !== (now.ioFds?.length ?? 0)) return "has other io descriptors";
  for (const [i, each] of (before.ioFds ?? []).entries()) {
    const other = now.ioFds![i]!;
    if (each.fd || other.fd) {
      return "has io descriptors of the device's own, which a client may hold";
    }
    if (ioFdText(each) !== ioFdText(other)) return "has other io descriptors";
  }
}

/** All facts about a region that a client learns, but its size and flags. */
function infoOf({ capabilities = [], fdOffset = 0 }: ServedRegion): string {
  const info = { index: 0, flags: 0, size: 0n, offset: BigInt(fdOffset) };
  return encodeRegionInfo({ ...info, capabilities: [...capabilities] }, Infinity).join();
}

function ioFdText(each: ServedIoFd): string {
  return JSON.stringify(each, (_, value) => typeof value === "bigint" ? String(value) : value);
}

/** The register of a byte of configuration space, in words. */
function placeInConfig(at: number): string {
  if (at < HEADER.COMMAND) return at < 2 ? "vendor id" : "device id";
  if (at === HEADER.CLASS_REVISION) return "revision";
  if (at > HEADER.CLASS_REVISION && at < HEADER.CLASS_REVISION + 4) return "class code";
  if (at >= HEADER_NORMAL.BASE_ADDRESS_0 && at < HEADER_NORMAL.BASE_ADDRESS_0 + 24) {
    return "base address register";
  }
  const subsystem = HEADER_NORMAL.SUBSYSTEM_VENDOR_ID;
  if (at >= subsystem && at < subsystem + 4) return "subsystem";
  return at < 0x40 && at !== HEADER.CAPABILITY_LIST && at !== HEADER.STATUS
    ? "header"
    : "capability list";
}

/** The two versions, and those who take part in the succession. */
export interface HandOverContext extends Omit<QuietContext, "device"> {
  readonly old: ServedDevice;
  readonly next: ServedDevice;
  /**
   * Connects the new version to the client, if there is one.
   *
   * @returns undoes that
   */
  connect?(): () => void;
}

/**
 * Hands the state of a device on to a new version, which works afterwards. The old version stands
 * still then. If that fails, the old version goes on, and the new one is to be closed.
 *
 * @returns what of the state was lost, in words
 * @throws {Error} if the state can't be handed on, or one of them takes too long; what their hooks
 *   throw
 */
export async function handOver(context: HandOverContext): Promise<readonly string[]> {
  const { old, next, quiesceTimeoutMs: limit } = context;
  const machine = MigrationMachine.of(old);
  if (machine?.isWorking === false) {
    throw new Error(`the device is in the migration state ${deviceStateName(machine.state)}`);
  }
  const [from, to] = [old, next].map((each) => each.succession ?? each.migration);
  if (from === undefined || to === undefined) {
    throw new Error("the device has no hooks by which it tells its state");
  }
  const inTime = <T>(work: T | Promise<T>, doing: string) =>
    within(Promise.resolve(work), limit, () => new Error(`${doing} took more than ${limit} ms`));
  const goOn = async () => await inTime(from.start?.(), "having the old version go on");
  try {
    await whenQuiet({ ...context, device: old }, "stop", () => {});
    await inTime(from.stop?.(), "stopping the old version");
    await inTime(to.stop?.(), "stopping the new version");
    const lost = await inTime(
      next.succession?.take(old) ?? stream(old, next),
      "taking the state",
    );
    const undo = context.connect?.();
    try {
      for (const [index, { memory } = {}] of old.regions.entries()) {
        if (memory !== undefined) next.regions[index]?.memory?.adopt(memory);
      }
      await inTime(to.start?.(), "starting the new version");
    } catch (error) {
      undo?.();
      throw error;
    }
    return lost;
  } catch (error) {
    await goOn().catch((failure) => context.report(failure, "replace"));
    throw error; // the first one says why
  }
}

/** Hands the state on as a migration does. Both stand still. */
async function stream(old: ServedDevice, next: ServedDevice): Promise<readonly string[]> {
  if (old.migration === undefined || next.migration === undefined) {
    throw new Error("one of the versions does not migrate");
  }
  const sink: MigrationSink = next.migration.resume();
  try {
    for await (const chunk of old.migration.stopCopy(false)) await sink.write(chunk);
    await sink.commit();
  } catch (error) {
    sink.abort();
    throw error;
  } finally {
    old.migration.saveEnded?.();
  }
  return [];
}
