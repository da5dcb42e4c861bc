// Numbers of states: whoever keeps something that was found in one state finds by its number
// whether that state is still the same. Each number is given once in the life of the process, to
// one state of one thing: two processes that had one ID in turn may have had as many changes each.
//
// Thread rules: thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

namespace lbrd::unwind {

// Never 0 or 1, which are free for states that need none.
inline uint64_t NextGeneration() {
  static std::atomic<uint64_t> last{1};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace lbrd::unwind
