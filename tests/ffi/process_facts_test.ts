import { assert, assertEquals, assertThrows } from "@std/assert";
import { SystemError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { createMemfd, Mapping } from "../../ffi/memory.ts";
import { countDescriptors, countMemfdMappings, processMemory } from "../../ffi/process_facts.ts";
import { testFds } from "../_fds.ts";
import { until } from "../_until.ts";
import { runJson } from "./_subprocess.ts";

/** No process has this id: it is above the largest pid_max of Linux, 2^22. */
const NO_PROCESS = (1 << 22) + 1;

testFds("countDescriptors() counts what a process has open, in more than one part", () => {
  const before = countDescriptors(Deno.pid);
  {
    using stack = new DisposableStack();
    for (let i = 0; i < 900; i++) stack.use(OwnedFd.open("/dev/null", 0));
    assertEquals(countDescriptors(Deno.pid), before + 900);
  }
  assertEquals(countDescriptors(Deno.pid), before);
  assertThrows(() => countDescriptors(NO_PROCESS), SystemError, "No such file");
});

testFds("countMemfdMappings() counts mappings of memfds with the name", () => {
  const count = () => countMemfdMappings(Deno.pid, "vfu-facts");
  using one = createMemfd("vfu-facts", 8192);
  using other = createMemfd("vfu-other", 8192);
  {
    using _here = Mapping.create(one, { length: 4096 });
    using _there = Mapping.create(other, { length: 4096 });
    assertEquals(count(), 1);
  }
  assertEquals(count(), 0);
  assertThrows(() => countMemfdMappings(NO_PROCESS, "x"), SystemError, "No such file");
});

testFds("processMemory() knows a process until it ends, looked after or not", async () => {
  const child = new Deno.Command("sleep", { args: ["1000"] }).spawn();
  const { resident, peak } = processMemory(child.pid)!;
  assert(resident > 0 && peak >= resident);
  child.kill("SIGKILL");
  await until(() => processMemory(child.pid) === undefined, "the end of its memory");
  await child.status;
  assertEquals(processMemory(NO_PROCESS), undefined);
});

Deno.test("the facts of another process need no permission but --allow-ffi", async () => {
  const facts = await runJson(
    `
    import { countDescriptors, processMemory } from "ffi/process_facts.ts";
    console.log(JSON.stringify([countDescriptors(${Deno.pid}), processMemory(${Deno.pid}).peak]));
  `,
    { flags: ["--allow-ffi"] },
  );
  assert(Array.isArray(facts) && facts.every((each) => each > 0));
});
