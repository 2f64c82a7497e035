/* Raw vfio-user for hostile clients: a message out, a reply in. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { VERSION = 1, GET_INFO = 4, GET_IO_FDS = 6, SET_IRQS = 8, REGION_WRITE = 10 };

/* How long the server may take before it counts as hung. */
#define PATIENCE_MS 10000

static void fail(const char *why) {
  printf("%s\n", why);
  exit(1);
}

static int dial(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("cannot connect");
  return fd;
}

/* Sends a command, with a descriptor unless that is -1. */
static void ask(int fd, uint16_t command, const void *payload, uint32_t size, int passed) {
  static uint16_t id;
  struct { uint16_t id, command; uint32_t size, flags, error; } header = {
    ++id, command, 16 + size, 0, 0};
  struct iovec parts[2] = {{&header, 16}, {(void *)payload, size}};
  char control[CMSG_SPACE(sizeof passed)] = {0};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  if (passed >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof passed);
    memcpy(CMSG_DATA(rights), &passed, sizeof passed);
  }
  if (sendmsg(fd, &message, 0) != (ssize_t)(16 + size)) fail("cannot send");
}

/* Takes the reply, which must not be an error. Returns the descriptor that came with it, or -1. */
static int answer(int fd) {
  struct pollfd ready = {fd, POLLIN, 0};
  if (poll(&ready, 1, PATIENCE_MS) != 1) fail("HUNG: no answer");
  uint32_t reply[1024];
  char control[CMSG_SPACE(16 * sizeof(int))];
  struct iovec part = {reply, sizeof reply};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                           .msg_controllen = sizeof control};
  if (recvmsg(fd, &message, 0) < 16) fail("the connection ended");
  if ((reply[2] & 0x20) != 0) fail("an error reply");
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  int passed = -1;
  if (rights != NULL) memcpy(&passed, CMSG_DATA(rights), sizeof passed);
  return passed;
}

static int negotiate(const char *path) {
  static const char proposal[] = "\0\0\2\0{\"capabilities\":{\"max_msg_fds\":8}}";
  int fd = dial(path);
  ask(fd, VERSION, proposal, sizeof proposal, -1);
  answer(fd);
  return fd;
}
