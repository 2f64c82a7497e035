/*
 * What the benchmark compares with: a vfio-user client and server in C that do what has to be done
 * and nothing else. The same server answers this client and ours.
 *
 *   baseline server PATH              serve one client after another until killed; says "ready"
 *   baseline MODE PATH N [ARGUMENT]   for each line on stdin, do N operations, print the ns of one
 *   baseline pin COMMAND...           run a command on one CPU, the same one each time
 *
 * Modes: read4, pipeline (argument: requests in flight), write-posted, write-flushed, read-bulk
 * (argument: bytes). A time is the median of batches.
 * Host byte order is that of the wire. POSIX calls and sched_setaffinity: Linux.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, REGION_READ = 9, REGION_WRITE = 10 };
enum { REPLY = 1, NO_REPLY = 0x10, ERROR = 0x20 };

/* The register that is read and written: SCRATCH of the demo device. */
enum { REGION = 0, OFFSET = 8 };

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

/* ---- Server */

/* Sends a reply of a head and maybe data. Returns whether all of it left. */
static int reply(int fd, struct access *head, size_t head_size, const void *bytes, size_t count) {
  struct iovec parts[2] = {{head, head_size}, {(void *)bytes, count}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = count ? 2 : 1};
  head->header.size = head_size + count;
  return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)(head_size + count);
}

/* Answers one message that has come whole. Returns whether the client can go on. */
static int answer(int fd, const uint8_t *bytes, size_t size) {
  static const char version[] =
      "\0\0\1\0{\"capabilities\":{\"max_msg_fds\":1,\"max_data_xfer_size\":1048576}}";
  struct access head = {0};
  memcpy(&head, bytes, size < sizeof head ? size : sizeof head);
  if (head.header.flags & NO_REPLY) return 1;
  head.header.flags = REPLY;
  if (head.header.command == VERSION) {
    return reply(fd, &head, sizeof head.header, version, sizeof version);
  }
  if (size >= sizeof head && head.count <= MAX_DATA) {
    if (head.header.command == REGION_READ) return reply(fd, &head, sizeof head, data, head.count);
    if (head.header.command == REGION_WRITE) return reply(fd, &head, sizeof head, NULL, 0);
  }
  head.header.flags = REPLY | ERROR;
  head.header.error = EINVAL;
  return reply(fd, &head, sizeof head.header, NULL, 0);
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
    ssize_t came = recv(fd, buffer + end, sizeof buffer - end, 0);
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

static int server; /* the connection */

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

/* Writes that want no reply, one send each. A read behind them waits until they are done. */
static void write_posted(long count, long unused) {
  struct write4 request = {.access = {
      {.command = REGION_WRITE, .size = WRITE4_SIZE, .flags = NO_REPLY}, OFFSET, REGION, 4}};
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

static const struct mode {
  const char *name;
  void (*run)(long count, long argument);
} modes[] = {
    {"read4", read4},
    {"pipeline", pipeline},
    {"write-posted", write_posted},
    {"write-flushed", write_posted}, /* ours gathers what is posted unless it is told to flush */
    {"read-bulk", read_bulk},
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
  printf("{\"ns\": %.1f}\n", ns[BATCHES / 2]);
  fflush(stdout);
}

/* ---- Pinning */

static _Noreturn void pin(char **command) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) fail("sched_getaffinity");
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &set)) last--;
  CPU_ZERO(&set);
  CPU_SET(last, &set);
  if (sched_setaffinity(0, sizeof set, &set) < 0) fail("sched_setaffinity");
  execvp(command[0], command);
  fail(command[0]);
}

int main(int argc, char **argv) {
  if (argc >= 3 && strcmp(argv[1], "pin") == 0) pin(argv + 2);
  if (argc == 3 && strcmp(argv[1], "server") == 0) run_server(argv[2]);
  if (argc == 4 || argc == 5) {
    long count = atol(argv[3]), argument = argc == 5 ? atol(argv[4]) : 0;
    if (argument < 0 || argument > MAX_DATA) give_up("the argument is out of range");
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
      if (strcmp(argv[1], modes[i].name) != 0) continue;
      connect_to(argv[2]);
      for (int c; (c = getchar()) != EOF;) {
        if (c == '\n') measure(&modes[i], count, argument);
      }
      return 0;
    }
  }
  give_up("usage: server PATH | MODE PATH N [ARGUMENT] | pin COMMAND...");
}
