// Loaded before a program's own libraries by table_memory_bench: the program stays where everything
// it needs is mapped and nothing of its own has run.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

namespace {

__attribute__((constructor)) void Stop() {
  const char* fd = std::getenv("LBRD_STOPPED_FD");
  if (fd == nullptr) return;
  // A byte that cannot be written: nobody waits any more.
  if (write(std::atoi(fd), "", 1) != 1) _exit(1);
  for (;;) pause();
}

}  // namespace
