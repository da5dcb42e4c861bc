// A sample as it flows behind the workers: resolved, named, interned.
//
// All of it is immutable and shared, so that fan-out to any number of sessions and streams copies
// pointers only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/sample_memory.h"
#include "unwind/stack.h"

namespace lbrd::unwind {
class Binary;
}  // namespace lbrd::unwind

namespace lbrd::daemon {

inline constexpr uint32_t kCpuUnknown = UINT32_MAX;

struct BinaryInfo {
  uint32_t id = 0;
  std::string path;
  std::string build_id;
  std::string symbols_missing;  // why; empty: it has symbols
  // Where lines and inlined functions are read, when somebody asks; null: nowhere.
  std::shared_ptr<const unwind::Binary> code;
};

struct FrameInfo {
  uint32_t id = 0;
  uint64_t ip = 0;
  unwind::FrameSource source = unwind::FrameSource::kKernel;
  std::string symbol;
  uint64_t offset = 0;
  std::shared_ptr<const BinaryInfo> binary;  // null: in no mapping
  // Of the instruction that is meant (before a return address), in the file's own terms; 0:
  // unknown.
  uint64_t address = 0;
  // Where a JIT compiler says that it comes from; empty and 0: unknown.
  std::string file;
  uint32_t line = 0;
  MemoryCharge memory{};
};

struct StackInfo {
  uint64_t id = 0;
  std::vector<std::shared_ptr<const FrameInfo>> frames;  // leaf first
  unwind::Verdict verdict;
  bool has_user = false;
  MemoryCharge memory{};  // without its frames, which have their own
};

struct ThreadInfo {
  uint32_t id = 0;
  int32_t pid = -1;
  int32_t tid = -1;
  std::string comm;
  std::string process_comm;
};

// A branch of the LBR's, where that records a history and no stack.
struct BranchInfo {
  std::shared_ptr<const FrameInfo> from;  // the branch instruction
  std::shared_ptr<const FrameInfo> to;
  uint64_t flags = 0;  // perf_branch_entry's third word
};
using Branches = std::vector<BranchInfo>;  // youngest first

struct Sample {
  uint64_t time_ns = 0;
  uint64_t weight = 0;
  uint32_t cpu = kCpuUnknown;
  uint32_t event = 0;
  std::shared_ptr<const StackInfo> stack;
  std::shared_ptr<const ThreadInfo> thread;
  std::shared_ptr<const Branches> branches = nullptr;  // null: none
};

// One of several samples, as somebody has it who has a share in it: with a weight of its own.
struct PickedSample {
  uint32_t index = 0;
  uint64_t weight = 0;
};

// What it takes of a bound on samples, with its branches: 1 without any.
inline size_t RoomOf(const Sample& sample) {
  if (sample.branches == nullptr) return 1;
  return 2 + sample.branches->size() * sizeof(BranchInfo) / sizeof(Sample);
}

}  // namespace lbrd::daemon
