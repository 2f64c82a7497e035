/**
 * Linux error numbers: code <-> name <-> text, and the error that a failed call to libc becomes. A
 * table and a class: nothing here opens a library, so the pure parts of the project use it too. The
 * values are those of asm-generic/errno.h, the same on x86_64 and aarch64.
 *
 * @module
 */

/** One row an error: number, name, and what it means in words. */
const TABLE: readonly (readonly [number, string, string])[] = [
  [1, "EPERM", "Operation not permitted"],
  [2, "ENOENT", "No such file or directory"],
  [3, "ESRCH", "No such process"],
  [4, "EINTR", "Interrupted system call"],
  [5, "EIO", "Input/output error"],
  [6, "ENXIO", "No such device or address"],
  [7, "E2BIG", "Argument list too long"],
  [8, "ENOEXEC", "Exec format error"],
  [9, "EBADF", "Bad file descriptor"],
  [10, "ECHILD", "No child processes"],
  [11, "EAGAIN", "Resource temporarily unavailable"],
  [12, "ENOMEM", "Cannot allocate memory"],
  [13, "EACCES", "Permission denied"],
  [14, "EFAULT", "Bad address"],
  [15, "ENOTBLK", "Block device required"],
  [16, "EBUSY", "Device or resource busy"],
  [17, "EEXIST", "File exists"],
  [18, "EXDEV", "Invalid cross-device link"],
  [19, "ENODEV", "No such device"],
  [20, "ENOTDIR", "Not a directory"],
  [21, "EISDIR", "Is a directory"],
  [22, "EINVAL", "Invalid argument"],
  [23, "ENFILE", "Too many open files in system"],
  [24, "EMFILE", "Too many open files"],
  [25, "ENOTTY", "Inappropriate ioctl for device"],
  [26, "ETXTBSY", "Text file busy"],
  [27, "EFBIG", "File too large"],
  [28, "ENOSPC", "No space left on device"],
  [29, "ESPIPE", "Illegal seek"],
  [30, "EROFS", "Read-only file system"],
  [31, "EMLINK", "Too many links"],
  [32, "EPIPE", "Broken pipe"],
  [33, "EDOM", "Numerical argument out of domain"],
  [34, "ERANGE", "Numerical result out of range"],
  [35, "EDEADLK", "Resource deadlock avoided"],
  [36, "ENAMETOOLONG", "File name too long"],
  [37, "ENOLCK", "No locks available"],
  [38, "ENOSYS", "Function not implemented"],
  [39, "ENOTEMPTY", "Directory not empty"],
  [40, "ELOOP", "Too many levels of symbolic links"],
  [42, "ENOMSG", "No message of desired type"],
  [43, "EIDRM", "Identifier removed"],
  [44, "ECHRNG", "Channel number out of range"],
  [45, "EL2NSYNC", "Level 2 not synchronized"],
  [46, "EL3HLT", "Level 3 halted"],
  [47, "EL3RST", "Level 3 reset"],
  [48, "ELNRNG", "Link number out of range"],
  [49, "EUNATCH", "Protocol driver not attached"],
  [50, "ENOCSI", "No CSI structure available"],
  [51, "EL2HLT", "Level 2 halted"],
  [52, "EBADE", "Invalid exchange"],
  [53, "EBADR", "Invalid request descriptor"],
  [54, "EXFULL", "Exchange full"],
  [55, "ENOANO", "No anode"],
  [56, "EBADRQC", "Invalid request code"],
  [57, "EBADSLT", "Invalid slot"],
  [59, "EBFONT", "Bad font file format"],
  [60, "ENOSTR", "Device not a stream"],
  [61, "ENODATA", "No data available"],
  [62, "ETIME", "Timer expired"],
  [63, "ENOSR", "Out of streams resources"],
  [64, "ENONET", "Machine is not on the network"],
  [65, "ENOPKG", "Package not installed"],
  [66, "EREMOTE", "Object is remote"],
  [67, "ENOLINK", "Link has been severed"],
  [68, "EADV", "Advertise error"],
  [69, "ESRMNT", "Srmount error"],
  [70, "ECOMM", "Communication error on send"],
  [71, "EPROTO", "Protocol error"],
  [72, "EMULTIHOP", "Multihop attempted"],
  [73, "EDOTDOT", "RFS specific error"],
  [74, "EBADMSG", "Bad message"],
  [75, "EOVERFLOW", "Value too large for defined data type"],
  [76, "ENOTUNIQ", "Name not unique on network"],
  [77, "EBADFD", "File descriptor in bad state"],
  [78, "EREMCHG", "Remote address changed"],
  [79, "ELIBACC", "Can not access a needed shared library"],
  [80, "ELIBBAD", "Accessing a corrupted shared library"],
  [81, "ELIBSCN", ".lib section in a.out corrupted"],
  [82, "ELIBMAX", "Attempting to link in too many shared libraries"],
  [83, "ELIBEXEC", "Cannot exec a shared library directly"],
  [84, "EILSEQ", "Invalid or incomplete multibyte or wide character"],
  [85, "ERESTART", "Interrupted system call should be restarted"],
  [86, "ESTRPIPE", "Streams pipe error"],
  [87, "EUSERS", "Too many users"],
  [88, "ENOTSOCK", "Socket operation on non-socket"],
  [89, "EDESTADDRREQ", "Destination address required"],
  [90, "EMSGSIZE", "Message too long"],
  [91, "EPROTOTYPE", "Protocol wrong type for socket"],
  [92, "ENOPROTOOPT", "Protocol not available"],
  [93, "EPROTONOSUPPORT", "Protocol not supported"],
  [94, "ESOCKTNOSUPPORT", "Socket type not supported"],
  [95, "ENOTSUP", "Operation not supported"],
  [96, "EPFNOSUPPORT", "Protocol family not supported"],
  [97, "EAFNOSUPPORT", "Address family not supported by protocol"],
  [98, "EADDRINUSE", "Address already in use"],
  [99, "EADDRNOTAVAIL", "Cannot assign requested address"],
  [100, "ENETDOWN", "Network is down"],
  [101, "ENETUNREACH", "Network is unreachable"],
  [102, "ENETRESET", "Network dropped connection on reset"],
  [103, "ECONNABORTED", "Software caused connection abort"],
  [104, "ECONNRESET", "Connection reset by peer"],
  [105, "ENOBUFS", "No buffer space available"],
  [106, "EISCONN", "Transport endpoint is already connected"],
  [107, "ENOTCONN", "Transport endpoint is not connected"],
  [108, "ESHUTDOWN", "Cannot send after transport endpoint shutdown"],
  [109, "ETOOMANYREFS", "Too many references: cannot splice"],
  [110, "ETIMEDOUT", "Connection timed out"],
  [111, "ECONNREFUSED", "Connection refused"],
  [112, "EHOSTDOWN", "Host is down"],
  [113, "EHOSTUNREACH", "No route to host"],
  [114, "EALREADY", "Operation already in progress"],
  [115, "EINPROGRESS", "Operation now in progress"],
  [116, "ESTALE", "Stale file handle"],
  [117, "EUCLEAN", "Structure needs cleaning"],
  [118, "ENOTNAM", "Not a XENIX named type file"],
  [119, "ENAVAIL", "No XENIX semaphores available"],
  [120, "EISNAM", "Is a named type file"],
  [121, "EREMOTEIO", "Remote I/O error"],
  [122, "EDQUOT", "Disk quota exceeded"],
  [123, "ENOMEDIUM", "No medium found"],
  [124, "EMEDIUMTYPE", "Wrong medium type"],
  [125, "ECANCELED", "Operation canceled"],
  [126, "ENOKEY", "Required key not available"],
  [127, "EKEYEXPIRED", "Key has expired"],
  [128, "EKEYREVOKED", "Key has been revoked"],
  [129, "EKEYREJECTED", "Key was rejected by service"],
  [130, "EOWNERDEAD", "Owner died"],
  [131, "ENOTRECOVERABLE", "State not recoverable"],
  [132, "ERFKILL", "Operation not possible due to RF-kill"],
  [133, "EHWPOISON", "Memory page has hardware error"],
];

const BY_CODE = new Map(TABLE.map(([code, name, text]) => [code, { name, text }]));
const BY_NAME = new Map([
  ...TABLE.map(([code, name]) => [name, code] as const),
  ["EOPNOTSUPP", 95] as const, // second names of the same numbers
  ["EWOULDBLOCK", 11] as const,
  ["EDEADLOCK", 35] as const,
]);

// The ones that code compares with.
/** Not permitted. */
export const EPERM = 1;
/** No such thing. */
export const ENOENT = 2;
/** Interrupted by a signal. */
export const EINTR = 4;
/** I/O error. */
export const EIO = 5;
/** No such device or address. */
export const ENXIO = 6;
/** Too large. */
export const E2BIG = 7;
/** Try again: the operation would block. */
export const EAGAIN = 11;
/** Not an open descriptor, or not for this. */
export const EBADF = 9;
/** Cannot allocate memory. */
export const ENOMEM = 12;
/** Permission denied. */
export const EACCES = 13;
/** Bad address. */
export const EFAULT = 14;
/** In use. */
export const EBUSY = 16;
/** Exists already. */
export const EEXIST = 17;
/** Invalid argument. */
export const EINVAL = 22;
/** No space left. */
export const ENOSPC = 28;
/** The peer is gone. */
export const EPIPE = 32;
/** Out of range. */
export const ERANGE = 34;
/** Not implemented. */
export const ENOSYS = 38;
/** A message of the wrong size. */
export const EMSGSIZE = 90;
/** Not supported. */
export const ENOTSUP = 95;
/** The peer closed with data unread. */
export const ECONNRESET = 104;
/** Not connected. */
export const ENOTCONN = 107;
/** Too many descriptors are on their way, in messages that were not received. */
export const ETOOMANYREFS = 109;
/** Timed out. */
export const ETIMEDOUT = 110;
/** No process listens. */
export const ECONNREFUSED = 111;
/** In progress. */
export const EINPROGRESS = 115;
/** Was given up. */
export const ECANCELED = 125;

/**
 * The name of a Linux error number.
 *
 * @param code the number, positive
 * @returns its name, or `errno N` for a number that Linux does not know
 *
 * @example
 * ```ts
 * import { errnoName } from "./errno.ts";
 * console.assert(errnoName(22) === "EINVAL");
 * console.assert(errnoName(4242) === "errno 4242");
 * ```
 */
export function errnoName(code: number): string {
  return BY_CODE.get(code)?.name ?? `errno ${code}`;
}

/** An error number in words ("Invalid argument"), or undefined where Linux has none. */
export function errnoText(code: number): string | undefined {
  return BY_CODE.get(code)?.text;
}

/** `EINVAL (Invalid argument)`, for messages. */
export function describeErrno(code: number): string {
  const entry = BY_CODE.get(code);
  return entry ? `${entry.name} (${entry.text})` : `errno ${code}`;
}

/** The number of a Linux error name, or undefined if there is no such name. */
export function errnoCode(name: string): number | undefined {
  return BY_NAME.get(name);
}

/**
 * A call to libc failed. `errno` is Linux's number, `code` its name, `syscall` the function called.
 */
export class SystemError extends Error {
  /** The name of the class. */
  override readonly name = "SystemError";
  /** Linux's error number. */
  readonly errno: number;
  /** Its name, as "ENOENT". */
  readonly code: string;
  /** The function that failed, as "connect". */
  readonly syscall: string;

  /**
   * A failed call.
   *
   * @param doing what was being done, if more than the name of the call is worth saying
   */
  constructor(syscall: string, errno: number, doing?: string) {
    super(`${doing ?? syscall}: ${describeErrno(errno)}`);
    this.syscall = syscall;
    this.errno = errno;
    this.code = errnoName(errno);
  }
}
