/**
 * Probes that `vfu probe --json` saved, to be shown as the devices were.
 *
 * @module
 */

import * as v from "valibot";
import type { Negotiated } from "../../lib/client/info.ts";
import { errnoName } from "../../lib/text/errno.ts";
import { DeviceFlags } from "../../lib/wire/device.ts";
import { irqNameOf } from "../../lib/wire/irq.ts";
import type { RegionCapability } from "../../lib/wire/region.ts";
import { regionNameOf } from "../../lib/wire/region.ts";
import { decodeVersion, encodeVersion, type JsonValue } from "../../lib/wire/version.ts";
import type { IoFdView, Probe, Refusal } from "./collect.ts";
import { decodeSaved, type SavedFunction } from "./file.ts";

/** A probe that was saved. */
export interface SavedProbe {
  /** The socket that it was of. */
  readonly socket: string;
  readonly probe: Probe;
  /** Its configuration space; none if the device has none, or refused it. */
  readonly functions: readonly SavedFunction[];
}

const u32 = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff_ffff));
const u64 = v.pipe(
  v.union([v.bigint(), v.pipe(v.number(), v.safeInteger(), v.transform((value) => BigInt(value)))]),
  v.minValue(0n),
  v.maxValue((1n << 64n) - 1n),
);
const hexBytes = v.pipe(
  v.string(),
  v.hexadecimal(),
  v.transform((text) => Uint8Array.fromHex(text)),
);

const refusal = v.pipe(
  v.object({ errno: u32, message: v.string() }),
  v.transform(({ errno, message }): Refusal => ({
    errno,
    code: errno === 0 ? "" : errnoName(errno),
    message,
  })),
);
const refused = v.object({ index: u32, error: refusal });

const area = v.object({ offset: u64, size: u64 });
const fdArea = v.pipe(
  v.object({ ...area.entries, fd_offset: u64, fd_index: u32 }),
  v.transform(({ fd_offset: fdOffset, fd_index: fdIndex, ...rest }) => (
    { ...rest, fdOffset, fdIndex }
  )),
);
const capability: v.GenericSchema<unknown, RegionCapability> = v.variant("kind", [
  v.object({ kind: v.literal("sparse_mmap"), version: u32, areas: v.array(area) }),
  v.object({ kind: v.literal("sparse_mmap_fds"), version: u32, areas: v.array(fdArea) }),
  v.object({ kind: v.literal("type"), version: u32, type: u32, subtype: u32 }),
  v.object({ kind: v.literal("msix_mappable"), version: u32 }),
  v.object({ kind: v.literal("unknown"), id: u32, version: u32, bytes: hexBytes }),
]);

const ioFd = v.pipe(
  v.object({
    offset: u64,
    size: u64,
    kind: v.custom<IoFdView["kind"]>((kind) =>
      typeof kind === "string" && /^((shadow )?ioeventfd|ioregionfd|type \d{1,10})$/.test(kind)
    ),
    flags: u32,
    data: u64,
    has_fd: v.boolean(),
  }),
  v.transform(({ has_fd, ...rest }): IoFdView => ({ ...rest, fd: has_fd ? true : undefined })),
);
const region = v.object({
  index: u32,
  flags: u32,
  size: u64,
  offset: u64,
  fds: u32,
  capabilities: v.array(capability),
  io_fds: v.optional(v.array(ioFd)),
});
const irq = v.object({ index: u32, flags: u32, count: u32 });

const version = v.object({ major: u32, minor: u32 });
const said = v.record(v.string(), v.unknown());
const agreed = v.pipe(
  v.object({
    max_msg_fds: u32,
    max_data_xfer_size: u32,
    max_dma_maps: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
    pgsizes: u64,
    write_multiple: v.boolean(),
    twin_socket: v.boolean(),
  }),
  v.transform((keys): Omit<Negotiated, "major" | "minor" | "client" | "server"> => ({
    maxMsgFds: keys.max_msg_fds,
    maxDataXferSize: keys.max_data_xfer_size,
    maxDmaMaps: keys.max_dma_maps,
    pgsizes: keys.pgsizes,
    writeMultiple: keys.write_multiple,
    twinSocket: keys.twin_socket,
  })),
);
const savedProbe = v.object({
  socket: v.string(),
  version,
  capabilities: v.object({ agreed, client: said, server: said }),
  device: v.object({ flags: u32, num_regions: u32, num_irqs: u32 }),
  regions: v.array(v.union([refused, region])),
  irqs: v.array(v.union([refused, irq])),
  pci: v.nullable(v.union([v.object({ error: refusal }), v.object({ config: v.string() })])),
});

/**
 * Reads the JSON that `vfu probe --json` wrote.
 *
 * @param path the file that has it
 * @param bytes all of the file
 * @returns undefined if it is another JSON, or of another version
 * @throws {Error} if its configuration space can't be decoded
 */
export async function readSavedProbe(
  path: string,
  bytes: Uint8Array,
): Promise<SavedProbe | undefined> {
  const { success, output } = v.safeParse(savedProbe, parsed(new TextDecoder().decode(bytes)));
  if (!success) return undefined;
  const { socket, version, capabilities, device, regions, irqs, pci } = output;
  const [client, server] = [saidBy(capabilities.client), saidBy(capabilities.server)];
  if (client === undefined || server === undefined) return undefined;
  const isPci = (device.flags & DeviceFlags.PCI) !== 0;
  const ioFds = regions.flatMap((each) =>
    "error" in each || each.io_fds === undefined ? [] : [[each.index, each.io_fds] as const]
  );
  const functions = pci !== null && "config" in pci ? await decodeSaved(path, bytes) : [];
  const probe: Probe = {
    negotiated: { ...version, ...capabilities.agreed, client, server },
    info: { flags: device.flags, numRegions: device.num_regions, numIrqs: device.num_irqs },
    regions: regions.map((each) => {
      const named = { index: each.index, name: regionNameOf(each.index, isPci) };
      if ("error" in each) return { ...named, refusal: each.error };
      return { ...named, value: { ...each, fds: { length: each.fds } } };
    }),
    irqs: irqs.map((each) => {
      const named = { index: each.index, name: irqNameOf(each.index, isPci) };
      return "error" in each ? { ...named, refusal: each.error } : { ...named, value: each };
    }),
    pci: pci !== null && "error" in pci
      ? { refusal: pci.error }
      : functions[0] && { value: functions[0].view },
    ioFds: ioFds.length === 0 ? undefined : new Map(ioFds),
  };
  return { socket, probe, functions };
}

/** @returns undefined if it is no JSON, which decoding the space tells */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text, largeIntegers);
  } catch {
    return undefined;
  }
}

/** Makes integers of those above 2^53 - 1, which `jsonText` writes as texts. */
function largeIntegers(_key: string, value: unknown): unknown {
  return typeof value === "string" && /^0x[0-9a-f]{14,16}$/.test(value) ? BigInt(value) : value;
}

/** The capabilities of one end, checked as those of a VERSION. */
function saidBy(said: unknown): Negotiated["client"] | undefined {
  try {
    const payload = encodeVersion({
      major: 0,
      minor: 0,
      capabilities: {},
      extra: { capabilities: said as JsonValue },
    });
    return decodeVersion(payload).capabilities;
  } catch {
    return undefined;
  }
}
