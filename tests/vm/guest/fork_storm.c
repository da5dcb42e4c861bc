// Forks PER_SECOND times a second until SIGTERM: each child uses a little CPU and ends. Then prints
// how many there were.  usage: fork_storm PER_SECOND
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t over;
static void End(int number) { over = number; }

int main(int argc, char** argv) {
  const long per_second = argc > 1 ? atol(argv[1]) : 500;
  if (per_second <= 0) return 2;
  signal(SIGTERM, End);
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  unsigned long forks = 0;
  while (!over) {
    const pid_t child = fork();
    if (child == 0) {
      for (volatile int i = 0; i < 1000; ++i) continue;
      _exit(0);
    }
    forks += child > 0;
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    next.tv_nsec += 1000000000 / per_second;
    if (next.tv_nsec >= 1000000000) {
      next.tv_nsec -= 1000000000;
      ++next.tv_sec;
    }
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
  }
  while (waitpid(-1, NULL, 0) > 0) continue;
  printf("%lu\n", forks);
  return 0;
}
