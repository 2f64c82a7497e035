/**
 * A configuration space as lines for a person.
 *
 * @module
 */

import type { Bar, RomBar } from "./bar.ts";
import { kindText, placeText, sizeText } from "./bar_text.ts";
import { capabilityText } from "./capability_text.ts";
import { classNames } from "./class.ts";
import type { BridgeHeader, BridgeWindow, CardbusHeader } from "./bridge.ts";
import type { ConfigSpace } from "./config_space.ts";
import {
  BRIDGE_CTL_LABELS,
  CARDBUS_CTL_LABELS,
  COMMAND_LABELS,
  SEC_STATUS_LABELS,
  signs,
  STATUS_LABELS,
} from "./labels.ts";
import { hexDigits } from "../text/hex.ts";
import { wrap } from "../text/wrap.ts";

/** Names of the ids of a configuration space, as far as they are known. */
export interface ConfigSpaceNames {
  /** Name of the vendor. */
  vendor?: string | undefined;
  /** Name of the device. */
  device?: string | undefined;
  /** Name of the subsystem. */
  subsystem?: string | undefined;
  /** Name of the class; ours is taken if it is not given. */
  class?: string | undefined;
}

/** The column at which the values of the header begin. */
const VALUE_COLUMN = 15;

/**
 * The configuration space as lines of at most 79 columns: the header, the BARs, the capabilities.
 * There is no colour in them.
 *
 * @example
 * ```ts
 * import { parseConfigSpace } from "./config_space.ts";
 * import { configSpaceText } from "./text.ts";
 *
 * const lines = configSpaceText(parseConfigSpace(new Uint8Array(64)), { vendor: "Example" });
 * if (lines[0] !== "0000:0000 Example (rev 00)") throw new Error();
 * ```
 */
export function configSpaceText(space: ConfigSpace, names: ConfigSpaceNames = {}): string[] {
  const ids = `${hexDigits(space.vendorId, 4)}:${hexDigits(space.deviceId, 4)}`;
  const title = [ids, names.vendor, names.device, `(rev ${hexDigits(space.revisionId, 2)})`];
  return [
    ...wrap("", words(title.filter((part) => part !== undefined).join(" ")), 10),
    ...(space.absent ? [] : headerLines(space, names)),
    ...[...space.capabilities, ...space.extendedCapabilities].flatMap(capabilityText),
    ...space.notes.flatMap((note) => wrap("  Note: ", words(note), VALUE_COLUMN)),
  ];
}

function words(text: string): string[] {
  return text.split(" ");
}

function row(label: string, values: readonly string[]): string[] {
  return wrap(`  ${label}:`.padEnd(VALUE_COLUMN), values, VALUE_COLUMN);
}

function headerLines(space: ConfigSpace, names: ConfigSpaceNames): string[] {
  const { subsystem, header } = space;
  return [
    ...row("Class", words(classText(space.classCode, names.class))),
    ...(subsystem
      ? row("Subsystem", [
        `${hexDigits(subsystem.vendorId, 4)}:${hexDigits(subsystem.id, 4)}`,
        ...words(names.subsystem ?? "").filter((word) => word !== ""),
      ])
      : []),
    ...row("Header", words(headerText(space))),
    ...row("Control", signs(space.command, COMMAND_LABELS)),
    ...row("Status", [...signs(space.status, STATUS_LABELS), `DEVSEL=${space.devsel}`]),
    ...timerRow(space),
    ...(space.bist.capable ? row("BIST", words(bistText(space))) : []),
    ...row("Interrupt", words(interruptText(space))),
    ...(header.layout === "bridge" ? bridgeLines(header) : []),
    ...(header.layout === "cardbus" ? cardbusLines(header) : []),
    ...space.bars.flatMap(barLines),
    ...(space.rom ? row("ROM", words(romText(space.rom))) : []),
  ];
}

function classText(classCode: number, given: string | undefined): string {
  const { base, sub, progIf } = classNames(classCode);
  const name = given ?? [sub ?? base ?? "unknown", progIf].filter(Boolean).join(", ");
  return `${hexDigits(classCode, 6)} ${name}`;
}

function headerText({ header, headerType, multifunction }: ConfigSpace): string {
  const kinds = {
    normal: "ordinary function",
    bridge: "PCI-to-PCI bridge",
    cardbus: "CardBus bridge",
    unknown: "unknown",
  };
  const suffix = multifunction ? ", multifunction device" : "";
  return `type ${headerType}, ${kinds[header.layout]}${suffix}`;
}

function timerRow({ header, latencyTimer, cacheLineSize }: ConfigSpace): string[] {
  const grants = header.layout === "normal" && (header.minGnt !== 0 || header.maxLat !== 0)
    ? [`(${header.minGnt * 250}ns min, ${header.maxLat * 250}ns max),`]
    : [];
  const latency = grants.length === 0 ? `${latencyTimer},` : `${latencyTimer}`;
  return row("Latency", [latency, ...grants, `cache line size: ${4 * cacheLineSize} bytes`]);
}

function bistText({ bist }: ConfigSpace): string {
  return bist.running ? "running" : `result ${bist.completionCode}`;
}

function interruptText({ interruptPin, interruptLine }: ConfigSpace): string {
  if (interruptPin === 0) return "no pin";
  const pin = interruptPin <= 4 ? "ABCD".charAt(interruptPin - 1) : `${interruptPin} (invalid)`;
  return `pin ${pin}, line ${interruptLine}`;
}

function busWords(
  buses: { primaryBus: number; subordinateBus: number },
  secondaryBus: number,
): string[] {
  return [
    `primary=${hexDigits(buses.primaryBus, 2)},`,
    `secondary=${hexDigits(secondaryBus, 2)},`,
    `subordinate=${hexDigits(buses.subordinateBus, 2)}`,
  ];
}

function bridgeLines(header: BridgeHeader): string[] {
  return [
    ...row("Bus", [
      ...busWords(header, header.secondaryBus).map((word, at) => at === 2 ? `${word},` : word),
      `sec-latency=${header.secondaryLatencyTimer}`,
    ]),
    ...row("I/O window", [windowText(header.ioWindow)]),
    ...row("Mem window", [windowText(header.memoryWindow)]),
    ...row("Pref window", [windowText(header.prefetchableWindow)]),
    ...row("Sec status", [
      ...signs(header.secondaryStatus, SEC_STATUS_LABELS),
      `DEVSEL=${header.secondaryDevsel}`,
    ]),
    ...row("Bridge ctl", signs(header.bridgeControl, BRIDGE_CTL_LABELS)),
  ];
}

function cardbusLines(header: CardbusHeader): string[] {
  const { memoryWindows, ioWindows, legacyPort } = header;
  return [
    ...row("Bus", [
      ...busWords(header, header.cardBus).map((word, at) => at === 2 ? `${word},` : word),
      `sec-latency=${header.cardLatencyTimer}`,
    ]),
    ...memoryWindows.flatMap((window, i) =>
      row(`Mem wind ${i}`, [
        windowText(window) + (window.enabled && window.prefetchable ? ", prefetchable" : ""),
      ])
    ),
    ...ioWindows.flatMap((window, i) => row(`I/O wind ${i}`, [windowText(window)])),
    ...row("Sec status", [
      ...signs(header.secondaryStatus, SEC_STATUS_LABELS),
      `DEVSEL=${header.secondaryDevsel}`,
    ]),
    ...row("Bridge ctl", signs(header.bridgeControlFlags, CARDBUS_CTL_LABELS)),
    ...(legacyPort === 0 ? [] : row("Legacy", [`ports at ${hexDigits(legacyPort, 4)}`])),
  ];
}

function windowText({ base, limit, widthBits, enabled }: BridgeWindow): string {
  const digits = widthBits === 64 ? 16 : 8;
  return enabled
    ? `${hexDigits(base, digits)}-${hexDigits(limit, digits)} [${
      sizeText(limit - base + 1n)
    }], ${widthBits}-bit`
    : `disabled, ${widthBits}-bit`;
}

function barLines(bar: Bar): string[] {
  return [
    ...row(`BAR ${bar.index}`, words(`${kindText(bar)}, ${placeText(bar)}`)),
    ...bar.notes.flatMap((note) =>
      wrap(" ".repeat(VALUE_COLUMN), words(`! ${note}`), VALUE_COLUMN)
    ),
  ];
}

function romText(rom: RomBar): string {
  return `${placeText(rom)}, ${rom.enabled ? "enabled" : "disabled"}`;
}
