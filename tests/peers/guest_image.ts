/**
 * A cpio archive in the form that a Linux kernel unpacks at boot ("newc"): files that a test adds
 * to the guest's initramfs.
 *
 * @module
 */

const MAGIC = "070701";
const REGULAR_FILE = 0o100755;
const TRAILER = "TRAILER!!!";

/** A newc archive of regular files by their paths, each executable and root's. */
export function cpioArchive(
  files: Readonly<Record<string, Uint8Array>>,
): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  for (const [path, bytes] of Object.entries(files)) {
    parts.push(...entry(path, bytes, REGULAR_FILE));
  }
  parts.push(...entry(TRAILER, new Uint8Array(), 0));
  const archive = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    archive.set(part, offset);
    offset += part.length;
  }
  return archive;
}

function entry(path: string, bytes: Uint8Array, mode: number): Uint8Array[] {
  const name = path.replace(/^\/+/, "");
  const fields = [0, mode, 0, 0, 1, 0, bytes.length, 0, 0, 0, 0, name.length + 1, 0];
  const header = MAGIC + fields.map((field) => field.toString(16).padStart(8, "0")).join("");
  return [
    aligned(new TextEncoder().encode(`${header}${name}\0`)),
    aligned(bytes),
  ];
}

/** Each part of an archive begins at a multiple of 4 bytes. */
function aligned(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  whole.set(bytes);
  return whole;
}
