/**
 * Devices as they are written: what they are is declared, and what they do are a few functions.
 *
 * @module
 */

import type { ServedDevice } from "../server/served_device.ts";
import { checkSpec } from "./check.ts";
import { DefinedDevice } from "./defined_device.ts";
import type { DeviceDefinition } from "./definition.ts";
import { type DeviceOptions, type OptionValues, optionValues } from "./option.ts";
import { keepOrigin } from "./origin.ts";
import { sealed } from "./sealed.ts";
import type { DeviceSpec } from "./spec.ts";

/**
 * Defines a PCI device. Its configuration space is made from the declaration, its BARs from the
 * regions. The device resets, migrates and cleans up.
 *
 * A hook that throws a `DeviceError` answers its errno. A failed access to the client's memory
 * answers the client's own errno, ETIMEDOUT, or EINVAL after an answer against the protocol. Any
 * other error answers EIO to the client and is reported to the server with its stack. The device
 * goes on.
 *
 * The objects handed to the device (options, the context, registers) refuse unknown names: reading
 * or writing `options.limitt` throws a `TypeError` with the nearest name.
 *
 * @throws {DefinitionError} if something of it is missing, of the wrong type, or unknown: the error
 *   has all mistakes. `create` throws it, too, for what the device's own `create` returned
 *
 * @example A counter that raises an interrupt at its limit
 * ```ts
 * import { Server } from "../server/server.ts";
 * import { cap } from "./capabilities.ts";
 * import { defineDevice } from "./device.ts";
 * import { option } from "./option.ts";
 * import { registers } from "./registers.ts";
 *
 * const counter = defineDevice({
 *   name: "counter",
 *   options: {
 *     limit: option.integer({ default: 3, min: 1, description: "When it raises its interrupt" }),
 *   },
 *   pci: { vendor: 0x1234, device: 0x0001, capabilities: [cap.msix({ vectors: 1, bar: 4 })] },
 *   create({ options, irq }) {
 *     const bar0 = registers({ registers: [{ name: "COUNT", offset: 0, width: 4 }] });
 *     const { COUNT } = bar0.regs;
 *     bar0.on({
 *       COUNT: {
 *         read() {
 *           if (++COUNT.value === options.limit) irq.msix(0).raise();
 *         },
 *       },
 *     });
 *     return { regions: { bar0 } };
 *   },
 * });
 *
 * const path = Deno.makeTempDirSync() + "/counter.sock";
 * using server = Server.listen(path, counter.create({ limit: 2 }));
 * console.assert(server.path !== undefined);
 * ```
 */
export function defineDevice<const O extends DeviceOptions = Record<never, never>>(
  spec: DeviceSpec<O>,
): DeviceDefinition<O> {
  checkSpec(spec);
  const { name, title } = spec;
  const options = spec.options ?? {} as O;
  const definition: DeviceDefinition<O> = {
    name,
    ...(title !== undefined && { title }),
    options,
    create(values = {}, host = {}): ServedDevice {
      const chosen = sealedValues(options, values);
      const resources = new DisposableStack();
      try {
        return new DefinedDevice(spec, chosen, host, resources);
      } catch (error) {
        resources.dispose();
        throw error;
      }
    },
  };
  keepOrigin(definition);
  return definition;
}

/** Values of options, which refuse the names of others. */
function sealedValues<O extends DeviceOptions>(
  options: O,
  chosen: Partial<OptionValues<O>>,
): OptionValues<O> {
  return sealed(optionValues(options, chosen), { path: "options" });
}
