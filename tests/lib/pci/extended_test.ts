import { assertEquals } from "@std/assert";
import { blank, find } from "./_find.ts";
import { crowdedImage, rootPortImage } from "./_images.ts";

const image = crowdedImage();

Deno.test("AER is decoded", () => {
  const aer = find(rootPortImage(), "aer");
  assertEquals(aer.uncorrectableStatus.set, ["COMP_TIME"]);
  assertEquals(aer.uncorrectableMask.set, ["INTN"]);
  assertEquals(aer.uncorrectableSeverity.set, [
    "DLP",
    "SURPDN",
    "FCP",
    "RX_OVER",
    "MALF_TLP",
    "INTN",
  ]);
  assertEquals(aer.correctableStatus.set, ["RCVR", "ADV_NFAT"]);
  assertEquals(aer.correctableMask.set, ["ADV_NFAT", "INTERNAL", "LOG_OVER"]);
  assertEquals([aer.ecrcGenerationCapable, aer.ecrcGenerationEnabled], [true, false]);
  assertEquals(aer.headerLog, [1, 2, 3, 4]);
});

Deno.test("ACS and DSN are decoded", () => {
  const acs = find(rootPortImage(), "acs");
  assertEquals(acs.capabilities.set, ["SV", "TB", "RR", "CR", "UF"]);
  assertEquals(acs.control.set, ["SV", "RR", "UF"]);
  assertEquals(find(image, "dsn").serialNumber, "aa-bb-cc-dd-11-22-33-44");
});

Deno.test("SR-IOV is decoded", () => {
  const sriov = find(image, "sriov");
  assertEquals([sriov.initialVfs, sriov.totalVfs, sriov.numVfs], [64, 64, 8]);
  assertEquals([sriov.firstVfOffset, sriov.vfStride, sriov.vfDeviceId], [128, 2, 0x10ca]);
  assertEquals(sriov.control.set, ["VFE", "MSE", "ARI"]);
  assertEquals([sriov.supportedPageSizes, sriov.systemPageSize], [0x553, 1]);
});

Deno.test("Resizable BAR is decoded", () => {
  const { resizable } = find(image, "rebar");
  assertEquals(resizable.length, 1);
  assertEquals([resizable[0]!.bar, resizable[0]!.size], [0, 64n << 20n]);
  assertEquals(resizable[0]!.supportedSizes.map((size) => size >> 20n), [
    1n,
    2n,
    4n,
    8n,
    16n,
    32n,
    64n,
    128n,
  ]);
});

Deno.test("Resizable BAR notes a number of BARs that cannot be", () => {
  const rebar = find(blank(4096).extended(0x100, 0x15, 1, 0, 0xe0), "rebar");
  assertEquals([rebar.resizable.length, rebar.notes], [6, ["it says that 7 BARs can be resized"]]);
});

Deno.test("Resizable BAR takes sizes of the second register", () => {
  const rebar = find(blank(4096).extended(0x100, 0x15, 1, 0x8000_0000, 0x0001_0020), "rebar");
  assertEquals(rebar.resizable[0]!.supportedSizes, [1n << 47n, 1n << 48n]);
});

Deno.test("the smaller extended capabilities are decoded", () => {
  assertEquals(find(image, "ari").nextFunction, 1);
  const ats = find(image, "ats");
  assertEquals(
    [ats.enabled, ats.invalidateQueueDepth, ats.smallestTranslationUnitLog2],
    [true, 32, 17],
  );
  const ltr = find(image, "ltr");
  assertEquals([ltr.maxSnoopNs, ltr.maxNoSnoopNs], [32768, 3145728]);
  const pasid = find(image, "pasid");
  assertEquals(
    [pasid.enabled, pasid.execute, pasid.privileged, pasid.widthBits],
    [true, true, true, 20],
  );
  const pri = find(image, "pri");
  assertEquals([pri.enabled, pri.stopped, pri.capacity, pri.allocation], [true, true, 32, 16]);
  const tph = find(image, "tph");
  assertEquals([tph.deviceSpecificMode, tph.stTableLocation, tph.stTableSize], [true, 1, 8]);
  const l1pm = find(image, "l1pm");
  assertEquals([l1pm.capabilities.value, l1pm.control.value], [0x1f, 0x0f]);
  const ptm = find(image, "ptm");
  assertEquals([ptm.clockGranularityNs, ptm.enabled, ptm.root], [10, true, false]);
  const vsec = find(image, "vsec");
  assertEquals([vsec.vsecId, vsec.vsecRevision, vsec.length], [0x4321, 1, 0x10]);
  const dvsec = find(image, "dvsec");
  assertEquals([dvsec.dvsecVendorId, dvsec.dvsecId, dvsec.length], [0x1e98, 8, 0x38]);
  const dpc = find(image, "dpc");
  assertEquals([dpc.interruptMessage, dpc.triggerEnable, dpc.triggered], [16, 1, true]);
  assertEquals(find(image, "vc").extendedCount, 1);
  assertEquals(find(image, "secpci").laneErrorStatus, 1);
});
