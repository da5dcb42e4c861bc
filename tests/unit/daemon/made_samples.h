// Finished samples, made up.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/sample.h"

namespace lbrd::daemon {

inline std::shared_ptr<const BinaryInfo> MakeBinary(uint32_t id, std::string path = "/bin/x") {
  return std::make_shared<BinaryInfo>(BinaryInfo{id, std::move(path), "ab12", ""});
}

inline std::shared_ptr<const FrameInfo> MakeFrame(
    uint32_t id, std::string symbol, std::shared_ptr<const BinaryInfo> binary = nullptr,
    unwind::FrameSource source = unwind::FrameSource::kLbr) {
  auto frame = std::make_shared<FrameInfo>();
  frame->id = id;
  frame->ip = 0x1000 + id;
  frame->source = source;
  frame->symbol = std::move(symbol);
  frame->binary = std::move(binary);
  return frame;
}

inline std::shared_ptr<const StackInfo> MakeStack(
    uint64_t id, std::vector<std::shared_ptr<const FrameInfo>> frames,
    unwind::Verdict verdict = {unwind::StackState::kComplete, unwind::StackReason::kNone},
    bool has_user = true) {
  auto stack = std::make_shared<StackInfo>();
  stack->id = id;
  stack->frames = std::move(frames);
  stack->verdict = verdict;
  stack->has_user = has_user;
  return stack;
}

inline std::shared_ptr<const ThreadInfo> MakeThread(uint32_t id, std::string comm = "thread") {
  return std::make_shared<ThreadInfo>(
      ThreadInfo{id, 10, static_cast<int32_t>(id), std::move(comm), "process"});
}

inline Sample MakeSample(uint64_t time, std::shared_ptr<const StackInfo> stack = MakeStack(1, {}),
                         std::shared_ptr<const ThreadInfo> thread = MakeThread(1)) {
  return {.time_ns = time,
          .weight = 1,
          .cpu = 0,
          .event = 0,
          .stack = std::move(stack),
          .thread = std::move(thread)};
}

}  // namespace lbrd::daemon
