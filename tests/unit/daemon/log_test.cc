#include "daemon/log.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

TEST(LogTest, TheJournalGetsThePriorityAndATerminalTheName) {
  EXPECT_EQ(FormatLogLine(LogLevel::kError, "it broke", true), "<3>it broke\n");
  EXPECT_EQ(FormatLogLine(LogLevel::kDebug, "it works", true), "<7>it works\n");
  EXPECT_EQ(FormatLogLine(LogLevel::kError, "it broke", false), "lbrd: it broke\n");
}

TEST(LogTest, ALineStaysOne) {
  // Such a line could otherwise pretend to be another, of a higher priority.
  EXPECT_EQ(FormatLogLine(LogLevel::kInfo, "name 'a\n<0>b\x1b[2J\x7f' é", true),
            "<6>name 'a?<0>b?[2J?' é\n");
}

TEST(LogTest, TheJournalIsKnownByItsInode) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  struct stat status;
  ASSERT_EQ(fstat(pipe_fds[1], &status), 0);
  const std::string its = absl::StrCat(status.st_dev, ":", status.st_ino);
  EXPECT_TRUE(IsJournal(pipe_fds[1], its.c_str()));
  EXPECT_FALSE(IsJournal(pipe_fds[1], absl::StrCat(its, "0").c_str()));
  EXPECT_FALSE(IsJournal(pipe_fds[1], nullptr));
  EXPECT_FALSE(IsJournal(-1, its.c_str()));
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

}  // namespace
}  // namespace lbrd::daemon
