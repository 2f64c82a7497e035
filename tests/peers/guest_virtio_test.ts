/**
 * `examples/virtio_blk.ts` under an unmodified Linux, whose `virtio_pci` and `virtio_blk` bind it.
 * The disk has MSI-X, its pin, or an IOMMU before it. Its driver is taken off and put on again.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type ServeProcess, startServe } from "../_demo_process.ts";
import { bootGuest, type Guest, type GuestOptions, guestTest } from "./guest.ts";

const MIB = 1 << 20;

/** Serves a disk in a process of its own. */
function serveDisk(...options: string[]): Promise<ServeProcess> {
  return startServe("examples/virtio_blk.ts", ...options.flatMap((each) => ["--option", each]));
}

/** Boots a guest with the disk and loads the driver, which is no part of the kernel itself. */
async function bootOn(served: ServeProcess, options: GuestOptions = {}): Promise<Guest> {
  const guest = await bootGuest({ ...options, devices: [{ socket: served.path }] });
  await guest.sh("modprobe virtio_blk");
  return guest;
}

/** The kernel has nothing to complain of, nor has QEMU, nor has the device failed. */
async function assertQuiet(guest: Guest, served: ServeProcess): Promise<void> {
  assertEquals(await guest.complaints(), []);
  assertEquals(guest.qemuSaid(), "");
  const words = served.stderr().split("\n").filter((line) => /fail|error|reset|refus/i.test(line));
  assertEquals(words, []);
}

/** The number of interrupts of a name so far, on the guest's only CPU. */
async function interrupts(guest: Guest, name: string): Promise<number> {
  return Number(await guest.sh(`awk '$NF == "${name}" { print $2 }' /proc/interrupts`));
}

/** Writes random bytes past the page cache, and returns their checksum and that of what is read. */
async function writeAndRead(guest: Guest, megabytes: number): Promise<string> {
  const sums = await guest.sh(`set -e
    dd if=/dev/urandom of=/tmp/random bs=1M count=${megabytes} 2>/dev/null
    dd if=/tmp/random of=/dev/vda bs=64k oflag=direct conv=fsync 2>/dev/null
    echo 3 > /proc/sys/vm/drop_caches
    sha256sum < /tmp/random
    dd if=/dev/vda bs=1M count=${megabytes} iflag=direct 2>/dev/null | sha256sum
    rm /tmp/random`);
  const [written, read] = sums.split("\n");
  assertMatch(written!, /^[0-9a-f]{64} /);
  assertEquals(read, written);
  return written!.slice(0, 64);
}

/** The checksum of the first bytes of a file. */
async function sumOf(path: string, length: number): Promise<string> {
  const bytes = (await Deno.readFile(path)).subarray(0, length);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

guestTest("virtio: a disk in a file, with MSI-X, ext4, and its driver put on again", async () => {
  const file = await Deno.makeTempFile({ prefix: "vfu-guest-" });
  try {
    await Deno.truncate(file, 64 * MIB);
    await using served = await serveDisk(`disk=${file}`, "serial=vfu-guest");
    await using guest = await bootOn(served);
    const text = await guest.sh(`lspci -vv -s ${guest.address()}`);
    for (
      const part of [
        "Virtio 1.0 block device (rev 01)",
        "MSI-X: Enable+ Count=2 Masked-",
        "VirtIO: CommonCfg\n\t\tBAR=4 offset=00000000 size=00000038",
        "VirtIO: Notify\n\t\tBAR=4 offset=00003000 size=00000004 multiplier=00000004",
        "VirtIO: ISR\n\t\tBAR=4 offset=00001000 size=00000001",
        "VirtIO: DeviceCfg\n\t\tBAR=4 offset=00002000 size=00000010",
        "Kernel driver in use: virtio-pci",
      ]
    ) assertStringIncludes(text, part);
    assertEquals(
      await guest.sh("cd /sys/block/vda; cat size queue/write_cache serial"),
      `${64 * 2048}\nwrite back\nvfu-guest`,
    );

    // What is flushed is in the file, and each transfer has interrupted.
    const before = await interrupts(guest, "virtio0-req.0");
    assertEquals(await writeAndRead(guest, 16), await sumOf(file, 16 * MIB));
    assert(await interrupts(guest, "virtio0-req.0") >= before + 16);
    assert(Number(await guest.sh("awk '{ print $16 }' /sys/block/vda/stat")) > 0, "no flush");

    await guest.sh(`set -e
      mkfs.ext4 -q /dev/vda
      mount /dev/vda /mnt
      dd if=/dev/urandom of=/mnt/file bs=1M count=24 2>/dev/null
      sha256sum /mnt/file > /mnt/sum
      umount /mnt
      cd /sys/bus/pci/drivers/virtio-pci
      echo ${guest.address()} > unbind
      test ! -e /dev/vda
      echo ${guest.address()} > bind
      mount /dev/vda /mnt
      sha256sum -c /mnt/sum
      umount /mnt
      e2fsck -f -n /dev/vda`);
    await assertQuiet(guest, served);
  } finally {
    await Deno.remove(file);
  }
});

guestTest("virtio: a disk with its pin, and all memory by message", async () => {
  await using served = await serveDisk("size=8M");
  await using guest = await bootOn(served, { memory: "plain", kernelArguments: ["pci=nomsi"] });
  assertStringIncludes(await guest.sh(`lspci -vv -s ${guest.address()}`), "MSI-X: Enable-");
  const before = await interrupts(guest, "virtio0");
  await writeAndRead(guest, 4);
  assert(await interrupts(guest, "virtio0") >= before + 4);
  await assertQuiet(guest, served);
});

guestTest("virtio: a disk behind an IOMMU", async () => {
  await using served = await serveDisk("size=16M");
  await using guest = await bootOn(served, { iommu: true });
  // Bit 33, ACCESS_PLATFORM: addresses are the IOMMU's.
  assertEquals((await guest.sh("cat /sys/bus/virtio/devices/virtio0/features"))[33], "1");
  await writeAndRead(guest, 8);
  await assertQuiet(guest, served);
});
