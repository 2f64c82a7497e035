/**
 * Causes that concern the device as a whole.
 *
 * @module
 */

import { type Cause, STOPPED } from "./cause.ts";

const ALL = ["registers", "intx", "msi", "msix", "dma"] as const;

/** The causes, with those that explain most first. */
export const DEVICE_CAUSES: readonly Cause[] = [
  {
    id: "stopped",
    title: "the device is stopped for a migration",
    subjects: ALL,
    async find(look) {
      const state = await look.migrationState();
      if (state === undefined || !STOPPED.has(state)) return [];
      return [{
        evidence: `the device is stopped for a migration (state ${state})`,
        remedy: "set it to RUNNING (vfu migrate state SOCKET RUNNING, or " +
          "device.migration.setState), or restart its server",
        command: "migrate state SOCKET RUNNING",
      }];
    },
  },
  {
    id: "gone",
    title: "no function answers in the configuration space",
    subjects: ALL,
    async find(look) {
      if (!await look.isGone()) return [];
      return [{
        evidence: "no function answers: the ids in the configuration space are 0xffffffff",
        remedy: "reset the device or restart its server",
        command: "reset SOCKET",
      }];
    },
  },
  {
    id: "older-protocol",
    title: "the server speaks an older version of the protocol",
    subjects: [],
    find(look) {
      const { major, minor } = look.device.negotiated;
      if (minor > 0) return Promise.resolve([]);
      return Promise.resolve([{
        evidence: `the server speaks version ${major}.${minor} of the protocol, ` +
          "which has no migration, no features and no I/O descriptors",
        remedy: "use a newer server if one of these is wanted",
      }]);
    },
  },
];
