/**
 * `examples/nvme.ts` under an unmodified Linux: its disk, nvme-cli's commands, and what happens to
 * a controller in its life. That is resets, another driver, another guest, a server that stands
 * still.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type ServeProcess, startServe } from "../_demo_process.ts";
import { bootGuest, type Guest, type GuestOptions, guestTest } from "./guest.ts";
import { hugePages } from "./huge_pages.ts";

const MIB = 1 << 20;

/** Serves a controller in a process of its own. */
function serveNvme(...options: string[]): Promise<ServeProcess> {
  return startServe("examples/nvme.ts", ...options.flatMap((each) => ["--option", each]));
}

function bootOn(served: ServeProcess, options: GuestOptions = {}): Promise<Guest> {
  return bootGuest({ ...options, devices: [{ socket: served.path }] });
}

/** The kernel's message, logged once, about nvme-cli's buffers if a controller has no SGLs. */
const NO_SGLS = "using unchecked data buffer";

/** The kernel has nothing to complain of, nor has QEMU, nor has the server failed. */
async function assertQuiet(guest: Guest, ...servers: ServeProcess[]): Promise<void> {
  assertEquals((await guest.complaints()).filter((line) => !line.includes(NO_SGLS)), []);
  assertEquals(guest.qemuSaid(), "");
  for (const served of servers) {
    const words = served.stderr().split("\n").filter((line) => /fail|error|refus/i.test(line));
    assertEquals(words, []);
  }
}

/** Makes a file system, writes a file of random bytes, and sees it again after a remount. */
async function useFileSystem(guest: Guest, megabytes: number, disk = "/dev/nvme0n1") {
  const sums = await guest.sh(
    `set -e
    mkfs.ext4 -q ${disk}
    mount ${disk} /mnt
    dd if=/dev/urandom of=/mnt/file bs=1M count=${megabytes} 2>/dev/null
    sha256sum /mnt/file
    umount /mnt
    mount ${disk} /mnt
    sha256sum /mnt/file`,
    { timeoutMs: 300_000 },
  );
  const [before, after] = sums.split("\n");
  assertMatch(before!, /^[0-9a-f]{64} /);
  assertEquals(after, before);
  return before;
}

const UNMOUNT_AND_CHECK = "umount /mnt && e2fsck -f -n /dev/nvme0n1";

guestTest("nvme: ext4 on 4 CPUs and 4 queues, and what nvme-cli asks", async () => {
  await using served = await serveNvme("size=192M", "queues=4", "serial=vfu-guest");
  await using guest = await bootOn(served, { cpus: 4 });
  assertEquals(await guest.sh("cat /sys/block/nvme0n1/size"), `${192 * 2048}`);
  assertEquals(await guest.sh("ls /sys/block/nvme0n1/mq | wc -l"), "4");

  await useFileSystem(guest, 100);
  await guest.sh("rm /mnt/file && fstrim /mnt && umount /mnt");
  await guest.sh("e2fsck -f -n /dev/nvme0n1");

  // Each CPU has a queue, each queue its vector.
  await guest.sh(`for i in 0 1 2 3; do
    taskset -c $i dd if=/dev/nvme0n1 of=/dev/null bs=64k count=8 skip=$i iflag=direct 2>/dev/null
    done`);
  for (let queue = 1; queue <= 4; queue++) {
    const line = await guest.sh(`grep nvme0q${queue}$ /proc/interrupts`);
    assert(line.split(/\s+/).slice(1, 6).some((count) => Number(count) > 0), line);
  }
  await askByNvmeCli(guest);
  await assertQuiet(guest, served);
});

async function askByNvmeCli(guest: Guest): Promise<void> {
  const controller = await guest.sh("nvme id-ctrl /dev/nvme0 -o json").then(JSON.parse);
  assertEquals(controller.sn.trim(), "vfu-guest");
  assertEquals(controller.ver, 0x10400);
  assertMatch(controller.subnqn, /^nqn\./);
  const space = await guest.sh("nvme id-ns /dev/nvme0n1 -o json").then(JSON.parse);
  assertEquals(space.nsze * 512, 192 * MIB);
  // The list begins at the namespace that is named: above the one before it.
  assertMatch(await guest.sh("nvme list-ns /dev/nvme0 -n 1"), /\[ +0\]:0x1$/);
  assert(!(await guest.sh("nvme list-ns /dev/nvme0 -n 2")).includes("0x"));
  assertMatch(await guest.sh("nvme ns-descs /dev/nvme0n1"), /uuid|eui64|nguid/i);
  assertMatch(await guest.sh("nvme smart-log /dev/nvme0"), /critical_warning\s*: 0/);
  assertMatch(await guest.sh("nvme error-log /dev/nvme0"), /Error Log Entries for device:nvme0/);
  assertMatch(await guest.sh("nvme fw-log /dev/nvme0"), /afi\s*: 0x1/);
  assertMatch(await guest.sh("nvme get-feature /dev/nvme0 -f 7 -H"), /Queues.*\(NCQA\): 4/s);
  assertMatch(await guest.sh("nvme get-feature /dev/nvme0 -f 4"), /Current value:/);
  const unknown = await guest.run("nvme get-feature /dev/nvme0 -f 0x77");
  assert(unknown.status !== 0);
  assertStringIncludes(unknown.output, "Invalid Field in Command");

  await guest.sh("nvme flush /dev/nvme0n1");
  // What is deallocated or zeroed reads as zeros; its neighbours stay.
  await guest.sh(`set -e
    dd if=/dev/urandom of=/tmp/blocks bs=512 count=64 2>/dev/null
    dd if=/tmp/blocks of=/dev/nvme0n1 bs=512 oflag=direct 2>/dev/null
    nvme dsm /dev/nvme0n1 -n 1 -d -s 8 -b 8
    nvme write-zeroes /dev/nvme0n1 -n 1 -s 32 -c 7
    dd if=/dev/nvme0n1 of=/tmp/back bs=512 count=64 iflag=direct 2>/dev/null
    dd if=/dev/zero of=/tmp/blocks bs=512 seek=32 count=8 conv=notrunc 2>/dev/null
    cp /tmp/back /tmp/back2
    dd if=/tmp/blocks of=/tmp/back2 bs=512 skip=8 seek=8 count=8 conv=notrunc 2>/dev/null
    cmp /tmp/blocks /tmp/back2`);
  // No such command is under way: bit 0 of the result says that it was not aborted.
  assertMatch(
    await guest.sh("nvme admin-passthru /dev/nvme0 --opcode=8 --cdw10=0x12340001 2>&1"),
    /Abort is Success and result: 0x0*1$/m,
  );
}

guestTest("nvme: doorbells and DMA by message, with memory that isn't shared", async () => {
  await using served = await serveNvme("size=64M", "doorbells=message");
  await using guest = await bootOn(served, { memory: "plain", cpus: 2 });
  await useFileSystem(guest, 24);
  await guest.sh(UNMOUNT_AND_CHECK);
  await assertQuiet(guest, served);
});

guestTest("nvme: memory of huge pages", async () => {
  const megabytes = 384;
  using pages = hugePages(megabytes / 2);
  if (pages.reason !== undefined) {
    // deno-lint-ignore no-console -- the reason is for whoever runs the tests
    console.error(`left out: nvme: memory of huge pages: ${pages.reason}`);
    return;
  }
  await using served = await serveNvme("size=64M");
  await using guest = await bootOn(served, { memory: "huge", megabytes });
  await useFileSystem(guest, 24);
  await guest.sh(UNMOUNT_AND_CHECK);
  await assertQuiet(guest, served);
});

guestTest("nvme: behind an IOMMU, with a reboot of the guest", async () => {
  await using served = await serveNvme("size=64M");
  await using guest = await bootOn(served, { iommu: true, cpus: 2 });
  const before = await useFileSystem(guest, 24);
  await guest.sh("umount /mnt");
  await assertQuiet(guest, served);
  for (const by of ["kernel", "reset"] as const) {
    await guest.reboot(by);
    assertEquals(await guest.sh("mount /dev/nvme0n1 /mnt && sha256sum /mnt/file"), before);
    await guest.sh(UNMOUNT_AND_CHECK);
    await assertQuiet(guest, served);
  }
});

/** Writes 4 MiB over and over, 16 times one after the other, in the background. */
const WRITE_ON = `
  dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null
  rm -f /tmp/written /tmp/failed
  (for i in $(seq 0 15); do
    dd if=/tmp/data of=/dev/nvme0n1 bs=128k seek=$((i * 32)) oflag=direct 2>/dev/null || touch /tmp/failed
  done; touch /tmp/written) </dev/null >/dev/null 2>&1 &`;

/** Waits for its end and compares all that it wrote. */
const WRITTEN = `
  while [ ! -e /tmp/written ]; do sleep 0.1; done
  [ ! -e /tmp/failed ] || { echo a write failed; exit 1; }
  for i in $(seq 0 15); do
    dd if=/dev/nvme0n1 of=/tmp/back bs=128k count=32 skip=$((i * 32)) iflag=direct 2>/dev/null
    cmp /tmp/data /tmp/back || exit 1
  done`;

guestTest("nvme: FLR, unbind and bind, remove and rescan, a reset of the machine", async () => {
  await using served = await serveNvme("size=64M");
  await using guest = await bootOn(served, { cpus: 2 });
  const sysfs = `/sys/bus/pci/devices/${guest.address()}`;
  assertStringIncludes(await guest.sh(`cat ${sysfs}/reset_method`), "flr");

  await guest.sh(WRITE_ON);
  for (let i = 0; i < 3; i++) await guest.sh(`sleep 0.2; echo flr > ${sysfs}/reset_method`);
  for (let i = 0; i < 3; i++) await guest.sh(`sleep 0.1; echo 1 > ${sysfs}/reset`);
  await guest.sh(WRITTEN);

  const sum = await useFileSystem(guest, 8);
  await guest.sh(`set -e
    umount /mnt
    echo ${guest.address()} > /sys/bus/pci/drivers/nvme/unbind
    [ ! -e /dev/nvme0n1 ]
    echo ${guest.address()} > /sys/bus/pci/drivers/nvme/bind
    ${waitFor("/dev/nvme0n1")}`);
  assertEquals(await guest.sh("mount /dev/nvme0n1 /mnt && sha256sum /mnt/file"), sum);
  await guest.sh(`set -e
    umount /mnt
    echo 1 > ${sysfs}/remove
    [ ! -e /dev/nvme0n1 ]
    echo 1 > /sys/bus/pci/rescan
    ${waitFor("/dev/nvme0n1")}`);
  assertEquals(await guest.sh("mount /dev/nvme0n1 /mnt && sha256sum /mnt/file"), sum);
  await guest.sh(UNMOUNT_AND_CHECK);
  await assertQuiet(guest, served);

  for (let i = 0; i < 2; i++) {
    await guest.sh(`${WRITE_ON}\nsleep 0.3`);
    await guest.reboot("reset");
  }
  await guest.sh(WRITE_ON);
  await guest.sh(WRITTEN);
  await assertQuiet(guest, served);
});

function waitFor(path: string): string {
  return `for i in $(seq 1000); do [ -e ${path} ] && break; sleep 0.1; done; [ -e ${path} ]`;
}

guestTest("nvme: QEMU is killed during I/O, and the next one finds the disk", async () => {
  await using served = await serveNvme("size=96M");
  let sum: string | undefined;
  {
    await using guest = await bootOn(served, { cpus: 2 });
    sum = await useFileSystem(guest, 8);
    await guest.sh(`sync
      (while true; do dd if=/dev/urandom of=/mnt/more bs=128k count=64 conv=fsync; done) \\
        </dev/null >/dev/null 2>&1 &
      sleep 0.5`);
    await guest.kill();
  }
  await using guest = await bootOn(served, { cpus: 2 });
  // The journal is played back; then all is clean.
  assertEquals(await guest.sh("mount /dev/nvme0n1 /mnt && sha256sum /mnt/file"), sum);
  await guest.sh(UNMOUNT_AND_CHECK);
  await guest.sh(WRITE_ON);
  await guest.sh(WRITTEN);
  await assertQuiet(guest, served);
});

guestTest("nvme: two controllers in one machine", async () => {
  const [one, two] = await Promise.all([
    serveNvme("size=64M", "serial=one", "doorbells=mapped"),
    serveNvme("size=32M", "serial=two", "doorbells=message"),
  ]);
  await using _one = one;
  await using _two = two;
  const devices = [{ socket: one.path }, { socket: two.path }];
  await using guest = await bootGuest({ devices, cpus: 2 });
  const diskOf = async (serial: string) =>
    (await guest.sh(`grep -l ${serial} /sys/block/nvme*/device/serial`)).split("/")[3];
  const [first, second] = [await diskOf("one"), await diskOf("two")];
  assert(first !== second, `${first} ${second}`);
  await guest.sh(
    `set -e
    dd if=/dev/urandom of=/dev/${first} bs=1M count=32 oflag=direct
    dd if=/dev/${first} of=/dev/${second} bs=1M count=32 iflag=direct oflag=direct
    sync
    echo 3 > /proc/sys/vm/drop_caches
    cmp -n ${32 * MIB} /dev/${first} /dev/${second}`,
  );
  await assertQuiet(guest, one, two);
});

guestTest("nvme: a server that is stopped for 10 s goes on", async () => {
  const servers = await Promise.all([
    serveNvme("size=64M", "doorbells=mapped"),
    serveNvme("size=64M", "doorbells=message"),
  ]);
  await using _one = servers[0];
  await using _two = servers[1];
  // QEMU gives a device up after 5 s without a reply, unless it is told to wait longer.
  const devices = servers.map(({ path }) => ({
    socket: path,
    properties: { "x-msg-timeout": 60_000 },
  }));
  await using guest = await bootGuest({ devices, cpus: 2 });
  await guest.sh(`for disk in nvme0n1 nvme1n1; do
    (for i in $(seq 8); do
      dd if=/dev/urandom of=/dev/$disk bs=1M count=4 seek=$((i * 4)) oflag=direct
      touch /tmp/$disk.$i
    done) </dev/null >/dev/null 2>&1 &
    done
    ${waitFor("/tmp/nvme0n1.1")}`);
  for (const { pid } of servers) Deno.kill(pid, "SIGSTOP");
  try {
    // A register read waits too, for as long.
    const read = guest.sh("cat /sys/bus/pci/devices/*/config | wc -c", { timeoutMs: 180_000 });
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    for (const { pid } of servers) Deno.kill(pid, "SIGCONT");
    await read;
  } finally {
    for (const { pid } of servers) Deno.kill(pid, "SIGCONT");
  }
  await guest.sh(`${waitFor("/tmp/nvme0n1.8")} && ${waitFor("/tmp/nvme1n1.8")}`);
  await assertQuiet(guest, ...servers);
});
