import { assertEquals, assertThrows } from "@std/assert";
import { findRegister } from "../../../lib/pci/mod.ts";
import { loadRegisterMap, lookupRegister, parseFieldValue } from "../../../lib/registers/mod.ts";

const nvme = await loadRegisterMap("nvme");
const pci = await loadRegisterMap("pci");
const both = [nvme, pci];

Deno.test("lookupRegister() finds registers with and without their map, in upper or lower case", () => {
  for (const text of ["nvme.CSTS", "CSTS", "Nvme.csts", "nvme.CSTS.RDY", "CSTS.rdy"]) {
    const { base, offset, width, register, field } = lookupRegister(both, text);
    assertEquals([base, offset, width, register.name, field?.name], [
      { kind: "region", index: 0 },
      0x1c,
      4,
      "CSTS",
      /rdy/i.test(text) ? "RDY" : undefined,
    ]);
  }
});

Deno.test("lookupRegister() finds registers of arrays and of capabilities", () => {
  const at = (text: string) => lookupRegister(both, text).offset;
  assertEquals([at("SQTDBL[0]"), at("SQTDBL[3]"), at("nvme.CQHDBL[0x3]")], [
    0x1000,
    0x1018,
    0x101c,
  ]);
  assertEquals(at("BASE_ADDRESS[5]"), 0x24);
  assertEquals(lookupRegister(both, "SQTDBL[3].SQT").field?.name, "SQT");
  const { base, offset } = lookupRegister(both, "MSIX_FLAGS.ENABLE");
  assertEquals([base, offset], [{ kind: "capability", name: "CAP_MSIX", instance: 0 }, 2]);
});

Deno.test("lookupRegister() names the nearest right word", () => {
  const cases = {
    "CSTX": '"CSTX" is no register of nvme, pci; did you mean CSTS?',
    "nvm.CSTS": '"nvm" in "nvm.CSTS" is no register of nvme, pci; did you mean nvme?',
    "nvme.COMAND": '"COMAND" in "nvme.COMAND" is no register of nvme',
    "pci.COMAND": '"COMAND" in "pci.COMAND" is no register of pci; did you mean COMMAND?',
    "CSTS.RDX": '"RDX" in "CSTS.RDX" is no field of CSTS; did you mean RDY?',
    "nmve.CSTS.RDY": '"nmve" in "nmve.CSTS.RDY" is no map; did you mean nvme?',
    "SQTDBL": '"SQTDBL" is an array; write SQTDBL[0] to SQTDBL[65535]',
    "SQTDBL[65536]": '"SQTDBL[65536]" is not there; SQTDBL[0] to SQTDBL[65535] are',
    "CSTS[0]": '"CSTS[0]" has an index, but CSTS is a single register',
    "CSTS[": '"CSTS[" is no register; write MAP.REGISTER, as nvme.CSTS',
  };
  for (const [text, message] of Object.entries(cases)) {
    assertEquals(assertThrows(() => lookupRegister(both, text), RangeError).message, message);
  }
});

Deno.test("lookupRegister() asks which map is meant when several have the register", () => {
  assertThrows(
    () => lookupRegister([nvme, { ...nvme, name: "old" }], "CC"),
    RangeError,
    '"CC" is in more than one map; write nvme.CC or old.CC',
  );
});

Deno.test("parseFieldValue() reads numbers and names", () => {
  const value = (place: string, text: string) =>
    parseFieldValue(lookupRegister(both, place).field!, text);
  assertEquals(value("CC.SHN", "0b10"), 2n);
  assertEquals(value("CC.SHN", "abrupt-shutdown"), 2n);
  assertEquals(value("CC.MPS", "64 KiB"), 4n);
  for (
    const [place, text, message] of [
      ["CC.EN", "2", "2 does not fit EN, which has 1 bit: 0"],
      ["CC.SHN", "4", "4 does not fit SHN, which has 2 bits: 15:14"],
      ["CC.SHN", "norml shutdown", 'did you mean "normal shutdown"?'],
      ["CC.SHN", "on", '"on" is no value of SHN; write a number or "none", "normal shutdown"'],
      ["CC.EN", "on", '"on" is no value of EN; write a number'],
    ] as const
  ) assertThrows(() => value(place, text), RangeError, message);
});

Deno.test("the map of PCI has registers where setpci has those of the same name", () => {
  let count = 0;
  for (const { name, region, offset, width } of pci.registers) {
    const theirs = findRegister(name);
    if (region !== "config" || theirs === undefined) continue;
    assertEquals([name, offset, width], [name, theirs.offset, theirs.width]);
    count++;
  }
  assertEquals(count >= 15, true, `${count} registers`);
});
