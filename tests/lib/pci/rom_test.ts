import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { parseRom } from "../../../lib/pci/rom.ts";
import { runHere, temporaryFolder } from "../../cli/_cli.ts";

/** A ROM of images of 512 bytes, of these code types. */
function rom(...types: number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(512 * types.length);
  const view = new DataView(bytes.buffer);
  for (const [i, type] of types.entries()) {
    const at = 512 * i;
    view.setUint16(at, 0xaa55, true);
    view.setUint16(at + 0x18, 0x1c, true);
    bytes.set(new TextEncoder().encode("PCIR"), at + 0x1c);
    view.setUint16(at + 0x20, 0x8086, true);
    view.setUint16(at + 0x22, 0x100e, true);
    bytes.set([0x00, 0x00, 0x02], at + 0x29);
    view.setUint16(at + 0x2c, 1, true);
    view.setUint16(at + 0x2e, 7, true);
    bytes.set([type, i === types.length - 1 ? 0x80 : 0], at + 0x30);
  }
  return bytes;
}

Deno.test("parseRom() finds the images of a ROM", () => {
  const { images, notes } = parseRom(rom(0, 3));
  assertEquals(notes, []);
  assertEquals(images.map(({ offset, codeType, isLast }) => [offset, codeType, isLast]), [
    [0, 0, false],
    [512, 3, true],
  ]);
  const { vendorId, deviceId, classCode, revision, length } = images[1]!;
  assertEquals([vendorId, deviceId, classCode, revision, length], [
    0x8086,
    0x100e,
    0x020000,
    7,
    512,
  ]);
});

Deno.test("parseRom() says where a ROM is broken, and ends with any bytes", () => {
  const noted = (change: (bytes: Uint8Array) => void) => {
    const bytes = rom(0, 3);
    change(bytes);
    return parseRom(bytes).notes[0];
  };
  assertEquals(noted((bytes) => bytes[0] = 0), "The ROM is broken: no 55 AA at 0x0");
  assertEquals(noted((bytes) => bytes[512] = 0), "The ROM is broken: no 55 AA at 0x200");
  assertEquals(
    noted((bytes) => bytes[0x19] = 0xff),
    "The ROM is broken: no PCIR of the image at 0x0",
  );
  assertEquals(
    noted((bytes) => bytes[0x2c] = 0),
    "The ROM is broken: the image at 0x0 has no length",
  );
  assertEquals(noted((bytes) => bytes[0x2c] = 9), "The ROM is broken: it ends ahead of 0x1200");
  fc.assert(fc.property(fc.uint8Array({ maxLength: 2048 }), (bytes) => {
    parseRom(bytes);
    const tail = rom(0, 3);
    tail.set(bytes.subarray(0, 700), 0x18);
    parseRom(tail);
  }));
});

Deno.test("probe decodes the file of a ROM", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/rom`;
  Deno.writeFileSync(path, rom(0, 3));
  const { code, out } = await runHere(["probe", path]);
  assertEquals([code, out.split("\n")], [0, [
    "Expansion ROM, 1024 bytes",
    "  image  at     bytes  ids        class   revision  code",
    "      0  0x0      512  8086:100e  020000         7  PC BIOS",
    "      1  0x200    512  8086:100e  020000         7  EFI",
    "",
  ]]);
  const { rom: json } = JSON.parse((await runHere(["probe", path, "--json"])).out);
  assertEquals(json.images[1].code_type, 3);
});
