import { constants } from "node:os";
import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import * as errno from "../../ffi/errno.ts";

const { describeErrno, errnoCode, errnoName, errnoText, SystemError } = errno;

Deno.test("errnoName() and errnoCode() agree with the numbers that the runtime has", () => {
  const known = Object.entries(constants.errno);
  assert(known.length > 70);
  for (const [name, code] of known) {
    assertEquals(errnoCode(name), code, name);
    assertEquals(errnoCode(errnoName(code as number)), code);
  }
});

Deno.test("errnoName() knows all of 1 to 133 but the two that Linux skips", () => {
  const unknown = [];
  for (let code = 0; code <= 140; code++) {
    const name = errnoName(code);
    if (name === `errno ${code}`) unknown.push(code);
    else assertEquals(errnoCode(name), code);
  }
  assertEquals(unknown, [0, 41, 58, 134, 135, 136, 137, 138, 139, 140]);
});

Deno.test("errnoText() is what strerror of glibc says", () => {
  const library = openGlibc();
  if (library === undefined) { // musl has texts of its own: then at least these
    assertEquals(errnoText(22), "Invalid argument");
    assertEquals(errnoText(104), "Connection reset by peer");
    return;
  }
  try {
    for (let code = 1; code <= 133; code++) {
      const text = new Deno.UnsafePointerView(library.symbols.strerror(code)!).getCString();
      assertEquals(errnoText(code) ?? `Unknown error ${code}`, text);
    }
  } finally {
    library.close();
  }
});

Deno.test("the constants have the values of their names", () => {
  let count = 0;
  for (const [name, value] of Object.entries(errno)) {
    if (typeof value !== "number") continue;
    assertEquals(errnoCode(name), value, name);
    count++;
  }
  assert(count >= 14);
});

Deno.test("errnoCode() knows second names, and no others", () => {
  assertEquals(errnoCode("EOPNOTSUPP"), 95);
  assertEquals(errnoCode("EWOULDBLOCK"), 11);
  assertEquals(errnoCode("EDEADLOCK"), 35);
  for (const name of ["", "einval", "EINVAL ", "toString", "__proto__"]) {
    assertEquals(errnoCode(name), undefined);
  }
});

Deno.test("describeErrno() gives name and text, or the number", () => {
  assertEquals(describeErrno(22), "EINVAL (Invalid argument)");
  assertEquals(describeErrno(4242), "errno 4242");
  assertEquals(describeErrno(-22), "errno -22");
});

Deno.test("SystemError has call, number and name, and says what was being done", () => {
  const error = new SystemError("connect", 2, "Cannot connect to /x");
  assertInstanceOf(error, Error);
  assertEquals(error.name, "SystemError");
  assertEquals([error.syscall, error.errno, error.code], ["connect", 2, "ENOENT"]);
  assertEquals(error.message, "Cannot connect to /x: ENOENT (No such file or directory)");
  assertEquals(new SystemError("poll", 12).message, "poll: ENOMEM (Cannot allocate memory)");
  assertEquals(new SystemError("poll", 999).code, "errno 999");
});

function openGlibc() {
  try {
    return Deno.dlopen("libc.so.6", { strerror: { parameters: ["i32"], result: "pointer" } });
  } catch {
    return undefined;
  }
}
