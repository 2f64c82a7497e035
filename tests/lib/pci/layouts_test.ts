/**
 * Registers that tables describe. The bytes are made by hand of the specifications' figures.
 */

import { assert, assertEquals } from "@std/assert";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import type { DecodedRegister } from "../../../lib/pci/layout.ts";
import { configSpaceText } from "../../../lib/pci/text.ts";
import { blank } from "./_find.ts";
import type { ConfigImage } from "./_images.ts";

/** The lines of the last capability below its name, without their indent. */
function rows(image: ConfigImage): string[] {
  const lines = configSpaceText(parseConfigSpace(image.bytes)).map((line) => line.trimEnd());
  const start = lines.findLastIndex((line) => /^ {2}\[[0-9a-f]+/.test(line));
  const end = lines.findIndex((line, i) => i > start && !line.startsWith("    "));
  return lines.slice(start + 1, end < 0 ? undefined : end)
    .join("\n").replaceAll(/\n {8}/g, " ").split("\n").map((line) => line.trim())
    .filter((line) => line !== "");
}

const extended = (id: number, ...dwords: number[]) => blank(4096).extended(0x100, id, 1, ...dwords);

function registersOf(image: ConfigImage): DecodedRegister[] {
  const space = parseConfigSpace(image.bytes);
  return [...space.capabilities, ...space.extendedCapabilities][0]!.registers!;
}

Deno.test("Data Object Exchange shows its three registers, and not its mailboxes", () => {
  assertEquals(rows(extended(0x2e, 0x0000_000b, 0x2, 0x8000_0004, 0x1234, 0x5678)), [
    "DOECap: IntSup+ IntMsgNum=5",
    "DOECtl: IntEn+",
    "DOESta: Busy- IntSta- Error+ ObjectReady+",
  ]);
});

Deno.test("a register has its name, place, value and fields", () => {
  const [capability] = registersOf(extended(0x2e, 0xb));
  assertEquals(capability, {
    name: "DOECap",
    offset: 4,
    width: 4,
    value: 0xb,
    fields: [{ name: "IntSup", value: true }, { name: "IntMsgNum", value: 5 }],
  });
});

Deno.test("L1 substates have their times", () => {
  const image = extended(0x1e, 0x0028_ff1f, 0x6010_0a0f, 0x0000_0029);
  assertEquals(rows(image), [
    "L1SubCap: PCI-PM_L1.2+ PCI-PM_L1.1+ ASPM_L1.2+ ASPM_L1.1+ L1_PM_Substates+ " +
    "CommonModeRestoreTime=255us PwrOnTime=10us",
    "L1SubCtl1: PCI-PM_L1.2+ PCI-PM_L1.1+ ASPM_L1.2+ ASPM_L1.1+ T_CommonMode=10us " +
    "LTR1.2_Threshold=524288ns",
    "L1SubCtl2: T_PwrOn=50us",
  ]);
});

Deno.test("a virtual channel has its arbitration, and more channels as many as it says", () => {
  const channel = [0x0307_8011, 0x8106_0081, 0x0002_0000];
  const image = extended(0x02, 0x0000_0411, 0x0000_0003, 0x0001_0002, ...channel, ...channel);
  assertEquals(rows(image).slice(0, 7), [
    "Caps: LPEVC=1 RefClk=100ns PATEntryBits=2",
    "Arb: Fixed+ WRR32+ WRR64- WRR128-",
    "Ctrl: ArbSelect=WRR32",
    "Status: InProgress+",
    "VC0 Caps: PATOffset=03 MaxTimeSlots=8 RejSnoopTrans+ Fixed+ WRR32- WRR64- WRR128- TWRR128+ " +
    "WRR256-",
    "VC0 Ctrl: Enable+ ID=1 ArbSelect=WRR128 TC/VC=81",
    "VC0 Status: NegoPending+ InProgress-",
  ]);
  assertEquals(rows(image).filter((row) => row.startsWith("VC1")).length, 3);
});

Deno.test("Multicast has its groups and masks of 64 bits", () => {
  const image = extended(
    0x12,
    0x8003_8007,
    0x0000_100c,
    1,
    0x2,
    0,
    0xffff_ffff,
    0x8000_0000,
    0,
    0,
    6,
  );
  const [capability, control, bar, receive, block] = rows(image);
  assertEquals([capability, control, bar, receive, block], [
    "McastCap: MaxGroups=8 WindowSize=0 ECRCRegen+",
    "McastCtl: NumGroups=4 Enable+",
    "McastBAR: IndexPos=12 BasePage=0000000100001",
    "McastReceiveVec: 0000000000000002",
    "McastBlockAllVec: 80000000ffffffff",
  ]);
});

Deno.test("SR-IOV shows BARs of its virtual functions, PRI, PASID and ARI their bits", () => {
  const sriov = extended(
    0x10,
    0x0060_0004,
    0x20,
    0,
    0,
    0,
    0,
    0,
    0,
    0xfe00_000c,
    0x1,
    0,
    0,
    0,
    0,
    0x803,
  );
  const shown = rows(sriov);
  assert(shown.includes("IOVCap: Migration- 10BitTagReq+ IntMsgNum=3"));
  assert(shown.some((row) => /^IOVCtl: .*ARIHierarchy- 10BitTagReq\+$/.test(row)));
  assert(shown.includes("VF BAR 0: memory, 64-bit, prefetchable, at 1fe000000"));
  assert(shown.includes("VF Migration: BIR=3 Offset=00000800"));
  assertEquals(rows(extended(0x13, 0x8101_0001)), [
    "PRICtl: Enable+ Reset-",
    "PRISta: RF+ UPRGI- Stopped+ PASID+",
  ]);
  assertEquals(rows(extended(0x1b, 0x0005_1406)), [
    "PASIDCap: Exec+ Priv+ Width=20",
    "PASIDCtl: Enable+ Exec- Priv+",
  ]);
  assertEquals(rows(extended(0x0e, 0x0032_0201)), [
    "ARICap: MFVC+ ACS- NextFunction=2",
    "ARICtl: MFVC- ACS+ FunctionGroup=3",
  ]);
});

Deno.test("DPC of a root port shows its errors of programmed I/O", () => {
  const image = extended(0x1d, 0x0001_1023, 0x0208_0009, 0x10, 0x20, 0x30, 0x40, 0x50);
  assertEquals(rows(image), [
    "DpcCap: IntMsgNum=3 RPExt+ PoisonedTLP- SwTrigger- PioLog=0 DL_ActiveErr+",
    "DpcCtl: Trigger=1 Cmpl- INT- ErrCor- PoisonedTLP- SwTrigger- DL_ActiveErr-",
    "DpcSta: Trigger+ Reason=0 INT+ RPBusy- TriggerExt=0 PioErrPtr=00",
    "Source: 0208",
    "PioStatus: 00000010",
    "PioMask: 00000020",
    "PioSeverity: 00000030",
    "PioSysError: 00000040",
    "PioException: 00000050",
  ]);
});

Deno.test("links and streams end with the space, however many are announced", () => {
  const links = registersOf(extended(0x05, 0x0102_ff00));
  assertEquals(links.at(-1)!.offset, 0xef8);
  const streams = registersOf(extended(0x30, 0x00ff_0002));
  assert(streams.every(({ offset, width }) => 0x100 + offset + width <= 0x1000));
  assert(streams.length > 100);
});

Deno.test("CXL's capabilities end where their length says", () => {
  const cxl = (length: number, id: number, ...dwords: number[]) =>
    extended(0x23, length * 2 ** 20 + 0x1e98, id, ...dwords);
  assertEquals(rows(cxl(0x0e, 0, 0x4001_0007)), [
    "CXLCap: Cache- IO- Mem- MemHWInit- HDMCount=0 Viral-",
    "CXLCtl: Cache+ IO+ Mem+ CacheSFCov=0 CacheSFGran=0 CacheClean- Viral-",
  ]);
  const locator = rows(cxl(0x1c, 8, 0x0001_0302, 0x1));
  assertEquals(locator.slice(0, 2), [
    "Block1: BAR=2 ID=device OffsetLow=0001",
    "Block1 High: 00000001",
  ]);
  assertEquals(locator.length, 4);
  assertEquals(rows(cxl(0xfff, 0x77)), []);
  // Another vendor's capability of the same id is not CXL's.
  assertEquals(rows(extended(0x23, 0x03c0_8086, 0)), []);
});

Deno.test("Enhanced Allocation has entries of 32 and 64 bits", () => {
  const image = blank().capability(0x40, 0x14, 2)
    .u32(0x44, 0x8001_0032, 0xfe00_0000, 0x000f_fffc, 0xc000_0004, 0x3, 0xffff_fffe, 0x7, 0x1);
  assertEquals(rows(image), [
    "Entry 0: Enable+ Writable- EntrySize=2 BEI=3 Primary=non-prefetchable Secondary=prefetchable",
    "Entry 0 Base: Low=fe000000",
    "Entry 0 MaxOffset: Low=000ffffc",
    "Entry 1: Enable+ Writable+ EntrySize=4 BEI=0 Primary=non-prefetchable " +
    "Secondary=non-prefetchable",
    "Entry 1 Base: Low=00000000",
    "Entry 1 MaxOffset: Low=fffffffc",
    "Entry 1 BaseHigh: 00000007",
    "Entry 1 MaxOffsetHigh: 00000001",
  ]);
  const bridge = blank().u8(0x0e, 1).capability(0x40, 0x14, 1, 0x0302);
  assertEquals(rows(bridge)[0], "Buses: Secondary=02 Subordinate=03");
});

Deno.test("PCI-X has registers of its own on a bridge", () => {
  const words = [0x0047, 0x0817, 0x4003];
  assertEquals(rows(blank().capability(0x40, 0x07, ...words)), [
    "Command: DPERE+ ERO+ RBC=1024 OST=8",
    "Status: Function=7 Device=02 Bus=08 64bit+ 133MHz+ SCD- USC- DC=simple DMMRBC=512 DMOST=1 " +
    "DMCRS=8 RSCEM- 266MHz+ 533MHz-",
  ]);
  assertEquals(rows(blank().u8(0x0e, 1).capability(0x40, 0x07, ...words, 1, 2, 3, 4)), [
    "Secondary Status: 64bit+ 133MHz+ SCD+ USC- SCO- SRD- Freq=66MHz",
    "Status: Function=7 Device=02 Bus=08 64bit+ 133MHz+ SCD- USC- SCO- SRD-",
    "Upstream: Capacity=1 CommitmentLimit=2",
    "Downstream: Capacity=3 CommitmentLimit=4",
  ]);
});

Deno.test("registers past the end of a short space are left out, with a note", () => {
  const { bytes } = extended(0x2e, 0xb, 2);
  const { extendedCapabilities: [doe] } = parseConfigSpace(bytes.subarray(0, 0x10a));
  assertEquals(doe!.registers!.map(({ name }) => name), ["DOECap"]);
  assertEquals(doe!.notes, ["it reaches past the end of the configuration space"]);
});
