/**
 * Projects that `vfu new` begins with.
 *
 * @module
 */

import { NVME_LIKE } from "./nvme_like.ts";

/** The parts of a project that depend on its template. NAME stands for the name of the device. */
export interface Template {
  /** The template in a few words. */
  readonly summary: string;
  /** The module with the device. */
  readonly device: string;
  /** The register map, as YAML. */
  readonly registers: string;
  /** The session that tries the device. */
  readonly session: string;
  /** The test of the device. */
  readonly test: string;
}

const HEAD = `/**
 * NAME: say here what the device is.
 *
 * @module
 */
`;

const MINIMAL: Template = {
  summary: "one register that keeps what is written",
  device: `${HEAD}
import { defineDevice, loadRegisterMap, registers } from "@vfu/vfu";

const map = await loadRegisterMap(import.meta.dirname + "/registers.yaml");

export default defineDevice({
  name: "NAME",
  pci: { vendor: 0x1234, device: 0x0001 },
  create() {
    return { regions: { bar0: registers(map) } };
  },
});
`,
  registers: `name: NAME
region: bar0
registers:
  - { name: ID, offset: 0x00, width: 4, access: ro, reset: 0x1234 }
  - { name: SCRATCH, offset: 0x04, width: 4, description: Keeps what is written }
`,
  session: `title: "NAME: its registers"
include: ./registers.yaml

steps:
  - expect: { ID: 0x1234 }
  - write: { SCRATCH: 0xcafe }
  - expect: { SCRATCH: 0xcafe }
`,
  test: `import { testDevice } from "@vfu/vfu/testing";
import device from "./NAME.ts";

Deno.test("SCRATCH keeps what is written", async () => {
  await using test = await testDevice(device);
  const bar0 = test.client.region("bar0");
  await bar0.write32Async(0x04, 0xcafe);
  if (await bar0.read32Async(0x04) !== 0xcafe) throw new Error("SCRATCH has lost it");
});
`,
};

const REGISTERS: Template = {
  summary: "registers with fields, an option, a timer, an interrupt",
  device: `${HEAD}
import { cap, defineDevice, loadRegisterMap, option, registers } from "@vfu/vfu";

const map = await loadRegisterMap(import.meta.dirname + "/registers.yaml");

export default defineDevice({
  name: "NAME",
  options: {
    limit: option.integer({ default: 1000, min: 1, max: 60_000, description: "Most of PERIOD" }),
  },
  pci: { vendor: 0x1234, device: 0x0001, capabilities: [cap.pm(), cap.msi()] },
  create({ options, irq, timers }) {
    const bar0 = registers(map);
    const { CTRL, PERIOD, COUNT } = bar0.regs;
    const tick = () => {
      COUNT.value = (COUNT.value + 1) >>> 0;
      irq.msi(0).raise();
      if (CTRL.REPEAT === 1) start();
      else CTRL.EN = 0;
    };
    const start = () => timers.after(Math.min(PERIOD.value, options.limit), tick);
    bar0.on({
      CTRL: {
        write(_value, old) {
          if (CTRL.EN === 1 && (old & 1) === 0) start();
          else if (CTRL.EN === 0) timers.clear();
        },
      },
    });
    return { regions: { bar0 } };
  },
});
`,
  registers: `name: NAME
region: bar0
registers:
  - name: CTRL
    offset: 0x00
    width: 4
    fields:
      - { name: EN, bits: 0, description: Runs }
      - { name: REPEAT, bits: 1, description: Begins again at the end }
  - { name: PERIOD, offset: 0x04, width: 4, reset: 10, description: In milliseconds }
  - { name: COUNT, offset: 0x08, width: 4, access: ro, description: Periods that are over }
`,
  session: `title: "NAME: a period, and its interrupt"
include: ./registers.yaml
interrupts: msi

steps:
  - pci enable
  - write: { PERIOD: 5 }
  - write: { CTRL.EN: 1 }
  - irq wait: msi[0]
    timeout: 5s
  - expect: { COUNT: 1, CTRL.EN: 0 }
`,
  test: `import { testDevice } from "@vfu/vfu/testing";
import device from "./NAME.ts";

Deno.test("a period ends with an interrupt", async () => {
  await using test = await testDevice(device);
  const bar0 = test.client.region("bar0");
  await bar0.write32Async(0x04, 1000); // PERIOD
  await bar0.write32Async(0x00, 1); // CTRL.EN
  await test.advance(999);
  if (await bar0.read32Async(0x08) !== 0) throw new Error("too early");
  await test.advance(1);
  await test.irq!.waitAsync(0);
  if (await bar0.read32Async(0x08) !== 1) throw new Error("COUNT is wrong");
});
`,
};

const DMA: Template = {
  summary: "a command that reads the client's memory, and an interrupt",
  device: `${HEAD}
import { cap, defineDevice, loadRegisterMap, registers } from "@vfu/vfu";

const map = await loadRegisterMap(import.meta.dirname + "/registers.yaml");

export default defineDevice({
  name: "NAME",
  pci: { vendor: 0x1234, device: 0x0001, capabilities: [cap.msix({ vectors: 1, bar: 4 })] },
  create({ irq, dma, run, turn }) {
    const bar0 = registers(map);
    const { ADDRESS, LENGTH, CTRL, SUM, STATUS } = bar0.regs;

    async function addUp(): Promise<void> {
      STATUS.value = 0;
      let sum = 0;
      try {
        for (let done = 0; done < LENGTH.value; done += 4096) {
          const count = Math.min(4096, LENGTH.value - done);
          for (const byte of await dma.read(ADDRESS.value + BigInt(done), count)) sum += byte;
          await turn(); // others have theirs in between
        }
        SUM.value = sum >>> 0;
        STATUS.DONE = 1;
      } catch {
        STATUS.ERROR = 1; // the client's driver sees it, whatever it was
      }
      CTRL.GO = 0;
      irq.msix(0).raise();
    }

    bar0.on({
      CTRL: {
        write(_value, old) {
          if (CTRL.GO === 1 && (old & 1) === 0) run(addUp);
        },
      },
    });
    return { regions: { bar0 } };
  },
});
`,
  registers: `name: NAME
region: bar0
registers:
  - { name: ADDRESS, offset: 0x00, width: 8, description: IOVA of the bytes }
  - { name: LENGTH, offset: 0x08, width: 4, description: Their number }
  - name: CTRL
    offset: 0x0c
    width: 4
    fields:
      - { name: GO, bits: 0, description: Begins; 0 again at the end }
  - { name: SUM, offset: 0x10, width: 4, access: ro, description: Sum of the bytes }
  - name: STATUS
    offset: 0x14
    width: 4
    access: ro
    fields:
      - { name: DONE, bits: 0 }
      - { name: ERROR, bits: 1, description: The memory can't be read }
`,
  session: `title: "NAME: a sum of the client's memory"
include: ./registers.yaml
interrupts: msix
buffers:
  data: { iova: 0x100000, size: 4K, fill: { bytes: "01" } }
steps:
  - pci enable
  - write: { ADDRESS: "\${data.iova}", LENGTH: 100 }
  - write: { CTRL.GO: 1 }
  - irq wait: msix[0]
    timeout: 5s
  - expect: { SUM: 100, STATUS.DONE: 1 }
`,
  test: `import { testDevice } from "@vfu/vfu/testing";
import device from "./NAME.ts";

async function sum(iova: bigint, length: number): Promise<[sum: number, status: number]> {
  await using test = await testDevice(device);
  const memory = await test.client.dma.mapAsync({ iova: 0x100000, size: 0x1000 });
  memory.bytes.fill(1);
  const bar0 = test.client.region("bar0");
  await bar0.write64Async(0x00, iova);
  await bar0.write32Async(0x08, length);
  await bar0.write32Async(0x0c, 1);
  await test.irq!.waitAsync(0);
  return [await bar0.read32Async(0x10), await bar0.read32Async(0x14)];
}

Deno.test("the bytes are added up", async () => {
  const [total, status] = await sum(0x100000n, 100);
  if (total !== 100 || status !== 1) throw new Error(\`\${total}, \${status}\`);
});

Deno.test("memory that is not mapped is an error", async () => {
  const [total, status] = await sum(0x200000n, 100);
  if (total !== 0 || status !== 2) throw new Error(\`\${total}, \${status}\`);
});
`,
};

/** The templates by name. */
export const TEMPLATES = {
  minimal: MINIMAL,
  registers: REGISTERS,
  dma: DMA,
  "nvme-like": NVME_LIKE,
} as const satisfies Record<string, Template>;

/** The name of a template. */
export type TemplateName = keyof typeof TEMPLATES;
