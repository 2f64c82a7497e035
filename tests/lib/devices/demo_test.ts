import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { EINVAL } from "../../../ffi/errno.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { connect } from "../../../lib/client/connect.ts";
import {
  DEMO_DEVICE_ID,
  DEMO_VECTORS,
  DEMO_VENDOR_ID,
  DemoRegister,
} from "../../../lib/devices/demo.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { RemoteError } from "../../../lib/base/errors.ts";
import { parseConfigSpace } from "../../../lib/pci/config_space.ts";
import { DeviceError, type ServedRegion } from "../../../lib/server/served_device.ts";
import { Server } from "../../../lib/server/server.ts";
import { RegionFlags } from "../../../lib/wire/region.ts";
import { testFds } from "../../_fds.ts";

function read32(region: ServedRegion, offset: number): number {
  const bytes = new Uint8Array(4);
  region.read(offset, bytes);
  return new DataView(bytes.buffer).getUint32(0, true);
}

function write32(region: ServedRegion, offset: number, value: number): void {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  region.write(offset, bytes);
}

function withDemo(body: (device: DemoDevice) => void): () => void {
  return () => {
    const device = new DemoDevice();
    try {
      body(device);
    } finally {
      device.close();
    }
  };
}

testFds(
  "the read-only registers ignore writes",
  withDemo(({ regions }) => {
    const bar0 = regions[0]!;
    for (
      const [register, value] of [[DemoRegister.ID, 0x64756676], [DemoRegister.VERSION, 0x10000]]
    ) {
      write32(bar0, register!, 0xffffffff);
      assertEquals(read32(bar0, register!), value!);
    }
    assertEquals(read32(bar0, 0xffc), 0);
  }),
);

testFds(
  "SCRATCH keeps what is written, and COUNTER counts the reads of it",
  withDemo(({ regions }) => {
    const bar0 = regions[0]!;
    write32(bar0, DemoRegister.SCRATCH, 0xdeadbeef);
    assertEquals(read32(bar0, DemoRegister.SCRATCH), 0xdeadbeef);
    assertEquals([1, 2].map(() => read32(bar0, DemoRegister.COUNTER)), [1, 2]);
    write32(bar0, DemoRegister.COUNTER, 0xfffffffe);
    assertEquals([1, 2].map(() => read32(bar0, DemoRegister.COUNTER)), [0xffffffff, 0]);
  }),
);

testFds(
  "RESULT has the complement of OPERAND after 10 busy reads of STATUS",
  withDemo(({ regions }) => {
    const bar0 = regions[0]!;
    assertEquals(read32(bar0, DemoRegister.STATUS), 1);
    write32(bar0, DemoRegister.OPERAND, 0x0000ffff);
    assertEquals(read32(bar0, DemoRegister.OPERAND), 0);
    for (let i = 0; i < 10; i++) {
      assertEquals(read32(bar0, DemoRegister.RESULT), 0);
      assertEquals(read32(bar0, DemoRegister.STATUS), 2);
    }
    assertEquals(read32(bar0, DemoRegister.STATUS), 1);
    assertEquals(read32(bar0, DemoRegister.RESULT), 0xffff0000);
  }),
);

testFds(
  "registers are 4 bytes wide: other accesses are refused with EINVAL",
  withDemo(({ regions }) => {
    const bar0 = regions[0]!;
    for (const [offset, count] of [[0, 1], [0, 2], [0, 8], [1, 4], [2, 4], [0, 4096]] as const) {
      for (const access of [bar0.read, bar0.write]) {
        const bytes = new Uint8Array(count);
        const error = assertThrows(() => access.call(bar0, offset, bytes), DeviceError);
        assertEquals(error.errno, EINVAL);
      }
    }
  }),
);

testFds(
  "the MSI-X table can be written, its vectors start out masked; the rest can't",
  withDemo((device) => {
    const bar4 = device.regions[4]!;
    for (let vector = 0; vector < DEMO_VECTORS; vector++) {
      assertEquals(read32(bar4, vector * 16 + 12), 1);
      write32(bar4, vector * 16, 0xfee00000);
      assertEquals(read32(bar4, vector * 16), 0xfee00000);
    }
    bar4.write(60, new Uint8Array(8).fill(0xff)); // the last word of the table, and what follows
    // of the vector's control only the mask bit is there
    assertEquals([read32(bar4, 60), read32(bar4, 64)], [1, 0]);
    bar4.write(0x800, new Uint8Array(8).fill(0xff));
    assertEquals(read32(bar4, 0x800), 0);
    device.reset();
    assertEquals([read32(bar4, 0), read32(bar4, 60)], [0, 1]);
  }),
);

testFds(
  "reset() puts registers and configuration space back; memory keeps what it holds",
  withDemo((device) => {
    const [bar0, , bar2] = device.regions;
    const config = device.regions[7]!;
    write32(bar0!, DemoRegister.SCRATCH, 5);
    write32(bar0!, DemoRegister.OPERAND, 5);
    write32(bar2!, 0x1000, 5);
    write32(config, 0x04, 0x7);
    write32(config, 0x10, 0x80000000);
    device.reset();
    const { SCRATCH, STATUS, RESULT } = DemoRegister;
    assertEquals([SCRATCH, STATUS, RESULT].map((at) => read32(bar0!, at)), [0, 1, 0]);
    assertEquals(read32(bar2!, 0x1000), 5);
    assertEquals([read32(config, 0x10), read32(config, 0x04) & 0xffff], [0, 0]);
  }),
);

testFds(
  "a function level reset does what reset() does",
  withDemo((device) => {
    const [bar0] = device.regions;
    const config = device.regions[7]!;
    write32(bar0!, DemoRegister.SCRATCH, 5);
    const devctl = read32(config, 0x68) & 0xffff;
    config.write(0x68, new Uint8Array([devctl & 0xff, devctl >> 8]));
    assertEquals(read32(bar0!, DemoRegister.SCRATCH), 5);
    config.write(0x68, new Uint8Array([devctl & 0xff, devctl >> 8 | 0x80]));
    assertEquals(read32(bar0!, DemoRegister.SCRATCH), 0);
    assertEquals(read32(config, 0x68) & 0xffff, devctl); // Initiate FLR reads as 0
  }),
);

testFds(
  "STATUS shows the level of the pin",
  withDemo((device) => {
    const [bar0] = device.regions;
    const status = () => read32(device.regions[7]!, 4) >>> 16 & 8;
    assertEquals(status(), 0);
    write32(bar0!, DemoRegister.INTX_LEVEL, 1);
    assertEquals(status(), 8);
    write32(bar0!, DemoRegister.INTX_LEVEL, 0);
    assertEquals(status(), 0);
    write32(bar0!, DemoRegister.INTX_LEVEL, 1);
    device.reset();
    assertEquals(status(), 0);
  }),
);

testFds(
  "the configuration space is one that the decoder understands whole",
  withDemo(({ regions }) => {
    const bytes = new Uint8Array(4096);
    regions[7]!.read(0, bytes);
    const space = parseConfigSpace(bytes, {
      regionSizes: (index) => BigInt(regions[index]?.size ?? 0),
    });
    assertEquals([space.vendorId, space.deviceId], [DEMO_VENDOR_ID, DEMO_DEVICE_ID]);
    const msix = new Uint8Array(2);
    regions[7]!.read(0x52, msix);
    assertEquals(msix[0]! + 1, DEMO_VECTORS);
  }),
);

testFds("a client finds regions, IRQ indexes and memory as they are described", async () => {
  const [a, b] = UnixSocket.pair();
  using server = Server.serve(a.release(), new DemoDevice());
  const client = await connect(b.release());
  assertEquals(await client.info(), { flags: 3, numRegions: 9, numIrqs: 5 });
  const sizes: bigint[] = [];
  for (let index = 0; index < 9; index++) sizes.push((await client.regionInfo(index)).size);
  assertEquals(sizes, [4096n, 0n, 65536n, 0n, 4096n, 0n, 0n, 4096n, 0n]);
  const { flags, fds, capabilities } = await client.regionInfo(2);
  assertEquals([(flags & RegionFlags.MMAP) !== 0, fds.length, capabilities.length], [true, 1, 1]);
  const counts: number[] = [];
  for (let index = 0; index < 5; index++) counts.push((await client.irqInfo(index)).count);
  assertEquals(counts, [1, 0, DEMO_VECTORS, 1, 1]);
  const config = await client.readConfigSpace();
  assertEquals([config[0], config[1]], [DEMO_VENDOR_ID & 0xff, DEMO_VENDOR_ID >> 8]);
  const error = await assertRejects(() => client.readRegion(0, 1n, 4), RemoteError);
  assertMatch(error.message, /^Cannot read 4 bytes of bar0 at 0x1: the server answered EINVAL/);
  client.close();
  await server.closed;
});
