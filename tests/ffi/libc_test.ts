import {
  assertEquals,
  assertNotEquals,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { SystemError } from "../../ffi/errno.ts";
import { check, cString, libc } from "../../ffi/libc.ts";
import { testFds } from "../_fds.ts";
import { run, runJson } from "./_subprocess.ts";

testFds("libc() opens the library once", () => {
  assertStrictEquals(libc(), libc());
});

testFds("libc().errno is that of the call before", () => {
  const c = libc();
  const missing = cString("/nonexistent/file");
  for (let i = 0; i < 1000; i++) {
    c.close(-1);
    const bad = c.errno[0];
    c.open(missing, 0, 0);
    const none = c.errno[0];
    c.socket(1, 7, 0);
    const type = c.errno[0];
    assertEquals([bad, none, type], [9, 2, 94]);
  }
});

testFds("check() returns what is not negative", () => {
  assertEquals(check("Cannot test", "none", 0), 0);
  assertEquals(check("Cannot test", "none", 7), 7);
});

testFds("check() throws the errno of the call, whatever the message took to make", () => {
  const c = libc();
  const missing = cString("/nonexistent/file");
  const makeMessage = () => {
    c.close(-1); // another errno
    return `Cannot open ${"x".repeat(1000)}`;
  };
  const error = assertThrows(
    () => check(makeMessage(), "open", c.open(missing, 0, 0)),
    SystemError,
  );
  assertEquals([error.code, error.syscall], ["ENOENT", "open"]);
  assertStringIncludes(error.message, "Cannot open xxx");
});

Deno.test("cString() ends with a NUL and holds no other", () => {
  assertEquals(cString("aé"), new Uint8Array([0x61, 0xc3, 0xa9, 0]));
  assertEquals(cString(""), new Uint8Array(1));
  assertThrows(() => cString("/etc/passwd\0.txt"), RangeError, "Not a C string");
});

Deno.test("libc() says which permission is missing, and that a narrowed one won't do", async () => {
  const code = `import { libc } from "ffi/libc.ts"; libc();`;
  for (const flags of [[], ["--allow-ffi=/nonexistent"]]) {
    const { code: exit, stderr } = await run(code, { flags });
    assertNotEquals(exit, 0);
    assertStringIncludes(stderr, "NotCapable: Cannot call the C library");
    assertStringIncludes(stderr, "run again with --allow-ffi");
  }
});

Deno.test("importing ffi/ needs no permission", async () => {
  const { code, stderr } = await run(
    `import "ffi/socket.ts"; import "ffi/memory.ts"; import "ffi/poller.ts";`,
    { flags: [] },
  );
  assertEquals(code, 0, stderr);
});

Deno.test("libc() tries glibc, then musl, then the linker's name", async () => {
  const tried = await runJson(`
    import { libc } from "ffi/libc.ts";
    const real = Deno.dlopen;
    const tried = [];
    Deno.dlopen = (name, symbols) => {
      tried.push(name);
      if (name !== "libc.so") throw new Error("no " + name);
      return real("libc.so.6", symbols);
    };
    libc().close(-1);
    console.log(JSON.stringify([...tried, libc().errno[0]]));
  `);
  assertEquals(tried, ["libc.so.6", `libc.musl-${Deno.build.arch}.so.1`, "libc.so", 9]);
});

Deno.test("libc() says what it tried, and why the first failed", async () => {
  const [message, cause] = await runJson(`
    import { libc } from "ffi/libc.ts";
    Deno.dlopen = (name) => { throw new Error("no " + name); };
    try { libc(); } catch (error) { console.log(JSON.stringify([error.message, error.cause.message])); }
  `) as [string, string];
  assertStringIncludes(message, "Cannot open the C library (tried libc.so.6, libc.musl-");
  assertEquals(cause, "no libc.so.6");
});

Deno.test("libc() refuses another system", async () => {
  const message = await runJson(`
    import { libc } from "ffi/libc.ts";
    Object.defineProperty(Deno, "build", { value: { os: "darwin", arch: "aarch64" } });
    try { libc(); } catch (error) { console.log(JSON.stringify(error.message)); }
  `);
  assertEquals(
    message,
    "Cannot use vfio-user here: it needs Linux on x86_64 or aarch64, this is darwin on aarch64",
  );
});

Deno.test("a worker has an errno of its own", async () => {
  const [before, inWorker, after] = await runJson(`
    import { libc } from "ffi/libc.ts";
    const c = libc();
    c.close(-1);
    const before = c.errno[0];
    const source = 'import { libc } from "ffi/libc.ts"; const c = libc(); c.socket(1, 7, 0); postMessage(c.errno[0]);';
    const file = Deno.makeTempFileSync({ suffix: ".ts" });
    Deno.writeTextFileSync(file, source);
    const worker = new Worker("file://" + file, { type: "module" });
    const inWorker = await new Promise((resolve) => worker.onmessage = (event) => resolve(event.data));
    c.close(-1);
    const after = c.errno[0];
    worker.terminate();
    Deno.removeSync(file);
    console.log(JSON.stringify([before, inWorker, after]));
  `) as number[];
  assertEquals([before, inWorker, after], [9, 94, 9]);
});
