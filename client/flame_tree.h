// A profile's stacks merged into one tree: what a flame graph draws.
//
// The root stands for all samples; below it come the processes, merged by name, then for a stack
// that is not complete a node that says so, then the frames, merged by label (kernel and user
// code apart). Children are sorted, so equal profiles give equal trees.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/profile_index.h"

namespace lbrd::client {

enum class FlameKind : uint8_t {
  kAll,
  kProcess,
  kIncomplete,
  kKernel,
  kSampledIp,
  kLbr,
  kKernelDeferred,
  kDwarf,
  kFramePointer,
  kGuess,
  kOtherSource,
};

struct FlameNode {
  std::string label;                 // printable
  std::string binaries;              // basename, or "libfoo.so and 2 more"; empty: none
  FlameKind kind = FlameKind::kAll;  // of merged frames: what most of the weight is
  uint64_t value = 0;
  uint64_t samples = 0;
  // Index of the first child and number of children, which stand together.
  uint32_t first_child = 0;
  uint32_t children = 0;
};

struct FlameTree {
  // Frames older than this are drawn; younger ones only count for the frames they were called from.
  static constexpr size_t kMaxDepth = 1024;

  std::vector<FlameNode> nodes;  // the root first; never empty
  uint64_t samples = 0;
  uint64_t complete_samples = 0;  // with stacks that reach their thread's start
  uint64_t too_deep_samples = 0;  // with frames past kMaxDepth
};

// kInvalidArgument: no such event; kNotFound: it has no samples.
absl::StatusOr<FlameTree> BuildFlameTree(const ProfileIndex& index, uint32_t event);

}  // namespace lbrd::client
