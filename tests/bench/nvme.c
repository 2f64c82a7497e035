/*
 * What the benchmark of examples/nvme.ts is done with: an NVMe driver in C that polls, and a device
 * in C that does the same work in the same layout of memory.
 *
 *   nvme MODE PATH N DEPTH   for each line on stdin, do N commands of 4 KiB, DEPTH at a time, with
 *                            the controller served at PATH; print the ns of one
 *   nvme MODE - N DEPTH      the same with the device in C, in a process of its own
 *
 * MODE is read or write. The driver and the device poll on two CPUs, the first and the last of
 * those that are allowed. The driver checks each completion.
 * A time is the median of batches. Host byte order is that of the wire. Linux.
 */

#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, DMA_MAP = 2, GET_REGION_INFO = 5, REGION_READ = 9, REGION_WRITE = 10 };
enum { REPLY = 1 };
enum { BAR0 = 0, CONFIG = 7 };
enum { CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30 };
enum { PAGE = 4096, BLOCK = 512, ENTRIES = 64, BATCHES = 21, MAX_DEPTH = 32 };

/* The shared memory: four queues, then a page for each command. The disk has as many pages. */
enum { ADMIN_SQ = 0, ADMIN_CQ = PAGE, IO_SQ = 2 * PAGE, IO_CQ = 3 * PAGE, DATA = 4 * PAGE };
enum { MEMORY = 1 << 20, DISK = 16 << 20, BASE = 1 << 20 };

struct command {
  uint8_t opcode, flags;
  uint16_t id;
  uint32_t namespace;
  uint64_t unused[2], prp1, prp2;
  uint32_t words[6];
};

struct completion {
  uint32_t result, unused;
  uint16_t head, queue, id;
  _Atomic uint16_t status;
};

struct queue {
  struct command *commands;
  volatile struct completion *completions;
  uint32_t tail, head;
  uint16_t phase;
  int id;
};

static uint8_t *memory;
static _Atomic uint32_t *doorbells; /* two of the admin queue, two of the I/O queue */
static struct queue queues[2];
static uint8_t opcode;

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(1);
}

static _Noreturn void give_up(const char *what) {
  fprintf(stderr, "nvme: %s\n", what);
  exit(1);
}

static void run_on(int is_last) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) fail("sched_getaffinity");
  int cpu = is_last ? CPU_SETSIZE - 1 : 0;
  while (!CPU_ISSET(cpu, &set)) cpu += is_last ? -1 : 1;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) < 0) fail("sched_setaffinity");
}

/* ---- Messages, for the controller that is served */

static int server;

struct header {
  uint16_t id, command;
  uint32_t size, flags, error;
};

/* Sends a request, maybe with a descriptor; returns the bytes of the reply behind its header. */
static size_t ask(uint16_t command, const void *bytes, size_t size, int fd, void *into, int *got) {
  static uint16_t id;
  uint8_t reply[65536];
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof fd)];
  } control = {{CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS}};
  struct header header = {++id, command, sizeof header + size, 0, 0};
  struct iovec out[2] = {{&header, sizeof header}, {(void *)bytes, size}};
  struct msghdr message = {.msg_iov = out, .msg_iovlen = 2};
  memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
  if (fd >= 0) message.msg_control = &control, message.msg_controllen = CMSG_LEN(sizeof fd);
  if (sendmsg(server, &message, MSG_NOSIGNAL) != (ssize_t)header.size) fail("sendmsg");
  struct iovec in = {reply, sizeof reply};
  message = (struct msghdr){
      .msg_iov = &in, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t came = recvmsg(server, &message, 0);
  if (came < (ssize_t)sizeof header) fail("recvmsg");
  memcpy(&header, reply, sizeof header);
  if (header.id != id || header.flags != REPLY || header.size != (uint32_t)came) {
    give_up("the reply is not that of the request");
  }
  if (got != NULL && message.msg_controllen >= CMSG_LEN(sizeof *got)) {
    memcpy(got, CMSG_DATA(&control.header), sizeof *got);
  }
  if (into != NULL) memcpy(into, reply + sizeof header, came - sizeof header);
  return came - sizeof header;
}

struct access {
  uint64_t offset;
  uint32_t region, count;
  uint64_t value;
};

static void write_register(uint32_t region, uint64_t offset, uint64_t value, uint32_t count) {
  struct access access = {offset, region, count, value};
  ask(REGION_WRITE, &access, 16 + count, -1, NULL, NULL);
}

static uint32_t read_register(uint64_t offset) {
  struct access access = {offset, BAR0, 4, 0}, reply[64];
  ask(REGION_READ, &access, 16, -1, reply, NULL);
  return reply[0].value;
}

static void connect_to(const char *path, int memfd) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) give_up("the socket's path is too long");
  strcpy(address.sun_path, path);
  server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (server < 0) fail("socket");
  if (connect(server, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
  uint16_t version[2] = {0, 1};
  ask(VERSION, version, sizeof version, -1, NULL, NULL);
  struct {
    uint32_t argsz, flags;
    uint64_t offset, address, size;
  } map = {32, 3, 0, BASE, MEMORY};
  ask(DMA_MAP, &map, sizeof map, memfd, NULL, NULL);
  struct {
    uint32_t argsz, flags, index, capabilities;
    uint64_t size, offset;
  } info = {4096, 0, BAR0, 0, 0, 0}, answered[100];
  int fd = -1;
  ask(GET_REGION_INFO, &info, sizeof info, -1, answered, &fd);
  if (fd < 0) give_up("the doorbells can't be mapped");
  off_t place = answered[0].offset + 0x1000;
  doorbells = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, place);
  if (doorbells == MAP_FAILED) fail("mmap");
  write_register(CONFIG, 4, 6, 2); /* memory, bus master */
}

/* ---- The device in C */

static _Noreturn void run_device(void) {
  static uint8_t disk[DISK];
  struct command command;
  uint32_t head = 0, tail = 0, phase = 1, taken;
  memset(disk, 0, sizeof disk);
  for (;;) {
    uint32_t rung = atomic_load_explicit(&doorbells[2], memory_order_acquire);
    if (rung >= ENTRIES || rung == head) continue;
    for (; head != rung; tail = (tail + 1) % ENTRIES) {
      do {
        taken = atomic_load_explicit(&doorbells[3], memory_order_acquire);
      } while ((tail + 1) % ENTRIES == taken);
      memcpy(&command, memory + IO_SQ + head * sizeof command, sizeof command);
      head = (head + 1) % ENTRIES;
      uint64_t block = command.words[0] | (uint64_t)command.words[1] << 32;
      uint32_t size = ((command.words[2] & 0xffff) + 1) * BLOCK;
      uint64_t at = command.prp1 - BASE;
      int is_good = command.namespace == 1 && command.flags == 0 && size <= PAGE &&
                    at % PAGE == 0 && at + size <= MEMORY && block < DISK / BLOCK &&
                    block * BLOCK + size <= DISK && command.opcode >= 1 && command.opcode <= 2;
      if (is_good && command.opcode == 2) memcpy(memory + at, disk + block * BLOCK, size);
      if (is_good && command.opcode == 1) memcpy(disk + block * BLOCK, memory + at, size);
      struct completion *entry = (struct completion *)(memory + IO_CQ) + tail;
      entry->result = entry->unused = 0;
      entry->head = head;
      entry->queue = 1;
      entry->id = command.id;
      uint16_t status = (is_good ? 0 : 0x4002 << 1) | phase;
      atomic_store_explicit(&entry->status, status, memory_order_release);
      if (tail + 1 == ENTRIES) phase ^= 1;
    }
  }
}

/* ---- The driver */

static void submit(struct queue *queue, struct command command) {
  queue->commands[queue->tail] = command;
  queue->tail = (queue->tail + 1) % ENTRIES;
}

static void ring(struct queue *queue) {
  atomic_store_explicit(&doorbells[2 * queue->id], queue->tail, memory_order_release);
}

/* Takes a completion if there is one; returns the id of its command, or -1. */
static int take(struct queue *queue) {
  volatile struct completion *entry = queue->completions + queue->head;
  uint16_t status = atomic_load_explicit(&entry->status, memory_order_acquire);
  if ((status & 1) != queue->phase) return -1;
  if (status >> 1 != 0 || entry->queue != queue->id) give_up("a command failed");
  int id = entry->id;
  queue->head = (queue->head + 1) % ENTRIES;
  if (queue->head == 0) queue->phase ^= 1;
  return id;
}

static void acknowledge(struct queue *queue) {
  atomic_store_explicit(&doorbells[2 * queue->id + 1], queue->head, memory_order_release);
}

static void admin(struct command command) {
  submit(&queues[0], command);
  ring(&queues[0]);
  while (take(&queues[0]) < 0) continue;
  acknowledge(&queues[0]);
}

static void enable(void) {
  write_register(BAR0, CC, 0, 4);
  write_register(BAR0, AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1), 4);
  write_register(BAR0, ASQ, BASE + ADMIN_SQ, 8);
  write_register(BAR0, ACQ, BASE + ADMIN_CQ, 8);
  write_register(BAR0, CC, 0x460001, 4);
  while (read_register(CSTS) != 1) continue;
  uint32_t sizes = (ENTRIES - 1) << 16 | 1;
  admin((struct command){.opcode = 5, .prp1 = BASE + IO_CQ, .words = {sizes, 1}});
  admin((struct command){.opcode = 1, .prp1 = BASE + IO_SQ, .words = {sizes, 1 << 16 | 1}});
}

static struct command io(int slot) {
  static uint32_t seed = 1;
  seed = seed * 1664525 + 1013904223;
  uint32_t block = (seed >> 8) % (DISK / PAGE) * (PAGE / BLOCK);
  return (struct command){.opcode = opcode,
                          .id = slot,
                          .namespace = 1,
                          .prp1 = BASE + DATA + slot * PAGE,
                          .words = {block, 0, PAGE / BLOCK - 1}};
}

static void run(long count, int depth) {
  struct queue *queue = &queues[1];
  long sent = 0, done = 0;
  for (; sent < depth && sent < count; sent++) submit(queue, io(sent));
  ring(queue);
  while (done < count) {
    int id, found = 0;
    while ((id = take(queue)) >= 0) {
      found = 1;
      done++;
      if (sent < count) submit(queue, io(id)), sent++;
    }
    if (!found) continue;
    acknowledge(queue);
    ring(queue);
  }
}

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  if (argc != 5) give_up("usage: read|write PATH|- N DEPTH");
  opcode = strcmp(argv[1], "write") == 0 ? 1 : 2;
  long batch = atol(argv[3]) / BATCHES;
  int depth = atoi(argv[4]);
  if (batch < 1 || depth < 1 || depth > MAX_DEPTH) give_up("the numbers are out of range");
  int memfd = memfd_create("nvme", MFD_CLOEXEC);
  if (memfd < 0 || ftruncate(memfd, MEMORY + PAGE) < 0) fail("memfd");
  memory = mmap(NULL, MEMORY + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (memory == MAP_FAILED) fail("mmap");
  for (int i = 0; i < 2; i++) {
    queues[i].commands = (struct command *)(memory + 2 * i * PAGE);
    queues[i].completions = (struct completion *)(memory + 2 * i * PAGE + PAGE);
    queues[i].phase = 1;
    queues[i].id = i;
  }
  if (strcmp(argv[2], "-") == 0) {
    doorbells = (void *)(memory + MEMORY);
    pid_t device = fork();
    if (device < 0) fail("fork");
    if (device == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      run_on(1);
      run_device();
    }
    run_on(0);
  } else {
    run_on(0);
    connect_to(argv[2], memfd);
    enable();
  }
  double start = now_ns();
  while (now_ns() - start < 5e8) run(batch, depth); /* warms the compiler up */
  for (int c; (c = getchar()) != EOF;) {
    if (c != '\n') continue;
    double ns[BATCHES];
    for (int i = 0; i < BATCHES; i++) {
      start = now_ns();
      run(batch, depth);
      ns[i] = (now_ns() - start) / batch;
    }
    qsort(ns, BATCHES, sizeof ns[0], compare);
    printf("{\"ns\": %.3f}\n", ns[BATCHES / 2]);
    fflush(stdout);
  }
  return 0;
}
