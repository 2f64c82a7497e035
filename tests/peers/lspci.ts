/**
 * Compares the decode of a configuration space by `lspci` with ours.
 *
 * @module
 */

import type { Bar } from "../../lib/pci/bar.ts";
import { capabilityRows } from "../../lib/pci/capability_text.ts";
import type { Capability } from "../../lib/pci/capability.ts";
import type { BridgeHeader, BridgeWindow, CardbusHeader } from "../../lib/pci/bridge.ts";
import type { ConfigSpace } from "../../lib/pci/config_space.ts";
import { lspciDump } from "../../lib/pci/dump.ts";
import type { ExpressCapability } from "../../lib/pci/express.ts";
import {
  ERR_ROOT_COMMAND_LABELS,
  ERR_ROOT_STATUS_LABELS,
  SLTCTL_LABELS,
} from "../../lib/pci/labels.ts";
import type { Flags } from "../../lib/pci/registers.ts";
import {
  BRIDGE_CONTROL,
  CARDBUS_CONTROL,
  CONTROL,
  CORRECTABLE,
  DEVICE_CONTROL,
  DEVICE_STATUS,
  EXTENDED_HEADS,
  LATE_SPEEDS,
  LATER_WORDS,
  LINK_CONTROL,
  LINK_STATUS,
  SECONDARY_STATUS,
  STANDARD_HEADS,
  STATUS,
  UNCORRECTABLE,
  VIRTIO_NAMES,
  WRONG,
} from "./lspci_words.ts";
import { peersCache } from "./peers.ts";

/**
 * The programs that `lspci.sh` brings: the machine's own, and that of a later Debian. `VFU_LSPCI`
 * names one more.
 */
export function lspciPrograms(): string[] {
  const later = `${peersCache()}/lspci/lspci`;
  const isThere = (() => {
    try {
      return Deno.statSync(later).isFile;
    } catch {
      return Deno.env.has("CI"); // there it has to be
    }
  })();
  const another = Deno.env.get("VFU_LSPCI");
  return ["lspci", ...(isThere ? [later] : []), ...(another ? [another] : [])];
}

/**
 * Runs `lspci -vv -nn` over a dump of `config`.
 * Fails if `program` is not there or does not like the dump.
 */
export async function runLspci(config: Uint8Array, program = "lspci"): Promise<string> {
  const path = await Deno.makeTempFile({ suffix: ".lspci" });
  try {
    await Deno.writeTextFile(path, lspciDump(config));
    const command = new Deno.Command(program, { args: ["-F", path, "-vv", "-nn"] });
    const { success, stdout, stderr } = await command.output();
    const text = new TextDecoder().decode(stdout);
    if (!success || text === "") {
      throw new Error(`lspci gave nothing: ${new TextDecoder().decode(stderr)}`);
    }
    return text;
  } finally {
    await Deno.remove(path);
  }
}

/**
 * Shows `config` to `lspci` and compares its output with `space`, our decode of the same bytes.
 * The result is a line for each disagreement: none if both see the same.
 */
export async function compareWithLspci(
  config: Uint8Array,
  space: ConfigSpace,
  program = "lspci",
): Promise<string[]> {
  const comparison = new Comparison(parseLspci(await runLspci(config, program)));
  comparison.title(space);
  comparison.flags("Control", space.command, CONTROL);
  comparison.flags("Status", space.status, STATUS);
  const devsel = space.devsel === "reserved" ? "??" : space.devsel;
  comparison.equal("DEVSEL", devsel, comparison.match("Status", /DEVSEL=(\S+)/));
  comparison.bars(space.bars);
  if (space.header.layout === "bridge") comparison.bridge(space.header);
  if (space.header.layout === "cardbus") comparison.cardbus(space.header);
  comparison.capabilities(space);
  return comparison.disagreements;
}

/** A capability as `lspci` prints it: its first line, and the labelled lines below it. */
interface LspciCapability {
  offset: number;
  version?: number;
  head: string;
  sections: Map<string, string>;
}

interface LspciText {
  title: string;
  /** Labelled lines of the header; "Capabilities" is apart. */
  sections: Map<string, string>;
  capabilities: LspciCapability[];
}

/**
 * Lines with one tab are of the header or begin a capability.
 * Deeper lines continue the lines above them.
 */
function parseLspci(text: string): LspciText {
  const [title = "", ...lines] = text.split("\n");
  const result: LspciText = { title, sections: new Map(), capabilities: [] };
  let sections = result.sections;
  let label = "";
  for (const line of lines) {
    const [, tabs, content] = /^(\t+)(.*)$/.exec(line) ?? [];
    if (tabs === undefined || content === undefined) continue;
    const capability = /^Capabilities: \[([0-9a-f]+)(?: v(\d+))?\] (.*)$/.exec(content);
    if (tabs.length === 1 && capability) {
      const [, offset, version, head] = capability;
      sections = new Map();
      const entry: LspciCapability = {
        offset: Number.parseInt(offset!, 16),
        head: head!,
        sections,
      };
      if (version !== undefined) entry.version = Number(version);
      // A broken list ends with a place and no name.
      if (!head!.startsWith("<")) result.capabilities.push(entry);
      label = "";
      continue;
    }
    if (tabs.length === 1) sections = result.sections;
    // The expansion ROM is the one line of the header without a colon.
    const section = tabs.length <= 2
      ? /^(Expansion ROM)( at .*)$/.exec(content) ?? /^([A-Za-z/][\w/ -]*?):\s*(.*)$/.exec(content)
      : null;
    if (section) {
      label = section[1]!;
      sections.set(label, section[2]!);
    } else {
      sections.set(label, `${sections.get(label) ?? ""} ${content.trim()}`);
    }
  }
  return result;
}

/** The words that end in + or -, and which it is. */
function signedWords(text: string): Map<string, boolean> {
  const words = text.matchAll(/([^\s,;]+?)([+-])(?=[\s,;]|$)/g);
  const entries = Array.from(words, ([, word, sign]) => [word!, sign === "+"] as const);
  return new Map(entries.reverse()); // the first of several counts: PME(D1-) comes after D1+
}

class Comparison {
  readonly disagreements: string[] = [];
  readonly #lspci: LspciText;

  constructor(lspci: LspciText) {
    this.#lspci = lspci;
  }

  equal(what: string, ours: unknown, theirs: unknown): void {
    if (ours !== theirs) this.disagreements.push(`${what}: ${ours} is ours, ${theirs} lspci's`);
  }

  match(section: string, pattern: RegExp, sections = this.#lspci.sections): string | undefined {
    return pattern.exec(sections.get(section) ?? "")?.[1];
  }

  /** Compares the flags that `words` has a word for. */
  flags(
    section: string,
    ours: Flags,
    words: Readonly<Record<string, string>>,
    sections = this.#lspci.sections,
  ): void {
    const theirs = signedWords(sections.get(section) ?? "");
    for (const [name, word] of Object.entries(words)) {
      const later = LATER_WORDS[word]; // what lspci 3.13 calls it
      const seen = theirs.get(word) ?? (later === undefined ? undefined : theirs.get(later));
      this.equal(`${section} ${word}`, ours.set.includes(name), seen);
    }
  }

  title(space: ConfigSpace): void {
    const digits = (value: number, count: number) => value.toString(16).padStart(count, "0");
    const { title } = this.#lspci;
    const progIf = /\(prog-if ([0-9a-f]{2})/.exec(title)?.[1];
    this.equal(
      "ids",
      `${digits(space.vendorId, 4)}:${digits(space.deviceId, 4)}`,
      /\[([0-9a-f]{4}:[0-9a-f]{4})\]/.exec(title)?.[1],
    );
    this.equal("class", digits(space.classCode >> 8, 4), /\[([0-9a-f]{4})\]:/.exec(title)?.[1]);
    this.equal("interface", space.classCode & 0xff, Number.parseInt(progIf ?? "0", 16));
    this.equal("revision", digits(space.revisionId, 2), /\(rev (..)\)/.exec(title)?.[1] ?? "00");
    if (space.header.layout === "normal") {
      const { subsystem } = space;
      const ours = subsystem && `${digits(subsystem.vendorId, 4)}:${digits(subsystem.id, 4)}`;
      this.equal("subsystem", ours, this.match("Subsystem", /\[([0-9a-f]{4}:[0-9a-f]{4})\]/));
    }
  }

  /**
   * Two things `lspci` sees otherwise. It knows no sizes, so it shows no BAR whose register is 0.
   * Version 3.9 shows the upper half of a 64-bit BAR in a dump as a BAR of its own.
   */
  bars(bars: readonly Bar[]): void {
    const ours = new Map(
      bars.filter((bar) => bar.register !== 0n)
        .map((bar) => [`Region ${bar.index}`, barText(bar)]),
    );
    const upperHalves = bars.filter((bar) => bar.space === "memory" && bar.type === "64-bit")
      .map((bar) => `Region ${bar.index + 1}`);
    const theirs = new Map(
      [...this.#lspci.sections]
        .filter(([label]) => label.startsWith("Region ") && !upperHalves.includes(label))
        .map(([label, text]) => [label, normalRegion(text)]),
    );
    for (const label of new Set([...ours.keys(), ...theirs.keys()])) {
      this.equal(label, ours.get(label), theirs.get(label));
    }
  }

  bridge(header: BridgeHeader): void {
    const buses = this.#lspci.sections.get("Bus") ?? "";
    const bus = (name: string) =>
      Number.parseInt(new RegExp(`\\b${name}=([0-9a-f]+)`).exec(buses)?.[1] ?? "", 16);
    this.equal("primary bus", header.primaryBus, bus("primary"));
    this.equal("secondary bus", header.secondaryBus, bus("secondary"));
    this.equal("subordinate bus", header.subordinateBus, bus("subordinate"));
    this.window("I/O behind bridge", header.ioWindow);
    this.window("Memory behind bridge", header.memoryWindow);
    this.window("Prefetchable memory behind bridge", header.prefetchableWindow);
    this.flags("Secondary status", header.secondaryStatus, SECONDARY_STATUS);
    this.flags("BridgeCtl", header.bridgeControl, BRIDGE_CONTROL);
  }

  cardbus(header: CardbusHeader): void {
    const windows = { "Memory window": header.memoryWindows, "I/O window": header.ioWindows };
    for (const [label, pair] of Object.entries(windows)) {
      for (const [i, { base, limit, enabled, prefetchable }] of pair.entries()) {
        const text = this.#lspci.sections.get(`${label} ${i}`) ?? "";
        const [, theirBase, theirLimit] = /^([0-9a-f]+)-([0-9a-f]+)/.exec(text) ?? [];
        const theirs = theirBase && `${BigInt("0x" + theirBase)}-${BigInt("0x" + theirLimit)}`;
        this.equal(`${label} ${i}`, enabled ? `${base}-${limit}` : undefined, theirs);
        if (enabled) {
          this.equal(`${label} ${i} ahead`, prefetchable, text.includes("(prefetchable)"));
        }
      }
    }
    this.flags("BridgeCtl", header.bridgeControlFlags, CARDBUS_CONTROL);
  }

  /**
   * Earlier versions of `lspci` do not know the latest speeds. For 128GT/s its 3.15 has the code 8,
   * where the bit of Link Capabilities 2 says 7.
   */
  speed(what: string, ours: string, theirs: string | undefined): void {
    if (theirs === "128GT/s" || theirs === "unknown" && LATE_SPEEDS.includes(ours)) return;
    this.equal(what, ours, theirs);
  }

  window(label: string, window: BridgeWindow): void {
    const text = this.#lspci.sections.get(label) ?? "";
    // Of 16 bits lspci 3.13 writes 4 digits, earlier ones 8.
    const [, base, limit] = /([0-9a-f]{4,})-([0-9a-f]{4,})/.exec(text) ?? [];
    const theirs = base && limit && !text.includes("[disabled]")
      ? `${BigInt("0x" + base)}-${BigInt("0x" + limit)}`
      : "disabled";
    this.equal(label, window.enabled ? `${window.base}-${window.limit}` : "disabled", theirs);
    this.equal(`${label}, bits`, `${window.widthBits}`, /\[(\d+)-bit\]/.exec(text)?.[1]);
  }

  /** `lspci` looks for extended capabilities only if there is a PCI Express or PCI-X capability. */
  capabilities(space: ConfigSpace): void {
    const looksFurther = space.capabilities.some(({ id }) => id === 0x10 || id === 0x07);
    const ours = [
      ...space.capabilities,
      ...(looksFurther ? space.extendedCapabilities : []),
    ];
    const theirs = this.#lspci.capabilities;
    const place = ({ offset, version }: { offset: number; version?: number }) =>
      offset.toString(16) + (version === undefined ? "" : ` v${version}`);
    this.equal("capabilities", ours.map(place).join(), theirs.map(place).join());
    for (const capability of ours) {
      const entry = theirs.find(({ offset }) => offset === capability.offset);
      if (entry) this.capability(capability, entry);
    }
  }

  capability(ours: Capability, { head, sections }: LspciCapability): void {
    const what = `[${ours.offset.toString(16)}]`;
    const pattern = (ours.extended ? EXTENDED_HEADS : STANDARD_HEADS)[ours.id];
    if (pattern) this.equal(`${what} is ${ours.name}`, true, pattern.test(head));
    const words = signedWords(head);
    this.rows(what, capabilityRows(ours), sections);
    switch (ours.kind) {
      case "pm":
        this.equal(`${what} version`, `${ours.structureVersion}`, /version (\d)/.exec(head)?.[1]);
        this.equal(
          `${what} state`,
          ours.powerState,
          this.match("Status", /^(\w+)/, sections),
        );
        this.equal(
          `${what} NoSoftRst`,
          ours.noSoftReset,
          signedWords(sections.get("Status") ?? "").get("NoSoftRst"),
        );
        this.equal(
          `${what} PME`,
          ours.pmeSupport.join(),
          Array.from((sections.get("Flags") ?? "").matchAll(/(D\w+)\+(?=[,)])/g), (at) => at[1])
            .join(),
        );
        break;
      case "msi":
        this.equal(`${what} enabled`, ours.enabled, words.get("Enable"));
        this.equal(`${what} maskable`, ours.maskable, words.get("Maskable"));
        this.equal(`${what} 64bit`, ours.addressBits === 64, words.get("64bit"));
        this.equal(
          `${what} count`,
          `${ours.enabledCount}/${ours.capableCount}`,
          /Count=(\S+)/.exec(head)?.[1],
        );
        this.equal(
          `${what} address`,
          ours.address.toString(16).padStart(ours.addressBits / 4, "0"),
          this.match("Address", /^([0-9a-f]+)/, sections),
        );
        break;
      case "msix":
        this.equal(`${what} enabled`, ours.enabled, words.get("Enable"));
        this.equal(`${what} masked`, ours.functionMasked, words.get("Masked"));
        this.equal(`${what} count`, `${ours.tableSize}`, /Count=(\d+)/.exec(head)?.[1]);
        this.place(`${what} table`, ours.tableBar, ours.tableOffset, sections.get("Vector table"));
        this.place(`${what} PBA`, ours.pbaBar, ours.pbaOffset, sections.get("PBA"));
        break;
      case "exp":
        this.express(ours, head, sections);
        break;
      case "vendor":
        if (ours.virtio) {
          const name = VIRTIO_NAMES[ours.virtio.cfgType];
          if (name) this.equal(`${what} virtio`, name, /VirtIO: (\S+)/.exec(head)?.[1]);
        } else {
          const length = /Len=(\w+)/.exec(head)?.[1] ?? ""; // of Intel's, 3.15 has words of its own
          if (length !== "") {
            this.equal(`${what} length`, ours.length.toString(16).padStart(2, "0"), length);
          }
        }
        break;
      case "aer":
        if (ours.root) {
          this.flags("RootCmd", ours.root.command, ERR_ROOT_COMMAND_LABELS, sections);
          this.flags("RootSta", ours.root.status, ERR_ROOT_STATUS_LABELS, sections);
        }
        this.flags("UESta", ours.uncorrectableStatus, UNCORRECTABLE, sections);
        this.flags("UEMsk", ours.uncorrectableMask, UNCORRECTABLE, sections);
        this.flags("UESvrt", ours.uncorrectableSeverity, UNCORRECTABLE, sections);
        this.flags("CESta", ours.correctableStatus, CORRECTABLE, sections);
        this.flags("CEMsk", ours.correctableMask, CORRECTABLE, sections);
        break;
      case "dsn":
        this.equal(what, ours.serialNumber, /Number (\S+)/.exec(head)?.[1]);
        break;
      case "sriov":
        this.equal(
          `${what} VFs`,
          `${ours.initialVfs} ${ours.totalVfs} ${ours.numVfs}`,
          /(\d+), Total VFs: (\d+), Number of VFs: (\d+)/
            .exec(sections.get("Initial VFs") ?? "")?.slice(1).join(" "),
        );
        break;
    }
  }

  /**
   * Compares the words of our rows with those that lspci has at the same label, with a sign or
   * with a value. It has others, too, and leaves out what does not apply.
   */
  rows(
    what: string,
    rows: ReadonlyMap<string, readonly string[]>,
    sections: Map<string, string>,
  ): void {
    for (const [label, words] of rows) {
      const text = sections.get(label) ?? sections.get(label.split(" ")[0]!);
      if (text === undefined) continue;
      const plain = text.replaceAll(/\([^)]*\)/g, "").replaceAll(" to ", "-");
      const signed = signedWords(plain);
      const values = new Map(
        Array.from(
          plain.matchAll(/([\w/.-]+)[=:] ?'?([^\s,;']+)/g),
          ([, key, value]) => [key, value!],
        ),
      );
      for (const word of words) {
        const [, name, sign] = /^(.+?)([+-])$/.exec(word) ?? [];
        const theirs = name && signed.get(name);
        if (theirs !== undefined && !WRONG.has(`${label} ${name}`)) {
          this.equal(`${what} ${label} ${name}`, sign === "+", theirs);
        }
        const [, key, value] = /^(.+?)=(.*)$/.exec(word) ?? [];
        const seen = key && values.get(key);
        if (seen && !isSame(value!, seen)) this.equal(`${what} ${label} ${key}`, value, seen);
      }
    }
  }

  place(what: string, bar: number, offset: number, theirs: string | undefined): void {
    const digits = offset.toString(16).padStart(8, "0");
    this.equal(what, `BAR=${bar} offset=${digits}`, theirs?.trim());
  }

  express(ours: ExpressCapability, head: string, sections: Map<string, string>): void {
    const [, version, type, messageName, message] =
      /^Express \(v(\d+)\) (.*?)(?:, (MSI|IntMsgNum) ([0-9a-f]+))?$/
        .exec(head) ?? [];
    this.equal("Express version", `${ours.structureVersion}`, version);
    this.equal(
      "Express type",
      ours.deviceTypeName.replaceAll("PCI Express", "PCI-Express"),
      type?.replace(/ \(Slot[+-]\)/, ""),
    );
    const base = messageName === "MSI" ? 16 : 10; // from 3.13 on it is decimal
    this.equal("Express message", ours.interruptMessage, Number.parseInt(message ?? "", base));
    this.flags("DevCtl", ours.device.control, DEVICE_CONTROL, sections);
    this.flags("DevSta", ours.device.status, DEVICE_STATUS, sections);
    const { device, link } = ours;
    const control = `${device.maxPayload}, ${device.maxReadRequest}`;
    const [, payload, request] = /MaxPayload (\d+) bytes, MaxReadReq (\d+)/
      .exec(sections.get("DevCtl") ?? "") ?? [];
    this.equal(
      "DevCap payload",
      `${device.maxPayloadSupported}`,
      this.match("DevCap", /MaxPayload (\d+)/, sections),
    );
    this.equal("DevCtl sizes", control, `${payload}, ${request}`);
    if (!link) {
      this.equal("link", undefined, sections.get("LnkCap"));
      return;
    }
    const speed = /Speed ([^\s,]+)/;
    const width = /Width x(\d+)/;
    this.equal("LnkCap port", `${link.port}`, this.match("LnkCap", /Port #(\d+)/, sections));
    this.speed("LnkCap speed", link.maxSpeed, this.match("LnkCap", speed, sections));
    this.equal("LnkCap width", `${link.maxWidth}`, this.match("LnkCap", width, sections));
    const aspm = link.aspmSupport === "none" ? "not supported" : link.aspmSupport;
    this.equal(
      "LnkCap ASPM",
      aspm,
      this.match("LnkCap", /ASPM (not supported|L0s L1|L0s|L1)/, sections),
    );
    const enabled = link.aspmEnabled === "none" ? "Disabled" : `${link.aspmEnabled} Enabled`;
    this.equal("LnkCtl ASPM", enabled, this.match("LnkCtl", /ASPM ([^;]+)/, sections));
    this.speed("LnkSta speed", link.speed, this.match("LnkSta", speed, sections));
    this.equal("LnkSta width", `${link.width}`, this.match("LnkSta", width, sections));
    this.flags("LnkCtl", link.control, LINK_CONTROL, sections);
    if (ours.slot) {
      const { slot } = ours;
      this.flags("SltCtl", slot.control, SLTCTL_LABELS, sections);
      const indicators = /AttnInd (\w+), PwrInd (\w+)/.exec(sections.get("SltCtl") ?? "");
      this.equal(
        "SltCtl indicators",
        `${slot.attentionIndicator}, ${slot.powerIndicator}`,
        indicators?.slice(1).join(", ").toLowerCase(),
      );
      const power = this.match("SltCap", /PowerLimit ([\d.]+)W/, sections);
      this.equal("SltCap power", slot.powerLimitMilliwatts / 1000, Number(power));
    }
    this.flags("LnkSta", link.status, LINK_STATUS, sections);
  }
}

/** Reports whether two texts are the same, or the same number: lspci has some in hexadecimal. */
function isSame(ours: string, theirs: string): boolean {
  if (/^[?<]/.test(theirs) || ours.toLowerCase() === theirs.toLowerCase()) return true;
  if (!/^[0-9a-f]+$/.test(ours) || !/^[0-9a-f]+$/.test(theirs)) return false;
  return [[10, 10], [10, 16], [16, 16]].some(([a, b]) => parseInt(ours, a) === parseInt(theirs, b));
}

function barText(bar: Bar): string {
  const where = bar.address === 0n ? "unassigned" : bar.address.toString(16);
  if (bar.space === "io") return `I/O ports at ${where}`;
  const types = {
    "32-bit": "32-bit",
    "64-bit": "64-bit",
    "below 1M": "low-1M",
    reserved: "type 3",
  };
  const prefetchable = bar.prefetchable ? "prefetchable" : "non-prefetchable";
  return `Memory at ${where} (${types[bar.type]}, ${prefetchable})`;
}

/** Takes leading zeros, brackets and remarks off an address. */
function normalRegion(text: string): string {
  return text.replace(/ at <(unassigned|ignored)>/, " at unassigned")
    .replace(/ at 0*([0-9a-f]+)/, " at $1")
    // What lspci says of address 0 while decoding is enabled
    .replace(/ at 0(?= |$)/, " at unassigned")
    .replace(/(?: \[[^\]]*\])+$/, "");
}
