/**
 * Configuration spaces for tests, built by hand from what the devices are known to have.
 *
 * @module
 */

/**
 * A configuration space under construction: registers are put, capabilities linked as they come.
 */
export class ConfigImage {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  #pointer = 0x34;
  #lastExtended: number | undefined;

  constructor(size: 256 | 4096, vendorId: number, deviceId: number, classCode: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
    this.u16(0x00, vendorId).u16(0x02, deviceId).u32(0x08, classCode << 8);
  }

  u8(offset: number, ...values: number[]): this {
    this.bytes.set(values, offset);
    return this;
  }

  u16(offset: number, ...values: number[]): this {
    values.forEach((value, at) => this.#view.setUint16(offset + 2 * at, value, true));
    return this;
  }

  u32(offset: number, ...values: number[]): this {
    values.forEach((value, at) => this.#view.setUint32(offset + 4 * at, value, true));
    return this;
  }

  /** Appends a standard capability to the list; `words` begin at its third byte. */
  capability(offset: number, id: number, ...words: number[]): this {
    this.u16(0x06, this.#view.getUint16(0x06, true) | 0x10);
    this.u8(this.#pointer, offset).u8(offset, id, 0).u16(offset + 2, ...words);
    this.#pointer = offset + 1;
    return this;
  }

  /** Appends an extended capability to the list; `dwords` begin after its header. */
  extended(offset: number, id: number, version: number, ...dwords: number[]): this {
    if (this.#lastExtended !== undefined) {
      const header = this.#view.getUint32(this.#lastExtended, true);
      this.u32(this.#lastExtended, (header | offset << 20) >>> 0);
    }
    this.u32(offset, (id | version << 16) >>> 0, ...dwords);
    this.#lastExtended = offset;
    return this;
  }
}

/** QEMU's nvme as its vfio-user server shows it before anybody assigned addresses. */
export function nvmeImage(): ConfigImage {
  return new ConfigImage(4096, 0x1b36, 0x0010, 0x010802)
    .u8(0x08, 0x02)
    .u32(0x10, 0x00000004)
    .u16(0x2c, 0x1af4, 0x1100)
    .u8(0x3d, 1)
    .capability(0x40, 0x11, 64, 0x2000, 0, 0x3000, 0)
    .capability(0x80, 0x10, 0x0002, 0x8000, 0x1000, 0x2810, 0, 0x0411, 0, 0, 0x0011)
    .u32(0x80 + 0x24, 0x10)
    .capability(0x60, 0x01, 0x0003, 0x0008);
}

/** A PCI Express root port with a slot, AER, ACS and all windows. */
export function rootPortImage(): ConfigImage {
  return new ConfigImage(4096, 0x1b36, 0x000c, 0x060400)
    .u16(0x04, 0x0107, 0x0010)
    .u8(0x0e, 0x81)
    .u32(0x10, 0xfe84_0000)
    .u8(0x18, 0x00, 0x01, 0x03, 0x20)
    .u8(0x1c, 0xc1, 0xd1)
    .u16(0x1e, 0x2000)
    .u16(0x20, 0xfe60, 0xfe70)
    .u16(0x24, 0x0001, 0x0ff1)
    .u32(0x28, 0x08, 0x08)
    .u16(0x30, 0x0001, 0x0001)
    .u8(0x3c, 10, 1)
    .u16(0x3e, 0x0013)
    .capability(0x54, 0x10, 0x0142, 0x8001, 0, 0x2f, 0x04, 0x6d13, 0x0a35, 0x0042, 0x2054)
    .u16(0x54 + 0x14, 0x007f, 0x0010, 0x0000, 0x0048, 0x0018)
    .u32(0x54 + 0x24, 0x0820)
    .u16(0x54 + 0x28, 0x0420)
    .u32(0x54 + 0x2c, 0x1e)
    .u16(0x54 + 0x30, 0x0004)
    .capability(0x48, 0x11, 0x8000, 0x0000, 0, 0x0800, 0)
    .capability(0x40, 0x0d, 0, 0x1b36, 0x0000)
    .extended(0x100, 0x01, 2, 0x4000, 0x400000, 0x462030, 0x2001, 0xe000, 0xa0, 1, 2, 3, 4)
    .extended(0x148, 0x0d, 1, 0x0015_001f);
}

/** A virtio-net function with the five virtio structures in vendor-specific capabilities. */
export function virtioImage(): ConfigImage {
  const virtio = (cfgType: number, bar: number, offset: number, size: number, last: number[]) => [
    (16 + 2 * last.length) | cfgType << 8,
    bar,
    0,
    offset,
    0,
    size,
    0,
    ...last,
  ];
  return new ConfigImage(256, 0x1af4, 0x1000, 0x020000)
    .u16(0x04, 0x0507)
    .u32(0x10, 0xc001, 0xfebd_1000, 0, 0, 0x0000_000c, 0x8)
    .u16(0x2c, 0x1af4, 0x0001)
    .u32(0x30, 0xfeb8_0001)
    .u8(0x3c, 11, 1)
    .capability(0x98, 0x11, 0x8002, 0x0001, 0, 0x0801, 0)
    .capability(0x84, 0x09, ...virtio(5, 0, 0, 0, [0, 0]))
    .capability(0x70, 0x09, ...virtio(2, 4, 0x3000, 0x1000, [4, 0]))
    .capability(0x60, 0x09, ...virtio(4, 4, 0x2000, 0x1000, []))
    .capability(0x50, 0x09, ...virtio(3, 4, 0x1000, 0x1000, []))
    .capability(0x40, 0x09, ...virtio(1, 4, 0x0000, 0x1000, []));
}

/** An ordinary PCI Express endpoint with as many kinds of capabilities as fit. */
export function crowdedImage(): ConfigImage {
  return new ConfigImage(4096, 0x8086, 0x10d3, 0x020000)
    .u16(0x04, 0x0446, 0xfa10)
    .u8(0x0c, 16, 32)
    .u8(0x0f, 0xc3)
    .u32(0x10, 0xfeb8_0000, 0xfea0_0000, 0xc041, 0x0000_0002, 0xfd00_000c, 0x80)
    .u8(0x3c, 11, 2, 3, 4)
    .capability(0x40, 0x01, 0xc9c2, 0x8103)
    .capability(0x48, 0x05, 0x0187, 0xf00c, 0xfee0, 0, 0, 0x4021, 0, 3, 0, 1, 0)
    .capability(0x60, 0x03, 0x8123)
    .capability(0x68, 0x0a, 0x20a0)
    .capability(0x6c, 0x12, 0x0010, 0x0048, 0)
    .capability(0x74, 0x13, 0x0306, 0x0100)
    .capability(0x7c, 0x04, 0x0125)
    .capability(0x80, 0x10, 0x1201, 0x8cc1, 0x1000, 0xa93f, 0x3f, 0xfc43, 0x0247, 0x0142, 0x3082)
    .capability(0xa0, 0x09, 0x0808, 0x1234, 0x5678)
    .capability(0xa8, 0x14, 0x0000)
    .capability(0xb0, 0x08, 0x8000)
    .capability(0xb4, 0x07, 0)
    .capability(0xf0, 0x02, 0x0030)
    .extended(0x100, 0x01, 1, 0xffffffff, 0, 0x62030, 0xffff, 0x2000, 0x1f)
    .extended(0x140, 0x03, 1, 0x11223344, 0xaabbccdd)
    .extended(0x150, 0x0e, 1, 0x0100)
    .extended(0x160, 0x10, 1, 2, 0x19, 0x0040_0040, 0x8, 0x0002_0080, 0x10ca_0000, 0x553, 1)
    .extended(0x1a0, 0x17, 1, 0x0007_0204)
    .extended(0x1c0, 0x18, 1, 0x1003_0c01)
    .extended(0x1d0, 0x0f, 1, 0x8005_0020)
    .extended(0x1e0, 0x1b, 1, 0x0001_1406)
    .extended(0x1f0, 0x13, 1, 0x0100_0001, 32, 16)
    .extended(0x200, 0x15, 1, 0x0000_ff0, 0x0000_0620)
    .extended(0x210, 0x1e, 1, 0x1f, 0x0f)
    .extended(0x220, 0x1f, 1, 0x0a03, 0x1)
    .extended(0x230, 0x19, 1, 0, 1)
    .extended(0x250, 0x0b, 1, 0x0101_4321)
    .extended(0x270, 0x23, 1, 0x0381_1e98, 0x0008)
    .extended(0x2b0, 0x02, 1, 0x1)
    .extended(0x300, 0x1d, 1, 0x0001_0010, 0x1)
    .extended(0x320, 0x25, 1, 0)
    .extended(0x330, 0x7777, 3, 0xdeadbeef);
}
