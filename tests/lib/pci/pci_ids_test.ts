import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { PciIds } from "../../../lib/pci/pci_ids.ts";

const TEXT = `# A comment
0001  First
1b36  Red Hat, Inc.
	000c  PCIe Root port
# a comment inside
	0010  NVM Express Controller
		1af4 1100  A board
		1af4 1101  Another
	0011  Other
1b37  Next
	0010  Of the next
	00ff
C 01  Mass storage controller
	08  Non-Volatile memory controller
		02  NVM Express
C 02  Network controller
	00  Ethernet controller
`;

Deno.test("PciIds finds vendors, devices and subsystems", () => {
  const ids = new PciIds(TEXT);
  assertEquals(ids.vendor(0x0001), "First");
  assertEquals(ids.vendor(0x1b36), "Red Hat, Inc.");
  assertEquals(ids.device(0x1b36, 0x0010), "NVM Express Controller");
  assertEquals(ids.device(0x1b37, 0x0010), "Of the next");
  assertEquals(ids.subsystem(0x1b36, 0x0010, 0x1af4, 0x1101), "Another");
});

Deno.test("PciIds stays inside the block that it looks in", () => {
  const ids = new PciIds(TEXT);
  assertEquals(ids.vendor(0x1b38), undefined);
  assertEquals(ids.device(0x0001, 0x0010), undefined);
  assertEquals(ids.device(0x1b37, 0x0011), undefined);
  assertEquals(ids.device(0x1b37, 0x00ff), undefined);
  assertEquals(ids.subsystem(0x1b36, 0x000c, 0x1af4, 0x1100), undefined);
});

Deno.test("PciIds finds class names", () => {
  const ids = new PciIds(TEXT);
  assertEquals(ids.classNames(0x010802), {
    base: "Mass storage controller",
    sub: "Non-Volatile memory controller",
    progIf: "NVM Express",
  });
  assertEquals(ids.classNames(0x020802), { base: "Network controller" });
});

Deno.test("PciIds takes any text", () => {
  const pieces = fc.constantFrom("\n", "\t", "1b36  ", "0010  ", "C 01  ", "x", "#", "\r", " ");
  fc.assert(fc.property(fc.array(pieces, { maxLength: 60 }), (parts) => {
    const ids = new PciIds(parts.join(""));
    ids.subsystem(0x1b36, 0x0010, 0x1b36, 0x0010);
    ids.classNames(0x010000);
  }));
});

Deno.test("PciIds.open() reads the first file that is there, compressed or not", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const plain = `${folder}/pci.ids`;
    const compressed = `${folder}/pci.ids.gz`;
    await Deno.writeTextFile(plain, TEXT);
    await Deno.writeFile(
      compressed,
      new Blob([TEXT]).stream().pipeThrough(new CompressionStream("gzip")),
    );
    for (const path of [plain, compressed]) {
      const ids = await PciIds.open([`${folder}/missing`, folder, path]);
      assertEquals(ids?.vendor(0x1b36), "Red Hat, Inc.");
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("PciIds.open() is undefined without a file, without gzip inside, and when it is too large", async () => {
  const folder = await Deno.makeTempDir();
  try {
    assertEquals(await PciIds.open([`${folder}/missing`]), undefined);
    await Deno.writeTextFile(`${folder}/bad.gz`, TEXT);
    assertEquals(await PciIds.open([`${folder}/bad.gz`]), undefined);
    // A small file that grows without end when it is decompressed.
    const zeros = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start(controller) {
        for (let mebibyte = 0; mebibyte < 33; mebibyte++) {
          controller.enqueue(new Uint8Array(1 << 20));
        }
        controller.close();
      },
    });
    const bomb = `${folder}/bomb.gz`;
    await Deno.writeFile(bomb, zeros.pipeThrough(new CompressionStream("gzip")));
    assert((await Deno.stat(bomb)).size < 1 << 20);
    assertEquals(await PciIds.open([bomb]), undefined);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test({
  name: "PciIds.open() is undefined without permission to read",
  permissions: { read: false },
  fn: async () => {
    assertEquals(await PciIds.open(), undefined);
  },
});
