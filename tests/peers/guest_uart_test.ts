/**
 * `examples/uart.ts` in a Linux guest: the kernel's 8250_pci binds it by its class, and what is
 * written to its terminal comes back.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { startServe } from "../_demo_process.ts";
import { bootGuest, type Guest, guestTest } from "./guest.ts";

/** Bytes that go out and come back at once. */
const SIZE = 6000;

/** Finds the terminal of the first device, as "ttyS2". */
async function terminalOf(guest: Guest): Promise<string> {
  const path = await guest.sh(`find /sys/bus/pci/devices/${guest.address()}/ -name 'ttyS*'`);
  return path.slice(path.lastIndexOf("/") + 1);
}

/**
 * Writes some KiB of text, reads as many, and compares them with what the far end makes of them.
 * The last line counts interrupts: the kernel shows them while the terminal is open.
 */
function echoScript(terminal: string, baud: number): string {
  return `
    exec 3<>/dev/${terminal}
    stty raw -echo ${baud} -F /dev/${terminal}
    i=0
    while [ $i -lt 300 ]; do echo "line $i of the guest"; i=$((i+1)); done |
      head -c ${SIZE} >/tmp/sent
    tr a-z A-Z </tmp/sent >/tmp/expected
    head -c ${SIZE} <&3 >/tmp/received &
    cat /tmp/sent >&3
    wait
    cmp /tmp/expected /tmp/received && wc -c </tmp/received
    grep ${terminal} /proc/interrupts`;
}

guestTest("8250_pci binds the UART, and several KiB go out and come back", async () => {
  await using served = await startServe("examples/uart.ts", "--option", "answer=upper");
  await using guest = await bootGuest({ devices: [{ socket: served.path }] });
  const text = await guest.sh(`lspci -vv -s ${guest.address()}`);
  assertStringIncludes(text, "Serial controller: Device 1234:0de8 (prog-if 02 [16550])");
  assertMatch(text, /Region 0: I\/O ports at \w+ \[size=8\]/);
  assertStringIncludes(text, "Kernel driver in use: serial");
  const terminal = await terminalOf(guest);
  const port = terminal.slice("ttyS".length);
  const portLine = () => guest.sh(`grep ^${port}: /proc/tty/driver/serial`);
  assertStringIncludes(await portLine(), "uart:16550A");

  for (const [round, baud] of [115200, 38400].entries()) {
    const lines = (await guest.sh(echoScript(terminal, baud))).split("\n");
    assertEquals(lines[0], `${SIZE}`);
    // A slow guest serves thousands of characters in one interrupt.
    assert(Number(lines.at(-1)!.match(/:\s+(\d+)/)?.[1]) > 1, lines.at(-1));
    const total = (round + 1) * SIZE;
    // Errors of the line would follow the counts: "oe:1".
    assertMatch(await portLine(), new RegExp(` tx:${total} rx:${total} [A-Z|]+$`));
  }

  // As a user at a terminal: a line, and its answer. Also after the driver has begun anew.
  const greet = `exec 3<>/dev/${terminal}
    stty -echo 9600 -F /dev/${terminal}
    echo hello >&3
    read -r answer <&3
    echo "$answer"`;
  assertEquals(await guest.sh(greet), "HELLO");
  await guest.sh(`cd /sys/bus/pci/drivers/serial
    echo ${guest.address()} > unbind
    echo ${guest.address()} > bind`);
  assertEquals(await guest.sh(greet.replaceAll(terminal, await terminalOf(guest))), "HELLO");
  assertEquals(await guest.complaints(), []);
  assertEquals(guest.qemuSaid(), "");
});
