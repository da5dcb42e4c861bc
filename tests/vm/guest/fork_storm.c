// Forks PER_SECOND times a second until SIGTERM: each child uses a little CPU and ends. Then prints
// how many there were, and in how many seconds.  usage: fork_storm PER_SECOND [CPU]
// With CPU it stays there, before all others, and forks without copying its memory (vfork): under emulation that is ten
// times faster, and the kernel and perf see a new process all the same.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t over;
static void End(int number) { over = number; }

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

static void BeAChild(void) {
  for (volatile int i = 0; i < 1000; ++i) continue;
  _exit(0);
}

int main(int argc, char** argv) {
  const long per_second = argc > 1 ? atol(argv[1]) : 500;
  if (per_second <= 0) return 2;
  const int stays = argc > 2;
  if (stays) {
    cpu_set_t cpu;
    CPU_ZERO(&cpu);
    CPU_SET(atoi(argv[2]), &cpu);
    if (sched_setaffinity(0, sizeof cpu, &cpu) != 0) return 2;
    errno = 0;
    if (nice(-20) == -1 && errno != 0) return 2;
  }
  signal(SIGTERM, End);
  const double start = Now();
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  unsigned long forks = 0;
  while (!over) {
    const pid_t child = stays ? vfork() : fork();
    if (child == 0) BeAChild();
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
  printf("%lu %.1f\n", forks, Now() - start);
  return 0;
}
