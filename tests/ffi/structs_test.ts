import { assert, assertEquals } from "@std/assert";
import * as structs from "../../ffi/structs.ts";

const {
  cmsghdr,
  cmsgLength,
  cmsgSpace,
  iocb,
  ioEvent,
  iovec,
  itimerspec,
  msghdr,
  pollfd,
  rlimit,
  sigaction,
  sigevent,
  sockaddrUn,
  statfs,
  statx,
  timeval,
} = structs;

Deno.test("the tables have the 64-bit layouts of Linux", () => {
  assertEquals({ ...msghdr }, {
    SIZE: 56,
    iov: 16,
    iovlen: 24,
    control: 32,
    controllen: 40,
    flags: 48,
  });
  assertEquals({ ...iovec }, { SIZE: 16, base: 0, len: 8 });
  assertEquals({ ...cmsghdr }, { SIZE: 16, len: 0, level: 8, type: 12, data: 16 });
  assertEquals({ ...sockaddrUn }, { SIZE: 110, family: 0, path: 2, PATH_SIZE: 108 });
  assertEquals({ ...pollfd }, { SIZE: 8, fd: 0, events: 4, revents: 6 });
  assertEquals({ ...timeval }, { SIZE: 16, sec: 0, usec: 8 });
  assertEquals({ ...statx }, {
    SIZE: 256,
    mode: 28,
    ino: 32,
    size: 40,
    blocks: 48,
    dev_major: 136,
    dev_minor: 140,
    mnt_id: 144,
  });
  assertEquals({ ...statfs }, { SIZE: 120, type: 0, bsize: 8, blocks: 16, bavail: 32 });
  assertEquals({ ...rlimit }, { SIZE: 16, cur: 0, max: 8 });
  assertEquals({ ...iocb }, { SIZE: 64, rw_flags: 12, fildes: 20, flags: 56, resfd: 60 });
  assertEquals({ ...ioEvent }, { SIZE: 32 });
  assertEquals({ ...sigaction }, { SIZE: 152, handler: 0 });
  assertEquals({ ...sigevent }, { SIZE: 64, signo: 8, notify: 12, thread_id: 16 });
  assertEquals({ ...itimerspec }, { SIZE: 32, interval_nsec: 8, value_nsec: 24 });
});

Deno.test("cmsgSpace() pads to 8 bytes and cmsgLength() does not", () => {
  const table = [[0, 16, 16], [1, 24, 20], [2, 24, 24], [3, 32, 28], [16, 80, 80], [
    253,
    1032,
    1028,
  ]];
  for (const [count, space, length] of table) {
    assertEquals([cmsgSpace(count!), cmsgLength(count!)], [space, length], `${count} fds`);
  }
});

/** C type, prefix of its members, and our table. */
const TYPES: [string, string, Record<string, number>][] = [
  ["struct msghdr", "msg_", msghdr],
  ["struct iovec", "iov_", iovec],
  ["struct cmsghdr", "cmsg_", cmsghdr],
  ["struct sockaddr_un", "sun_", sockaddrUn],
  ["struct pollfd", "", pollfd],
  ["struct timeval", "tv_", timeval],
  ["struct statx", "stx_", statx],
  ["struct statfs", "f_", statfs],
  ["struct rlimit", "rlim_", rlimit],
  ["struct iocb", "aio_", iocb],
  ["struct io_event", "", ioEvent],
  ["struct sigaction", "sa_", sigaction],
  ["struct sigevent", "sigev_", sigevent],
  ["struct itimerspec", "it_", itimerspec],
];

Deno.test("the tables are what the C compiler says, where there is one", async () => {
  const checks: string[] = [];
  for (const [type, prefix, table] of TYPES) {
    for (const [field, value] of Object.entries(table)) {
      checks.push(`_Static_assert(${cExpression(type, prefix, field)} == ${value}, "${field}");`);
    }
  }
  for (const count of [0, 1, 2, 3, 16, 253]) {
    checks.push(`_Static_assert(CMSG_SPACE(${count} * 4) == ${cmsgSpace(count)}, "space");`);
    checks.push(`_Static_assert(CMSG_LEN(${count} * 4) == ${cmsgLength(count)}, "length");`);
  }
  assert(checks.length > 40);
  const result = await compile(checks.join("\n"));
  if (result === undefined) return; // no compiler: the literal values above have to do
  assertEquals(result.errors, "");
  // And the compiler does look: a wrong value does not pass.
  assert((await compile('_Static_assert(sizeof(struct msghdr) == 55, "");'))!.errors !== "");
});

/** Members of members, by their names in our tables. */
const MEMBERS: Readonly<Record<string, string>> = {
  thread_id: "_sigev_un._tid",
  interval_nsec: "it_interval.tv_nsec",
  value_nsec: "it_value.tv_nsec",
};

function cExpression(type: string, prefix: string, field: string): string {
  if (field === "SIZE") return `sizeof(${type})`;
  if (field === "PATH_SIZE") return `sizeof(((${type} *)0)->sun_path)`;
  if (type === "struct cmsghdr" && field === "data") return "CMSG_LEN(0)";
  const member = MEMBERS[field] ?? `${prefix}${field}`;
  return `offsetof(${type}, ${member})`;
}

const MORE_HEADERS = [
  "sys/stat.h",
  "sys/vfs.h",
  "sys/resource.h",
  "signal.h",
  "time.h",
  "linux/aio_abi.h",
];

async function compile(assertions: string): Promise<{ errors: string } | undefined> {
  const headers = ["stddef.h", "poll.h", "sys/socket.h", "sys/un.h", "sys/uio.h", "sys/time.h"];
  const source = "#define _GNU_SOURCE\n" +
    [...headers, ...MORE_HEADERS].map((name) => `#include <${name}>\n`).join("") +
    assertions;
  try {
    const child = new Deno.Command("cc", {
      args: ["-fsyntax-only", "-x", "c", "-"],
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(source + "\n"));
    await writer.close();
    return { errors: new TextDecoder().decode((await child.output()).stderr) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
