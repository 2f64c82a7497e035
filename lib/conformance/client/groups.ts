/**
 * The groups of checks of a client: a file of this folder each.
 *
 * @module
 */

import type { ClientCheck, ClientGroup } from "../client_check.ts";
import { connection } from "./connection.ts";
import { dma } from "./dma.ts";
import { dmaMessages } from "./dma_messages.ts";
import { framing } from "./framing.ts";
import { info } from "./info.ts";
import { ioFds } from "./io_fds.ts";
import { irqs } from "./irqs.ts";
import { negotiation } from "./negotiation.ts";
import { regionRead } from "./region_read.ts";
import { regionWrite } from "./region_write.ts";
import { reset } from "./reset.ts";
import { serverCommands } from "./server_commands.ts";

/** In the order in which they are done. */
export const CLIENT_GROUPS: readonly ClientGroup[] = [
  negotiation,
  framing,
  info,
  regionRead,
  regionWrite,
  dma,
  dmaMessages,
  irqs,
  ioFds,
  reset,
  serverCommands,
  connection,
];

/** All checks, in the order of their groups. */
export const CLIENT_CHECKS: readonly ClientCheck[] = CLIENT_GROUPS.flatMap(({ checks }) => checks);
