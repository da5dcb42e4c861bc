// Hardware breakpoints by perf_event_open, on a variable that nobody touches, and sleeping tasks to
// put them on.
#pragma once

#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace lbrd::pmu {

// Opens a disabled breakpoint event: a descriptor, or -errno. pid -1: whatever runs on the CPU;
// cpu -1: wherever the task runs. `kind` picks one of those that x86 has, of data and of code; they
// share their slots.
inline int OpenBreakpoint(int32_t pid, int32_t cpu, uint32_t kind) {
  alignas(8) static const volatile uint64_t untouched = 0;
  perf_event_attr attr{};
  attr.size = sizeof(attr);
  attr.type = PERF_TYPE_BREAKPOINT;
  attr.bp_type = kind % 3 == 0   ? HW_BREAKPOINT_X
                 : kind % 3 == 1 ? HW_BREAKPOINT_W
                                 : HW_BREAKPOINT_RW;
  attr.bp_addr = reinterpret_cast<uint64_t>(&untouched);
  attr.bp_len = kind % 3 == 0 ? sizeof(long) : uint64_t{1} << (kind / 3 % 4);
  attr.sample_period = 1;
  attr.disabled = 1;
  const long fd = syscall(SYS_perf_event_open, &attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  return fd < 0 ? -errno : static_cast<int>(fd);
}

class SleepingThread {
 public:
  SleepingThread() : thread_([this] { Sleep(); }) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return tid_ != 0; });
  }
  SleepingThread(const SleepingThread&) = delete;
  SleepingThread& operator=(const SleepingThread&) = delete;
  ~SleepingThread() {
    {
      std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  int32_t tid() const { return tid_; }

 private:
  void Sleep() {
    std::unique_lock lock(mutex_);
    tid_ = static_cast<int32_t>(syscall(SYS_gettid));
    changed_.notify_all();
    changed_.wait(lock, [this] { return over_; });
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  int32_t tid_ = 0;
  bool over_ = false;
  std::thread thread_;
};

class SleepingProcess {
 public:
  SleepingProcess() {
    int ready[2];
    if (pipe(ready) != 0) return;
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ == 0) {
      // It must not keep the parent's events open. Its end of the pipe goes too: that is the
      // signal.
      close_range(3, ~0u, 0);
      while (getppid() == parent) sleep(1);  // does not outlive a test that crashed
      _exit(0);
    }
    close(ready[1]);
    char byte;
    while (read(ready[0], &byte, 1) < 0 && errno == EINTR) {
    }
    close(ready[0]);
  }
  SleepingProcess(const SleepingProcess&) = delete;
  SleepingProcess& operator=(const SleepingProcess&) = delete;
  ~SleepingProcess() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  int32_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

}  // namespace lbrd::pmu
