/**
 * A serial port: a 16550A on PCI, which Linux's 8250_pci takes by its class. What is sent comes
 * back from the far end of its line, in capitals by the option `answer=upper`.
 *
 * Characters take the time that the divisor and the format say. The far end waits while the
 * receiver is full, so that it loses none; in loopback mode they are lost, with an overrun.
 *
 * ```sh
 * vfu serve ./examples/uart.ts --socket-path=/tmp/uart.sock --option answer=upper &
 * vfu run examples/sessions/uart.yaml /tmp/uart.sock
 * ```
 *
 * @module
 */

import {
  defineDevice,
  type DeviceTimer,
  loadRegisterMap,
  option,
  overlay,
  type RegisterCell,
  type RegisterHooks,
  registers,
} from "../mod.ts";

/** The registers while LCR.DLAB is 0. */
const PORTS = await loadRegisterMap(new URL("uart.yaml", import.meta.url).pathname);

/** The first two bytes while LCR.DLAB is 1. */
const LATCH = {
  name: "latch",
  // Without DLAB a read of it takes a character out: `vfu regs --map ./uart.ts` is not to try it.
  registers: [{ name: "DIVISOR", offset: 0, width: 2, reset: 12, read_changes: true }],
} as const;

const FIFO_SIZE = 16;
const TRIGGERS = [1, 4, 8, 14] as const;
const MAX_BAUD = 115200;
/** The far end is there, and takes characters: CTS, DSR and DCD. */
const FAR_END = 0b1011;
/** Values of IIR.CAUSE, the most urgent first. */
const CAUSE = { line: 6, data: 4, timeout: 12, empty: 2, modem: 0, none: 1 } as const;

export default defineDevice({
  name: "uart",
  title: "16550A serial port, whose line answers",
  options: {
    answer: option.choice({
      choices: ["echo", "upper", "none"],
      description: "What the far end does with characters",
    }),
  },
  pci: { vendor: 0x1234, device: 0x0de8, class: 0x070002, interruptPin: "A" }, // serial, 16550
  create({ options, irq, timers }) {
    const ports = registers(PORTS, { io: true });
    const latch = registers(LATCH);
    const { IER, IIR, FCR, LCR, MCR, LSR, MSR } = ports.regs;
    const { DIVISOR } = latch.regs;
    const isLatched = () => LCR.DLAB === 1;
    const bar0 = overlay(ports, [{ offset: 0, size: 2, region: latch, when: isLatched }]);

    const sent: number[] = [];
    const received: number[] = [];
    let isEmptied = false; // since IIR told so
    let isStale = false; // characters wait, and no more have come for a while
    let line: DeviceTimer | undefined;
    let silence: DeviceTimer | undefined;

    const depth = () => FCR.FIFOS === 1 ? FIFO_SIZE : 1;
    const trigger = () => FCR.FIFOS === 1 ? TRIGGERS[FCR.TRIGGER]! : 1;
    /** The time of a character, with its start and stop bits, in milliseconds. */
    const characterMs = () =>
      (7 + LCR.LENGTH + LCR.PARITY + LCR.STOP) * Math.max(1, DIVISOR.value) * 1000 / MAX_BAUD;
    const isHeldUp = () =>
      MCR.LOOP === 0 && options.answer !== "none" && received.length >= depth();

    function cause(): number {
      if (IER.LINE === 1 && LSR.OE === 1) return CAUSE.line;
      if (IER.DATA === 1 && received.length >= trigger()) return CAUSE.data;
      if (IER.DATA === 1 && isStale) return CAUSE.timeout;
      if (IER.EMPTY === 1 && isEmptied) return CAUSE.empty;
      return IER.MODEM === 1 && MSR.CHANGED !== 0 ? CAUSE.modem : CAUSE.none;
    }

    /** Has status and pin follow what has happened. */
    function update(): void {
      const isEmpty = sent.length === 0 ? 1 : 0;
      LSR.set({ DR: received.length > 0 ? 1 : 0, THRE: isEmpty, TEMT: isEmpty });
      IIR.set({ CAUSE: cause(), FIFOS: FCR.FIFOS === 1 ? 3 : 0 });
      irq.intx.set(IIR.CAUSE !== CAUSE.none);
    }

    /** Has the line take as many characters as it can in a millisecond, or in the time of one. */
    function transmit(): void {
      if (line?.isActive || sent.length === 0 || isHeldUp()) return;
      const ms = characterMs();
      line = timers.after(Math.max(1, ms), () => {
        const count = Math.max(1, Math.floor(1 / ms));
        for (let i = 0; i < count && sent.length > 0 && !isHeldUp(); i++) carry(sent.shift()!);
        isEmptied ||= sent.length === 0;
        listen();
        update();
        transmit();
      });
    }

    function carry(character: number): void {
      if (MCR.LOOP === 0 && options.answer === "none") return;
      const isSmall = character >= 0x61 && character <= 0x7a;
      const isRaised = MCR.LOOP === 0 && options.answer === "upper" && isSmall;
      if (received.length >= depth()) LSR.OE = 1;
      else received.push(isRaised ? character - 0x20 : character);
    }

    /** Begins to wait for silence: four characters' time in which none comes and none is read. */
    function listen(): void {
      silence?.cancel();
      isStale = false;
      if (received.length === 0) return;
      silence = timers.after(Math.max(1, 4 * characterMs()), () => {
        isStale = true;
        update();
      });
    }

    /** Hook for a register that a read shows, and clears a field of. */
    const cleared = (register: RegisterCell, field: string): RegisterHooks<number> => ({
      read() {
        const { value } = register;
        register.set({ [field]: 0 });
        update();
        return value;
      },
    });

    ports.on({
      RBR: {
        read() {
          const character = received.shift() ?? 0;
          listen();
          update();
          transmit();
          return character;
        },
      },
      THR: {
        write(character) {
          if (sent.length < depth()) sent.push(character);
          isEmptied = false;
          update();
          transmit();
        },
      },
      IER: {
        write(_value, old) {
          const isAsked = IER.EMPTY === 1 && (old & 2) === 0;
          isEmptied ||= isAsked && sent.length === 0;
          update();
        },
      },
      IIR: {
        read() {
          const { value } = IIR;
          if (IIR.CAUSE === CAUSE.empty) isEmptied = false;
          update();
          return value;
        },
      },
      FCR: {
        write(value, old) {
          const isSwitched = ((value ^ old) & 1) === 1;
          if (isSwitched || FCR.CLEAR_RX === 1) received.length = 0;
          if (isSwitched || FCR.CLEAR_TX === 1) {
            isEmptied ||= sent.length > 0;
            sent.length = 0;
          }
          FCR.set({ CLEAR_RX: 0, CLEAR_TX: 0 }); // they clear themselves
          listen();
          update();
          transmit();
        },
      },
      MCR: {
        write() {
          const own = MCR.RTS | MCR.DTR << 1 | MCR.OUT1 << 2 | MCR.OUT2 << 3;
          const signals = MCR.LOOP === 1 ? own : FAR_END;
          const changed = (MSR.value >> 4 ^ signals) & ~(signals & 4); // of RI only its end
          MSR.value = signals << 4 | MSR.CHANGED | changed;
          update();
          transmit();
        },
      },
      LSR: cleared(LSR, "OE"),
      MSR: cleared(MSR, "CHANGED"),
    });
    return {
      regions: { bar0 },
      reset() {
        sent.length = received.length = 0;
        isEmptied = isStale = false;
        update();
      },
      state: {
        save: () => [Uint8Array.from(sent), Uint8Array.from(received), isEmptied, isStale],
        restore(saved) {
          const [tx, rx, emptied, stale] = saved as [Uint8Array, Uint8Array, unknown, unknown];
          for (const timer of [line, silence]) timer?.cancel();
          sent.splice(0, FIFO_SIZE, ...tx.subarray(0, FIFO_SIZE));
          received.splice(0, FIFO_SIZE, ...rx.subarray(0, FIFO_SIZE));
          listen();
          [isEmptied, isStale] = [emptied === true, stale === true];
          update();
          transmit();
        },
      },
    };
  },
});

if (import.meta.main) {
  const { main } = await import("../cli/main.ts");
  main(["serve", import.meta.filename!, ...Deno.args]).then(Deno.exit);
}
