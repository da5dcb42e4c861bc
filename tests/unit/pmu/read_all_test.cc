#include "pmu/read_all.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"

namespace lbrd::pmu {
namespace {

constexpr uint64_t kLimit = 1 << 20;

// Never ends.
int OpenZeros() { return open("/dev/zero", O_RDONLY | O_CLOEXEC); }

TEST(ReadAllTest, KeepsToTheLimit) {
  EXPECT_EQ(ReadAll(OpenZeros(), "zeros", kLimit).status(),
            absl::ResourceExhaustedError("zeros is larger than 1048576 bytes"));
}

TEST(ReadAllTest, StopsWhenItIsToldTo) {
  std::atomic<bool> stop = false;
  EXPECT_EQ(ReadAll(OpenZeros(), "zeros", kLimit, &stop).status().code(),
            absl::StatusCode::kResourceExhausted);
  stop = true;
  EXPECT_EQ(ReadAll(OpenZeros(), "zeros", kLimit, &stop).status().code(),
            absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace lbrd::pmu
