/*
 * emptied_ioeventfd SOCKET TRIES
 *
 * Asks the demo device for the ioeventfd of BAR 0, clears its O_NONBLOCK, which the server's descriptor shares, signals it,
 * and reads it itself at a random time.
 */
#include "wire.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>

static void ignore(int signal) { (void)signal; }

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  struct sigaction action = {.sa_handler = ignore};
  sigaction(SIGALRM, &action, NULL);
  int fd = negotiate(argv[1]);
  long tries = atol(argv[2]);
  const uint32_t io_fds[4] = {4096, 0, 0, 0};
  ask(fd, GET_IO_FDS, io_fds, sizeof io_fds, -1);
  int event = answer(fd);
  if (event < 0) fail("no ioeventfd came");
  fcntl(event, F_SETFL, fcntl(event, F_GETFL) & ~O_NONBLOCK);
  for (long i = 1; i <= tries; i++) {
    uint64_t count = 1;
    if (write(event, &count, 8) != 8) fail("cannot signal");
    for (volatile int k = rand() % 20000; k > 0; k--) {}
    struct pollfd ready = {event, POLLIN, 0};
    if (poll(&ready, 1, 0) == 1) { /* the server may be first, and then this read waits */
      struct itimerval soon = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
      setitimer(ITIMER_REAL, &soon, NULL);
      (void)!read(event, &count, 8);
      setitimer(ITIMER_REAL, &never, NULL);
    }
    const uint32_t info[4] = {16, 0, 0, 0};
    ask(fd, GET_INFO, info, sizeof info, -1);
    answer(fd);
  }
  printf("%ld tries\n", tries);
  return 0;
}
