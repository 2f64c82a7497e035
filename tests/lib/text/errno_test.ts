import { assertEquals, assertThrows } from "@std/assert";
import { errnoText, parseErrno } from "../../../lib/text/errno.ts";

Deno.test("parseErrno() reads names and numbers", () => {
  assertEquals(["EIO", "eio", "5", "ENOTSUP", "4095"].map(parseErrno), [5, 5, 5, 95, 4095]);
  for (const text of ["", "0", "4096", "EFOO", "-5", "5x", "toString"]) {
    assertThrows(() => parseErrno(text), SyntaxError, `"${text}" is no errno`);
  }
});

Deno.test("errnoText() writes what parseErrno() reads", () => {
  for (let errno = 1; errno < 4096; errno++) assertEquals(parseErrno(errnoText(errno)), errno);
  assertEquals([errnoText(22), errnoText(4000)], ["EINVAL", "4000"]);
});
