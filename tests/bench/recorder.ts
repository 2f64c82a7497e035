/**
 * A recorder for the benchmark: `recorder.ts SERVER PATH` listens at PATH and says "ready". What it
 * records goes to /dev/null, so that no disk is measured.
 *
 * @module
 */

import { ListeningServer, Recorder } from "../../lib/record/recorder.ts";
import { RecordingWriter } from "../../lib/record/writer.ts";

const [server, path] = Deno.args as [string, string];
using writer = RecordingWriter.create("/dev/null");
using recorder = Recorder.start({
  listen: path,
  server: new ListeningServer(server),
  sink: (event) => writer.write(event),
});
// deno-lint-ignore no-console -- the benchmark waits for this line
console.log("ready");
await recorder.closed;
