/*
 * kit_client SOCKET
 *
 * Drives a device of the kit step by step: what its server offers, a DMA_MAP that waits for the device's work in flight, DMA by
 * message though the memory is shared, a DMA_UNMAP that the device refuses, a shadow ioeventfd, an ioregionfd, and masks. Prints
 * a line for each step.
 */
#include "../hostile/wire.h"
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

enum { DMA_MAP = 2, DMA_UNMAP = 3, REGION_READ = 9, DMA_READ = 11, DMA_WRITE = 12, RESET = 13 };
enum { CTRL = 0, SUM = 4, ADDRESS = 8, BELL = 12, READ_IT = 1, BE_BUSY = 2, SIZE = 4096, BASE = 0x100000 };

struct header { uint16_t id, command; uint32_t size, flags, error; };
struct message { struct header header; unsigned char payload[4096]; };

/* Takes exactly one message, of either kind. */
static struct message take(int fd) {
  struct message message = {0};
  size_t length = 0, wanted = sizeof message.header;
  while (length < wanted) {
    struct pollfd ready = {fd, POLLIN, 0};
    if (poll(&ready, 1, PATIENCE_MS) != 1) fail("HUNG: no message");
    ssize_t came = read(fd, (char *)&message + length, wanted - length);
    if (came <= 0) fail("the connection ended");
    length += came;
    if (length == sizeof message.header) wanted = message.header.size;
    if (wanted > sizeof message) fail("a message is too long");
  }
  return message;
}

/* Takes the reply to a command: 0 or its errno. */
static uint32_t reply(int fd, uint16_t command, struct message *into) {
  *into = take(fd);
  if (into->header.command != command || (into->header.flags & 0xf) != 1) fail("not the reply");
  return (into->header.flags & 0x20) != 0 ? into->header.error : 0;
}

static uint32_t request(int fd, uint16_t command, const void *payload, uint32_t size) {
  struct message message;
  ask(fd, command, payload, size, -1);
  return reply(fd, command, &message);
}

/* Answers a command of the server's. */
static void respond(int fd, struct header to, const void *payload, uint32_t size) {
  struct header header = {to.id, to.command, 16 + size, 1, 0};
  struct iovec parts[2] = {{&header, 16}, {(void *)payload, size}};
  if (writev(fd, parts, 2) != (ssize_t)(16 + size)) fail("cannot answer");
}

static void put32(int fd, uint32_t offset, uint32_t value) {
  const uint32_t write[5] = {offset, 0, 0, 4, value};
  if (request(fd, REGION_WRITE, write, sizeof write) != 0) fail("a write failed");
}

static uint32_t get32(int fd, uint32_t offset) {
  const uint32_t read[4] = {offset, 0, 0, 4};
  struct message message;
  uint32_t value;
  ask(fd, REGION_READ, read, sizeof read, -1);
  if (reply(fd, REGION_READ, &message) != 0) fail("a read failed");
  memcpy(&value, message.payload + 16, 4);
  return value;
}

static void map(int fd, uint64_t address, int memory) {
  struct { uint32_t argsz, flags; uint64_t offset, address, size; } map = {32, 3, 0, address, SIZE};
  ask(fd, DMA_MAP, &map, sizeof map, memory);
}

static uint32_t unmap(int fd, uint64_t address) {
  struct { uint32_t argsz, flags; uint64_t address, size; } unmap = {24, 0, address, SIZE};
  return request(fd, DMA_UNMAP, &unmap, sizeof unmap);
}

/* A sub-region of GET_IO_FDS, and a command of an ioregionfd, as the specification and KVM's patches have them. */
struct part { uint64_t offset, size; uint32_t fd_index, type, flags, shadow_fd_index; uint64_t shadow_offset; };
struct access { uint32_t info, padding; uint64_t user_data, offset, data; };

/* Asks for the one part of a region, whose descriptors come along. */
static struct part io_fds(int fd, uint32_t region, int *fds, size_t count) {
  const uint32_t request[4] = {4096, 0, region, 0};
  struct { struct header header; uint32_t argsz, flags, index, count; struct part part; } reply;
  char control[CMSG_SPACE(4 * sizeof(int))];
  struct iovec part = {&reply, sizeof reply};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct pollfd ready = {fd, POLLIN, 0};
  ask(fd, GET_IO_FDS, request, sizeof request, -1);
  if (poll(&ready, 1, PATIENCE_MS) != 1) fail("HUNG: no descriptors");
  if (recvmsg(fd, &message, 0) != sizeof reply || reply.count != 1) fail("not one part");
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  if (rights == NULL || rights->cmsg_len != CMSG_LEN(count * sizeof(int))) fail("other descriptors");
  memcpy(fds, CMSG_DATA(rights), count * sizeof(int));
  return reply.part;
}

/* As KVM does when a guest writes a register: the value into memory, then a signal. */
static void ring(int fd, uint32_t value) {
  int fds[2];
  struct part part = io_fds(fd, 0, fds, 2);
  if (part.type != 2 || part.offset != BELL || part.size != 4) fail("no shadow ioeventfd");
  char *shadow = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[part.shadow_fd_index], 0);
  if (shadow == MAP_FAILED) fail("no shadow memory");
  memcpy(shadow + part.shadow_offset, &value, sizeof value);
  eventfd_write(fds[part.fd_index], 1);
  for (int i = 0; get32(fd, BELL) != value; i++) {
    if (i == PATIENCE_MS) fail("HUNG: the bell was not heard");
    usleep(1000);
  }
  printf("BELL %#x by a shadow ioeventfd\n", value);
}

/* As KVM does when a guest accesses the part: a command, then the response. */
static uint64_t exchange(int socket, uint32_t info, uint64_t offset, uint64_t data) {
  const struct access access = {info, 0, 7, offset, data};
  uint64_t response[4];
  struct pollfd ready = {socket, POLLIN, 0};
  if (write(socket, &access, sizeof access) != sizeof access) fail("cannot access");
  if (poll(&ready, 1, PATIENCE_MS) != 1) fail("HUNG: no response");
  if (read(socket, response, sizeof response) != sizeof response) fail("not a response");
  return response[0];
}

int main(int argc, char **argv) {
  static const char proposal[] =
    "\0\0\2\0{\"capabilities\":{\"max_msg_fds\":8,\"write_multiple\":true,\"twin_socket\":{\"supported\":true}}}";
  struct message message;
  if (argc != 2) return 2;
  int fd = dial(argv[1]);
  ask(fd, VERSION, proposal, sizeof proposal, -1);
  if (reply(fd, VERSION, &message) != 0) fail("no version");
  printf("version 0.%d %s\n", message.payload[2], (char *)message.payload + 4);

  int memory = memfd_create("memory", 0);
  if (ftruncate(memory, SIZE) != 0) fail("no memory");
  map(fd, BASE, memory);
  if (reply(fd, DMA_MAP, &message) != 0) fail("the first map failed");

  /* The device reads by message, though the file has zeros. Meanwhile another map is asked for. */
  put32(fd, ADDRESS, BASE);
  put32(fd, CTRL, READ_IT);
  struct message command = take(fd);
  if (command.header.command != DMA_READ) fail("no DMA_READ");
  map(fd, 2 * BASE, memory);
  struct { uint64_t address, count; unsigned char data[8]; } answer = {0, 0, {1, 2, 3, 4, 5, 6, 7, 8}};
  memcpy(&answer, command.payload, 16);
  printf("DMA_READ of %d bytes at %#x\n", (int)answer.count, (unsigned)answer.address);
  respond(fd, command.header, &answer, sizeof answer);
  command = take(fd);
  if (command.header.command != DMA_WRITE) fail("the map did not wait for the device's work");
  printf("DMA_WRITE of %d, %d\n", command.payload[16], command.payload[17]);
  respond(fd, command.header, command.payload, 16);
  printf("DMA_MAP answered %d after that\n", reply(fd, DMA_MAP, &message));
  printf("sum %d\n", get32(fd, SUM));

  put32(fd, CTRL, BE_BUSY);
  uint32_t refused = unmap(fd, BASE);
  printf("DMA_UNMAP refused: %s\n", refused == EBUSY ? "EBUSY" : "otherwise");
  put32(fd, CTRL, 0);
  printf("DMA_UNMAP answered %d\n", unmap(fd, BASE));

  ring(fd, 0xcafe);
  int socket;
  struct part part = io_fds(fd, 1, &socket, 1);
  if (part.type != 1 || part.size != 16) fail("no ioregionfd");
  exchange(socket, 0x61, 4, 0x1234); /* a write of 4 bytes, with a response */
  printf("ioregionfd read %#x\n", (unsigned)exchange(socket, 0x60, 4, 0));

  const uint32_t mask[5] = {20, 1 | 8, 2, 1, 1}, unmask[5] = {20, 1 | 16, 2, 1, 1};
  if (request(fd, SET_IRQS, mask, sizeof mask) != 0) fail("no mask");
  if (request(fd, SET_IRQS, unmask, sizeof unmask) != 0) fail("no unmask");
  if (request(fd, RESET, NULL, 0) != 0) fail("no reset");
  return 0;
}
