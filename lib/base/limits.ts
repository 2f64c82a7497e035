/**
 * Bounds on what a peer may ask for, each with its reason. A number that a peer can influence is
 * compared with one of these before it is used. Bounds on descriptors are in `ffi/`, those on files
 * and on what is shown in the files that have them.
 *
 * @module
 */

/** Bytes of a message header. */
export const HEADER_SIZE = 16;

/** The file descriptors that one message to a peer may carry, if the peer does not say. */
export const DEFAULT_MAX_MSG_FDS = 1;
/** The bytes of data that one message to a peer may carry, if the peer does not say. */
export const DEFAULT_MAX_DATA_XFER_SIZE = 1 << 20;
/** The DMA maps that a peer takes at one time, if the peer does not say. */
export const DEFAULT_MAX_DMA_MAPS = 65535;
/** The page sizes of a peer that does not say, as a bit mask. */
export const DEFAULT_PGSIZES = 4096;

/**
 * The descriptors that vfu offers to take in one message: QEMU refuses a peer that says more than
 * 16, libvfio-user takes 8.
 */
export const OFFERED_MAX_MSG_FDS = 16;
/**
 * The bytes of data that vfu offers to take in one message: the default of every implementation.
 */
export const OFFERED_MAX_DATA_XFER_SIZE = 1 << 20;

/** The largest max_data_xfer_size that is taken from a peer: QEMU's own limit, 64 MiB. */
export const MAX_DATA_XFER_SIZE = 64 << 20;
/**
 * The largest max_msg_fds that is taken from a peer: Linux passes 253 in one message (SCM_MAX_FD).
 */
export const MAX_MSG_FDS = 253;

/**
 * The largest message that a recorder takes for one: what a peer may have, and what comes with it.
 * Memory for a message grows as it comes.
 */
export const MAX_RECORDED_MESSAGE = 65 << 20;

/**
 * The time that a recorder waits for the rest of a message before it passes on what has come. A
 * receiver may have an answer to the header alone. In milliseconds.
 */
export const RECORD_PATIENCE_MS = 100;
/**
 * The same for a message that the recorder alters, and so must have whole. In milliseconds; less
 * than the 5 s that clients wait for a reply.
 */
export const RECORD_WHOLE_PATIENCE_MS = 2000;
/**
 * The time that a recorder goes on offering a side what the other one said before it left. In
 * milliseconds; the next client waits meanwhile.
 */
export const RECORD_DRAIN_MS = 10_000;

/**
 * The time that a recorder holds a command back while an earlier one is not answered. In
 * milliseconds; less than the 5 s that clients wait for a reply.
 */
export const GATE_PATIENCE_MS = 2000;

/** Bytes of a client's commands that a recorder holds back; more are passed on at once. */
export const MAX_HELD_BACK = 8 << 20;
/** The same, commands: an array of many more takes long to be emptied from the front. */
export const MAX_HELD_COMMANDS = 16_384;
/** The same, descriptors: a process often has 1024. */
export const MAX_HELD_FDS = 512;

/** Clients of a recorder's side socket; more wait in its queue. Each has one request in flight. */
export const MAX_SIDE_CLIENTS = 8;
/** Data of one request at a side socket: the device's own client waits meanwhile. */
export const SIDE_MAX_DATA = 32 << 10;
/** Requests at the side that a server never answered; later ones are refused. */
export const MAX_SIDE_ABANDONED = 16;
/**
 * The time that a request at the side waits for a moment in which the client has nothing in flight.
 * In milliseconds.
 */
export const SIDE_PATIENCE_MS = 250;
/**
 * The time that the client's next command waits for the answer to one at the side. In milliseconds.
 */
export const SIDE_HOLD_MS = 100;

/**
 * Room for what comes with the data of a message: header, the largest fixed payload, capabilities.
 */
export const MESSAGE_OVERHEAD = 4096;

/** The VERSION JSON of a peer; the longest one seen is 240 bytes. */
export const MAX_VERSION_SIZE = 16 << 10;

/** Regions that are asked about. PCI has 9; QEMU says 10; device-specific ones follow. */
export const MAX_REGIONS = 256;
/** IRQ indexes that are asked about. PCI has 5. */
export const MAX_IRQ_INDEXES = 256;
/** Capabilities in one chain: enough for any device, few enough to be read by a person. */
export const MAX_CAPABILITIES = 64;
/** Bytes of a region info reply: a chain with 4000 sparse areas. */
export const MAX_REGION_INFO_SIZE = 64 << 10;
/**
 * Bytes of a device's region up to its last register: each costs some bytes of memory here. 4 MiB
 * of doorbells are 524288 queues.
 */
export const MAX_REGISTER_SPACE = 4 << 20;
/**
 * Milliseconds that the loops of this thread work before other work has its turn. A client's
 * register read waits that long, while a turn itself costs some microseconds.
 */
export const TURN_MS = 1;
/**
 * Milliseconds after which such a turn lasts until the runtime has heard of signals, which takes it
 * a millisecond or two. A person who presses Ctrl-C feels no wait as short as that.
 */
export const REST_MS = 50;
/**
 * Bytes of the client's memory that a device copies before it looks at the clock: about a
 * millisecond.
 */
export const DMA_PIECE = 4 << 20;
/** Views of pages of one client's memory that are kept: a view costs half of what a copy does. */
export const DMA_VIEW_SLOTS = 1024;
/**
 * Milliseconds that a repeated timer may be late before it drops calls that it missed. Those of the
 * runtime are 2 late.
 */
export const TIMER_LATENESS_MS = 10;
/**
 * The time in milliseconds that a poll spins after it found work, unless the device says otherwise.
 */
export const POLL_SPIN_MS = 1;
/**
 * The time in milliseconds that a poll looks again and again without a turn of the event loop after
 * it found work. A turn costs about 10 microseconds, and an access by message waits that long.
 */
export const POLL_GLANCE_MS = 0.1;
/**
 * The longest pause of a poll that finds nothing, unless the device says otherwise. In
 * milliseconds. Waking a thread that sleeps takes up to 280 microseconds of a slow and busy
 * machine: 7 looks a second are 0.2 % of its CPU.
 */
export const POLL_IDLE_MS = 150;
/**
 * Bytes of what a device's own code saves of its state besides registers and memory: memory is
 * found for them when they come.
 */
export const MAX_PLAIN_STATE = 16 << 20;

/**
 * The background tasks that a stopped device keeps until it goes on. A client may write registers
 * while the device stands still to be saved or restored, and each write may begin something. No
 * device has that much to do at once.
 */
export const MAX_HELD_TASKS = 1024;

/**
 * Data of one REGION_WRITE. The body of a message is whole up to this size for libvfio-user, which
 * reads it with a single recv. 40 KiB fail now and then.
 */
export const WRITE_CHUNK_SIZE = 32 << 10;

/**
 * Requests sent and not yet answered, on one connection. Each costs memory here and in the peer.
 */
export const MAX_PENDING = 4096;
/** Requests of the peer received and not yet answered; reading stops until some are. */
export const MAX_INCOMING = 256;
/**
 * The same while the handler itself waits for a reply of the peer, and reading can't stop; beyond
 * it the connection is closed.
 */
export const MAX_INCOMING_BLOCKED = 4096;
/** Bytes queued for a client, beyond which its further requests wait until it has read some. */
export const SERVE_HIGH_WATER = 4 << 20;
/**
 * Bytes that the kernel is asked to hold for a client: a whole message of the largest kind, which
 * then leaves with one send.
 */
export const SERVE_SEND_BUFFER = 1 << 20;
/** Bytes that the requests of the peer hold that are not yet answered. */
export const MAX_INCOMING_BYTES = 64 << 20;
/** Bytes queued for a peer that does not read; beyond it the connection is closed. */
export const MAX_QUEUED_BYTES = 64 << 20;
/**
 * The time in which requests of a client that has left are still done. Requests that then wait
 * behind slow hooks are discarded: the next client waits, too.
 */
export const MAX_DRAIN_MS = 2000;
/** The time that a closed server waits for a running hook, before it closes the device under it. */
export const CLOSE_GRACE_MS = 2000;
/**
 * The time that a device may take to become quiet for a change of the client's. In milliseconds;
 * less than the 5 s that clients wait for a reply.
 */
export const QUIESCE_TIMEOUT_MS = 4000;
/**
 * The time that a hook may run on after its client has gone, before the server reports that all
 * other clients wait.
 */
export const HOOK_PATIENCE_MS = 2000;
/**
 * Late replies that are still expected after their request timed out; beyond it the peer is taken
 * for dead.
 */
export const MAX_ABANDONED = 4096;

/** A request without a timeout of its own. QEMU's client takes 5 s as well. */
export const DEFAULT_TIMEOUT_MS = 5000;

/**
 * Bytes of one DMA map with a file, all of which is mapped at once. libvfio-user takes as much: 8
 * TiB.
 */
export const MAX_DMA_MAP_SIZE = 2 ** 43;
/**
 * DMA maps that a client is told it may have, if it may have so many mappings. With a file each
 * they need a quarter of the kernel's 65530. Half is for all clients, and no client takes more of
 * it than it leaves to the others.
 */
export const OFFERED_MAX_DMA_MAPS = 16_000;
/**
 * Bytes of a client's file that its small maps share a mapping of: few for any file, and little
 * address space.
 */
export const MAX_SHARED_MAPPING = 1 << 30;
/**
 * Bytes of one DMA access: a device takes lengths from its guest, and memory has to be found for
 * them.
 */
export const MAX_DMA_ACCESS = 1 << 30;
/** DMA requests to a client in flight; more wait for their turn. */
export const MAX_DMA_IN_FLIGHT = 256;
/** Bytes that these read or write together. */
export const MAX_DMA_BYTES_IN_FLIGHT = 16 << 20;
/** DMA requests that wait for their turn; the device's next ones are refused. */
export const MAX_DMA_WAITING = 4096;
/** Messages of one long DMA access in flight: enough that the client never waits for the next. */
export const DMA_PIPELINE = 8;

/**
 * Bytes of a page whose writing is logged, at least: no system that is supported has smaller ones.
 */
export const MIN_LOGGING_PAGE_SIZE = 4096;
/**
 * Ranges of memory that are logged together. QEMU asks for three; a range more costs each report a
 * comparison.
 */
export const MAX_LOGGING_RANGES = 4096;
/**
 * Bytes that remember which pages a device has written: 2 TiB in pages of 4 KiB. Beyond it all of
 * them count as written.
 */
export const MAX_DIRTY_LOG_SIZE = 64 << 20;

/**
 * Changing the state of a device that migrates: it may have to finish what it has begun.
 * libvfio-user's may take for ever.
 */
export const STATE_TIMEOUT_MS = 30_000;
/** Bytes of a device's state that are asked for at once, if the server answers so many. */
export const SAVE_CHUNK_SIZE = 1 << 20;
/** Requests for a device's state in flight: enough that neither side waits for the other. */
export const SAVE_PIPELINE = 3;
/**
 * Short answers that are read of a device that works, before it is stopped for the rest. A device
 * whose memory keeps changing always has a little more.
 */
export const MAX_SHORT_PRE_COPY = 1024;
/** Bytes of one that are written at once, if the server reads whole messages. */
export const RESTORE_CHUNK_SIZE = 1 << 20;
/** Bytes of one in flight. Two writes are, however long they are. */
export const RESTORE_IN_FLIGHT = 1 << 20;
/** Writes of one in flight, however short they are: each is to be answered in its time. */
export const RESTORE_PIPELINE = 32;

/**
 * Bytes of a frame of a state stream, header included. One MIG_DATA_READ returns as much, so that a
 * frame is sent from where it is.
 */
export const MAX_STATE_FRAME = 1 << 20;
/** Bytes of a device's name in a state stream. */
export const MAX_STATE_NAME = 64;
/**
 * Pieces with gaps between them that a section of a state is in while it comes: each new one is
 * compared with all.
 */
export const MAX_STATE_SPANS = 1024;
/**
 * The longest delay that a server makes on purpose: a day. Longer ones overflow the timers, which
 * count milliseconds in 32 bits.
 */
export const MAX_DELAY_MS = 24 * 3_600_000;

/**
 * Signals of a client, on its descriptors that mask and unmask vectors, that are taken at once. A
 * descriptor can be readable always, at no cost to the client; each look costs some microseconds.
 */
export const IRQ_INPUT_BURST = 1000;
/** The number that is taken besides in a millisecond: more than a guest takes interrupts. */
export const IRQ_INPUTS_PER_MS = 10;
/**
 * The time that a descriptor rests after more than that. What the client signals meanwhile waits.
 */
export const IRQ_INPUT_REST_MS = 10;

/**
 * Bytes of a block of a recording: the largest message (64 MiB), and room for what is known of it
 * beside. Messages that are altered on their way are small.
 */
export const MAX_RECORDING_BLOCK = 66 << 20;
/** Interfaces of a section of a recording that are read: each costs some bytes of memory. */
export const MAX_RECORDING_INTERFACES = 65_536;
/** Interfaces of a section that are written, two for each client, before the next section. */
export const RECORDING_SECTION_INTERFACES = 1024;
/** Bytes of a recording that are held before they are written, and that are read at once. */
export const RECORDING_BUFFER = 256 << 10;
/**
 * Bytes of a recording that wait for the reader of a pipe. Further events are discarded until half
 * of the bytes have gone.
 */
export const RECORDING_WAITING = 16 << 20;
/** The time that a pipe's reader has to take the last bytes of a recording. In milliseconds. */
export const RECORDING_CLOSE_MS = 1000;
/** The time that events may wait to be written: a reader that follows the file sees it then. */
export const RECORDING_FLUSH_MS = 100;
