/**
 * Descriptors of every kind that a peer could pass.
 *
 * @module
 */

import { IoBuffer } from "../ffi/buffer.ts";
import { OwnedFd } from "../ffi/fd.ts";
import { libc } from "../ffi/libc.ts";

const O_NONBLOCK = 0o4000;
const O_PATH = 0o10000000;
const EFD_SEMAPHORE = 1;
const AF_INET = 2;

const { symbols } = Deno.dlopen("libc.so.6", {
  pipe2: { parameters: ["buffer", "i32"], result: "i32" },
  mkfifo: { parameters: ["buffer", "u32"], result: "i32" },
  timerfd_create: { parameters: ["i32", "i32"], result: "i32" },
  timerfd_settime: { parameters: ["i32", "i32", "buffer", "pointer"], result: "i32" },
  epoll_create1: { parameters: ["i32"], result: "i32" },
  signalfd: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  inotify_init1: { parameters: ["i32"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
});

/** An eventfd whose reads and writes wait. */
export function blockingEventFd(): OwnedFd {
  return new OwnedFd(libc().eventfd(0, 0));
}

/** An eventfd that can be read 2^64 - 2 times: each read takes 1. */
export function semaphore(): OwnedFd {
  const fd = new OwnedFd(libc().eventfd(0, EFD_SEMAPHORE));
  const count = new IoBuffer(8);
  count.view.setBigUint64(0, 2n ** 64n - 2n, true);
  libc().write(fd.fd, count.pointer, 8n);
  return fd;
}

/** A pipe whose calls wait: its end to read, its end to write. */
export function blockingPipe(): [OwnedFd, OwnedFd] {
  const fds = new Int32Array(2);
  symbols.pipe2(fds, 0);
  return [new OwnedFd(fds[0]!), new OwnedFd(fds[1]!)];
}

/** Puts as much into a pipe as it holds. */
export function fillPipe({ fd }: OwnedFd): void {
  const flags = libc().fcntl(fd, 3, 0);
  libc().fcntl(fd, 4, flags | O_NONBLOCK);
  const page = new IoBuffer(4096);
  while (libc().write(fd, page.pointer, BigInt(page.length)) > 0);
  libc().fcntl(fd, 4, flags);
}

/** Makes a named pipe. */
export function makeFifo(path: string): void {
  symbols.mkfifo(new TextEncoder().encode(path + "\0"), 0o600);
}

/** A named pipe, open for reading and writing. */
export function fifo(): OwnedFd {
  const path = `${Deno.makeTempDirSync()}/fifo`;
  makeFifo(path);
  return OwnedFd.open(path);
}

/** A timer that expires each microsecond. */
export function periodicTimer(): OwnedFd {
  const fd = new OwnedFd(symbols.timerfd_create(1, 0));
  symbols.timerfd_settime(fd.fd, 0, new BigInt64Array([0n, 1000n, 0n, 1000n]), null);
  return fd;
}

/**
 * A TCP socket with unread data, whose last close waits for so many seconds, and its other end.
 * Closing the other end ends the wait.
 */
export function lingeringSocket(seconds: number): { socket: OwnedFd; end: OwnedFd } {
  const c = libc();
  const address = new Uint8Array([AF_INET, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  using listener = new OwnedFd(c.socket(AF_INET, 1, 0));
  c.bind(listener.fd, address, address.length);
  c.listen(listener.fd, 1);
  symbols.getsockname(listener.fd, address, new Uint32Array([address.length]));
  const socket = new OwnedFd(c.socket(AF_INET, 1, 0));
  c.connect(socket.fd, address, address.length);
  const end = new OwnedFd(c.accept4(listener.fd, null, null, 0));
  c.fcntl(socket.fd, 4, O_NONBLOCK);
  const page = new IoBuffer(65536);
  while (c.write(socket.fd, page.pointer, BigInt(page.length)) > 0);
  c.setsockopt(socket.fd, 1, 13, new Int32Array([1, seconds]), 8); // SO_LINGER
  return { socket, end };
}

/** Descriptors that are neither an eventfd nor a pipe, by name. Each call makes a new one. */
export const ODD_FDS: Readonly<Record<string, () => OwnedFd>> = {
  "a timer": periodicTimer,
  "an epoll": () => new OwnedFd(symbols.epoll_create1(0)),
  "a signalfd": () => new OwnedFd(symbols.signalfd(-1, new Uint8Array(128), 0)),
  "an inotify": () => new OwnedFd(symbols.inotify_init1(0)),
  "an eventfd without rights": () => {
    using event = blockingEventFd();
    return OwnedFd.open(`/proc/self/fd/${event.fd}`, O_PATH);
  },
  "a memfd": () => new OwnedFd(libc().memfd_create(new TextEncoder().encode("odd\0"), 0)),
  "a file": () => OwnedFd.open(Deno.makeTempFileSync()),
  "a directory": () => OwnedFd.open("/tmp", 0),
  "/dev/zero": () => OwnedFd.open("/dev/zero"),
  "/dev/null": () => OwnedFd.open("/dev/null"),
  "a UNIX socket": () => new OwnedFd(libc().socket(1, 1, 0)),
  "a UNIX datagram socket": () => new OwnedFd(libc().socket(1, 2, 0)),
  "a TCP socket": () => new OwnedFd(libc().socket(AF_INET, 1, 0)),
  "a UDP socket": () => new OwnedFd(libc().socket(AF_INET, 2, 0)),
};
