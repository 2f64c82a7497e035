import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import {
  decodeDmaWriteReply,
  DmaReadReply,
  DmaReadRequest,
  DmaWriteReply,
  DmaWriteRequest,
  ProtocolError,
  RegionReadReply,
  RegionReadRequest,
  RegionWriteMultiReply,
  RegionWriteMultiRequest,
  RegionWriteReply,
  RegionWriteRequest,
} from "../../../lib/wire/mod.ts";
import {
  DmaReadReply32,
  DmaReadRequest32,
  DmaWriteReply32,
  DmaWriteRequest32,
} from "../../../lib/wire/access.ts";
import { assertGolden, concat, hex } from "./_golden.ts";

const REGION_HEAD = "1c 00 00 00 00 00 00 00  07 00 00 00  04 00 00 00";
const DMA_HEAD = "00 10 00 00 01 00 00 00  04 00 00 00 00 00 00 00";
const DATA = "de ad be ef";

Deno.test("REGION_READ and REGION_WRITE have the bytes of the specification", () => {
  for (const codec of [RegionReadRequest, RegionWriteReply]) {
    assertGolden(codec, { offset: 0x1cn, region: 7, count: 4 }, REGION_HEAD);
  }
  for (const codec of [RegionReadReply, RegionWriteRequest]) {
    assertGolden(codec, { offset: 0x1cn, region: 7, data: hex(DATA) }, REGION_HEAD + DATA);
  }
});

Deno.test("DMA_READ and DMA_WRITE have the bytes of the specification", () => {
  for (const codec of [DmaReadRequest, DmaWriteReply]) {
    assertGolden(codec, { address: 0x1_0000_1000n, count: 4n }, DMA_HEAD);
  }
  for (const codec of [DmaReadReply, DmaWriteRequest]) {
    assertGolden(codec, { address: 0x1_0000_1000n, data: hex(DATA) }, DMA_HEAD + DATA);
  }
});

Deno.test("DMA_READ and DMA_WRITE with a count of 32 bits have the bytes of QEMU 10.1", () => {
  const head = "00 10 00 00 01 00 00 00  04 00 00 00";
  for (const codec of [DmaReadRequest32, DmaWriteReply32]) {
    assertGolden(codec, { address: 0x1_0000_1000n, count: 4n }, head);
  }
  for (const codec of [DmaReadReply32, DmaWriteRequest32]) {
    assertGolden(codec, { address: 0x1_0000_1000n, data: hex(DATA) }, head + DATA);
    for (const length of [0, 3, 5]) {
      const payload = concat(hex(head), new Uint8Array(length));
      assertThrows(() => codec.decode(payload), ProtocolError, `${length} bytes of data came`);
    }
  }
  const tooLong = { address: 0n, count: 1n << 32n };
  assertThrows(() => DmaReadRequest32.encode(tooLong), RangeError);
});

Deno.test("DmaReadRequest keeps a count of 64 bits", () => {
  const payload = hex("00 00 00 00 00 00 00 00 ff ff ff ff ff ff ff ff");
  assertEquals(DmaReadRequest.decode(payload).count, 0xffff_ffff_ffff_ffffn);
});

Deno.test("messages with data refuse a count that is not their length", () => {
  for (const codec of [RegionReadReply, RegionWriteRequest, DmaReadReply, DmaWriteRequest]) {
    const head = codec.name.startsWith("DMA") ? DMA_HEAD : REGION_HEAD;
    for (const length of [0, 3, 5]) {
      assertThrows(
        () => codec.decode(concat(hex(head), new Uint8Array(length))),
        ProtocolError,
        `Cannot decode ${codec.name}: count is 4, ${length} bytes of data came`,
      );
    }
  }
});

Deno.test("messages with data decode them as a view", () => {
  const payload = hex(REGION_HEAD + DATA);
  assertStrictEquals(RegionReadReply.decode(payload).data.buffer, payload.buffer);
});

Deno.test("decodeDmaWriteReply() takes the replies of all peers", () => {
  const request = { address: 0x1_0000_1000n, count: 4n };
  assertEquals(decodeDmaWriteReply(hex(DMA_HEAD), request), request);
  assertEquals(decodeDmaWriteReply(hex(DMA_HEAD).subarray(0, 12), request), request);
  assertEquals(decodeDmaWriteReply(new Uint8Array(), request), request);
  for (const length of [1, 11, 13, 15]) {
    assertThrows(() => decodeDmaWriteReply(new Uint8Array(length), request), ProtocolError);
  }
});

Deno.test("REGION_WRITE_MULTI has the bytes of the specification", () => {
  assertGolden(
    RegionWriteMultiRequest,
    {
      writes: [
        { offset: 0x1000n, region: 0, data: hex("05 00 00 00") },
        { offset: 0x28n, region: 2, data: hex("01 02 03 04 05 06 07 08") },
      ],
    },
    "02 00 00 00 00 00 00 00" +
      "00 10 00 00 00 00 00 00  00 00 00 00  04 00 00 00  05 00 00 00 00 00 00 00" +
      "28 00 00 00 00 00 00 00  02 00 00 00  08 00 00 00  01 02 03 04 05 06 07 08",
  );
  assertGolden(RegionWriteMultiReply, { count: 2n }, "02 00 00 00 00 00 00 00");
});

Deno.test("RegionWriteMultiRequest refuses a number of writes that are not there", () => {
  for (const count of ["00", "02", "ff"]) {
    const payload = concat(hex(`${count} 00 00 00 00 00 00 00`), new Uint8Array(24).fill(1));
    assertThrows(() => RegionWriteMultiRequest.decode(payload), ProtocolError, "24 bytes came");
  }
  // 2^61 writes: the product with 24 must not wrap, and nothing be allocated.
  const huge = concat(hex("00 00 00 00 00 00 00 20"), new Uint8Array(0));
  assertThrows(() => RegionWriteMultiRequest.decode(huge), ProtocolError, "0 bytes came");
});

Deno.test("RegionWriteMultiRequest refuses a write of 0 or 9 bytes", () => {
  for (const count of [0, 9]) {
    const payload = new Uint8Array(32);
    payload[0] = 1;
    payload[20] = count;
    assertThrows(
      () => RegionWriteMultiRequest.decode(payload),
      ProtocolError,
      `write 0 has ${count} bytes`,
    );
    const writes = [{ offset: 0n, region: 0, data: new Uint8Array(count) }];
    assertThrows(() => RegionWriteMultiRequest.encode({ writes }), RangeError, "write 0 has");
  }
});
