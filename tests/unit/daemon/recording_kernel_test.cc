#include "daemon/recording_kernel.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace lbrd::daemon {
namespace {

std::string Path() {
  return testing::TempDir() + "/recording_kernel_test" + std::to_string(getpid());
}

TEST(RecordingKernel, GivesTheWholeFileOnceReadAheadAndThenReadAgain) {
  const std::string text(9'000'000, 'x');
  std::ofstream(Path()) << text;
  RecordingKernel kernel(Path());
  absl::StatusOr<std::string> read = kernel.ReadFile(Path(), 1 << 30);
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(*read == text);
  std::ofstream(Path()) << "new";
  read = kernel.ReadFile(Path(), 1 << 30);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(*read, "new");
}

TEST(RecordingKernel, KeepsToTheLimit) {
  std::ofstream(Path()) << "12345";
  RecordingKernel kernel(Path());
  EXPECT_EQ(kernel.ReadFile(Path(), 4).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(RecordingKernel, SaysWhyThereIsNone) {
  RecordingKernel kernel("/no/such/file");
  EXPECT_EQ(kernel.ReadFile("/no/such/file", 4).status().code(), absl::StatusCode::kNotFound);
}

TEST(RecordingKernel, OtherFilesAreReadAsEver) {
  RecordingKernel kernel("/dev/zero");  // never ends: it must be given up
  EXPECT_TRUE(kernel.ReadFile("/proc/self/comm", 100).ok());
}

}  // namespace
}  // namespace lbrd::daemon
