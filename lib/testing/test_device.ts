/**
 * A device and a client of it, connected, for the test of the device.
 *
 * @module
 */

import { connect } from "../client/connect.ts";
import type { Device } from "../client/device.ts";
import type { IrqIndex } from "../client/irq.ts";
import type { DeviceDefinition } from "../define/definition.ts";
import type { DeviceOptions, OptionValues } from "../define/option.ts";
import { embed, type Embedded } from "../server/embedded.ts";
import type { ServedDevice } from "../server/served_device.ts";
import type { ServerOptions } from "../server/server.ts";
import { describeMessage } from "../wire/describe.ts";
import { DeviceFlags } from "../wire/device.ts";
import { IrqFlags, PciIrq } from "../wire/irq.ts";
import { VirtualClock } from "./virtual_clock.ts";

/** The interrupts that a driver takes, the best first. */
const INTERRUPTS = ["msix", "msi", "intx"] as const;

/** The way of a test to its device. */
export interface TestDeviceOptions<O extends DeviceOptions> {
  /** Values of the device's options; what is left out has its default. */
  readonly options?: Partial<OptionValues<O>>;
  /** Options of the server: faults, and what it offers. Its errors are the test's. */
  readonly server?: Omit<ServerOptions, "onError" | "trace">;
  /**
   * Leaves the device as firmware finds it: BARs without addresses, no bus master, no interrupts
   * set up. Default false.
   */
  readonly isCold?: boolean;
  /**
   * The interrupts that are set up. Default: the first of MSI-X, MSI and the pin that there is. Of
   * a device that is not on the PCI bus it is an IRQ index, by default the first with vectors.
   */
  readonly interrupts?: "msix" | "msi" | "intx" | number;
}

/** An error of a device that no answer tells its client. */
export interface ReportedError {
  /** The thrown value. */
  readonly error: unknown;
  /** The work that the device was doing, in a word or two. */
  readonly doing: string;
}

/**
 * A device under test. Disposing it ends the connection and closes the device.
 *
 * @example
 * ```ts
 * import timer from "../../examples/timer.ts";
 * import { testDevice } from "./test_device.ts";
 *
 * await using test = await testDevice(timer);
 * const bar0 = test.client.region("bar0");
 * await bar0.write32Async(0x04, 3_600_000); // PERIOD: an hour
 * await bar0.write32Async(0x00, 1); // CTRL.EN
 * await test.advance(3_600_000);
 * await test.irq!.waitAsync(0);
 * console.assert(await bar0.read32Async(0x08) === 1); // COUNT
 * ```
 */
export class TestDevice implements AsyncDisposable {
  /** The client, connected. Use its asynchronous calls: the device is in the same thread. */
  readonly client: Device;
  /** The device as a server sees it. */
  readonly device: ServedDevice;
  /** The interrupts that are set up; undefined if the device has none, or is cold. */
  readonly irq: IrqIndex | undefined;
  /** Errors of the device. A test takes those that it expects out; any that is left fails it. */
  readonly errors: ReportedError[];
  /** Lines that the device has logged. */
  readonly log: string[];
  readonly #clock: VirtualClock;
  readonly #messages: string[];
  readonly #closed: Promise<void>;

  /** @ignore made by `testDevice` */
  constructor(
    parts: Pick<TestDevice, "client" | "device" | "irq" | "errors" | "log">,
    clock: VirtualClock,
    messages: string[],
    closed: Promise<void>,
  ) {
    ({
      client: this.client,
      device: this.device,
      irq: this.irq,
      errors: this.errors,
      log: this.log,
    } = parts);
    this.#clock = clock;
    this.#messages = messages;
    this.#closed = closed;
  }

  /**
   * Sets the clock of the device's timers forward, and has those call that are due. It stands still
   * otherwise: an hour takes no time, and nothing depends on how fast the machine is.
   *
   * @param ms in milliseconds, 0 or more
   */
  advance(ms: number): Promise<void> {
    return this.#clock.advance(ms);
  }

  /**
   * Takes the messages since the last call, a line each, as `vfu -v` shows them but for message ids
   * and times. A test compares them with those of a golden file.
   */
  trace(): string[] {
    return this.#messages.splice(0);
  }

  /**
   * Ends the connection, and waits until the device is closed.
   *
   * @throws {AggregateError} if the device had errors that are still in `errors`
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close();
    await this.#closed;
    if (this.errors.length === 0) return;
    throw failed(this.errors, "take errors that the test expects out of 'errors'");
  }
}

/** An error with all that a device has reported. */
function failed(errors: readonly ReportedError[], hint: string): AggregateError {
  const texts = errors.map(({ error, doing }) => `${doing}: ${error}`);
  return new AggregateError(
    errors.map(({ error }) => error),
    `The device failed: ${texts.join("; ")}; ${hint}`,
  );
}

/**
 * Makes a device, serves it, and connects to it. The BARs have addresses, the device is bus master,
 * and its interrupts are set up, as a driver finds them.
 *
 * @throws as `DeviceDefinition.create` and `connect`
 * @throws {AggregateError} if the device fails meanwhile
 */
export async function testDevice<O extends DeviceOptions>(
  definition: DeviceDefinition<O>,
  { options, server, isCold = false, interrupts }: TestDeviceOptions<O> = {},
): Promise<TestDevice> {
  const clock = new VirtualClock();
  const errors: ReportedError[] = [];
  const log: string[] = [];
  const messages: string[] = [];
  const device = definition.create(options, { log: (line) => log.push(line), clock });
  const embedded = serve(device, {
    ...server,
    onError: (error, doing) => errors.push({ error, doing }),
    trace: (direction, bytes, fds) => {
      const arrow = direction === "received" ? "->" : "<-";
      const text = describeMessage(bytes, { fds }).replace(/^#\d+ /, "");
      messages.push(`${arrow} ${text}`);
    },
  });
  let client: Device | undefined;
  try {
    client = await connect(embedded.fd);
    const { numRegions } = await client.info();
    // A call that has to ask would block the thread of the device.
    for (let index = 0; index < numRegions; index++) await client.regionInfo(index);
    const irq = isCold ? undefined : await setUp(client, interrupts);
    messages.splice(0); // what a test begins with is its own
    const parts = { client, device, irq, errors, log };
    return new TestDevice(parts, clock, messages, embedded.server.closed);
  } catch (error) {
    client?.close();
    await embedded.server.closed;
    throw errors.length > 0 ? failed(errors, String(error)) : error;
  }
}

/** Serves the device, which is closed if that can't be. */
function serve(device: ServedDevice, options: ServerOptions): Embedded {
  try {
    return embed(device, options);
  } catch (error) {
    device.close?.();
    throw error;
  }
}

type Upper = Uppercase<(typeof INTERRUPTS)[number]>;

/** Does what a driver does first. Returns the interrupts. */
async function setUp(
  client: Device,
  wanted: TestDeviceOptions<DeviceOptions>["interrupts"],
): Promise<IrqIndex | undefined> {
  const { flags, numIrqs } = await client.info();
  const isPci = (flags & DeviceFlags.PCI) !== 0;
  if (isPci) await client.pci.enable();
  const all = isPci ? INTERRUPTS : Array.from({ length: numIrqs }, (_, index) => index);
  for (const each of wanted === undefined ? all : [wanted]) {
    const index = typeof each === "number" ? each : PciIrq[each.toUpperCase() as Upper];
    const info = await client.irqInfo(index);
    if (info.count === 0 || (info.flags & IrqFlags.EVENTFD) === 0) continue;
    const irq = await client.irqs(index);
    await irq.enable();
    return irq;
  }
  return undefined;
}
