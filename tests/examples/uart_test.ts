/**
 * `examples/uart.ts`, register by register. Its line takes time; here that is the time of a test.
 * `peers/guest_uart_test.ts` has Linux's driver use it.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import uart from "../../examples/uart.ts";
import { parseConfigSpace } from "../../lib/pci/mod.ts";
import { type TestDevice, testDevice } from "../../lib/testing/mod.ts";
import { testFds } from "../_fds.ts";
import { PATIENT } from "../_until.ts";

const REGISTERS = { DATA: 0, IER: 1, IIR: 2, FCR: 2, LCR: 3, MCR: 4, LSR: 5, MSR: 6, SCR: 7 };
type Name = keyof typeof REGISTERS;

const LOOP = 0x10;
const CAUSE = { line: 6, data: 4, timeout: 12, empty: 2, modem: 0, none: 1 };
/** Bits of LSR. */
const [DR, OE, EMPTY] = [1, 2, 0x60];

/** A port as a driver sets it up: 115200 baud, 8 bits, a FIFO with a trigger level. */
async function open(
  options: { answer?: "echo" | "upper" | "none"; fcr?: number } = {},
): Promise<Port> {
  const { answer = "echo", fcr = 0x47 } = options;
  const test = await testDevice(uart, { options: { answer } });
  const port = new Port(test);
  await port.setDivisor(1);
  await port.put("LCR", 3);
  await port.put("FCR", fcr);
  return port;
}

class Port implements AsyncDisposable {
  constructor(readonly test: TestDevice) {}

  get(name: Name): Promise<number> {
    return this.test.client.region("bar0").read8Async(REGISTERS[name]);
  }

  put(name: Name, value: number): Promise<void> {
    return this.test.client.region("bar0").write8Async(REGISTERS[name], value);
  }

  async setDivisor(value: number): Promise<void> {
    await this.put("LCR", 0x83);
    await this.put("DATA", value & 0xff);
    await this.put("IER", value >> 8);
  }

  async send(text: string): Promise<void> {
    for (const each of new TextEncoder().encode(text)) await this.put("DATA", each);
  }

  /** Takes out what was received, as far as LSR says so. */
  async receive(): Promise<string> {
    const bytes: number[] = [];
    while ((await this.get("LSR") & DR) !== 0) bytes.push(await this.get("DATA"));
    return new TextDecoder().decode(Uint8Array.from(bytes));
  }

  /** The cause that IIR says. */
  async cause(): Promise<number> {
    return await this.get("IIR") & 0xf;
  }

  /** The number of interrupts so far. */
  async interrupts(): Promise<number> {
    await this.get("SCR"); // what came before it has been signalled
    return Number(this.test.irq!.total(0));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.test[Symbol.asyncDispose]();
  }
}

testFds("uart.ts has 8 ports, of which the divisor takes the place of two", async () => {
  await using port = await open();
  const { client } = port.test;
  const space = parseConfigSpace(await client.readConfigSpace());
  assertEquals([space.classCode, space.notes], [0x070002, []]);
  assertEquals(space.bars.map((bar) => bar.space), ["io"]);
  assertEquals(client.region("bar0").size, 8);
  await port.put("IER", 0x05);
  await port.setDivisor(0x1234);
  assertEquals([await port.get("DATA"), await port.get("IER")], [0x34, 0x12]);
  assertEquals(await client.region("bar0").read32Async(0), 0x83c11234);
  await port.put("LCR", 3);
  assertEquals([await port.get("DATA"), await port.get("IER")], [0, 0x05]);
  await port.put("IER", 0xff);
  assertEquals(await port.get("IER"), 0x0f);
  await port.put("SCR", 0xa5);
  await port.put("LSR", 0xff);
  assertEquals([await port.get("SCR"), await port.get("LSR")], [0xa5, EMPTY]);
});

testFds("a character takes its time to the far end and back", async () => {
  await using port = await open({ answer: "upper" });
  await port.setDivisor(384); // 300 baud: 33.3 ms for 10 bits
  await port.put("LCR", 3);
  await port.send("ab");
  assertEquals(await port.get("LSR"), 0);
  await port.test.advance(33);
  assertEquals(await port.get("LSR"), 0);
  await port.test.advance(1);
  assertEquals(await port.get("LSR"), DR);
  assertEquals(await port.receive(), "A");
  await port.put("LCR", 0x1f); // two stop bits and parity: 12 bits, 40 ms, from the next one on
  await port.send("z");
  await port.test.advance(33);
  assertEquals([await port.receive(), await port.get("LSR")], ["B", 0]);
  await port.test.advance(39);
  assertEquals(await port.get("LSR"), 0);
  await port.test.advance(1);
  assertEquals([await port.receive(), await port.get("LSR")], ["Z", EMPTY]);
});

testFds("characters interrupt from the trigger level on, and fewer after a silence", async () => {
  for (const [bits, level] of [[0, 1], [1, 4], [2, 8], [3, 14]] as const) {
    await using port = await open({ fcr: bits << 6 | 7 });
    await port.put("IER", 1);
    await port.send("x".repeat(level - 1));
    assertEquals([await port.cause(), await port.interrupts()], [CAUSE.none, 0]);
    if (level > 1) {
      await port.test.advance(2);
      await port.test.advance(1); // four times the 87 us of a character
      await port.test.irq!.waitAsync(0, PATIENT);
      assertEquals(await port.cause(), CAUSE.timeout);
      assertEquals(await port.receive(), "x".repeat(level - 1));
      assertEquals(await port.cause(), CAUSE.none);
    }
    await port.send("y".repeat(level));
    await port.test.advance(2);
    await port.test.irq!.waitAsync(0, PATIENT);
    assertEquals([await port.get("IIR")], [0xc0 | CAUSE.data]);
    await port.get("DATA");
    assertEquals(await port.cause(), CAUSE.none);
  }
});

testFds("the transmitter interrupts when it is empty, until IIR has told so", async () => {
  await using port = await open({ answer: "none" });
  await port.put("IER", 2); // it is empty already
  await port.test.irq!.waitAsync(0, PATIENT);
  assertEquals([await port.cause(), await port.cause()], [CAUSE.empty, CAUSE.none]);
  await port.put("IER", 2); // asked for already
  assertEquals(await port.cause(), CAUSE.none);
  await port.send("0123456789abcdefg"); // the FIFO has 16
  await port.test.advance(1);
  assertEquals([await port.cause(), await port.get("LSR")], [CAUSE.none, 0]);
  await port.test.advance(1);
  await port.test.irq!.waitAsync(0, PATIENT);
  assertEquals([await port.interrupts(), await port.get("LSR")], [2, EMPTY]);
  await port.send("h"); // as good as IIR
  assertEquals(await port.cause(), CAUSE.none);
  await port.put("FCR", 0x45); // its FIFO is cleared
  assertEquals([await port.cause(), await port.get("LSR")], [CAUSE.empty, EMPTY]);
});

testFds(
  "the far end waits while the receiver is full; loopback mode loses characters",
  async () => {
    await using port = await open({ answer: "upper" });
    await port.put("IER", 4);
    await port.send("0123456789abcdef");
    await port.test.advance(100);
    await port.send("ghijklmnopqrstuv");
    await port.test.advance(100);
    assertEquals([await port.get("LSR"), await port.cause()], [DR, CAUSE.none]);
    let text = "";
    for (let i = 0; i < 4; i++) {
      text += await port.receive();
      await port.test.advance(10);
    }
    assertEquals([text, await port.get("LSR")], ["0123456789ABCDEFGHIJKLMNOPQRSTUV", EMPTY]);

    await port.put("MCR", LOOP);
    await port.send("0123456789abcdef");
    await port.test.advance(10);
    await port.send("g");
    await port.test.advance(10);
    await port.test.irq!.waitAsync(0, PATIENT);
    assertEquals([await port.cause(), await port.get("LSR")], [CAUSE.line, EMPTY | DR | OE]);
    assertEquals([await port.cause(), await port.get("LSR")], [CAUSE.none, EMPTY | DR]);
    assertEquals(await port.receive(), "0123456789abcdef");
    await port.send("0");
    await port.test.advance(10);
    await port.put("FCR", 0x43);
    assertEquals(await port.get("LSR"), EMPTY);
    await port.put("MCR", 0);
    await port.send("0123456789abcdef");
    await port.test.advance(10);
    await port.send("g");
    await port.put("FCR", 0x43); // what was received is cleared: there is room for what is sent
    assertEquals(await port.get("LSR"), 0);
    await port.test.advance(10);
    assertEquals(await port.receive(), "G");
  },
);

testFds("without FIFOs there is room for one character, and IIR says so", async () => {
  await using port = await open({ fcr: 0 });
  await port.put("IER", 1);
  await port.send("ab");
  await port.test.advance(1);
  await port.test.irq!.waitAsync(0, PATIENT);
  assertEquals(await port.get("IIR"), CAUSE.data);
  assertEquals([await port.receive(), await port.get("IIR")], ["a", CAUSE.none]);
  await port.test.advance(1);
  assertEquals(await port.receive(), "");
});

testFds("in loopback mode the signals are the port's own, and changes interrupt", async () => {
  await using port = await open();
  assertEquals(await port.get("MSR"), 0xb0);
  await port.put("MCR", 0x0f);
  assertEquals(await port.get("MSR"), 0xb0);
  await port.put("IER", 8);
  await port.put("MCR", LOOP | 0x04); // the ring begins, the others end
  await port.test.irq!.waitAsync(0, PATIENT);
  assertEquals([await port.cause(), await port.get("MSR")], [CAUSE.modem, 0x4b]);
  assertEquals([await port.cause(), await port.get("MSR")], [CAUSE.none, 0x40]);
  await port.put("MCR", LOOP | 0x0a); // the ring ends
  assertEquals([await port.get("MSR"), await port.get("MSR")], [0x9d, 0x90]);
});

testFds("the cause is the most urgent, and goes by being served", async () => {
  await using port = await open();
  await port.put("IER", 0x0f);
  await port.put("MCR", LOOP);
  await port.send("0123456789abcdef");
  await port.test.advance(10);
  await port.send("g");
  await port.test.advance(10);
  const causes = [await port.cause()];
  await port.get("LSR");
  causes.push(await port.cause());
  await port.receive();
  causes.push(await port.cause(), await port.cause());
  await port.get("MSR");
  causes.push(await port.cause());
  assertEquals(causes, [CAUSE.line, CAUSE.data, CAUSE.empty, CAUSE.modem, CAUSE.none]);
});

testFds("the FIFOs migrate with what is on its way; a reset empties them", async () => {
  await using from = await open({ answer: "upper" });
  await using to = await open({ answer: "upper" });
  await from.put("IER", 1);
  await from.setDivisor(12);
  await from.put("LCR", 3);
  await from.send("abcde");
  await from.test.advance(4);
  const { migration } = to.test.client;
  await from.test.client.migration.save({ after: "STOP" }).pipeTo(migration.restore());
  assertEquals(await to.get("LSR"), DR);
  await to.test.advance(20);
  await to.test.irq!.waitAsync(0, PATIENT);
  assertEquals([await to.cause(), await to.receive()], [CAUSE.data, "ABCDE"]);

  await to.send("f");
  await to.test.client.reset();
  await to.test.advance(20);
  assertEquals([await to.get("LSR"), await to.get("IIR"), await to.receive()], [EMPTY, 1, ""]);
  assert(await to.interrupts() > 0);
});

Deno.test("the far end is one that there is", async () => {
  // @ts-expect-error the types know the choices
  await assertRejects(() => testDevice(uart, { options: { answer: "lower" } }), Error, "upper");
});
