/**
 * The admin commands of the NVMe controller.
 *
 * @module
 */

import { after } from "../../mod.ts";
import type { Command } from "./command.ts";
import type { Commands, Controller } from "./controller.ts";
import { toHost } from "./data.ts";
import { EVENTS } from "./events.ts";
import { FEATURE } from "./features.ts";
import { EFFECTS as IO_EFFECTS } from "./io.ts";
import { KELVIN } from "./logs.ts";
import { checkFeature, checkNewFeature, logSize } from "./promises.ts";
import { Failed, Status } from "./status.ts";

/** The commands, by opcode. */
export const ADMIN: Commands = {
  0x00: (command, { queues }) => { // Delete I/O Submission Queue
    queues.submission.delete(command.word(10, 0));
    return 0;
  },
  0x01: (command, { queues }) => { // Create I/O Submission Queue
    queues.add("submission", command.word(10, 0), {
      base: command.prp1,
      size: command.word(10, 1) + 1,
      other: command.word(11, 1),
    });
    return 0;
  },
  0x02: getLogPage,
  0x04: (command, { queues }) => { // Delete I/O Completion Queue
    queues.completion.delete(command.word(10, 0));
    return 0;
  },
  0x05: (command, { queues }) => { // Create I/O Completion Queue
    const hasInterrupt = (command.dword(11) & 2) !== 0;
    queues.add("completion", command.word(10, 0), {
      base: command.prp1,
      size: command.word(10, 1) + 1,
      other: hasInterrupt ? command.word(11, 1) : -1,
    });
    return 0;
  },
  0x06: (command, { dma, identity }) => { // Identify
    const page = identity.page(command.dword(10) & 0xff, command.namespace);
    return after(() => toHost(dma, command, page), () => 0);
  },
  0x08: abort,
  0x09: setFeatures,
  0x0a: getFeatures,
  0x0c: (command, { events }) => { // Asynchronous Event Request
    events.request(command.id);
    return undefined;
  },
};

/** Each is supported, and has no effect on blocks or namespaces. */
const EFFECTS = new Map(Object.keys(ADMIN).map((opcode) => [Number(opcode), 1]));

async function getLogPage(command: Command, controller: Controller): Promise<number> {
  const { dma, events, features, logs } = controller;
  const id = command.dword(10) & 0xff;
  const page = logs.page(id, features.isBeyond(KELVIN), [EFFECTS, IO_EFFECTS]);
  const offset = BigInt(command.dword(13)) << 32n | BigInt(command.dword(12));
  if (offset >= page.length) throw new Failed(Status.FIELD, "LPO: the page is not so long");
  const rest = page.subarray(Number(offset));
  await toHost(dma, command, rest.subarray(0, logSize(command)));
  if ((command.dword(10) & 0x8000) === 0) events.read(id); // without RAE
  return 0;
}

/** Only requests for events can be aborted: of other commands one is taken at a time, and done. */
async function abort(command: Command, controller: Controller): Promise<number> {
  const [queue, id] = [command.word(10, 0), command.word(10, 1)];
  const { events, queues } = controller;
  const isAborted = queue === 0 && events.has(id) && queues.room(0) >= 2; // two are completed
  if (!isAborted) return 1;
  events.abort(id);
  await controller.complete(0, id, Status.ABORTED, 0);
  return 0;
}

function setFeatures(command: Command, controller: Controller): number {
  const { features } = controller;
  const [id, value] = [command.dword(10) & 0xff, command.dword(11)];
  checkExists(id, controller);
  if (command.namespace === 1 && !features.isOfNamespace(id)) {
    throw new Failed(Status.NOT_PER_NAMESPACE, `NSID: feature ${id} is the controller's`);
  }
  checkNewFeature(id, value, controller);
  features.set(id, value);
  const tells = (features.get(FEATURE.EVENTS) & 2) !== 0; // of temperature
  if (tells && features.isBeyond(KELVIN)) controller.events.post(EVENTS.TEMPERATURE);
  return id === FEATURE.QUEUES ? features.get(id) : 0;
}

function getFeatures(command: Command, controller: Controller): number {
  const { features } = controller;
  const [id, select] = [command.dword(10) & 0xff, command.dword(10) >> 8 & 7];
  checkExists(id, controller);
  if (select === 3) return features.capabilities(id);
  if (id === FEATURE.TEMPERATURE_THRESHOLD || id === 0x09) {
    checkFeature(id, command.dword(11), controller); // which one is asked for
  }
  return features.get(id, command.dword(11), select !== 0); // what is saved is the default
}

function checkExists(id: number, { features }: Controller): void {
  if (!features.has(id)) throw new Failed(Status.FIELD, `FID: there is no feature ${id}`);
}
