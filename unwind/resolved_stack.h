// A stack on its way from a sample to its names.
#pragma once

#include <cstdint>
#include <vector>

#include "unwind/stack.h"

namespace lbrd::unwind {

struct ResolvedFrame {
  uint64_t ip = 0;  // as recorded
  FrameSource source = FrameSource::kKernel;
  bool return_address = false;  // `ip` stands behind the call that the frame is in
  uint8_t call_size = 0;  // where `ip` is a call instruction: its bytes, if they could be read

  // The address to name.
  uint64_t look_up() const { return ip - (return_address ? 1 : 0); }
};
static_assert(sizeof(ResolvedFrame) == 16);

struct ResolvedStack {
  std::vector<ResolvedFrame> frames;  // leaf first
  Verdict verdict;
  bool has_user = false;  // the sampled task had a user mode (a kernel thread has none)
  // The user part is yet to come: the kernel's answer to this cookie.
  bool deferred = false;
  uint64_t cookie = 0;

  void Clear();
  void Add(uint64_t ip, FrameSource source, bool return_address) {
    frames.push_back({.ip = ip, .source = source, .return_address = return_address && ip != 0});
  }
  void AddCall(uint64_t from, FrameSource source, uint8_t call_size) {
    frames.push_back({.ip = from, .source = source, .call_size = call_size});
  }
};

}  // namespace lbrd::unwind
