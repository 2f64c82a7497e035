/** A recorder as a program of a user runs one: by what the module exports. */

import { assertEquals, assertRejects } from "@std/assert";
import {
  INTERCEPTIONS,
  ListeningServer,
  readRecording,
  Recorder,
  RecordingStatistics,
  RecordingWriter,
} from "../../../lib/record/mod.ts";
import { connect, DemoDevice, Server } from "../../../mod.ts";
import { testFds } from "../../_fds.ts";
import { PATIENT } from "../../_until.ts";

testFds("Recorder of the module records into a file, and from any source of servers", async () => {
  const folder = Deno.makeTempDirSync();
  const [path, recorded, file] = ["device.sock", "recorded.sock", "x.pcapng"]
    .map((name) => `${folder}/${name}`) as [string, string, string];
  const server = Server.listen(path, new DemoDevice());
  const writer = RecordingWriter.create(file);
  const listening = new ListeningServer(path);
  const errors: string[] = [];
  const connections: number[] = [];
  let tries = 0;
  const recorder = Recorder.start({
    listen: recorded,
    server: {
      name: "the second try",
      connect(signal) {
        if (++tries === 1) throw new Error("Cannot start the server: try again");
        return listening.connect(signal);
      },
    },
    intercept: Object.keys(INTERCEPTIONS) as (keyof typeof INTERCEPTIONS)[],
    sink: (event) => writer.write(event),
    onConnect: (connection) => connections.push(connection),
    onError: ({ message }) => errors.push(message),
  });
  await assertRejects(() => connect(recorded, PATIENT));
  assertEquals(errors, ["Cannot start the server: try again"]);
  {
    using device = await connect(recorded, PATIENT);
    await device.regionInfo(0);
    assertEquals(await device.region(0).read32Async(0), 0x6475_6676);
  }
  recorder.close();
  await recorder.closed;
  await writer.close();
  server.close();
  await server.closed;
  assertEquals(connections, [1]);
  const statistics = new RecordingStatistics();
  const servers = [];
  for await (const event of readRecording(file)) {
    statistics.add(event, undefined);
    if (event.kind === "open") servers.push(event.server);
  }
  assertEquals(servers, ["the second try"]);
  assertEquals(statistics.events.get("message")! >= 6, true);
  Deno.removeSync(folder, { recursive: true });
});
