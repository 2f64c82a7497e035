import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  callbacks,
  cap,
  defineDevice,
  type DeviceContext,
  memory,
  option,
  overlay,
  registers,
} from "../../../mod.ts";
import { testFds } from "../../_fds.ts";
import { encodePlain, type PlainData } from "../../../lib/define/plain_data.ts";

const MAP = {
  registers: [
    {
      name: "ISR",
      offset: 0,
      width: 8,
      fields: [{ name: "BUSY", bits: 0 }, { name: "LONG", bits: "63:1" }],
    },
    { name: "PIN", offset: 8, width: 4, count: 4, fields: [{ name: "UP", bits: 0 }] },
  ],
} as const;

/** A device's context, which a module in JavaScript may use as it likes. */
function makeContext(): { context: DeviceContext; close(): void } {
  let context: DeviceContext | undefined;
  const device = defineDevice({
    name: "sealed",
    options: { depth: option.integer({ default: 4, description: "How deep it is" }) },
    pci: {
      vendor: 1,
      device: 2,
      interruptPin: "A",
      capabilities: [cap.msi(), cap.msix({ vectors: 2, bar: 1 })],
    },
    create(given) {
      context = given;
      return { regions: { bar0: registers(MAP) } };
    },
  }).create();
  return { context: context!, close: () => device.close?.() };
}

testFds("what a device is handed refuses a name that it does not have, read or written", () => {
  const { context, close } = makeContext();
  const bar0 = registers(MAP);
  using bar2 = memory({ size: 4096 });
  const below = callbacks({ size: 4096 });
  const top = overlay(below, [{ offset: 0, region: bar0 }]);
  const timer = context.timers.after(60_000, () => {});
  const poll = context.poll(() => false);
  const handed: [object, string, string][] = [
    [context, "optoins", 'context.optoins: unknown; did you mean "options"?'],
    [context.options, "deep", "options.deep: unknown; there are depth"],
    [context.irq, "msx", "irq.msx: unknown; did you mean"],
    [context.irq, "refresh", "irq.refresh: unknown; there are intx, msi, msix, error, request"],
    [context.irq.intx, "raise", "irq.intx.raise: unknown; there are set, isUp"],
    [context.irq.msix(1), "rais", 'irq.msix(1).rais: unknown; did you mean "raise"?'],
    [context.irq.error, "rase", 'irq.error.rase: unknown; did you mean "raise"?'],
    [context.dma, "reed", 'dma.reed: unknown; did you mean "read"?'],
    [context.dma, "disconnect", "dma.disconnect: unknown; there are read, readInto"],
    [context.timers, "evry", 'timers.evry: unknown; did you mean "every"?'],
    [timer, "isActve", 'timer.isActve: unknown; did you mean "isActive"?'],
    [poll, "weke", 'poll.weke: unknown; did you mean "wake"?'],
    [bar0, "reg", 'region.reg: unknown; did you mean "regs"?'],
    [bar2, "byte", 'region.byte: unknown; did you mean "bytes"?'],
    [below, "wirte", 'region.wirte: unknown; did you mean "write"?'],
    [top, "szie", 'region.szie: unknown; did you mean "size"?'],
    [bar0.regs, "IRS", 'regs.IRS: unknown; did you mean "ISR"?'],
    [bar0.regs.ISR, "BUSSY", 'ISR.BUSSY: unknown; did you mean "BUSY"?'],
    [bar0.regs.ISR, "BOGUS", "ISR.BOGUS: unknown; there are name, BUSY, value, set, reset"],
    [bar0.regs.ISR, "LONG", "ISR.LONG: unknown; the field has more bits than a number; it is in"],
    [bar0.regs.PIN, "value", 'PIN.value: unknown; did you mean "PIN.at(0).value"?'],
    [bar0.regs.PIN, "UP", 'PIN.UP: unknown; did you mean "PIN.at(0).UP"?'],
    [bar0.regs.PIN, "3", 'PIN.3: unknown; did you mean "PIN.at(3)"?'],
    [bar0.regs.PIN.at(2), "UPP", 'PIN.at(2).UPP: unknown; did you mean "UP"?'],
  ];
  for (const [object, name, message] of handed) {
    const entries = object as Record<string, unknown>;
    assertThrows(() => entries[name], TypeError, `Cannot read ${message}`);
    assertThrows(() => entries[name] = 1, TypeError, `Cannot write ${message}`);
    assertEquals(name in entries, false);
  }
  close();
});

Deno.test("what a device is handed can't be replaced", () => {
  const { context, close } = makeContext();
  const { regs } = registers(MAP);
  const assign = (object: object, name: string, message: string) =>
    assertThrows(() => (object as Record<string, unknown>)[name] = 5, TypeError, message);
  assign(regs, "ISR", "Cannot write regs.ISR: it is a register; write regs.ISR.value, or a field");
  assign(regs, "PIN", "it is an array of registers; write regs.PIN.at(0).value");
  assign(regs.ISR, "name", "name");
  assign(regs.ISR, "set", "set");
  assign(regs.PIN, "at", "at");
  assign(context, "options", "options");
  assign(context.options, "depth", "depth");
  assign(context.irq, "intx", "intx");
  assign(context.irq.intx, "isUp", "isUp");
  close();
});

Deno.test("what a device gives in the wrong form is refused when it gives it", () => {
  const { context, close } = makeContext();
  const { regs } = registers(MAP);
  const any = (value: unknown) => value as never;
  const wrong: [() => unknown, string][] = [
    [() => context.run(any(Promise.resolve())), "a promise, not a function; write () => ahead"],
    [() => context.timers.after(5, any(undefined)), "Cannot set a timer: undefined, not a func"],
    [() => context.timers.every(5, any("x")), 'Cannot set a timer: "x", not a function'],
    [() => context.poll(any(true)), "Cannot make a poll: true, not a function"],
    [
      () => context.poll(() => true, any({ spinMS: 1 })),
      'poll.spinMS: unknown; did you mean "spin',
    ],
    [() => regs.PIN.at(0).set(any(5)), "Cannot set fields of PIN.at(0): 5, not { NAME: value }"],
    [() => regs.PIN.at(0).set(any({ UPP: 5 })), "Cannot set PIN.at(0).UPP: there is no such field"],
  ];
  for (const [act, message] of wrong) assertThrows(act, TypeError, message);
  close();
});

Deno.test("sealed objects are objects to everything else", async () => {
  const { context, close } = makeContext();
  const { regs } = registers(MAP);
  assertEquals(JSON.stringify(context.options), '{"depth":4}');
  assertEquals({ ...context.options }, { depth: 4 });
  assertEquals(Object.keys(regs), ["ISR", "PIN"]);
  assertEquals(await Promise.resolve(context) === context, true);
  for (const each of [context, context.options, context.irq, regs, regs.ISR, regs.PIN]) {
    assert(Deno.inspect(each).length > 0 && each instanceof Object);
    assertEquals(Object.prototype.hasOwnProperty.call(each, "nothing"), false);
    assert(String(each).length > 0);
  }
  encodePlain({ options: context.options } as unknown as PlainData);
  regs.ISR.set({ BUSY: 1 });
  assertEquals([regs.ISR.BUSY, regs.ISR.value], [1, 1n]);
  regs.ISR.reset();
  regs.PIN.at(1).UP = 1;
  assertEquals([regs.ISR.value, regs.PIN.at(1).value, regs.PIN.length], [0n, 1, 4]);
  close();
});
