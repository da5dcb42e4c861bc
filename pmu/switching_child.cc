#include "pmu/switching_child.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"

// Each call of the chain must be a call: not inlined, not cloned, not made a jump.
#if defined(__clang__)
#define LBRD_CHAIN_CALL [[gnu::noinline]]
#else
#define LBRD_CHAIN_CALL [[gnu::noipa]]
#endif

namespace lbrd::pmu {
namespace {

// Where Linux's headers are older.
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

constexpr int kTurns = 32;          // at the bottom of the chain, before it is gone down again
constexpr int kWork = 40'000;       // additions a turn: some 50 us
constexpr long kSleepNs = 200'000;  // each sleep is a switch to another task and back
constexpr int64_t kLifetimeSec = 10;

volatile uint64_t sink = 0;

// Work is done after each call as well, so that none of them is the function's last act.
template <size_t kLevel>
LBRD_CHAIN_CALL uint64_t Call(uint64_t value) {
  const uint64_t result = Call<kLevel + 1>(value + kLevel);
  sink = sink + result;
  return result + 1;
}

template <>
LBRD_CHAIN_CALL uint64_t Call<SwitchingChild::kCalls>(uint64_t value) {
  for (int turn = 0; turn < kTurns; ++turn) {
    for (int i = 0; i < kWork; ++i) sink = sink + value;
    const timespec pause{0, kSleepNs};
    nanosleep(&pause, nullptr);
  }
  return value + 1;
}

template <size_t... kIndex>
std::array<uint64_t, sizeof...(kIndex)> ChainAddresses(std::index_sequence<kIndex...>) {
  return {reinterpret_cast<uint64_t>(&Call<kIndex + 1>)...};
}

int64_t Seconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

// Only system calls from here on: another thread may have held any lock at the fork.
[[noreturn]] void RunChild(int go, int cpu, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);
  prctl(PR_SET_NAME, "lbrd-probe");
  // All descriptors but the pipe: the events, rings and clients of the daemon are not to live on.
  if (dup2(go, 0) != 0) _exit(1);
  syscall(SYS_close_range, 1u, ~0u, 0u);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(cpu), &one);
  if (sched_setaffinity(0, sizeof(one), &one) != 0) _exit(1);
  char byte;
  if (read(0, &byte, 1) != 1) _exit(0);
  const int64_t end = Seconds() + kLifetimeSec;
  while (Seconds() < end) sink = sink + Call<1>(1);
  _exit(0);
}

class ForkedChild final : public SwitchingChild {
 public:
  ForkedChild(pid_t pid, int cpu, int go) : pid_(pid), cpu_(cpu), go_(go) {}
  ~ForkedChild() override {
    if (go_ >= 0) close(go_);
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  int32_t pid() const override { return pid_; }
  int32_t cpu() const override { return cpu_; }
  std::span<const uint64_t> chain() const override { return chain_; }
  absl::Status Release() override {
    const char byte = 0;
    const bool sent = write(go_, &byte, 1) == 1;  // the daemon ignores SIGPIPE
    const int error = errno;
    close(std::exchange(go_, -1));
    return sent ? absl::OkStatus()
                : absl::ErrnoToStatus(error, "the experiment's child process has died");
  }

 private:
  const pid_t pid_;
  const int cpu_;
  int go_;
  const std::array<uint64_t, kCalls> chain_ = ChainAddresses(std::make_index_sequence<kCalls>());
};

}  // namespace

absl::StatusOr<std::unique_ptr<SwitchingChild>> ForkSwitchingChild() {
  const int cpu = sched_getcpu();
  if (cpu < 0) return absl::ErrnoToStatus(errno, "cannot tell which CPU this is");
  int go[2];
  if (pipe2(go, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
  const pid_t parent = getpid();
  // Not fork(): handlers of libraries are not for a child that runs none of them.
  const pid_t pid = _Fork();
  if (pid == 0) RunChild(go[0], cpu, parent);
  const int error = errno;
  close(go[0]);
  if (pid < 0) {
    close(go[1]);
    return absl::ErrnoToStatus(error, "cannot fork a child process for the LBR experiment");
  }
  return std::make_unique<ForkedChild>(pid, cpu, go[1]);
}

}  // namespace lbrd::pmu
