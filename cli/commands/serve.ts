/**
 * `vfu serve`: serves a device on a socket, until it is told to stop.
 *
 * @module
 */

import { Argument, Command, Option } from "@commander-js/extra-typings";
import { Server, type ServerOptions } from "../../lib/server/server.ts";
import type { ServedDevice } from "../../lib/server/device.ts";
import { argument } from "../argument.ts";
import type { Context, Output } from "../context.ts";
import { failureLines } from "../failure.ts";
import { parseFd } from "../fd.ts";
import { printable } from "../printable.ts";
import { traceTo } from "../trace.ts";

/** The devices that come with vfu, by the name that they are served under. */
const DEVICES: Readonly<Record<string, () => Promise<ServedDevice>>> = {
  demo: async () => new (await import("../../lib/devices/demo.ts")).DemoDevice(),
};

/** Options of {@linkcode run}. */
export interface ServeOptions {
  /** Where to listen. */
  socketPath?: string | undefined;
  /** A connected socket to serve in place of listening. */
  fd?: number | undefined;
  /** Show every message on standard error. */
  verbose?: true | undefined;
}

/** The command's arguments and options. */
export function command(context: Context) {
  return new Command("serve")
    .description(
      "Serves a device to one client after another, and stays in the foreground until Ctrl-C or " +
        "SIGTERM; then the socket is removed. The device keeps its state from client to client.",
    )
    .addArgument(new Argument("<device>", "which device").choices(Object.keys(DEVICES)))
    .addOption(new Option("--socket-path <path>", "listen at this path").conflicts("fd"))
    .addOption(
      new Option("--fd <number>", "serve the client on this connected socket").argParser(
        argument(parseFd),
      ),
    )
    .option("-v, --verbose", "show every message on standard error")
    .action((device, options, self) => {
      if (options.socketPath === undefined && options.fd === undefined) {
        self.error("error: one of '--socket-path <path>' and '--fd <number>' is needed");
      }
      return run(context, device, options);
    });
}

/** Serves the device called `name` until the context's signal, or, with `fd`, until the client goes. */
export async function run(
  { err, signal }: Context,
  name: string,
  options: ServeOptions,
): Promise<void> {
  const { socketPath, fd, verbose } = options;
  const device = await DEVICES[name]!();
  const serverOptions: ServerOptions = {
    ...logTo(err),
    ...(verbose && { trace: await traceTo(err) }),
  };
  using server = fd === undefined
    ? Server.listen(socketPath!, device, serverOptions)
    : Server.serve(fd, device, serverOptions);
  const stop = () => server.close();
  signal.addEventListener("abort", stop);
  try {
    if (signal.aborted) return;
    err.write(
      `Serving ${name} ${
        fd === undefined ? `at ${socketPath}` : `on file descriptor ${fd}`
      }; Ctrl-C stops it\n`,
    );
    await server.closed;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** Tells of clients that did not just come and go, and of what a device got wrong. */
function logTo({ style, write }: Output): ServerOptions {
  return {
    onConnect: () => write(style.dim("A client has connected") + "\n"),
    onDisconnect: (cause) =>
      write(cause ? `${printable(cause.message)}\n` : `${style.dim("The client has left")}\n`),
    onError: (error, doing) =>
      write(
        `${style.red(`The device failed at ${doing}:`)} ${failureLines(error, true).join("\n")}\n`,
      ),
  };
}
