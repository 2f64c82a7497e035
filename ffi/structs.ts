/**
 * The structs of Linux's C interface that we fill in or read: one field table each. Byte offsets
 * are those of the 64-bit ABI, measured with offsetof on x86_64 and aarch64, which agree.
 *
 * @module
 */

/**
 * `struct msghdr`: u64 name, u32 namelen, u64 iov, u64 iovlen, u64 control, u64 controllen, i32
 * flags.
 */
export const msghdr = {
  SIZE: 56,
  iov: 16,
  iovlen: 24,
  control: 32,
  controllen: 40,
  flags: 48,
} as const;

/** `struct iovec`: u64 base, u64 len. */
export const iovec = { SIZE: 16, base: 0, len: 8 } as const;

/** `struct cmsghdr`: u64 len (header included), i32 level, i32 type, then the data. */
export const cmsghdr = { SIZE: 16, len: 0, level: 8, type: 12, data: 16 } as const;

/** `struct sockaddr_un`: u16 family, char path[108]. */
export const sockaddrUn = { SIZE: 110, family: 0, path: 2, PATH_SIZE: 108 } as const;

/** `struct pollfd`: i32 fd, i16 events, i16 revents. */
export const pollfd = { SIZE: 8, fd: 0, events: 4, revents: 6 } as const;

/** `struct timeval`: i64 sec, i64 usec. */
export const timeval = { SIZE: 16, sec: 0, usec: 8 } as const;

/**
 * `struct statx`: of its fields only the ones that we read. u16 mode, u64 ino, u64 size, u64
 * blocks, u32 dev_major, u32 dev_minor, u64 mnt_id.
 */
export const statx = {
  SIZE: 256,
  mode: 28,
  ino: 32,
  size: 40,
  blocks: 48,
  dev_major: 136,
  dev_minor: 140,
  mnt_id: 144,
} as const;

/**
 * `struct statfs`: of its fields only the ones that we read. i64 type, i64 bsize, u64 blocks, u64
 * bavail.
 */
export const statfs = { SIZE: 120, type: 0, bsize: 8, blocks: 16, bavail: 32 } as const;

/** `struct linux_dirent64`: u64 ino, i64 off, u16 reclen, u8 type, then the name. */
export const dirent64 = { reclen: 16 } as const;

/** `struct rlimit`: u64 cur, u64 max. */
export const rlimit = { SIZE: 16, cur: 0, max: 8 } as const;

/** `struct iocb`, the fields that we set: i32 rw_flags, u32 fildes, u32 flags, u32 resfd. */
export const iocb = { SIZE: 64, rw_flags: 12, fildes: 20, flags: 56, resfd: 60 } as const;

/** `struct io_event`: what became of a request; its fields do not matter here. */
export const ioEvent = { SIZE: 32 } as const;

/** `struct sigaction` of libc: the handler's address; mask, flags and restorer stay 0. */
export const sigaction = { SIZE: 152, handler: 0 } as const;

/** `struct sigevent`: i32 signo, i32 notify, i32 thread id. */
export const sigevent = { SIZE: 64, signo: 8, notify: 12, thread_id: 16 } as const;

/** `struct itimerspec`: i64 seconds and nanoseconds of the interval, then of the first time. */
export const itimerspec = { SIZE: 32, interval_nsec: 8, value_nsec: 24 } as const;

/** CMSG_SPACE: bytes that `count` file descriptors take in a control buffer, padding included. */
export function cmsgSpace(count: number): number {
  return cmsghdr.SIZE + ((count * 4 + 7) & ~7);
}

/** CMSG_LEN: what `cmsghdr.len` says for `count` file descriptors. */
export function cmsgLength(count: number): number {
  return cmsghdr.SIZE + count * 4;
}
