// The functions where the time goes, as a table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/profile_index.h"

namespace lbrd::client {

struct HotFunctionsOptions {
  enum class Order { kSelf, kTotal };
  uint32_t event = 0;
  Order order = Order::kSelf;
  size_t limit = 40;  // rows; 0: all
};

// One function of one binary. "Self" is where it was itself running, "total" where it was on the
// stack, counted once a stack however often it recurs there.
struct HotFunction {
  uint64_t self = 0;  // weight
  uint64_t total = 0;
  uint64_t self_samples = 0;
  uint64_t total_samples = 0;
  double self_percent = 0;
  double total_percent = 0;
  std::string symbol;  // ProfileIndex::FrameLabel()
  std::string binary;  // basename; empty: in no mapping
  // The one most of its weight comes from.
  v1::FrameSource source = v1::FRAME_SOURCE_UNSPECIFIED;
};

struct HotFunctionList {
  std::vector<HotFunction> rows;  // hottest first; ties by name
  HotFunctionsOptions::Order order = HotFunctionsOptions::Order::kSelf;
  std::string event;
  uint64_t weight = 0;              // of all samples of the event
  uint64_t samples = 0;             // of the event
  uint64_t incomplete_samples = 0;  // of those, with stacks not known to reach the thread's start
  size_t functions_not_shown = 0;
  uint64_t self_not_shown = 0;  // their weight
};

// kInvalidArgument: no such event; kNotFound: it has no samples.
absl::StatusOr<HotFunctionList> HotFunctions(const ProfileIndex& index,
                                             const HotFunctionsOptions& options);

// A table of at most `width` cells a line (at least 40), with a header and a footer.
std::string RenderHotFunctions(const HotFunctionList& list, size_t width);

}  // namespace lbrd::client
