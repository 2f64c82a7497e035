/**
 * Connections that ask for nothing special.
 *
 * @module
 */

import type { Facts } from "../conformance/facts.ts";
import { Command } from "../wire/command.ts";
import {
  DeviceFeatureRequest,
  DeviceState,
  DeviceStateData,
  Feature,
  FeatureFlags,
} from "../wire/feature.ts";
import { encodeMessage } from "../wire/header.ts";
import { WINDOW } from "./generator.ts";
import { labelOf } from "./label.ts";
import type { FuzzConnection, FuzzMessage } from "./message.ts";
import { rightVersion } from "./versions.ts";

const RUN = DeviceFeatureRequest.encode({
  argsz: 16,
  flags: FeatureFlags.SET | Feature.MIG_DEVICE_STATE,
  data: DeviceStateData.encode({ state: DeviceState.RUNNING, dataFd: 0 }),
});

/** A connection that does nothing but greet. */
export function quiet(facts: Facts): FuzzConnection {
  return plain([{ command: Command.VERSION, payload: rightVersion(facts) }]);
}

/** A connection that has a device go on as it began, whatever was done to it. */
export function recovery(facts: Facts): FuzzConnection {
  const isUnknown = facts.numRegions === 0;
  const all = [
    { command: Command.VERSION, payload: rightVersion(facts), isThere: true },
    {
      command: Command.DEVICE_FEATURE,
      payload: RUN,
      isThere: isUnknown || facts.migration !== undefined,
    },
    {
      command: Command.DEVICE_RESET,
      payload: new Uint8Array(),
      isThere: isUnknown || facts.canReset,
    },
  ];
  return plain(all.filter(({ isThere }) => isThere));
}

function plain(
  requests: readonly { readonly command: number; readonly payload: Uint8Array }[],
): FuzzConnection {
  const messages = requests.map(({ command, payload }, id): FuzzMessage => ({
    bytes: encodeMessage({ messageId: id + 1, command }, payload),
    fds: [],
    cuts: [],
    reply: "any",
    isLast: false,
    label: labelOf(command),
  }));
  return { messages, answers: [], window: WINDOW };
}
