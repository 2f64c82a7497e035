import { assertEquals } from "@std/assert";
import { OwnedFd } from "../../ffi/fd.ts";
import { createMemfd } from "../../ffi/memory.ts";
import { mountedType } from "../../ffi/mounts.ts";
import { testFds } from "../_fds.ts";

testFds("mountedType() finds the file system of a file, by its mount or by its device", () => {
  for (const [path, type] of [["/proc/self/status", "proc"], ["/sys/kernel/mm", "sysfs"]]) {
    using file = OwnedFd.open(path!, 0);
    const stat = file.stat();
    assertEquals(mountedType(stat), type);
    assertEquals(mountedType({ ...stat, mount: 0n }), type);
  }
});

testFds("mountedType() finds nothing for what is not mounted here", () => {
  using memfd = createMemfd("test", 4096);
  assertEquals(mountedType(memfd.stat()), undefined);
});
