/**
 * A probe as JSON.
 *
 * @module
 */

import type { IrqInfo, Negotiated } from "../../lib/client/info.ts";
import { configSpaceJson } from "../../lib/pci/json.ts";
import { DeviceFlags } from "../../lib/wire/device.ts";
import { IrqFlags } from "../../lib/wire/irq.ts";
import { type RegionCapability, RegionFlags } from "../../lib/wire/region.ts";
import { capabilitiesJson, CAPABILITY_KEYS } from "../../lib/wire/version.ts";
import { jsonText } from "../shared/json.ts";
import type { Answer, Indexed, IoFdView, PciView, Probe, Refusal, RegionView } from "./collect.ts";
import { flagNames, hasDatamatch } from "./flags.ts";

/**
 * The object that `vfu probe --json` writes. Later versions add keys; none of these changes its
 * meaning or goes.
 *
 * An integer above 2^53 - 1, which only a `bigint` here can be, is a string of the form
 * "0x8000000000000000". What the server refused to tell is an object with the key `error` in place
 * of what it would have said.
 */
export interface ProbeJson {
  /** The path that was given. */
  socket: string;
  /** The version agreed on. */
  version: { major: number; minor: number };
  /** The capabilities of both ends. */
  capabilities: {
    /**
     * The capabilities in force on this connection, with the specification's defaults where neither
     * end said anything.
     */
    agreed: CapabilitiesJson;
    /** The client's capabilities. */
    client: CapabilitiesJson;
    /** The server's capabilities; unknown keys are as they came. */
    server: CapabilitiesJson;
  };
  /** The device. */
  device: {
    /** The flags as a number. */
    flags: number;
    /** The names of the flags that have one: "reset", "pci". */
    flag_names: string[];
    /** Region indexes: 0 to this, exclusive. */
    num_regions: number;
    /** IRQ indexes: 0 to this, exclusive. */
    num_irqs: number;
  };
  /** Every region index, in order. */
  regions: (RegionJson | RefusedJson)[];
  /** Every IRQ index, in order. */
  irqs: (IrqJson | RefusedJson)[];
  /** The configuration space; null if the device has none or is no PCI device. */
  pci: PciJson | { error: ErrorJson } | null;
}

/**
 * Capabilities of one end, under their names on the wire; those that were not said are left out.
 */
export interface CapabilitiesJson {
  /** Descriptors in one message. */
  max_msg_fds?: number | undefined;
  /** Bytes of data in one message. */
  max_data_xfer_size?: number | undefined;
  /** DMA maps at one time. */
  max_dma_maps?: number | undefined;
  /** Page sizes, as a bit mask. */
  pgsizes?: bigint | undefined;
  /** True if REGION_WRITE_MULTI is known. */
  write_multiple?: boolean | undefined;
  /**
   * True if the server's commands have a socket of their own: as said, an object; as agreed, a
   * boolean.
   */
  twin_socket?: boolean | { [key: string]: unknown } | undefined;
  /** A capability of older drafts. */
  migration?: { [key: string]: unknown } | undefined;
  /** Keys that are not known here. */
  [key: string]: unknown;
}

/** A region. */
export interface RegionJson {
  /** The region index. */
  index: number;
  /** "bar0" to "bar5", "rom", "config", "vga", else "region 9". */
  name: string;
  /** The flags as a number. */
  flags: number;
  /** The names of the flags that have one: "read", "write", "mmap", "caps". */
  flag_names: string[];
  /** Bytes; 0 if the device does not have it. */
  size: bigint;
  /** The offset in the file to be mapped. */
  offset: bigint;
  /** File descriptors that came with the answer. */
  fds: number;
  /**
   * Its capabilities by `kind`: "sparse_mmap" with `areas` of `offset` and `size`,
   * "sparse_mmap_fds" with `fd_offset` and `fd_index` too, "type" with `type` and `subtype`. Also
   * "msix_mappable", and "unknown" with `id` and `bytes` in hexadecimal.
   */
  capabilities: { kind: string; version: number; [key: string]: unknown }[];
  /** File descriptors that stand in for parts of it; not there if that was not asked. */
  io_fds?: IoFdJson[];
}

/** A part of a region that a file descriptor stands in for. */
export interface IoFdJson {
  /** Bytes from the start of the region. */
  offset: bigint;
  /** Bytes of the part. */
  size: bigint;
  /** "ioeventfd", "ioregionfd", "shadow ioeventfd", else "type 3". */
  kind: string;
  /** The flags of the kernel's ioeventfd or ioregionfd. */
  flags: number;
  /** True if an eventfd is signalled for one value only, `data`. */
  datamatch: boolean;
  /** The value to match; the user data of an ioregionfd. */
  data: bigint;
  /** True if a descriptor came. */
  has_fd: boolean;
}

/** An IRQ index. */
export interface IrqJson {
  /** The IRQ index. */
  index: number;
  /** "intx", "msi", "msix", "err", "req", else "irq 5". */
  name: string;
  /** The flags as a number. */
  flags: number;
  /** The names of the flags that have one: "eventfd", "maskable", "automasked", "noresize". */
  flag_names: string[];
  /** Vectors; 0 if the device does not have it. */
  count: number;
}

/** Something with an index that the server refused to tell about. */
export interface RefusedJson {
  /** The index. */
  index: number;
  /** Its name. */
  name: string;
  /** Why. */
  error: ErrorJson;
}

/** An error reply. */
export interface ErrorJson {
  /** The Linux error number; 0 if the server gave none. */
  errno: number;
  /** Its name, as "EINVAL"; empty if the server gave none. */
  code: string;
  /** The question, and its refusal. */
  message: string;
}

/** The PCI view. */
export interface PciJson {
  /** The bytes of the configuration space, 4096 at most, in hexadecimal. */
  config: string;
  /** The decoded bytes, as `configSpaceJson` has them; null if there are fewer than 64. */
  space: { [key: string]: unknown } | null;
  /** Names of the ids from the machine's pci.ids; null where it has none, or is not there. */
  names: { vendor: string | null; device: string | null; subsystem: string | null };
}

/** The probe as text of JSON, indented by 2, with a line break at its end. */
export function probeJson(socket: string, probe: Probe): string {
  return jsonText(probeObject(socket, probe), 2) + "\n";
}

/** The probe as the object of that JSON. */
export function probeObject(
  socket: string,
  { negotiated, info, regions, irqs, pci, ioFds }: Probe,
): ProbeJson {
  return {
    socket,
    version: { major: negotiated.major, minor: negotiated.minor },
    capabilities: {
      agreed: agreedJson(negotiated),
      client: capabilitiesJson(negotiated.client),
      server: capabilitiesJson(negotiated.server),
    },
    device: {
      flags: info.flags,
      flag_names: flagNames(info.flags, DeviceFlags),
      num_regions: info.numRegions,
      num_irqs: info.numIrqs,
    },
    regions: regions.map((region) =>
      indexedJson(region, (value, name) => ({
        ...regionJson(value, name),
        ...(ioFds && { io_fds: (ioFds.get(region.index) ?? []).map(ioFdJson) }),
      }))
    ),
    irqs: irqs.map((irq) => indexedJson(irq, irqJson)),
    pci: pci === undefined ? null : pciJson(pci),
  };
}

function agreedJson(negotiated: Negotiated): CapabilitiesJson {
  const agreed = Object.entries(CAPABILITY_KEYS)
    .map(([field, key]) => [key, negotiated[field as keyof Negotiated]]);
  return Object.fromEntries(agreed);
}

function indexedJson<T, J>(
  answer: Indexed<T>,
  valueJson: (value: T, name: string) => J,
): J | RefusedJson {
  const { index, name } = answer;
  if ("value" in answer) return valueJson(answer.value, name);
  return { index, name, error: errorJson(answer.refusal) };
}

function errorJson({ errno, code, message }: Refusal): ErrorJson {
  return { errno, code, message };
}

function regionJson(region: RegionView, name: string): RegionJson {
  return {
    index: region.index,
    name,
    flags: region.flags,
    flag_names: flagNames(region.flags, RegionFlags),
    size: region.size,
    offset: region.offset,
    fds: region.fds.length,
    capabilities: region.capabilities.map(regionCapabilityJson),
  };
}

function regionCapabilityJson(capability: RegionCapability): RegionJson["capabilities"][number] {
  switch (capability.kind) {
    case "sparse_mmap_fds":
      return {
        ...capability,
        areas: capability.areas.map(({ offset, size, fdOffset, fdIndex }) => (
          { offset, size, fd_offset: fdOffset, fd_index: fdIndex }
        )),
      };
    case "unknown":
      return { ...capability, bytes: capability.bytes.toHex() };
    default:
      return { ...capability };
  }
}

function ioFdJson(ioFd: IoFdView): IoFdJson {
  const { offset, size, kind, flags, data, fd } = ioFd;
  const datamatch = hasDatamatch(ioFd);
  return { offset, size, kind, flags, datamatch, data, has_fd: fd !== undefined };
}

function irqJson(irq: IrqInfo, name: string): IrqJson {
  const { index, flags, count } = irq;
  return { index, name, flags, flag_names: flagNames(flags, IrqFlags), count };
}

function pciJson(answer: Answer<PciView>): ProbeJson["pci"] {
  return "refusal" in answer ? { error: errorJson(answer.refusal) } : pciViewJson(answer.value);
}

/** A configuration space as JSON. */
export function pciViewJson({ config, space, names }: PciView): PciJson {
  return {
    config: config.toHex(),
    space: space === undefined ? null : configSpaceJson(space),
    names: {
      vendor: names.vendor ?? null,
      device: names.device ?? null,
      subsystem: names.subsystem ?? null,
    },
  };
}
