#include "daemon/cpu_time.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ctime>

namespace lbrd::daemon {
namespace {

// A child that works for a while, says so, and waits for its end.
class WorkingChild {
 public:
  WorkingChild() {
    int done[2];
    int end[2];
    EXPECT_EQ(pipe2(done, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(end, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      close(end[1]);
      timespec used{};
      while (used.tv_sec == 0 && used.tv_nsec < kWorkNs) {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
      }
      [[maybe_unused]] ssize_t size = write(done[1], &used, sizeof(used));
      char byte;
      size = read(end[0], &byte, 1);
      _exit(0);
    }
    close(done[1]);
    close(end[0]);
    end_ = end[1];
    EXPECT_EQ(read(done[0], &used_, sizeof(used_)), static_cast<ssize_t>(sizeof(used_)));
    close(done[0]);
  }
  ~WorkingChild() {
    close(end_);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  // By its own account, when it said so.
  absl::Duration used() const { return absl::DurationFromTimespec(used_); }

  static constexpr long kWorkNs = 30'000'000;

 private:
  pid_t pid_ = -1;
  int end_ = -1;
  timespec used_{};
};

TEST(CpuTimeTest, OfAnotherProcessIsWhatItSaysItself) {
  pid_t pid = -1;
  {
    const WorkingChild child;
    pid = child.pid();
    EXPECT_GE(child.used(), absl::Nanoseconds(WorkingChild::kWorkNs));
    EXPECT_GE(CpuTimeOf(pid), child.used());
  }
  EXPECT_EQ(CpuTimeOf(pid), absl::ZeroDuration()) << "it is gone";
}

TEST(CpuTimeTest, OfNobodyIsNone) {
  EXPECT_EQ(CpuTimeOf(-1), absl::ZeroDuration());
  EXPECT_EQ(CpuTimeOf(0), absl::ZeroDuration());
}

TEST(CpuTimeTest, OfThisProcessGrowsByWhatItDoes) {
  const absl::Duration before = CpuTime();
  while (CpuTime() == before) {
  }
  EXPECT_GT(CpuTime(), before);
}

}  // namespace
}  // namespace lbrd::daemon
