/**
 * A probe for people.
 *
 * @module
 */

import type { DeviceInfo, IrqInfo, Negotiated } from "../../lib/client/info.ts";
import { configSpaceText } from "../../lib/pci/text.ts";
import { DeviceFlags } from "../../lib/wire/device.ts";
import { IrqFlags } from "../../lib/wire/irq.ts";
import { type RegionCapability, RegionFlags, type SparseArea } from "../../lib/wire/region.ts";
import {
  type Capabilities,
  capabilitiesJson,
  CAPABILITY_KEYS,
  type CapabilityName,
  type JsonObject,
} from "../../lib/wire/version.ts";
import type { Output } from "../shared/context.ts";
import { printable } from "../shared/printable.ts";
import { humanSize } from "../shared/size.ts";
import type { Style } from "../shared/style.ts";
import { type Cell, tableLines, wrapWords } from "../shared/table.ts";
import type { Answer, Indexed, IoFdView, PciView, Probe, Refusal, RegionView } from "./collect.ts";
import { accessText, flagNames, hasDatamatch, unknownFlags } from "./flags.ts";
import { hex } from "../../lib/text/hex.ts";
import { plural } from "../../lib/text/plural.ts";

/** The screen that it is shown on. */
type Screen = Pick<Output, "columns" | "style">;

/** The probe as paragraphs of at most `columns` columns. */
export function probeText(socket: string, probe: Probe, screen: Screen): string {
  const { negotiated, info, regions, irqs, pci, ioFds } = probe;
  const { bold } = screen.style;
  const paragraphs = [
    [`${bold("Socket")}   ${printable(socket)}`, ...summaryLines(negotiated, info, bold)],
    [bold("Capabilities"), ...capabilityLines(negotiated, screen)],
    [bold("Regions"), ...regionLines(regions, screen, ioFds)],
    [bold("Interrupts"), ...irqLines(irqs, screen)],
    ...(pci === undefined ? [] : [pciLines(pci, screen)]),
  ];
  return paragraphs.map((lines) => lines.join("\n") + "\n").join("\n");
}

function summaryLines(
  { major, minor }: Negotiated,
  { flags, numRegions, numIrqs }: DeviceInfo,
  bold: Style["bold"],
): string[] {
  const names = flagText(flags, DeviceFlags);
  const counts = `${plural(numRegions, "region index", "region indexes")}, ${
    plural(numIrqs, "IRQ index", "IRQ indexes")
  }`;
  return [
    `${bold("Version")}  ${major}.${minor}`,
    `${bold("Device")}   ${names === "" ? "" : `${names}; `}${counts}`,
  ];
}

/** Flags by name; what has none as a number. */
function flagText(flags: number, table: Readonly<Record<string, number>>): string {
  const rest = unknownFlags(flags, table);
  return [...flagNames(flags, table), ...(rest === 0 ? [] : [hex(rest)])].join(" ");
}

function headings(style: Style, ...names: string[]): Cell[] {
  return names.map((text) => ({ text, paint: style.dim }));
}

// ---- Capabilities

const NOT_SAID = "-";

/** The value of a capability: as an end says it, or as both agree on it. */
type Said<K extends CapabilityName> =
  | Exclude<Capabilities[K], undefined>
  | (K extends keyof Negotiated ? Negotiated[K] : never);

/** The texts of capabilities that are more than a number, or yes or no. */
const SHOWN: { readonly [K in CapabilityName]?: (value: Said<K>) => string } = {
  maxDataXferSize: sizeText,
  pgsizes: pageSizesText,
  twinSocket: (value) => {
    const { supported } = typeof value === "boolean" ? { supported: value } : value;
    return supported === undefined ? NOT_SAID : yesOrNo(supported);
  },
};

function capabilityLines(negotiated: Negotiated, { columns, style }: Screen): string[] {
  const { client, server } = negotiated;
  const rows = Object.entries(CAPABILITY_KEYS).flatMap(([name, key]) => {
    const field = name as CapabilityName;
    const agreed = (negotiated as { readonly [K in CapabilityName]?: unknown })[field];
    if (agreed === undefined && server[field] === undefined) return [];
    const sides = [[agreed, {}], [client[field], client], [server[field], server]] as const;
    return [[
      key,
      ...sides.map(([value, side]) => capabilityText(field, value, capabilitiesJson(side)[key])),
    ]];
  });
  for (const [key, value] of Object.entries(furtherCapabilities(server))) {
    rows.push([printable(key), NOT_SAID, NOT_SAID, printable(stringify(value))]);
  }
  const heading = headings(style, "capability", "agreed", "we said", "server said");
  return tableLines([heading, ...rows], { columns, indent: 2 });
}

/** @param json the value as it is in the JSON of a VERSION */
function capabilityText(field: CapabilityName, value: unknown, json: unknown): string {
  if (value === undefined) return NOT_SAID;
  const show = SHOWN[field] as ((value: unknown) => string) | undefined;
  if (show !== undefined) return show(value);
  if (typeof value === "boolean") return yesOrNo(value);
  return typeof value === "object" ? printable(stringify(json)) : String(value);
}

/** Collects the server's keys that are unknown here. */
function furtherCapabilities({ twinSocket, extra }: Capabilities): JsonObject {
  return { ...(twinSocket?.extra && { twin_socket: twinSocket.extra }), ...extra };
}

function stringify(value: unknown): string {
  return JSON.stringify(value, (_, part) => typeof part === "bigint" ? hex(part) : part);
}

function yesOrNo(value: boolean): string {
  return value ? "yes" : "no";
}

function sizeText(bytes: number | bigint): string {
  return `${bytes} (${humanSize(BigInt(bytes))})`;
}

function pageSizesText(mask: bigint): string {
  const sizes: string[] = [];
  for (let bit = 0n; bit < 64n; bit++) {
    if (mask >> bit & 1n) sizes.push(humanSize(1n << bit));
  }
  return `${hex(mask)} (${sizes.join(", ")})`;
}

// ---- Regions

function regionLines(
  regions: readonly Indexed<RegionView>[],
  { columns, style }: Screen,
  ioFds: Probe["ioFds"],
): string[] {
  const absent = regions.filter((region) => "value" in region && region.value.size === 0n);
  const rows = regions.filter((region) => !absent.includes(region)).flatMap((region) =>
    regionRows(region, style, ioFds?.get(region.index) ?? [])
  );
  const heading = headings(style, "index", "name", "bytes", "size", "flags", "more");
  return [
    ...(rows.length === 0
      ? []
      : tableLines([heading, ...rows], { columns, indent: 2, right: [0, 2] })),
    ...absentLines(absent, { columns, style }),
  ];
}

function absentLines(absent: readonly { name: string }[], { columns, style }: Screen): string[] {
  if (absent.length === 0) return [];
  const text = absent.map(({ name }) => name).join(" ");
  return tableLines([["absent:", { text, paint: style.dim }]], { columns, indent: 2 });
}

function regionRows(
  region: Indexed<RegionView>,
  style: Style,
  ioFds: readonly IoFdView[],
): Cell[][] {
  const { index, name } = region;
  if ("refusal" in region) {
    return [[String(index), name, "", "", "", refusalCell(region.refusal, style)]];
  }
  const { size, flags } = region.value;
  const [first = "", ...others] = [
    ...regionNotes(region.value, style),
    ...ioFds.map((ioFd) => ioFdNote(ioFd, style)),
  ];
  return [
    [String(index), name, hex(size), humanSize(size), accessText(flags), first],
    ...others.map((note) => ["", "", "", "", "", note]),
  ];
}

function refusalCell({ code }: Refusal, { yellow }: Style): Cell {
  return { text: code === "" ? "refused, no errno" : `refused: ${code}`, paint: yellow };
}

function regionNotes({ flags, offset, fds, capabilities }: RegionView, { yellow }: Style): Cell[] {
  const notes: Cell[] = [];
  if (flags & RegionFlags.MMAP) {
    notes.push(`mmap offset ${hex(offset)}`);
    if (fds.length === 0) notes.push({ text: "no file descriptor came", paint: yellow });
  }
  const rest = unknownFlags(flags, RegionFlags);
  if (rest !== 0) notes.push(`unknown flags ${hex(rest)}`);
  return [...notes, ...capabilities.flatMap(regionCapabilityNotes)];
}

function regionCapabilityNotes(capability: RegionCapability): string[] {
  switch (capability.kind) {
    case "sparse_mmap":
      return capability.areas.map((area) => `area ${areaText(area)}`);
    case "sparse_mmap_fds":
      return capability.areas.map((area) =>
        `area ${areaText(area)} at ${hex(area.fdOffset)} of fd ${area.fdIndex}`
      );
    case "type":
      return [`type ${hex(capability.type)}, subtype ${hex(capability.subtype)}`];
    case "msix_mappable":
      return ["MSI-X table mappable"];
    case "unknown":
      return [
        `capability ${capability.id} v${capability.version}, ${
          plural(capability.bytes.length, "byte")
        }`,
      ];
  }
}

/** As "ioeventfd 0x60+0x4, for 0x1 only". */
function ioFdNote(ioFd: IoFdView, { yellow }: Style): Cell {
  const { kind, offset, size, data, fd } = ioFd;
  const place = `${kind} ${hex(offset)}+${hex(size)}`;
  if (fd === undefined) return { text: `${place}, no fd came`, paint: yellow };
  return hasDatamatch(ioFd) ? `${place}, for ${hex(data)} only` : place;
}

function areaText({ offset, size }: SparseArea): string {
  return `${hex(offset)}+${hex(size)} (${humanSize(size)})`;
}

// ---- Interrupts

function irqLines(irqs: readonly Indexed<IrqInfo>[], { columns, style }: Screen): string[] {
  const heading = headings(style, "index", "name", "vectors", "flags");
  const rows = irqs.map((irq): Cell[] => {
    const start = [String(irq.index), irq.name];
    if ("refusal" in irq) return [...start, "", refusalCell(irq.refusal, style)];
    const { count, flags } = irq.value;
    return [...start, String(count), flagText(flags, IrqFlags)]
      .map((text) => count === 0 ? { text, paint: style.dim } : text);
  });
  return tableLines([heading, ...rows], { columns, indent: 2, right: [0, 2] });
}

// ---- PCI

function pciLines(answer: Answer<PciView>, { columns, style }: Screen): string[] {
  const heading = "PCI configuration space";
  if ("refusal" in answer) {
    const lines = wrapWords(printable(answer.refusal.message), columns - 2);
    return [style.bold(heading), ...lines.map((line) => style.yellow(`  ${line}`))];
  }
  const { config, space, names } = answer.value;
  return [
    style.bold(`${heading}, ${plural(config.length, "byte")}`),
    ...(space ? configSpaceText(space, names) : [style.yellow("  too short to have a header")]),
  ];
}
