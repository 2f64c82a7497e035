/*
 * full_eventfd SOCKET TRIES
 *
 * Gives the demo device a blocking eventfd for vector 0 of MSI-X. Has the vector fire by a register write, again and again,
 * while another thread fills the eventfd's counter at a random time.
 */
#include "wire.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

static int event;
static atomic_long begun, filled;
static atomic_int delay;

static void *fill(void *unused) {
  static const uint64_t nearly = 0xfffffffffffffffdull, one = 1;
  for (long seen = 0;;) {
    while (atomic_load(&begun) == seen) {}
    seen = atomic_load(&begun);
    for (volatile int i = atomic_load(&delay); i > 0; i--) {}
    if (write(event, &nearly, 8) != 8 || write(event, &one, 8) != 8) fail("cannot fill");
    atomic_store(&filled, seen);
  }
  return unused;
}

static void drain(void) {
  struct pollfd ready = {event, POLLIN, 0};
  uint64_t count;
  while (poll(&ready, 1, 0) == 1) if (read(event, &count, 8) != 8) fail("cannot drain");
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  int fd = negotiate(argv[1]);
  long tries = atol(argv[2]);
  event = eventfd(0, 0);
  const uint32_t irqs[5] = {20, 4 | 32, 2, 0, 1}; /* MSI-X, eventfd, trigger */
  ask(fd, SET_IRQS, irqs, sizeof irqs, event);
  answer(fd);
  pthread_t thread;
  pthread_create(&thread, NULL, fill, NULL);
  const uint32_t fire[5] = {0x20, 0, 0, 4, 0}; /* register 0x20 of BAR 0 */
  for (long i = 1; i <= tries; i++) {
    atomic_store(&delay, rand() % 60000);
    atomic_store(&begun, i);
    ask(fd, REGION_WRITE, fire, sizeof fire, -1);
    answer(fd);
    while (atomic_load(&filled) != i) drain();
    drain();
  }
  printf("%ld tries\n", tries);
  return 0;
}
