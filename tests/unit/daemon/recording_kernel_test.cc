#include "daemon/recording_kernel.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace lbrd::daemon {
namespace {

class RecordingKernelTest : public testing::Test {
 protected:
  ~RecordingKernelTest() override { unlink(path_.c_str()); }
  const std::string path_ =
      testing::TempDir() + "/recording_kernel_test" + std::to_string(getpid());
};

TEST_F(RecordingKernelTest, GivesTheWholeFileOnceReadAheadAndThenReadAgain) {
  const std::string text(9'000'000, 'x');
  std::ofstream(path_) << text;
  RecordingKernel kernel(path_);
  absl::StatusOr<std::string> read = kernel.ReadFile(path_, 1 << 30);
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(*read == text);
  std::ofstream(path_) << "new";
  read = kernel.ReadFile(path_, 1 << 30);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(*read, "new");
}

TEST_F(RecordingKernelTest, KeepsToTheLimit) {
  std::ofstream(path_) << "12345";
  RecordingKernel kernel(path_);
  EXPECT_EQ(kernel.ReadFile(path_, 4).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(RecordingKernelTest, SaysWhyThereIsNone) {
  RecordingKernel kernel("/no/such/file");
  EXPECT_EQ(kernel.ReadFile("/no/such/file", 4).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(RecordingKernelTest, OtherFilesAreReadAsEver) {
  RecordingKernel kernel("/dev/zero");  // never ends: it must be given up
  EXPECT_TRUE(kernel.ReadFile("/proc/self/comm", 100).ok());
}

}  // namespace
}  // namespace lbrd::daemon
