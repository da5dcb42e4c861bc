#include "daemon/program_run.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace lbrd::daemon {
namespace {

ProgramEnd Shell(const std::string& script, absl::Duration limit = absl::Seconds(60),
                 std::vector<std::string> environment = {}) {
  const absl::StatusOr<ProgramEnd> end = RunProgram({.path = "/bin/sh",
                                                     .arguments = {"-c", script},
                                                     .environment = std::move(environment),
                                                     .time_limit = limit,
                                                     .max_file_bytes = 1 << 20});
  EXPECT_TRUE(end.ok()) << end.status();
  return end.ok() ? *end : ProgramEnd();
}

TEST(ProgramRunTest, TellsWhatItSaidAndHowItEnded) {
  const ProgramEnd good = Shell("echo out; echo err >&2");
  EXPECT_TRUE(good.Succeeded());
  EXPECT_EQ(good.out, "out\n");
  EXPECT_EQ(good.err, "err\n");
  const ProgramEnd bad = Shell("exit 3");
  EXPECT_FALSE(bad.Succeeded());
  EXPECT_TRUE(bad.in_time);
  EXPECT_EQ(WEXITSTATUS(bad.wait_status), 3);
  const ProgramEnd killed = Shell("kill -TERM $$");
  EXPECT_FALSE(killed.Succeeded());
  EXPECT_TRUE(WIFSIGNALED(killed.wait_status));
}

TEST(ProgramRunTest, ArgumentsAreNotInterpreted) {
  const auto end = RunProgram({.path = "/bin/echo",
                               .arguments = {"$(id)", "a  b", "; ls", "*"},
                               .time_limit = absl::Seconds(60),
                               .max_file_bytes = 1 << 20});
  ASSERT_TRUE(end.ok());
  EXPECT_EQ(end->out, "$(id) a  b ; ls *\n");
}

TEST(ProgramRunTest, IsEndedWithAllThatItStartedWhenItsTimeIsOver) {
  const absl::Time begin = absl::Now();
  const ProgramEnd end = Shell("sleep 100 & echo $!; wait", absl::Milliseconds(300));
  EXPECT_FALSE(end.in_time);
  EXPECT_FALSE(end.Succeeded());
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(300));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(50));
  int child = 0;
  ASSERT_TRUE(absl::SimpleAtoi(end.out, &child)) << end.out;
  // It is nobody's child any more, so somebody else has to hear of its end first.
  const auto ended = [&] {
    std::error_code error;
    return kill(child, 0) != 0 ||
           std::filesystem::read_symlink(absl::StrCat("/proc/", child, "/exe"), error).empty();
  };
  for (int i = 0; i < 1000 && !ended(); ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_TRUE(ended());
}

TEST(ProgramRunTest, WhatItLeavesBehindIsNotWaitedFor) {
  const absl::Time begin = absl::Now();
  // The sleeper keeps both pipes open.
  EXPECT_TRUE(Shell("sleep 100 & exit 0").Succeeded());
  EXPECT_LT(absl::Now() - begin, absl::Seconds(50));
}

TEST(ProgramRunTest, OutputWithoutEndIsCut) {
  const ProgramEnd end = Shell("yes & yes >&2", absl::Milliseconds(300));
  EXPECT_FALSE(end.in_time);
  EXPECT_EQ(end.out.size(), kMaxProgramOutput);
  EXPECT_EQ(end.err.size(), kMaxProgramOutput);
}

TEST(ProgramRunTest, GetsNothingOfOursButTheEnvironment) {
  setenv("LBRD_TEST_KEPT", "kept", 1);
  setenv("LBRD_TEST_CHANGED", "before", 1);
  setenv("LBRD_TEST_GONE", "before", 1);
  EXPECT_EQ(Shell("echo $LBRD_TEST_KEPT $LBRD_TEST_CHANGED ${LBRD_TEST_GONE-gone}",
                  absl::Seconds(60), {"LBRD_TEST_CHANGED=after", "LBRD_TEST_GONE"})
                .out,
            "kept after gone\n");
  // The descriptor is one that a program inherits.
  const int inherited = dup(STDERR_FILENO);
  EXPECT_EQ(Shell("cd /proc/self/fd; for fd in 3 4 5 6 7 8 9 " + absl::StrCat(inherited) +
                  "; do test -e $fd && readlink $fd; done; cat")
                .out,
            "");
  close(inherited);
}

TEST(ProgramRunTest, HearsSignalsAsAnyProgram) {
  const auto pipe_before = signal(SIGPIPE, SIG_IGN);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  // Not by a shell, which would see to that itself.
  const auto end = RunProgram({.path = "/bin/grep",
                               .arguments = {"-E", "^Sig(Blk|Ign):", "/proc/self/status"},
                               .time_limit = absl::Seconds(60),
                               .max_file_bytes = 1 << 20});
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  signal(SIGPIPE, pipe_before);
  ASSERT_TRUE(end.ok());
  const std::vector<std::string> words = absl::StrSplit(end->out, absl::ByAnyChar("\t\n"));
  ASSERT_GE(words.size(), 4u) << end->out;
  EXPECT_EQ(words[1], "0000000000000000") << "blocked";
  uint64_t ignored = 0;
  ASSERT_TRUE(absl::SimpleHexAtoi(words[3], &ignored));
  EXPECT_EQ(ignored & (uint64_t{1} << (SIGPIPE - 1)), 0u);
}

TEST(ProgramRunTest, MakesNoLargeFiles) {
  const std::string path = absl::StrCat(testing::TempDir(), "/program_run", getpid());
  EXPECT_FALSE(Shell(absl::StrCat("exec head -c 2000000 /dev/zero >", path)).Succeeded());
  EXPECT_LE(std::filesystem::file_size(path), 1u << 20);
  std::filesystem::remove(path);
}

TEST(ProgramRunTest, OneThatCannotBeExecutedFails) {
  const auto end =
      RunProgram({.path = "/no/such/program", .arguments = {}, .time_limit = absl::Seconds(60)});
  ASSERT_TRUE(end.ok());
  EXPECT_FALSE(end->Succeeded());
  EXPECT_EQ(WEXITSTATUS(end->wait_status), 127);
}

TEST(ProgramRunTest, SeveralThreadsRunTheirs) {
  std::vector<std::thread> threads;
  std::vector<std::string> said(8);
  for (size_t i = 0; i < said.size(); ++i) {
    threads.emplace_back([&said, i] { said[i] = Shell(absl::StrCat("echo ", i)).out; });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < said.size(); ++i) EXPECT_EQ(said[i], absl::StrCat(i, "\n"));
}

TEST(FindProgramTest, LooksInAbsoluteFolders) {
  EXPECT_EQ(FindProgram("sh", "/nowhere::/bin:/usr/bin"), "/bin/sh");
  EXPECT_EQ(FindProgram("sh", ""), "");
  EXPECT_EQ(FindProgram("no such program", "/bin"), "");
  // /bin by another way.
  ASSERT_EQ(chdir("/"), 0);
  EXPECT_EQ(FindProgram("sh", "bin:./bin"), "");
}

}  // namespace
}  // namespace lbrd::daemon
