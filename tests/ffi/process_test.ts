import { assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "../../ffi/errno.ts";
import { commandLine, ignoresSignal, setInherited } from "../../ffi/process.ts";
import { libc } from "../../ffi/libc.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { DENO } from "../_deno.ts";
import { run, runJson } from "./_subprocess.ts";

libc(); // opened once for all tests, which then leave nothing open

Deno.test("exitNow() ends the process from any thread, with its code", async () => {
  const worker = `import { exitNow } from "ffi/process.ts"; exitNow(7);`;
  const { code } = await run(`
    const url = "data:text/typescript," + encodeURIComponent(${JSON.stringify(worker)});
    new Worker(url, { type: "module" });
    await new Promise((resolve) => setTimeout(resolve, 1));
    for (;;);
  `);
  assertEquals(code, 7);
});

Deno.test("ignoresSignal() tells what the process was started with", async () => {
  const [SIGHUP, SIGPIPE] = [1, 13];
  assertEquals(ignoresSignal(SIGPIPE), true); // the runtime does
  const folder = Deno.makeTempDirSync();
  const module = new URL("../../ffi/process.ts", import.meta.url).href;
  Deno.writeTextFileSync(
    `${folder}/a.ts`,
    `import { ignoresSignal } from "${module}"; console.log(ignoresSignal(${SIGHUP}));`,
  );
  for (const [trap, ignored] of [["", "false"], ['trap "" HUP; ', "true"]]) {
    const { stdout } = await new Deno.Command("sh", {
      args: ["-c", `${trap}exec "$0" run -A --no-check --no-config "$1"`, DENO, `${folder}/a.ts`],
    }).output();
    assertEquals(new TextDecoder().decode(stdout).trim(), ignored);
  }
  assertThrows(() => ignoresSignal(1000), SystemError);
  Deno.removeSync(folder, { recursive: true });
});

Deno.test("endWithParent() tells whether the parent still runs", async () => {
  const told = await runJson(`
    import { endWithParent } from "ffi/process.ts";
    console.log(JSON.stringify([endWithParent(${Deno.pid}), endWithParent(1 << 30)]));
  `);
  assertEquals(told, [true, false]);
});

Deno.test("commandLine() has the words that the process was started with", async () => {
  const told = await runJson(`
    import { commandLine } from "ffi/process.ts";
    console.log(JSON.stringify(commandLine().slice(-3)));
  `);
  assertEquals(told, ["--ext=ts", "-A", "-"]);
  assertEquals(commandLine().length > 1, true);
});

Deno.test("setInherited() gives a descriptor to processes that are started, or not", () => {
  const [a, b] = UnixSocket.pair();
  const sees = () => {
    const { code } = new Deno.Command("sh", { args: ["-c", `test -e /proc/self/fd/${a.fd}`] })
      .outputSync();
    return code === 0;
  };
  assertEquals(sees(), false);
  setInherited(a.fd, true);
  assertEquals(sees(), true);
  setInherited(a.fd, false);
  assertEquals(sees(), false);
  const closed = a.fd;
  a.close();
  b.close();
  assertThrows(() => setInherited(closed, false), SystemError);
});
