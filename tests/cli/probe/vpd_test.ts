import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { TimeoutError } from "../../../lib/base/errors.ts";
import { connect } from "../../../lib/client/connect.ts";
import { readVpd } from "../../../lib/client/vpd.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { Server } from "../../../lib/server/server.ts";
import type { ServedDevice, ServedRegion } from "../../../lib/server/served_device.ts";
import { PciRegion, RegionFlags } from "../../../lib/wire/region.ts";
import { testFds } from "../../_fds.ts";
import { ConfigImage } from "../../lib/pci/_images.ts";
import { boardVpd } from "../../lib/pci/_vpd.ts";
import { assertGolden, runHere, temporaryFolder } from "../_cli.ts";

const VPD = 0x40;

/** A device with a VPD capability, as hardware has it, and a log of writes. */
class Board extends DemoDevice implements ServedDevice {
  /** Offset and bytes of each write to configuration space. */
  readonly writes: [offset: number, length: number][] = [];
  /** Addresses that were read. */
  readonly addresses: number[] = [];
  override readonly regions: readonly (ServedRegion | undefined)[];

  /** @param memory what its VPD holds; a board without an answer has none */
  constructor(memory: Uint8Array | undefined) {
    super();
    const image = new ConfigImage(256, 0x1234, 0x5678, 0x020000).capability(VPD, 0x03);
    const view = new DataView(image.bytes.buffer);
    const config: ServedRegion = {
      flags: RegionFlags.READ | RegionFlags.WRITE,
      size: 256,
      read: (offset, into) => into.set(image.bytes.subarray(offset, offset + into.length)),
      write: (offset, data) => {
        this.writes.push([offset, data.length]);
        const address = data[0]! | data[1]! << 8;
        if (memory === undefined || address & 0x8000) return;
        this.addresses.push(address);
        for (let i = 0; i < 4; i++) view.setUint8(VPD + 4 + i, memory[address + i] ?? 0xff);
        view.setUint16(VPD + 2, address | 0x8000, true);
      },
    };
    this.regions = Array.from({ length: 9 }, (_, i) => i === 7 ? config : undefined);
  }
}

testFds("probe --vpd reads the VPD of a device, and writes only the address", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/board.sock`;
  const device = new Board(boardVpd());
  using _server = Server.listen(path, device);
  const { code, out, err } = await runHere(["probe", path, "--vpd"]);
  assertEquals([code, err], [0, ""]);
  assertGolden("probe-vpd.txt", out);
  assert(device.writes.every(([offset, length]) => offset === VPD + 2 && length === 2));
  // Each word once, and none behind the end tag.
  const words = Math.ceil(boardVpd().length / 4);
  assertEquals(device.addresses, Array.from({ length: words }, (_, i) => 4 * i));
  const { vpd } = JSON.parse((await runHere(["probe", path, "--vpd", "--json"])).out);
  assertEquals([vpd.data, vpd.checksum_good], [boardVpd().toHex(), true]);
  assertEquals(vpd.resources[1].fields[1], {
    keyword: "SN",
    name: "Serial number",
    offset: 30,
    bytes: "30303432",
    text: "0042",
  });
});

testFds("probe --vpd decodes a file", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/vpd`;
  const bytes = boardVpd();
  bytes[4] = 0x1b; // a control character in the identifier
  Deno.writeFileSync(path, bytes);
  const { code, out } = await runHere(["probe", path, "--vpd"]);
  assertEquals(code, 0);
  assertMatch(out, /identifier +E\\u001bample Adapter/);
  assertMatch(out, /RV +Checksum +wrong, 2 bytes reserved/);
  // A VPD address reaches 32 KiB.
  Deno.truncateSync(path, 0x8001);
  const { err } = await runHere(["probe", path, "--vpd"]);
  assertEquals(err, `vfu: Cannot decode ${path}: it has more than 32 KiB\n`);
});

testFds("probe --vpd ends with endless data, empty memory, and no answer", async () => {
  await using folder = temporaryFolder();
  const probe = async (device: ServedDevice) => {
    const path = `${folder.path}/board.sock`;
    using _server = Server.listen(path, device);
    return await runHere(["probe", path, "--vpd"]);
  };
  const endless = new Board(new Uint8Array(0x8000).fill(0x08));
  const { code, out } = await probe(endless);
  assertEquals([code, endless.addresses.length], [0, 0x2000]);
  assertMatch(out, /there is no end tag by 0x8000/);
  const empty = await probe(new Board(new Uint8Array()));
  assertEquals(
    empty.out,
    "Vital Product Data, 0 bytes\n  The data is broken: no resource at 0x0\n",
  );
  const silent = await probe(new Board(undefined));
  assertEquals(silent.code, 1);
  assertMatch(silent.err, /did not set the flag of its address register within 500 ms/);
  const without = await probe(new DemoDevice());
  assertMatch(without.err, /the device has no VPD capability/);
});

testFds("readVpd() ends with a device that takes too long for all of it", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/board.sock`;
  const endless = new Board(new Uint8Array(0x8000).fill(0x08));
  using _server = Server.listen(path, endless);
  using device = await connect(path);
  await device.regionInfo(PciRegion.CONFIG);
  const reading = readVpd(device.region("config"), VPD, {}, 0);
  await assertRejects(() => reading, TimeoutError, "gave 4 bytes, and no end tag, within 0 ms");
  // What is whole by then is no failure.
  const whole = new Board(Uint8Array.of(0x78));
  const other = `${folder.path}/whole.sock`;
  using _other = Server.listen(other, whole);
  using short = await connect(other);
  await short.regionInfo(PciRegion.CONFIG);
  assertEquals((await readVpd(short.region("config"), VPD, {}, 0)).length, 4);
});
