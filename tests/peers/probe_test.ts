/**
 * `vfu probe` on real devices, held against what those devices are known to be.
 * The output is also held against what lspci says of the same configuration space.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { vfuAt } from "./_vfu.ts";
import { compareWithLspci } from "./lspci.ts";
import {
  GPIO,
  type Peer,
  type PeerFacts,
  QEMU_DEVICES,
  type QemuDeviceName,
  SAMPLE_DEVICES,
  startGpio,
  startQemu,
  startSample,
} from "./peers.ts";
import { parseConfigSpace } from "../../lib/pci/mod.ts";

const REGION_NAMES = ["bar0", "bar1", "bar2", "bar3", "bar4", "bar5", "rom", "config", "vga"];
const IRQ_NAMES = ["intx", "msi", "msix", "err", "req"];

/** Runs `vfu probe`, which is to succeed. */
async function probe(path: string, ...args: string[]): Promise<string> {
  const { code, out, err } = await vfuAt(path, "probe", ...args);
  assertEquals(code, 0, err);
  return out;
}

/** Probes a device three ways, each with a peer of its own: QEMU ends when its client goes. */
async function checkProbe(start: () => Promise<Peer>, facts: PeerFacts): Promise<void> {
  {
    await using peer = await start();
    checkJson(JSON.parse(await probe(peer.socketPath, "--json")), facts);
  }
  {
    await using peer = await start();
    checkText(await probe(peer.socketPath), facts);
  }
  await using peer = await start();
  await checkLspci(await probe(peer.socketPath, "--lspci"), facts);
}

// deno-lint-ignore no-explicit-any
function checkJson(json: any, facts: PeerFacts): void {
  assertEquals([json.version.major, json.version.minor], [...facts.version]);
  assertEquals(json.device.num_regions, facts.numRegions);
  const present = json.regions.filter((region: { size: number }) => region.size > 0);
  assertEquals(
    Object.fromEntries(
      present.map((region: { index: number; size: number }) => [region.index, region.size]),
    ),
    facts.regions,
  );
  const mappable = present.filter((region: { flag_names: string[] }) =>
    region.flag_names.includes("mmap")
  );
  assertEquals(mappable.map((region: { index: number }) => region.index), [...facts.mmapRegions]);
  assertEquals(json.irqs.map((irq: { count: number }) => irq.count), [...facts.irqs]);
  assertEquals([json.pci.space.vendor_id, json.pci.space.device_id], [facts.vendor, facts.device]);
}

function checkText(text: string, facts: PeerFacts): void {
  for (const line of text.split("\n")) {
    assert(line.length <= 80, `A line is longer than 80: ${line}`);
  }
  assertStringIncludes(text, `Version  ${facts.version.join(".")}`);
  const hex = (value: number) => value.toString(16).padStart(4, "0");
  assertStringIncludes(text, `${hex(facts.vendor)}:${hex(facts.device)}`);
  for (const [index, size] of Object.entries(facts.regions)) {
    const name = REGION_NAMES[Number(index)] ?? `region ${index}`;
    assert(
      new RegExp(`^ +${index}  ${name} +0x${size.toString(16)}  `, "m").test(text),
      `${name} of ${size} is not shown`,
    );
  }
  for (const [index, count] of facts.irqs.entries()) {
    assert(
      new RegExp(`^ +${index}  ${IRQ_NAMES[index]} +${count}\\b`, "m").test(text),
      `${IRQ_NAMES[index]} is not shown`,
    );
  }
}

async function checkLspci(dump: string, facts: PeerFacts): Promise<void> {
  const bytes = dump.split("\n").flatMap((line) => {
    const match = /^[0-9a-f]{2,3}: ((?:[0-9a-f]{2} ?)+)$/.exec(line);
    return match ? match[1]!.trim().split(" ").map((byte) => parseInt(byte, 16)) : [];
  });
  const config = new Uint8Array(bytes);
  assertEquals(config.length, facts.regions[7]);
  const space = parseConfigSpace(config);
  assertEquals(await compareWithLspci(config, space), []);
}

for (const name of Object.keys(QEMU_DEVICES) as QemuDeviceName[]) {
  Deno.test(`vfu probe shows QEMU's ${name} as it is`, () =>
    checkProbe(() => startQemu(name), QEMU_DEVICES[name]));
}

Deno.test("vfu probe shows the crate's gpio as it is", () => checkProbe(startGpio, GPIO));

Deno.test("vfu probe shows libvfio-user's sample server, with its sparse areas, as it is", () =>
  checkProbe(() => startSample("server"), SAMPLE_DEVICES.server));
