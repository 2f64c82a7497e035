/**
 * Records a thousand messages where the file may not grow that long: `FILE SIZE`.
 *
 * @module
 */

import { RecordingWriter } from "../../../lib/record/writer.ts";
import { plainMessage } from "./_events.ts";

const [path, size] = Deno.args as [string, string];
let reported = 0;
const writer = RecordingWriter.create(path, { onFailure: () => reported++ });
const event = plainMessage(new Uint8Array(Number(size)).fill(6));
for (let i = 0; i < 1000; i++) writer.write(event);
writer[Symbol.dispose]();
const { events, discarded, failure } = writer;
await Deno.stdout.write(
  new TextEncoder().encode(
    JSON.stringify({ reported, events, discarded, message: failure?.message }),
  ),
);
