/**
 * Sessions under test: on the demo device of this process, or on a device that the test makes.
 */

import { connect } from "../../../lib/client/connect.ts";
import type { Device } from "../../../lib/client/device.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import type { ServedDevice } from "../../../lib/server/served_device.ts";
import { embed } from "../../../lib/server/embedded.ts";
import { parseSession } from "../../../lib/session/file/load.ts";
import type { Session } from "../../../lib/session/model.ts";
import type { StepResult } from "../../../lib/session/run/step_result.ts";
import { type RunOptions, runSession } from "../../../lib/session/run/runner.ts";
import { PATIENT } from "../../_until.ts";

/** Files by their names. */
export type Files = Readonly<Record<string, string>>;

/** A session without mistakes. Other files that it needs are in `files`. */
export async function sessionOf(text: string, files: Files = {}): Promise<Session> {
  const { session, problems } = await parseSession(text, "test.yaml", {
    readText: (file) => {
      const content = files[file];
      return content === undefined
        ? Promise.reject(new Deno.errors.NotFound(`There is no ${file}`))
        : Promise.resolve(content);
    },
  });
  if (session === undefined) throw new Error(JSON.stringify(problems));
  return session;
}

/** The steps of a session, with nothing else in it. */
export function stepsOf(steps: string): Promise<Session> {
  return sessionOf(`steps:\n${steps}`);
}

/**
 * A connection to a device that is served in this process; the demo device unless another is given.
 */
export async function onDevice<T>(
  body: (device: Device) => Promise<T>,
  served: ServedDevice = new DemoDevice(),
): Promise<T> {
  const { server, fd } = embed(served);
  const device = await connect(fd, PATIENT);
  try {
    return await body(device);
  } finally {
    device.close();
    await server.closed;
  }
}

/** All results of a session. */
export async function resultsOf(
  session: Session,
  device: Device,
  options: RunOptions = {},
): Promise<StepResult[]> {
  return await Array.fromAsync(runSession(session, device, options));
}

/** A result in few words: "3 passed" or "3.1 failed Expected …". */
export function words({ number, status, error }: StepResult): string {
  return [number, status, ...(error ? [error.message] : [])].join(" ");
}
