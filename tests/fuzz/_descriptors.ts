/**
 * Descriptors of every kind that a peer can pass, wherever it likes.
 *
 * @module
 */

import { EventFd } from "../../ffi/event.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { createMemfd } from "../../ffi/memory.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import type { Random } from "../../lib/base/random.ts";

const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const F_ADD_SEALS = 1033;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const F_SEAL_WRITE = 8;
const MFD_ALLOW_SEALING = 2;
const MFD_HUGETLB = 4;
const EFD_SEMAPHORE = 1;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
const CLOCK_MONOTONIC = 1;
const AF_UNIX = 1;
const SOCK_DGRAM = 2;

const SYMBOLS = {
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  timerfd_create: { parameters: ["i32", "i32"], result: "i32" },
  timerfd_settime: { parameters: ["i32", "i32", "buffer", "pointer"], result: "i32" },
  epoll_create1: { parameters: ["i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  inotify_init1: { parameters: ["i32"], result: "i32" },
  pipe: { parameters: ["buffer"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
} as const;

/** Sizes of files that a map names: a page to 16 TiB, without a byte in them. */
const SPARSE_SIZES = [1, 0x1000, 0x20_0000, 2 ** 32, 2 ** 36, 2 ** 40, 2 ** 43, 2 ** 44];

/** A zoo of descriptors, all of them open until it is disposed of. */
export class Descriptors implements Disposable {
  readonly #libc = Deno.dlopen("libc.so.6", SYMBOLS);
  readonly #resources = new DisposableStack();
  /** Files that are memory. */
  readonly files: readonly number[];
  /** Files of all sizes, which are empty. */
  readonly sparse: readonly number[];
  /** Eventfds, of which some block, and some are full. */
  readonly events: readonly number[];
  /** All of these, and what belongs nowhere. */
  readonly all: readonly number[];

  constructor() {
    const { symbols: c } = this.#libc;
    const sealed = (seals: number) => {
      const fd = this.#keep(c.memfd_create(text("vfu-sealed"), MFD_ALLOW_SEALING));
      c.ftruncate(fd, 0x10000n);
      c.fcntl(fd, F_ADD_SEALS, seals);
      return fd;
    };
    const memfd = (size: number) => this.#use(createMemfd("vfu-hostile", size)).fd;
    this.files = [
      ...[0x1000, 0x2000, 0x10000, 0x10000].map(memfd),
      sealed(F_SEAL_SHRINK | F_SEAL_GROW),
      sealed(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE),
      ...this.#hugePage(),
    ];
    this.sparse = SPARSE_SIZES.flatMap((size) => {
      const fd = this.#keep(c.memfd_create(text("vfu-sparse"), MFD_ALLOW_SEALING));
      return c.ftruncate(fd, BigInt(size)) === 0 ? [fd] : [];
    });
    const full = this.#keep(c.eventfd(0, 0));
    this.events = [
      ...Array.from({ length: 4 }, () => this.#use(new EventFd().handle).fd),
      this.#keep(c.eventfd(0, 0)), // blocks
      full, // as well
      this.#keep(c.eventfd(3, EFD_SEMAPHORE)),
    ];
    this.fill(full);
    this.all = [...this.files, ...this.sparse, ...this.events, ...this.#strangers()];
  }

  /** Descriptors for a message in which some belong: mostly such, or anything. */
  pick(random: Random, belonging: readonly number[]): number {
    return random.pick(random.oneIn(3) ? this.all : belonging);
  }

  /** Switches O_NONBLOCK of an open file, which everyone has who has a descriptor of it. */
  toggle(fd: number): void {
    const { symbols: c } = this.#libc;
    c.fcntl(fd, F_SETFL, c.fcntl(fd, F_GETFL, 0) ^ O_NONBLOCK);
  }

  /** Fills an eventfd: the next signal has no room. */
  fill(fd: number): void {
    this.#unblocked(fd, () => {
      this.#libc.symbols.read(fd, new Uint8Array(8), 8n);
      this.#libc.symbols.write(fd, new Uint8Array([0xfe, ...new Array(7).fill(0xff)]), 8n);
    });
  }

  /** Empties an eventfd. */
  empty(fd: number): void {
    this.#unblocked(fd, () => void this.#libc.symbols.read(fd, new Uint8Array(8), 8n));
  }

  /** Signals an eventfd. */
  signal(fd: number): void {
    const one = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);
    this.#unblocked(fd, () => void this.#libc.symbols.write(fd, one, 8n));
  }

  /** Does what must not block here, and leaves the flag as it was. */
  #unblocked(fd: number, act: () => void): void {
    const { symbols: c } = this.#libc;
    const flags = c.fcntl(fd, F_GETFL, 0);
    c.fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    act();
    c.fcntl(fd, F_SETFL, flags);
  }

  /** Huge pages, of which the machine may have none: then the first access ends its process. */
  #hugePage(): number[] {
    const { symbols: c } = this.#libc;
    const fd = c.memfd_create(text("vfu-huge"), MFD_HUGETLB);
    if (fd < 0) return [];
    this.#keep(fd);
    return c.ftruncate(fd, 0x20_0000n) === 0 ? [fd] : [];
  }

  #strangers(): number[] {
    const { symbols: c } = this.#libc;
    const [a, b] = UnixSocket.pair();
    for (const socket of [a, b]) this.#resources.use(socket);
    const pipe = new Int32Array(2);
    c.pipe(pipe);
    for (const fd of pipe) this.#keep(fd);
    c.write(pipe[1]!, new Uint8Array(100), 100n);
    const timer = this.#keep(c.timerfd_create(CLOCK_MONOTONIC, 0));
    const millisecond = new BigInt64Array([0n, 1_000_000n, 0n, 1_000_000n]);
    c.timerfd_settime(timer, 0, new Uint8Array(millisecond.buffer), null);
    const epoll = this.#keep(c.epoll_create1(0));
    const event = new Uint8Array(12);
    event[0] = EPOLLIN;
    c.epoll_ctl(epoll, EPOLL_CTL_ADD, timer, event);
    const paths = ["/dev/null", "/dev/zero", "/proc/self/maps", "/proc/self/mem", "/", "/tmp"];
    return [
      ...[a.fd, b.fd, ...pipe, timer, epoll],
      this.#keep(c.inotify_init1(0)),
      this.#keep(c.socket(AF_UNIX, SOCK_DGRAM, 0)),
      ...paths.map((path) => this.#use(OwnedFd.open(path, 0)).fd),
    ];
  }

  #keep(fd: number): number {
    return this.#use(new OwnedFd(fd)).fd;
  }

  #use(fd: OwnedFd): OwnedFd {
    return this.#resources.use(fd);
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
    this.#libc.close();
  }
}

function text(value: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(value + "\0");
}
