/**
 * Expansion ROMs: the images in one, by their headers (PCI Firmware Specification, "PCI Expansion
 * ROM Contents").
 *
 * @module
 */

/** An image of an expansion ROM. */
export interface RomImage {
  /** Bytes from the start of the ROM. */
  offset: number;
  /** Bytes of the image, as it says. */
  length: number;
  /** Vendor id of the functions that it is for. */
  vendorId: number;
  /** Device id of them. */
  deviceId: number;
  /** Class code, 24 bits. */
  classCode: number;
  /** The vendor's revision of it. */
  revision: number;
  /** Code type: 0 for a PC's BIOS, 1 Open Firmware, 2 PA-RISC, 3 EFI. */
  codeType: number;
  /** True if no image follows. */
  isLast: boolean;
}

/** The images of an expansion ROM, as far as they could be followed. */
export interface Rom {
  /** In their order. */
  images: RomImage[];
  /** Why they end before the last one. */
  notes: string[];
}

const SIGNATURE = 0xaa55;
const POINTER_AT = 0x18;
/** "PCIR", the signature of the data structure. */
const PCIR = 0x52494350;
/** Bytes of the data structure that are read. */
const DATA_SIZE = 0x18;
/** The unit of an image's length. */
const UNIT = 512;

/**
 * Finds the images of an expansion ROM. Every pointer is the device's word, and is checked.
 *
 * @returns no image and a note if the bytes do not begin as a ROM does
 *
 * @example
 * ```ts
 * import { parseRom } from "./rom.ts";
 *
 * const { images, notes } = parseRom(new Uint8Array(512));
 * if (images.length !== 0 || notes.length !== 1) throw new Error();
 * ```
 */
export function parseRom(bytes: Uint8Array): Rom {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const images: RomImage[] = [];
  const broken = (why: string): Rom => ({ images, notes: [`The ROM is broken: ${why}`] });
  // Each image has 512 bytes at least, so that this ends.
  for (let offset = 0;;) {
    const place = `0x${offset.toString(16)}`;
    if (offset + POINTER_AT + 2 > bytes.length) return broken(`it ends ahead of ${place}`);
    if (view.getUint16(offset, true) !== SIGNATURE) return broken(`no 55 AA at ${place}`);
    const at = offset + view.getUint16(offset + POINTER_AT, true);
    if (at + DATA_SIZE > bytes.length || view.getUint32(at, true) !== PCIR) {
      return broken(`no PCIR of the image at ${place}`);
    }
    const image: RomImage = {
      offset,
      length: view.getUint16(at + 0x10, true) * UNIT,
      vendorId: view.getUint16(at + 0x04, true),
      deviceId: view.getUint16(at + 0x06, true),
      classCode: view.getUint8(at + 0x0d) | view.getUint16(at + 0x0e, true) << 8,
      revision: view.getUint16(at + 0x12, true),
      codeType: view.getUint8(at + 0x14),
      isLast: (view.getUint8(at + 0x15) & 0x80) !== 0,
    };
    images.push(image);
    if (image.isLast) return { images, notes: [] };
    if (image.length === 0) return broken(`the image at ${place} has no length`);
    offset += image.length;
  }
}
