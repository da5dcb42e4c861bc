// A storm of short threads, for sessions that must not miss one: each touches fresh memory a few
// times, so that it has page faults of its own, and ends.
//
//   thread_storm THREADS AT_ONCE PAGES ROUNDS PAUSE_MS
//
// Waits for a byte on standard input; then keeps AT_ONCE threads alive until THREADS have been
// started, each of which touches PAGES fresh pages ROUNDS times with pauses of PAUSE_MS, on
// average, in between. Prints the
// thread IDs, one a line.
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

struct Storm {
  size_t pages;
  int rounds;
  long pause_ms;
  sem_t room;
};

struct ThreadOfStorm {
  Storm* storm;
  long pause_ms;
  pid_t tid;
};

void* Touch(void* argument) {
  auto* self = static_cast<ThreadOfStorm*>(argument);
  self->tid = static_cast<pid_t>(syscall(SYS_gettid));
  const Storm& storm = *self->storm;
  for (int round = 0; round < storm.rounds; ++round) {
    if (round > 0) {
      const timespec pause{self->pause_ms / 1000, self->pause_ms % 1000 * 1'000'000};
      nanosleep(&pause, nullptr);
    }
    void* memory = mmap(nullptr, storm.pages * 4096, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t page = 0; page < storm.pages; ++page) {
      static_cast<volatile char*>(memory)[page * 4096] = 1;
    }
    munmap(memory, storm.pages * 4096);
  }
  sem_post(&self->storm->room);
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    fputs("usage: thread_storm THREADS AT_ONCE PAGES ROUNDS PAUSE_MS\n", stderr);
    return 2;
  }
  const size_t count = strtoul(argv[1], nullptr, 10);
  Storm storm{strtoul(argv[3], nullptr, 10), atoi(argv[4]), atol(argv[5]), {}};
  sem_init(&storm.room, 0, static_cast<unsigned>(strtoul(argv[2], nullptr, 10)));
  // From half the pause to one and a half, so that births are spread out.
  std::vector<ThreadOfStorm> threads;
  for (size_t i = 0; i < count; ++i) {
    const long more = storm.pause_ms == 0 ? 0 : static_cast<long>(i * 37) % storm.pause_ms;
    threads.push_back({&storm, storm.pause_ms / 2 + more, 0});
  }
  std::vector<pthread_t> handles(count);
  char byte;
  if (read(STDIN_FILENO, &byte, 1) != 1) return 1;
  for (size_t i = 0; i < count; ++i) {
    sem_wait(&storm.room);
    if (pthread_create(&handles[i], nullptr, Touch, &threads[i]) != 0) {
      perror("thread_storm: cannot start a thread");
      return 1;
    }
  }
  for (size_t i = 0; i < count; ++i) pthread_join(handles[i], nullptr);
  for (const ThreadOfStorm& thread : threads) printf("%d\n", thread.tid);
  return 0;
}
