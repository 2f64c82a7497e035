/**
 * The symbol table: one line a function of libc, with its C signature. It also has the library
 * itself, opened on first use: what needs no system call needs no permission either.
 *
 * Contract of this file, and of everything that calls `libc()`:
 * - - Pointers passed in point to memory that the caller keeps referenced and large enough for the
 *   call. Taking an address (UnsafePointer.of) is no reference: memory made for one call is passed
 *   as a `buffer`, which is.
 * - - `size_t` is passed as bigint (a number is twenty times slower); `ssize_t` results are i32, so
 *   no call asks for 2 GiB or more.
 * - `errno` is read in the statement right after the failing call, before anything allocates.
 * - Only `poll` and `close` exist as nonblocking calls: Deno's thread pool keeps the errno to
 *   itself.
 *
 * @module
 */

import { SystemError } from "./errno.ts";

const SYMBOLS = {
  // int *__errno_location(void) -- glibc and musl alike
  __errno_location: { parameters: [], result: "pointer" },
  // int close(int fd)
  close: { parameters: ["i32"], result: "i32" },
  // the same on a thread of Deno's pool
  closeNonblocking: { name: "close", parameters: ["i32"], result: "i32", nonblocking: true },
  // int fcntl(int fd, int cmd, int arg)
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int ioctl(int fd, unsigned long request, int *argument)
  ioctl: { parameters: ["i32", "usize", "buffer"], result: "i32" },
  // int open(const char *path, int flags, unsigned mode)
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  // ssize_t read(int fd, void *buf, size_t count)
  read: { parameters: ["i32", "pointer", "usize"], result: "i32" },
  // ssize_t write(int fd, const void *buf, size_t count)
  write: { parameters: ["i32", "pointer", "usize"], result: "i32" },
  // ssize_t pread(int fd, void *buf, size_t count, off_t offset)
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  // ssize_t pwrite(int fd, const void *buf, size_t count, off_t offset)
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  // int fstatfs(int fd, struct statfs *buf)
  fstatfs: { parameters: ["i32", "buffer"], result: "i32" },
  // int flock(int fd, int operation)
  flock: { parameters: ["i32", "i32"], result: "i32" },
  // int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *buf)
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  // int unlink(const char *path)
  unlink: { parameters: ["buffer"], result: "i32" },

  // int socket(int domain, int type, int protocol)
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int socketpair(int domain, int type, int protocol, int sv[2])
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  // int connect(int fd, const struct sockaddr *addr, socklen_t len)
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  // int bind(int fd, const struct sockaddr *addr, socklen_t len)
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  // int listen(int fd, int backlog)
  listen: { parameters: ["i32", "i32"], result: "i32" },
  // int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
  accept4: { parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  // int shutdown(int fd, int how)
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  // int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  // int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  // ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
  sendmsg: { parameters: ["i32", "pointer", "i32"], result: "i32" },
  // ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
  recvmsg: { parameters: ["i32", "pointer", "i32"], result: "i32" },

  // int poll(struct pollfd *fds, nfds_t nfds, int timeout_ms)
  poll: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  // the same on a thread of Deno's pool; its errno is out of reach
  pollNonblocking: {
    name: "poll",
    parameters: ["pointer", "usize", "i32"],
    result: "i32",
    nonblocking: true,
  },
  // int ppoll(struct pollfd *fds, nfds_t nfds, const struct timespec *timeout, const sigset_t
  // *mask)
  ppoll: { parameters: ["pointer", "usize", "pointer", "pointer"], result: "i32" },
  // int sched_yield(void)
  sched_yield: { parameters: [], result: "i32" },
  // int eventfd(unsigned initval, int flags)
  eventfd: { parameters: ["u32", "i32"], result: "i32" },

  // void _exit(int status)
  _exit: { parameters: ["i32"], result: "void" },
  // pid_t getppid(void)
  getppid: { parameters: [], result: "i32" },
  // int prctl(int option, unsigned long arg); the rest of its arguments is not looked at
  prctl: { parameters: ["i32", "usize"], result: "i32" },
  // int sigaction(int signum, const struct sigaction *act, struct sigaction *oldact)
  sigaction: { parameters: ["i32", "pointer", "buffer"], result: "i32" },

  // long syscall(long number, ...): what not every libc has a function for
  // ssize_t preadv2(int fd, const struct iovec *iov, int iovcnt, off_t low, off_t high, int flags)
  preadv2: {
    name: "syscall",
    parameters: ["usize", "i32", "pointer", "i32", "isize", "usize", "i32"],
    result: "i32",
  },
  // ssize_t pwritev2(int fd, const struct iovec *iov, int iovcnt, off_t low, off_t high, int flags)
  pwritev2: {
    name: "syscall",
    parameters: ["usize", "i32", "pointer", "i32", "isize", "usize", "i32"],
    result: "i32",
  },
  // int io_setup(unsigned nr_events, aio_context_t *ctx)
  io_setup: { name: "syscall", parameters: ["usize", "u32", "pointer"], result: "i32" },
  // int io_submit(aio_context_t ctx, long nr, struct iocb **iocbs)
  io_submit: { name: "syscall", parameters: ["usize", "usize", "usize", "pointer"], result: "i32" },
  // int io_getevents(aio_context_t ctx, long min, long nr, struct io_event *events,
  //                  struct timespec *timeout)
  io_getevents: {
    name: "syscall",
    parameters: ["usize", "usize", "usize", "usize", "pointer", "pointer"],
    result: "i32",
  },
  // ssize_t getdents64(int fd, void *dirp, size_t count)
  getdents64: { name: "syscall", parameters: ["usize", "i32", "buffer", "usize"], result: "i32" },
  // pid_t gettid(void)
  gettid: { name: "syscall", parameters: ["usize"], result: "i32" },
  // int timer_create(clockid_t clock, struct sigevent *event, timer_t *timer)
  timer_create: {
    name: "syscall",
    parameters: ["usize", "i32", "pointer", "pointer"],
    result: "i32",
  },
  // int timer_settime(timer_t timer, int flags, const struct itimerspec *value,
  //                   struct itimerspec *old)
  timer_settime: {
    name: "syscall",
    parameters: ["usize", "i32", "i32", "pointer", "pointer"],
    result: "i32",
  },
  // the address of sched_yield: a function that does nothing, whatever it is called with
  doNothing: { name: "sched_yield", type: "pointer" },
  // ssize_t readlink(const char *path, char *buf, size_t size)
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "i32" },

  // void *calloc(size_t count, size_t size)
  calloc: { parameters: ["usize", "usize"], result: "pointer" },
  // int clock_gettime(clockid_t clock, struct timespec *time)
  clock_gettime: { parameters: ["i32", "pointer"], result: "i32" },
  // int memcmp(const void *s1, const void *s2, size_t n)
  memcmp: { parameters: ["buffer", "buffer", "usize"], result: "i32" },
  // int memfd_create(const char *name, unsigned flags)
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  // int ftruncate(int fd, off_t length)
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  // void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  // int munmap(void *addr, size_t length)
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  // int madvise(void *addr, size_t length, int advice)
  madvise: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  // int getpagesize(void)
  getpagesize: { parameters: [], result: "i32" },
  // int getrlimit(int resource, struct rlimit *limit)
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
} as const;

type Symbols = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/**
 * Functions that are called to set something up, not for each message. Deno compiles a call of each
 * function when a library is opened, which takes 0.1 to 0.2 ms. Of these only the address is looked
 * up then. A call takes 1 us more.
 */
const SELDOM = [
  "open",
  "fstatfs",
  "flock",
  "statx",
  "unlink",
  "socket",
  "socketpair",
  "connect",
  "bind",
  "listen",
  "accept4",
  "getsockopt",
  "_exit",
  "getppid",
  "prctl",
  "sigaction",
  "io_setup",
  "getdents64",
  "gettid",
  "timer_create",
  "readlink",
  "memfd_create",
  "ftruncate",
  "getpagesize",
  "getrlimit",
] as const satisfies readonly (keyof typeof SYMBOLS)[];

/** libc's functions, and `errno`, a window on the calling thread's own. */
export interface Libc extends Symbols {
  /** One element: the errno of the last failed synchronous call of this thread. */
  readonly errno: Int32Array;
}

/** The names of a C library: glibc, then musl by architecture, then the linker's name. */
const LIBRARY_NAMES = ["libc.so.6", `libc.musl-${Deno.build.arch}.so.1`, "libc.so"];

let opened: Libc | undefined;

/**
 * The C library, opened on first use (4 ms).
 *
 * @throws {Deno.errors.NotCapable} without `--allow-ffi`
 * @throws {Error} on a system that is not 64-bit Linux
 */
export function libc(): Libc {
  return opened ??= open((name) => {
    const symbols = load(name);
    return Object.assign(symbols, { errno: errnoAt(symbols.__errno_location()) });
  });
}

/**
 * Asks sigaction(2) how a signal is handled. A program may need nothing else of the library: unless
 * all is open, this function is opened alone, and closed again.
 *
 * @param old receives the answer
 * @returns 0, or the errno
 * @throws as {@linkcode libc}
 */
export function askSigaction(signal: number, old: BigUint64Array<ArrayBuffer>): number {
  const { sigaction, __errno_location } = SYMBOLS;
  const few = opened === undefined
    ? open((name) => Deno.dlopen(name, { sigaction, __errno_location }))
    : undefined;
  try {
    const c = few?.symbols ?? opened!;
    const errno = errnoAt(c.__errno_location());
    return c.sigaction(signal, null, old) < 0 ? errno[0]! : 0;
  } finally {
    few?.close();
  }
}

/** A window on the errno of this thread. */
function errnoAt(location: Deno.PointerValue): Int32Array {
  return new Int32Array(Deno.UnsafePointerView.getArrayBuffer(location!, 4));
}

/** Opens the library with `load`, by the first of its names that there is. */
function open<T>(load: (name: string) => T): T {
  const { os, arch } = Deno.build;
  if (os !== "linux" || (arch !== "x86_64" && arch !== "aarch64")) {
    throw new Error(
      `Cannot use vfio-user here: it needs Linux on x86_64 or aarch64, this is ${os} on ${arch}`,
    );
  }
  let firstError: unknown;
  for (const name of LIBRARY_NAMES) {
    try {
      return load(name);
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) {
        throw new Deno.errors.NotCapable(
          "Cannot call the C library: run again with --allow-ffi (a narrowed --allow-ffi=... " +
            "is not enough)",
        );
      }
      firstError ??= error;
    }
  }
  throw new Error(`Cannot open the C library (tried ${LIBRARY_NAMES.join(", ")})`, {
    cause: firstError,
  });
}

/** Opens a library, with a call by its address for each of the functions in `SELDOM`. */
function load(library: string): Symbols {
  const { compiled, addresses } = split();
  const loaded = Deno.dlopen(library, { ...compiled, ...addresses }).symbols;
  const seldom = SELDOM.map((name) => {
    const { parameters, result }: Deno.ForeignFunction = SYMBOLS[name];
    const symbol = { parameters, result };
    const address = loaded[addressOf(name)] as Deno.PointerObject<typeof symbol>;
    let callable: { call(...args: unknown[]): unknown } | undefined;
    return [name, (...args: unknown[]) => {
      callable ??= new Deno.UnsafeFnPointer(address, symbol);
      return callable.call(...args);
    }];
  });
  return Object.assign(loaded, Object.fromEntries(seldom));
}

/** The symbols that Deno compiles, and those of which only the address is looked up. */
function split() {
  const compiled: Record<string, Deno.ForeignFunction | Deno.ForeignStatic> = { ...SYMBOLS };
  const addresses: Record<string, Deno.ForeignStatic> = {};
  for (const name of SELDOM) {
    const symbol: Deno.ForeignFunction = SYMBOLS[name];
    delete compiled[name];
    addresses[addressOf(name)] = { name: symbol.name ?? name, type: "pointer" };
  }
  return { compiled, addresses };
}

function addressOf(name: string): string {
  return `&${name}`;
}

/**
 * Turns the result of a call to libc into a value or an error. The call itself is the last
 * argument: what comes before it is made up first, so nothing stands between the call and its
 * errno.
 *
 * @param doing what is being done, for the error: "Cannot listen on /run/x"
 * @param syscall the name of the function
 * @param result what it returned; below 0 means that it failed
 * @throws {SystemError} if `result` is below 0
 */
export function check(doing: string, syscall: string, result: number): number {
  if (result < 0) throw new SystemError(syscall, opened!.errno[0]!, doing);
  return result;
}

/**
 * A NUL-terminated copy of a string, for a `const char *` parameter.
 *
 * @throws {RangeError} if there is a NUL in it: C would take what comes before for the whole
 */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new RangeError(`Not a C string: ${JSON.stringify(text)}`);
  return new TextEncoder().encode(text + "\0");
}
