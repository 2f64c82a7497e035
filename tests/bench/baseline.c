/*
 * What the benchmark compares with: a vfio-user client and server in C that do what has to be done
 * and nothing else. The same server answers this client and ours.
 *
 *   baseline server PATH              serve one client after another until killed; says "ready"
 *   baseline MODE PATH N [ARGUMENT]   for each line on stdin, do N operations, print the ns of one
 *   baseline copy MIB                 for each line on stdin, send so many MiB from one process to
 *                                     another over a socket, print the ns of all
 *   baseline pin COMMAND...           run a command on one CPU, the same one each time
 *
 * The modes are in a table below; the argument is a number of bytes, or of requests in flight. A
 * time is the median of batches.
 * Host byte order is that of the wire. POSIX calls and sched_setaffinity: Linux.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
  VERSION = 1,
  DMA_MAP = 2,
  SET_IRQS = 8,
  REGION_READ = 9,
  REGION_WRITE = 10,
  DMA_READ = 11,
  DMA_WRITE = 12
};
enum { REPLY = 1, NO_REPLY = 0x10, ERROR = 0x20 };

/* The register that is read and written: SCRATCH of the demo device. */
enum { REGION = 0, OFFSET = 8 };

/*
 * Writing to these has the server access memory of the client (the value: how often, and 32 bits
 * higher how many bytes), or signal the eventfd that it was passed.
 */
enum { READ_MEMORY = 0x1000, WRITE_MEMORY = 0x1008, INTERRUPT = 0x1010 };

/* The address of that memory. */
enum { IOVA = 0x100000 };

enum { MAX_DATA = 1 << 20, BUFFER_SIZE = MAX_DATA + (64 << 10), BATCHES = 21 };

struct header {
  uint16_t id, command;
  uint32_t size, flags, error;
};

/* A message about a region, without its data. There is no padding in it. */
struct access {
  struct header header;
  uint64_t offset;
  uint32_t region, count;
};

struct write4 {
  struct access access;
  uint32_t value;
};
enum { WRITE4_SIZE = offsetof(struct write4, value) + 4 };

struct write8 {
  struct access access;
  uint64_t value;
};

/* A message about memory, without its data. */
struct dma {
  struct header header;
  uint64_t address, count;
};

static uint8_t buffer[BUFFER_SIZE]; /* what was received */
static uint8_t data[MAX_DATA];      /* what a server's regions hold */

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(1);
}

static _Noreturn void give_up(const char *what) {
  fprintf(stderr, "baseline: %s\n", what);
  exit(1);
}

static struct sockaddr_un address_of(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) give_up("the socket's path is too long");
  strcpy(address.sun_path, path);
  return address;
}

/* Sends a message of a head and maybe data. Returns whether all of it left. */
static int send_message(int fd, void *head, size_t head_size, const void *bytes, size_t count) {
  struct iovec parts[2] = {{head, head_size}, {(void *)bytes, count}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = count ? 2 : 1};
  ((struct header *)head)->size = head_size + count;
  return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)(head_size + count);
}

/* ---- Server */

static int passed = -1; /* the descriptor that came last */

/* Receives what is there, and takes over the descriptor that comes along. */
static ssize_t receive(int fd, void *into, size_t size) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof passed)];
  } control;
  struct iovec part = {into, size};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t came = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  if (came > 0 && message.msg_controllen >= CMSG_LEN(sizeof passed)) {
    if (passed >= 0) close(passed);
    memcpy(&passed, CMSG_DATA(&control.header), sizeof passed);
  }
  return came;
}

/* Reads or writes memory of the client, waiting for each answer. Returns whether it can go on. */
static int access_memory(int fd, uint16_t command, uint32_t times, uint32_t size) {
  struct dma request = {.header.command = command, .address = IOVA, .count = size}, answered;
  size_t out = command == DMA_WRITE ? size : 0, in = command == DMA_READ ? size : 0;
  struct iovec parts[2] = {{&answered, sizeof answered}, {data, in}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = in ? 2 : 1};
  if (size > MAX_DATA) return 0;
  for (; times > 0; times--) {
    request.header.id++;
    if (!send_message(fd, &request, sizeof request, data, out)) return 0;
    if (recvmsg(fd, &message, MSG_WAITALL) != (ssize_t)(sizeof answered + in)) return 0;
    if (answered.header.id != request.header.id || answered.header.flags != REPLY) return 0;
  }
  return 1;
}

/* What a write has the server do. Returns whether it can go on. */
static int act(int fd, const struct access *head, const uint8_t *bytes) {
  uint32_t value[2] = {1, 0}; /* as the counter of an eventfd: 1 */
  if (head->offset == INTERRUPT) return write(passed, value, sizeof value) == sizeof value;
  if (head->offset != READ_MEMORY && head->offset != WRITE_MEMORY) return 1;
  if (head->count != sizeof value) return 0;
  memcpy(value, bytes, sizeof value);
  return access_memory(fd, head->offset == READ_MEMORY ? DMA_READ : DMA_WRITE, value[0], value[1]);
}

/* Answers one message that has come whole. Returns whether the client can go on. */
static int answer(int fd, const uint8_t *bytes, size_t size) {
  static const char version[] =
      "\0\0\1\0{\"capabilities\":{\"max_msg_fds\":1,\"max_data_xfer_size\":1048576}}";
  struct access head = {0};
  memcpy(&head, bytes, size < sizeof head ? size : sizeof head);
  uint16_t command = head.header.command;
  int has_place = size >= sizeof head && head.count <= MAX_DATA;
  if (command == REGION_WRITE && has_place && !act(fd, &head, bytes + sizeof head)) return 0;
  if (head.header.flags & NO_REPLY) return 1;
  head.header.flags = REPLY;
  if (command == VERSION) {
    return send_message(fd, &head, sizeof head.header, version, sizeof version);
  }
  if (command == DMA_MAP || command == SET_IRQS) {
    return send_message(fd, &head, sizeof head.header, NULL, 0);
  }
  if (command == REGION_READ && has_place) {
    return send_message(fd, &head, sizeof head, data, head.count);
  }
  if (command == REGION_WRITE && has_place) return send_message(fd, &head, sizeof head, NULL, 0);
  head.header.flags = REPLY | ERROR;
  head.header.error = EINVAL;
  return send_message(fd, &head, sizeof head.header, NULL, 0);
}

static void serve(int fd) {
  size_t start = 0, end = 0;
  for (;;) {
    struct header header;
    while (end - start >= sizeof header) {
      memcpy(&header, buffer + start, sizeof header);
      if (header.size < sizeof header || header.size > sizeof buffer) return;
      if (end - start < header.size) break;
      if (!answer(fd, buffer + start, header.size)) return;
      start += header.size;
    }
    if (start < end) memmove(buffer, buffer + start, end - start);
    end -= start;
    start = 0;
    ssize_t came = receive(fd, buffer + end, sizeof buffer - end);
    if (came <= 0) return;
    end += came;
  }
}

static _Noreturn void run_server(const char *path) {
  struct sockaddr_un address = address_of(path);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) fail("socket");
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
  if (listen(listener, 16) < 0) fail("listen");
  puts("ready");
  fflush(stdout);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) fail("accept");
    serve(fd);
    close(fd);
  }
}

/* ---- Client */

static int server;            /* the connection */
static uint8_t *memory;       /* MAX_DATA bytes that are shared */
static volatile uint8_t sink; /* where data end up, so that reading them is measured */

static void send_all(const void *bytes, size_t size) {
  if (send(server, bytes, size, MSG_NOSIGNAL) != (ssize_t)size) fail("send");
}

static void receive_all(void *into, size_t size) {
  if (recv(server, into, size, MSG_WAITALL) != (ssize_t)size) fail("recv");
}

static void check(const struct header *reply, const struct header *request, size_t size) {
  if (reply->id != request->id || reply->size != size || reply->flags != REPLY) {
    give_up("the reply is not that of the request");
  }
}

static void connect_to(const char *path) {
  struct sockaddr_un address = address_of(path);
  server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (server < 0) fail("socket");
  if (connect(server, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
  struct {
    struct header header;
    uint16_t major, minor;
  } request = {{.command = VERSION, .size = 20}, 0, 1};
  struct header header;
  send_all(&request, sizeof request);
  receive_all(&header, sizeof header);
  if (header.flags != REPLY || header.size > sizeof buffer) give_up("the server refuses VERSION");
  receive_all(buffer, header.size - sizeof header);
}

static struct access read_request(uint32_t count) {
  return (struct access){
      {.command = REGION_READ, .size = sizeof(struct access)}, OFFSET, REGION, count};
}

/* Round trips, the message headers made once. */
static void read4(long count, long unused) {
  (void)unused;
  struct access request = read_request(4);
  struct write4 reply;
  struct iovec out = {&request, sizeof request}, in = {&reply, sizeof reply};
  struct msghdr send_header = {.msg_iov = &out, .msg_iovlen = 1};
  struct msghdr receive_header = {.msg_iov = &in, .msg_iovlen = 1};
  for (long i = 0; i < count; i++) {
    request.header.id++;
    if (sendmsg(server, &send_header, MSG_NOSIGNAL) != sizeof request) fail("sendmsg");
    if (recvmsg(server, &receive_header, 0) != WRITE4_SIZE) fail("recvmsg");
    check(&reply.access.header, &request.header, WRITE4_SIZE);
  }
}

/* Keeps `depth` reads in flight: one send each, and one receive for all replies that are there. */
static void pipeline(long count, long depth) {
  struct access request = read_request(4);
  struct header answered = {0};
  long sent = 0, done = 0;
  size_t end = 0;
  for (; sent < depth && sent < count; sent++) {
    request.header.id++;
    send_all(&request, sizeof request);
  }
  while (done < count) {
    ssize_t came = recv(server, buffer + end, sizeof buffer - end, 0);
    if (came <= 0) fail("recv");
    end += came;
    size_t start = 0;
    for (; end - start >= WRITE4_SIZE; start += WRITE4_SIZE, done++) {
      struct header header;
      memcpy(&header, buffer + start, sizeof header);
      answered.id++;
      check(&header, &answered, WRITE4_SIZE);
      if (sent == count) continue;
      request.header.id++;
      send_all(&request, sizeof request);
      sent++;
    }
    memmove(buffer, buffer + start, end - start);
    end -= start;
  }
}

static struct write4 posted_write(uint64_t offset) {
  return (struct write4){.access = {
      {.command = REGION_WRITE, .size = WRITE4_SIZE, .flags = NO_REPLY}, offset, REGION, 4}};
}

/* Writes that want no reply, one send each. A read behind them waits until they are done. */
static void write_posted(long count, long unused) {
  struct write4 request = posted_write(OFFSET);
  for (long i = 0; i < count; i++) {
    request.access.header.id++;
    request.value = i;
    send_all(&request, WRITE4_SIZE);
  }
  read4(1, unused);
}

/* Reads of many bytes, one after the other. */
static void read_bulk(long count, long size) {
  struct access request = read_request(size);
  struct header header;
  for (long i = 0; i < count; i++) {
    request.header.id++;
    send_all(&request, sizeof request);
    receive_all(buffer, sizeof request + size);
    memcpy(&header, buffer, sizeof header);
    check(&header, &request.header, sizeof request + size);
  }
}

static void map_read4(long count, long unused) {
  const volatile uint32_t *at = (uint32_t *)(memory + OFFSET);
  uint32_t last = 0;
  (void)unused;
  for (long i = 0; i < count; i++) last ^= *at;
  sink = last;
}

static void map_write4(long count, long unused) {
  volatile uint32_t *at = (uint32_t *)(memory + OFFSET);
  (void)unused;
  for (long i = 0; i < count; i++) *at = i;
}

static void map_copy(long count, long size) {
  for (long i = 0; i < count; i++) {
    memcpy(buffer, memory, size);
    sink = ((volatile uint8_t *)buffer)[i % size]; /* so that each copy is made */
  }
}

/* Tells the server of memory that it has to ask for. */
static void map_memory(void) {
  struct {
    struct header header;
    uint32_t argsz, flags;
    uint64_t offset, address, size;
  } request = {{.command = DMA_MAP, .size = sizeof request}, 32, 3, 0, IOVA, MAX_DATA};
  struct header reply;
  send_all(&request, sizeof request);
  receive_all(&reply, sizeof reply);
  check(&reply, &request.header, sizeof reply);
}

/* Has the server access memory, and answers it until it says that that is done. */
static void serve_memory(uint64_t offset, uint64_t times, uint64_t size) {
  static int is_mapped;
  if (!is_mapped) map_memory();
  is_mapped = 1;
  struct access start = {
      {.command = REGION_WRITE}, .offset = offset, .region = REGION, .count = sizeof(uint64_t)};
  uint64_t value = times | size << 32;
  if (!send_message(server, &start, sizeof start, &value, sizeof value)) fail("sendmsg");
  for (;;) {
    struct dma head;
    ssize_t came = recv(server, buffer, 64 << 10, 0) - sizeof head;
    if (came < 0) fail("recv");
    memcpy(&head, buffer, sizeof head);
    if (head.header.flags == REPLY) return;
    if (head.address != IOVA || head.count > MAX_DATA) give_up("this is no access to the memory");
    head.header.flags = REPLY;
    if (head.header.command == DMA_WRITE) { /* the rest goes right to its place */
      memcpy(memory, buffer + sizeof head, came);
      if ((uint64_t)came < head.count) receive_all(memory + came, head.count - came);
    }
    size_t count = head.header.command == DMA_READ ? head.count : 0;
    if (!send_message(server, &head, sizeof head, memory, count)) fail("sendmsg");
  }
}

static void dma_read(long count, long size) { serve_memory(READ_MEMORY, count, size); }

static void dma_write(long count, long size) { serve_memory(WRITE_MEMORY, count, size); }

/* Makes an eventfd and passes it to the server. */
static int enable_interrupt(void) {
  struct {
    struct header header;
    uint32_t argsz, flags, index, start, count;
  } request = {{.command = SET_IRQS, .size = sizeof request}, 20, 0x24, 2, 0, 1};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {{CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
  struct iovec part = {&request, sizeof request};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct header header;
  int event = eventfd(0, EFD_CLOEXEC);
  if (event < 0) fail("eventfd");
  memcpy(CMSG_DATA(&control.header), &event, sizeof event);
  if (sendmsg(server, &message, MSG_NOSIGNAL) != sizeof request) fail("sendmsg");
  receive_all(&header, sizeof header);
  check(&header, &request.header, sizeof header);
  return event;
}

/* Has the server interrupt, by a posted write, and waits for that. */
static void interrupt(long count, long unused) {
  static int event = -1;
  if (event < 0) event = enable_interrupt();
  struct write4 request = posted_write(INTERRUPT);
  struct pollfd fds[] = {{event, POLLIN, 0}, {server, POLLIN, 0}};
  uint64_t signals;
  (void)unused;
  for (long i = 0; i < count; i++) {
    request.access.header.id++;
    send_all(&request, WRITE4_SIZE);
    if (poll(fds, 2, -1) < 1) fail("poll");
    if (fds[1].revents) give_up("the server has something to say");
    if (read(event, &signals, sizeof signals) != sizeof signals) fail("read");
  }
}

static void share_memory(void) {
  int fd = memfd_create("baseline", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, MAX_DATA) < 0) fail("memfd_create");
  memory = mmap(NULL, MAX_DATA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) fail("mmap");
  memset(memory, 0x5a, MAX_DATA);
}

/* Some have several names: to ours they are different. */
static const struct mode {
  const char *name;
  void (*run)(long count, long argument);
} modes[] = {
    {"read4", read4},
    {"pipeline", pipeline},
    {"write-posted", write_posted},
    {"write-flushed", write_posted}, /* ours gathers what is posted unless it is told to flush */
    {"read-bulk", read_bulk},
    {"region-read4", read4},
    {"region-pipeline", pipeline},
    {"region-write-posted", write_posted},
    {"region-read-bulk", read_bulk},
    {"map-read4", map_read4},
    {"map-write4", map_write4},
    {"map-copy", map_copy},
    {"dma-copy", map_copy},
    {"dma-read", dma_read},
    {"dma-write", dma_write},
    {"interrupt", interrupt},
    {"interrupt-async", interrupt},
};

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void measure(const struct mode *mode, long count, long argument) {
  double ns[BATCHES];
  long batch = count / BATCHES > 0 ? count / BATCHES : 1;
  for (int i = 0; i < BATCHES; i++) {
    double start = now_ns();
    mode->run(batch, argument);
    ns[i] = (now_ns() - start) / batch;
  }
  qsort(ns, BATCHES, sizeof ns[0], compare);
  printf("{\"ns\": %.3f}\n", ns[BATCHES / 2]);
  fflush(stdout);
}

/* ---- A plain copy */

/* The state of a device that does nothing but be sent: 1 MiB a write, out of memory that was not just touched. */
static void copy_once(const uint8_t *state, size_t size) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) fail("socketpair");
  pid_t writer = fork();
  if (writer < 0) fail("fork");
  if (writer == 0) {
    close(ends[0]);
    for (size_t at = 0; at < size;) {
      ssize_t sent = send(ends[1], state + at, MAX_DATA < size - at ? MAX_DATA : size - at, 0);
      if (sent < 0) _exit(1);
      at += sent;
    }
    _exit(0);
  }
  close(ends[1]);
  size_t came = 0;
  for (ssize_t got; (got = recv(ends[0], data, sizeof data, 0)) > 0;) came += got;
  close(ends[0]);
  if (waitpid(writer, NULL, 0) < 0) fail("waitpid");
  if (came != size) give_up("not all has come");
}

static int copy(size_t size) {
  uint8_t *state = malloc(size);
  if (state == NULL) fail("malloc");
  memset(state, 0x5a, size);
  for (int c; (c = getchar()) != EOF;) {
    if (c != '\n') continue;
    double start = now_ns();
    copy_once(state, size);
    printf("{\"ns\": %.0f}\n", now_ns() - start);
    fflush(stdout);
  }
  return 0;
}

/* ---- Pinning */

/* To the last CPU of those that this process may use; "apart" from what is there, to the first. */
static _Noreturn void pin(char **command, int is_apart) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) fail("sched_getaffinity");
  int cpu = is_apart ? 0 : CPU_SETSIZE - 1;
  while (!CPU_ISSET(cpu, &set)) cpu += is_apart ? 1 : -1;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) < 0) fail("sched_setaffinity");
  execvp(command[0], command);
  fail(command[0]);
}

int main(int argc, char **argv) {
  if (argc >= 3 && strcmp(argv[1], "pin") == 0) pin(argv + 2, 0);
  if (argc >= 3 && strcmp(argv[1], "apart") == 0) pin(argv + 2, 1);
  if (argc == 3 && strcmp(argv[1], "copy") == 0) return copy((size_t)atol(argv[2]) << 20);
  if (argc == 3 && strcmp(argv[1], "server") == 0) run_server(argv[2]);
  if (argc == 4 || argc == 5) {
    long count = atol(argv[3]), argument = argc == 5 ? atol(argv[4]) : 0;
    if (argument < 0 || argument > MAX_DATA) give_up("the argument is out of range");
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
      if (strcmp(argv[1], modes[i].name) != 0) continue;
      connect_to(argv[2]);
      share_memory();
      for (int c; (c = getchar()) != EOF;) {
        if (c == '\n') measure(&modes[i], count, argument);
      }
      return 0;
    }
  }
  give_up("usage: server PATH | copy MIB | MODE PATH N [ARGUMENT] | pin|apart COMMAND...");
}
