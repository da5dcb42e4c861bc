#include "daemon/tid_array.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace lbrd::daemon::tid_array_internal {

void* Map(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, bytes, MADV_NOHUGEPAGE);
  return memory;
}

void Unmap(void* memory, size_t bytes) { munmap(memory, bytes); }

// Where the kernel does not know how (before 5.14), or has no memory, pages are had when touched.
void Populate(void* memory, size_t bytes) {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = begin & ~(page - 1);
  madvise(reinterpret_cast<void*>(first), begin + bytes - first, MADV_POPULATE_WRITE);
}

}  // namespace lbrd::daemon::tid_array_internal
