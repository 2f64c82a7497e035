/**
 * Who the NVMe controller is: what Identify returns.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { BLOCK, type Disk } from "./disk.ts";
import { FIRMWARE } from "./logs.ts";
import { LIMITS, NAMESPACE, PAGE, VERSION } from "./promises.ts";
import { Failed, Status } from "./status.ts";

/**
 * The controller on the PCI bus, and in Identify: an id of its own, to which no driver applies the
 * quirks of another.
 */
export const PCI_ID = { vendor: 0x1234, device: 0x4e56 } as const;

/**
 * A serial number for who chose none: the same each time for a file, another one for each disk in
 * memory. Of two controllers with the same serial number a driver takes only one.
 */
export function serialFor(path: string | undefined): string {
  const of = path === undefined ? crypto.randomUUID() : Deno.realPathSync(path);
  return `vfu${createHash("sha256").update(of).digest("hex").slice(0, 16)}`;
}

/** The data that Identify returns. */
export class Identity {
  /** @param serial 20 characters at most */
  constructor(readonly serial: string, readonly disk: Disk) {}

  /**
   * A page of Identify.
   *
   * @param what CNS: 0 the namespace, 1 the controller, 2 the namespaces behind one, 3 the ids of
   *   the namespace
   * @throws {Failed} if there is no such page
   */
  page(what: number, namespace: number): Uint8Array {
    const page = new Uint8Array(PAGE);
    const view = new DataView(page.buffer);
    if (what === 0) this.#namespace(page, view);
    else if (what === 1) this.#controller(page, view);
    else if (what === 2) view.setUint32(0, namespace < NAMESPACE ? NAMESPACE : 0, true);
    else if (what === 3) {
      [page[0], page[1]] = [3, 16]; // a UUID
      page.set(this.#uuid("namespace"), 4);
    } else throw new Failed(Status.FIELD, `CNS: there is no page ${what}`);
    return page;
  }

  #namespace(page: Uint8Array, view: DataView): void {
    for (const at of [0, 8, 16]) view.setBigUint64(at, BigInt(this.disk.blocks), true);
    page[33] = 0x09; // deallocated blocks read as 0; Write Zeroes may deallocate
    view.setBigUint64(48, BigInt(this.disk.size), true);
    page[130] = Math.log2(BLOCK);
  }

  #controller(page: Uint8Array, view: DataView): void {
    const text = (at: number, length: number, value: string) =>
      page.set(new TextEncoder().encode(value.padEnd(length)).subarray(0, length), at);
    view.setUint16(0, PCI_ID.vendor, true);
    view.setUint16(2, PCI_ID.vendor, true); // of the subsystem
    text(4, 20, this.serial);
    text(24, 40, "vfu NVMe");
    text(64, 8, FIRMWARE);
    page[77] = LIMITS.MDTS;
    view.setUint32(80, VERSION, true);
    page[111] = 1; // an I/O controller
    page[258] = LIMITS.ACL;
    page[259] = LIMITS.AERL;
    page[260] = 0x03; // firmware: one slot, which can't be written
    page[261] = 0x07; // logs: health by namespace, effects of commands, pages in parts
    page[262] = LIMITS.ELPE;
    page[263] = LIMITS.NPSS;
    view.setUint16(266, LIMITS.WCTEMP, true);
    view.setUint16(268, LIMITS.WCTEMP + 10, true); // critical
    page[512] = LIMITS.IOSQES * 0x11; // the least and the most
    page[513] = LIMITS.IOCQES * 0x11;
    view.setUint32(516, NAMESPACE, true); // how many namespaces
    view.setUint16(520, 0x1c, true); // Dataset Management, Write Zeroes, SEL and SV of features
    page[525] = 0x07; // there is a write cache; Flush may be of all namespaces
    const name = [...this.#uuid("subsystem")].map((byte) => byte.toString(16).padStart(2, "0"));
    const uuid = name.join("").replace(/(.{8})(.{4})(.{4})(.{4})(.*)/, "$1-$2-$3-$4-$5");
    page.set(new TextEncoder().encode(`nqn.2014-08.org.nvmexpress:uuid:${uuid}`), 768);
  }

  /** A UUID of version 8, made of the serial number. */
  #uuid(of: string): Uint8Array {
    const uuid = createHash("sha256").update(`vfu nvme ${of} ${this.serial}`).digest();
    uuid[6] = uuid[6]! & 0x0f | 0x80;
    uuid[8] = uuid[8]! & 0x3f | 0x80;
    return uuid.subarray(0, 16);
  }
}
