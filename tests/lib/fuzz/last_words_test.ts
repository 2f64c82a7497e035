/** Reports of sanitizers, assertions and runtimes are recognised. */

import { assertEquals } from "@std/assert";
import { reportIn, withoutNumbers } from "../../../lib/fuzz/last_words.ts";

const OUTPUTS: readonly (readonly [name: string, text: string, output: string])[] = [
  [
    "AddressSanitizer",
    "heap-buffer-overflow on address 0x602000000014 at pc 0x55d1 bp 0x7ffd sp 0x7ffd",
    "hello\n=================================================================\n" +
    "==4711==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x602000000014 at pc " +
    "0x55d1 bp 0x7ffd sp 0x7ffd\nREAD of size 4 at 0x602000000014 thread T0\n",
  ],
  ["LeakSanitizer", "detected memory leaks", "==7==ERROR: LeakSanitizer: detected memory leaks\n"],
  [
    "UndefinedBehaviorSanitizer",
    "a.c:5:9: runtime error: shift exponent 32 is too large for 32-bit type 'int'",
    "x\na.c:5:9: runtime error: shift exponent 32 is too large for 32-bit type 'int'\n",
  ],
  [
    "panic",
    "src/lib.rs:10:5: index out of bounds: the len is 1 but the index is 2",
    "thread 'main' panicked at src/lib.rs:10:5:\nindex out of bounds: the len is 1 but the index " +
    "is 2\nnote: run with `RUST_BACKTRACE=1`\n",
  ],
  [
    "assertion",
    "gpio: a.c:104: read_data: Assertion `offset == 0' failed.",
    "gpio: a.c:104: read_data: Assertion `offset == 0' failed.\n",
  ],
  [
    "assertion",
    "ERROR:../hw/pci.c:12:read: assertion failed: (len < 4)",
    "**\nERROR:../hw/pci.c:12:read: assertion failed: (len < 4)\nBail out!\n",
  ],
  [
    "stack smashing",
    "*** stack smashing detected ***: terminated",
    "*** stack smashing detected ***: terminated\n",
  ],
  [
    "heap corruption",
    "free(): double free detected in tcache 2",
    "free slots: 3\nfree(): double free detected in tcache 2\n",
  ],
  [
    "heap corruption",
    "corrupted size vs. prev_size",
    "corrupted size vs. prev_size\n",
  ],
  [
    "exception",
    "ValueError: no",
    'Traceback (most recent call last):\n  File "x"\nValueError: no\n',
  ],
];

Deno.test("reports of each form are recognised, and nothing where there is none", () => {
  for (const [name, text, output] of OUTPUTS) {
    const report = reportIn(output);
    assertEquals([report?.name, report?.text], [name, text]);
  }
  for (
    const output of [
      "listening on /tmp/x.sock\nmsg0x1: cmd 5 failed: Invalid argument\n",
      "*** client connected ***\nfree slots: 3\nmalloc arena: 5 MB\n",
      "vfu_run_ctx: returned 0\nread(): 4 bytes\n",
    ]
  ) assertEquals(reportIn(output), undefined, output);
});

Deno.test("words without addresses and process ids are the same in each run", () => {
  const words = (pid: number) => withoutNumbers(`==${pid}==x[${pid}] at 0x${pid}ff: 32 bytes`);
  assertEquals(words(4711), words(31999));
});
