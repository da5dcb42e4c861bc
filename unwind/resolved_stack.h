// A stack on its way from a sample to its names.
#pragma once

#include <cstdint>
#include <vector>

#include "unwind/stack.h"

namespace lbrd::unwind {

struct ResolvedFrame {
  uint64_t ip = 0;       // as recorded
  uint64_t look_up = 0;  // the address to name: before a return address, else ip itself
  FrameSource source = FrameSource::kKernel;
  uint8_t call_size = 0;  // where `ip` is a call instruction: its bytes, if they could be read
};

struct ResolvedStack {
  std::vector<ResolvedFrame> frames;  // leaf first
  Verdict verdict;
  bool has_user = false;  // the sampled task had a user mode (a kernel thread has none)
  // The user part is yet to come: the kernel's answer to this cookie.
  bool deferred = false;
  uint64_t cookie = 0;

  void Clear();
  void Add(uint64_t ip, FrameSource source, bool return_address) {
    frames.push_back({ip, return_address && ip != 0 ? ip - 1 : ip, source, 0});
  }
  void AddCall(uint64_t from, FrameSource source, uint8_t call_size) {
    frames.push_back({from, from, source, call_size});
  }
};

}  // namespace lbrd::unwind
