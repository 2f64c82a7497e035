/**
 * Numbers of the system calls that are made by number, as asm/unistd.h has them.
 *
 * @module
 */

/** The calls, each with its number. */
export type SystemCalls = Readonly<
  Record<
    | "preadv2"
    | "pwritev2"
    | "io_setup"
    | "io_submit"
    | "io_getevents"
    | "getdents64"
    | "gettid"
    | "timer_create"
    | "timer_settime",
    bigint
  >
>;

/** By the architecture's name in Deno. */
export const SYSTEM_CALLS: Readonly<Record<typeof Deno.build.arch, SystemCalls>> = {
  x86_64: {
    preadv2: 327n,
    pwritev2: 328n,
    io_setup: 206n,
    io_submit: 209n,
    io_getevents: 208n,
    getdents64: 217n,
    gettid: 186n,
    timer_create: 222n,
    timer_settime: 223n,
  },
  aarch64: {
    preadv2: 286n,
    pwritev2: 287n,
    io_setup: 0n,
    io_submit: 2n,
    io_getevents: 4n,
    getdents64: 61n,
    gettid: 178n,
    timer_create: 107n,
    timer_settime: 110n,
  },
};

/** Returns the numbers of this machine. */
export function systemCalls(): SystemCalls {
  return SYSTEM_CALLS[Deno.build.arch];
}
