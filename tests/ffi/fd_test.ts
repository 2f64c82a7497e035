import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { SystemError } from "../../ffi/errno.ts";
import { closeAll, countOpenFds, OwnedFd, statPath } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { createMemfd, TMPFS } from "../../ffi/memory.ts";
import { UnixListener } from "../../ffi/listener.ts";
import { EventFd, POLLIN } from "../../ffi/event.ts";
import { idle, watch } from "../../ffi/poller.ts";
import { testFds } from "../_fds.ts";
import { runJson } from "./_subprocess.ts";

const F_GETFD = 1;
const F_GETFL = 3;
const FD_CLOEXEC = 1;

testFds("OwnedFd closes its number once, and refuses a second time", () => {
  const file = OwnedFd.open("/dev/null");
  const number = file.fd;
  assertEquals(libc().fcntl(number, F_GETFD, 0), FD_CLOEXEC);
  file.close();
  assertEquals(libc().fcntl(number, F_GETFD, 0), -1);
  assert(!file.isOpen);
  assertThrows(() => file.close(), Error, "File descriptor is closed");
  assertThrows(() => file.fd, Error, "File descriptor is closed");
  assertThrows(() => file.release(), Error, "File descriptor is closed");
  assertThrows(() => file.duplicate(), Error, "File descriptor is closed");
  assertThrows(() => file.stat(), Error, "File descriptor is closed");
});

testFds("OwnedFd does not close a number that was given out again", () => {
  const first = OwnedFd.open("/dev/null");
  const number = first.fd;
  first.close();
  using second = OwnedFd.open("/dev/null");
  assertEquals(second.fd, number);
  assertThrows(() => first.close());
  first[Symbol.dispose]();
  assertEquals(libc().fcntl(number, F_GETFD, 0), FD_CLOEXEC);
});

testFds("OwnedFd is closed at the end of a using block, also if it was closed within", () => {
  let number: number;
  {
    using file = OwnedFd.open("/dev/null");
    number = file.fd;
  }
  assertEquals(libc().fcntl(number, F_GETFD, 0), -1);
  {
    using file = OwnedFd.open("/dev/null");
    file.close();
  }
});

testFds("release() leaves the descriptor open, for the caller to close", () => {
  const file = OwnedFd.open("/dev/null");
  const number = file.release();
  assert(!file.isOpen);
  file[Symbol.dispose]();
  assertEquals(libc().fcntl(number, F_GETFD, 0), FD_CLOEXEC);
  assertEquals(libc().close(number), 0);
});

testFds("duplicate() makes a second descriptor of the same file, not inherited", () => {
  using file = OwnedFd.open("/dev/null");
  const second = file.duplicate();
  assertNotEquals(second.fd, file.fd);
  assertEquals(libc().fcntl(second.fd, F_GETFD, 0), FD_CLOEXEC);
  second.close();
  assert(file.isOpen);
  assertEquals(libc().fcntl(file.fd, F_GETFD, 0), FD_CLOEXEC);
});

testFds("OwnedFd refuses what is no descriptor", () => {
  for (const number of [-1, 1.5, NaN, Infinity]) {
    assertThrows(() => new OwnedFd(number), RangeError, "Not a file descriptor");
  }
});

testFds("open() opens for reading and writing unless told otherwise, and says what failed", () => {
  using both = OwnedFd.open("/dev/null");
  using read = OwnedFd.open("/dev/null", 0);
  assertEquals(libc().fcntl(both.fd, F_GETFL, 0) & 3, 2);
  assertEquals(libc().fcntl(read.fd, F_GETFL, 0) & 3, 0);
  const error = assertThrows(() => OwnedFd.open("/nonexistent/x"), SystemError);
  assertEquals(error.message, "Cannot open /nonexistent/x: ENOENT (No such file or directory)");
  assertThrows(() => OwnedFd.open("/dev/null\0/x"), RangeError);
});

testFds("stat() and statPath() tell files, sockets and others, and sizes", () => {
  const directory = Deno.makeTempDirSync();
  Deno.writeFileSync(`${directory}/file`, new Uint8Array(12345));
  Deno.symlinkSync("file", `${directory}/link`);
  const listener = UnixListener.listen(`${directory}/socket`);
  using file = OwnedFd.open(`${directory}/file`);
  using device = OwnedFd.open("/dev/null");
  const inode = BigInt(Deno.statSync(`${directory}/file`).ino!);
  const { device: of, allocated, mount: _, ...stat } = file.stat();
  assertEquals(stat, { kind: "file", isFile: true, isSocket: false, inode, size: 12345n });
  assert(allocated >= 12345n);
  assertEquals(statPath(directory).device, of);
  assertEquals(statPath(`${directory}/file`), file.stat());
  assertEquals([device.stat().isFile, device.stat().kind], [false, "character device"]);
  assertEquals(statPath(`${directory}/link`).kind, "symbolic link");
  assertEquals(statPath(directory).kind, "directory");
  assertEquals(statPath(`${directory}/link`).size, 4n);
  assertEquals(statPath(`${directory}/socket`).isSocket, true);
  assertEquals(assertThrows(() => statPath(`${directory}/none`), SystemError).code, "ENOENT");
  listener.close();
  Deno.removeSync(directory, { recursive: true });
});

testFds("stat() of a number that someone else closed fails", () => {
  const file = OwnedFd.open("/dev/null");
  libc().close(file.fd);
  assertEquals(assertThrows(() => file.stat(), SystemError).code, "EBADF");
  assertEquals(assertThrows(() => file.duplicate(), SystemError).code, "EBADF");
  file.release();
});

testFds("readAt() and writeAt() leave the position alone, and stop at the end", () => {
  const path = Deno.makeTempFileSync();
  using file = OwnedFd.open(path);
  Deno.removeSync(path);
  assertEquals(file.writeAt(new Uint8Array([1, 2, 3, 4]).subarray(1), 5n), 3);
  file.write(new Uint8Array([9]));
  const into = new Uint8Array(8);
  assertEquals([file.readAt(into.subarray(2), 0n), [...into]], [6, [0, 0, 9, 0, 0, 0, 0, 2]]);
  assertEquals([file.readAt(into, 7n), file.readAt(into, 8n)], [1, 0]);
  assertEquals(assertThrows(() => file.readAt(into, -1n), SystemError).code, "EINVAL");
  assertEquals(assertThrows(() => file.writeAt(into, -1n), SystemError).code, "EINVAL");
  using readOnly = OwnedFd.open("/dev/null", 0);
  assertEquals(assertThrows(() => readOnly.writeAt(into, 0n), SystemError).code, "EBADF");
});

testFds("access is what a file was opened for", () => {
  const O_PATH = 0o10000000;
  const cases = [[0, true, false], [1, false, true], [2, true, true], [O_PATH, false, false]];
  for (const [flags, canRead, canWrite] of cases as [number, boolean, boolean][]) {
    using file = OwnedFd.open("/dev/null", flags);
    assertEquals(file.access, { canRead, canWrite });
  }
});

testFds("path() is what the kernel calls a file", () => {
  using memfd = createMemfd("a/1/mem", 4096);
  using memory = OwnedFd.open("/proc/self/mem", 0);
  assertEquals(memfd.path(), "/memfd:a/1/mem (deleted)");
  assertEquals(memory.path(), `/proc/${Deno.pid}/mem`);
});

testFds("fileSystem() tells memfds, which nothing bounds, from files that may find no room", () => {
  using memfd = createMemfd("test", 4096);
  const { available: _, ...bounds } = memfd.fileSystem();
  assertEquals(bounds, { type: TMPFS, blockSize: 4096, blocks: 0n });
  using process = OwnedFd.open("/proc/self/mem", 0);
  assertEquals(process.fileSystem().type, 0x9fa0);
  const path = Deno.makeTempFileSync();
  using file = OwnedFd.open(path);
  Deno.removeSync(path);
  assert(file.fileSystem().blocks > 0n);
});

testFds("idle() waits until other threads have closed a peer's descriptors", async () => {
  for (let turn = 0; turn < 20; turn++) {
    const files = Array.from(
      { length: 20 },
      () => OwnedFd.received(OwnedFd.open("/dev/null").release()),
    );
    const numbers = files.map(({ fd }) => fd);
    closeAll(files);
    await idle();
    assert(numbers.every((fd) => libc().fcntl(fd, F_GETFD, 0) === -1));
  }
});

testFds("idle() waits for what is watched while other threads close", async () => {
  OwnedFd.received(OwnedFd.open("/dev/null").release()).close();
  const waiting = idle();
  using event = new EventFd();
  let isWatched = true;
  const entry = watch(event.fd, POLLIN, () => {
    isWatched = false;
    entry.close();
  });
  setTimeout(() => event.signal(), 50);
  await waiting;
  assertEquals(isWatched, false);
});

testFds("closeAll() closes those that are still open", () => {
  const files = [1, 2, 3].map(() => OwnedFd.open("/dev/null"));
  files[1]!.close();
  closeAll(files);
  assertEquals(files.map((file) => file.isOpen), [false, false, false]);
});

testFds("countOpenFds() counts, up to its limit", () => {
  const before = countOpenFds();
  {
    using _file = OwnedFd.open("/dev/null");
    assertEquals(countOpenFds(), before + 1);
  }
  assertEquals(countOpenFds(3), 3);
});

Deno.test("an OwnedFd that was forgotten is closed when it is collected; a released one is not", async () => {
  const result = await runJson(
    `
    import { OwnedFd } from "ffi/fd.ts";
    import { libc } from "ffi/libc.ts";
    const isOpen = (fd) => libc().fcntl(fd, 1, 0) >= 0;
    const forget = () => OwnedFd.open("/dev/null").fd;
    const release = () => OwnedFd.open("/dev/null").release();
    // A register or the stack may still name the last ones, so that the collector keeps those.
    const forgotten = Array.from({ length: 32 }, forget), released = [1, 2].map(release);
    const kept = OwnedFd.open("/dev/null");
    const before = [...forgotten, ...released, kept.fd].map(isOpen);
    const open = () => forgotten.filter(isOpen).length;
    for (let i = 0; i < 1000 && open() > 4; i++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    console.log(JSON.stringify([before.every(Boolean), open() <= 4, released.every(isOpen), isOpen(kept.fd)]));
  `,
    { flags: ["-A", "--v8-flags=--expose-gc"] },
  );
  assertEquals(result, [true, true, true, true]);
});
