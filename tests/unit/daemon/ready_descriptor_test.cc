#include "daemon/ready_descriptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace lbrd::daemon {
namespace {

TEST(ReadyDescriptorTest, GetsOneNewlineAndIsClosed) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  ReadyDescriptor ready(ends[1]);
  ready.Tell();
  ready.Tell();
  char text[4];
  EXPECT_EQ(read(ends[0], text, sizeof(text)), 1);
  EXPECT_EQ(text[0], '\n');
  EXPECT_EQ(read(ends[0], text, sizeof(text)), 0) << "closed: its reader sees the end";
  close(ends[0]);
}

TEST(ReadyDescriptorTest, WithoutOneNobodyIsTold) { ReadyDescriptor().Tell(); }

}  // namespace
}  // namespace lbrd::daemon
