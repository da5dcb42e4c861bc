#include "daemon/task_place.h"

#include <sys/mman.h>

#include <new>

namespace lbrd::daemon {
namespace {

constexpr size_t kBytes = TaskPlaces::kTids * sizeof(uint64_t);

// Zeroed pages that are resident once they are touched. Not huge ones: eight bytes of a tid that
// stands alone would take 2 MiB, and look-ups are no faster with them.
uint64_t* Map() {
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, kBytes, MADV_NOHUGEPAGE);
  return static_cast<uint64_t*>(memory);
}

}  // namespace

TaskPlaces::TaskPlaces() : words_(Map()) {}

TaskPlaces::~TaskPlaces() { munmap(words_, kBytes); }

}  // namespace lbrd::daemon
