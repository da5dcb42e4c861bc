// The life of events on the real kernel: children are forked, followed, touch memory, exit or are
// killed, while the events that follow them are born, folded and released, from several threads.
//
// Each child waits until it is followed, so that a second event, opened beside ours and never
// touched by the code under test, counts exactly the same page faults: what is counted by a tree
// whose children were let end must be the sum of those, to the fault.
#include <dirent.h>
#include <gtest/gtest.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "pmu/event.h"
#include "pmu/linux_kernel.h"

namespace lbrd::pmu {
namespace {

constexpr size_t kPages = 64;

perf_event_attr SoftwareEvent(uint64_t config) {
  perf_event_attr attr{};
  attr.size = sizeof(attr);
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = config;
  attr.disabled = 1;
  attr.exclude_kernel = 1;
  attr.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
  return attr;
}

size_t OpenDescriptors() {
  DIR* folder = opendir("/proc/self/fd");
  size_t count = 0;
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

// A process that stops, touches `pages` of fresh memory, and exits (or waits to be killed). It has
// stopped when the constructor returns, so it does nothing more before Go().
class Child {
 public:
  Child(size_t pages, bool lingers) {
    pid_ = fork();
    if (pid_ == 0) {
      raise(SIGSTOP);
      auto* memory = static_cast<volatile char*>(
          mmap(nullptr, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      for (size_t page = 0; page < pages; ++page) memory[page * 4096] = 1;
      while (lingers) pause();
      _exit(0);
    }
    if (pid_ < 0 || waitpid(pid_, nullptr, WUNTRACED) != pid_) abort();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { End(SIGKILL); }
  pid_t pid() const { return pid_; }
  void Go() const { kill(pid_, SIGCONT); }
  // Waits for its end; signal 0: for the one that it comes to by itself.
  void End(int signal) {
    if (pid_ < 0) return;
    if (signal != 0) kill(pid_, signal);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_;
};

// The oracle: an event that nothing of ours touches.
class PlainEvent {
 public:
  PlainEvent(const perf_event_attr& attr, pid_t pid)
      : fd_(static_cast<int>(
            syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC))) {
    ioctl(fd_, PERF_EVENT_IOC_ENABLE, 0);
  }
  PlainEvent(const PlainEvent&) = delete;
  PlainEvent& operator=(const PlainEvent&) = delete;
  ~PlainEvent() { close(fd_); }
  uint64_t Read() const {
    uint64_t words[3] = {};
    return read(fd_, words, sizeof(words)) == sizeof(words) ? words[0] : UINT64_MAX;
  }

 private:
  const int fd_;
};

struct Figures {
  std::atomic<uint64_t> forks = 0;
  std::atomic<uint64_t> trees = 0;
  std::atomic<uint64_t> exact = 0;
  std::atomic<uint64_t> cut = 0;
  std::atomic<uint64_t> steps = 0;
  std::atomic<uint64_t> faults = 0;
};

// One tree from its root to its release, with `children` followed processes. A cut tree is released
// by another thread while its children run; a whole one, after they have exited.
void OneTree(LinuxKernel& kernel, std::mt19937& random, Figures& figures) {
  const perf_event_attr attr = SoftwareEvent(PERF_COUNT_SW_PAGE_FAULTS);
  const auto root = Event::MakeRoot(kernel);
  const auto times = Event::MakeRoot(kernel);
  ASSERT_TRUE(root->Enable().ok());
  ASSERT_TRUE(times->Enable().ok());
  const bool cut = random() % 3 == 0;
  const size_t count = 1 + random() % 6;
  std::vector<bool> lingers;
  std::vector<std::unique_ptr<Child>> children;
  std::vector<std::unique_ptr<PlainEvent>> oracles;
  std::vector<std::shared_ptr<Event>> events;
  for (size_t i = 0; i < count; ++i) {
    lingers.push_back(random() % 4 == 0);
    children.push_back(std::make_unique<Child>(1 + random() % kPages, lingers[i]));
    int error = 0;
    events.push_back(Event::Inherit(root, attr, {.pid = children[i]->pid()}, &error));
    ASSERT_NE(events[i], nullptr) << strerror(error);
    oracles.push_back(std::make_unique<PlainEvent>(attr, children[i]->pid()));
    for (const uint64_t clock : {PERF_COUNT_SW_CPU_CLOCK, PERF_COUNT_SW_TASK_CLOCK}) {
      ASSERT_NE(Event::Inherit(times, SoftwareEvent(clock), {.pid = children[i]->pid()}, &error),
                nullptr)
          << strerror(error);
    }
    figures.steps += 4;
  }
  figures.forks += count;
  for (const auto& child : children) child->Go();
  std::thread release;
  if (cut) release = std::thread([&root] { root->Release(); });
  uint64_t seen = 0;
  for (size_t i = 0; i < count; ++i) {
    // Some are released when their process is gone, some before, some by their parent only.
    const uint32_t when = random() % 3;
    if (when == 0 && cut) events[i]->Release();
    children[i]->End(lingers[i] || random() % 4 == 0 ? SIGKILL : 0);
    if (when == 1) events[i]->Release();
    const uint64_t now = root->Read().value;
    EXPECT_GE(now, seen);
    seen = now;
    figures.steps += 3;
  }
  if (release.joinable()) release.join();
  root->Release();
  times->Release();
  uint64_t truth = 0;
  for (const auto& oracle : oracles) truth += oracle->Read();
  const EventCounts counts = root->Read();
  const EventCounts clocks = times->Read();
  if (cut) {
    EXPECT_LE(counts.value, truth);
    ++figures.cut;
  } else {
    EXPECT_EQ(counts.value, truth);
    ++figures.exact;
  }
  EXPECT_EQ(root->Read(), counts);  // last is last
  EXPECT_LE(counts.time_running_ns, counts.time_enabled_ns);
  EXPECT_LE(clocks.time_running_ns, clocks.time_enabled_ns);
  EXPECT_EQ(root->children() + times->children(), 0u);
  for (const auto& event : events) EXPECT_TRUE(event->hung_up());
  figures.faults += truth;
  ++figures.trees;
}

TEST(EventStorm, KeepsCountsAndNoDescriptorWhileProcessesComeAndGo) {
  constexpr int kThreads = 3;
  constexpr uint64_t kSteps = 10'000;
  const size_t before = OpenDescriptors();
  LinuxKernel kernel;
  Figures figures;
  std::vector<std::thread> threads;
  for (uint32_t seed = 0; seed < kThreads; ++seed) {
    threads.emplace_back([&kernel, &figures, seed] {
      std::mt19937 random(seed);
      while (figures.steps < kSteps && !::testing::Test::HasFailure()) {
        OneTree(kernel, random, figures);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(OpenDescriptors(), before);
  EXPECT_GT(figures.exact, 100u);
  EXPECT_GT(figures.cut, 100u);
  EXPECT_GT(figures.faults, 1000u);
  std::printf("%llu steps, %llu forks, %llu trees (%llu exact, %llu cut), %llu page faults\n",
              static_cast<unsigned long long>(figures.steps),
              static_cast<unsigned long long>(figures.forks),
              static_cast<unsigned long long>(figures.trees),
              static_cast<unsigned long long>(figures.exact),
              static_cast<unsigned long long>(figures.cut),
              static_cast<unsigned long long>(figures.faults));
}

// What the kernel itself inherits is in the descriptor's counts, and no child of ours.
TEST(EventStorm, CountsWhatTheKernelInherited) {
  LinuxKernel kernel;
  perf_event_attr attr = SoftwareEvent(PERF_COUNT_SW_PAGE_FAULTS);
  attr.inherit = 1;
  int error = 0;
  const auto parent = Event::Open(kernel, attr, {.pid = 0}, &error);
  ASSERT_NE(parent, nullptr) << strerror(error);
  ASSERT_TRUE(parent->Enable().ok());
  const uint64_t own = parent->Read().value;
  for (int i = 0; i < 10; ++i) {
    Child child(kPages, false);
    child.Go();
    child.End(0);
  }
  parent->Release();
  EXPECT_GE(parent->Read().value, own + 10 * kPages);
  EXPECT_EQ(parent->children(), 0u);
}

}  // namespace
}  // namespace lbrd::pmu

int main(int argc, char** argv) {
  lbrd::pmu::LinuxKernel kernel;
  int error = 0;
  if (lbrd::pmu::Event::Open(kernel, lbrd::pmu::SoftwareEvent(PERF_COUNT_SW_PAGE_FAULTS),
                             {.pid = 0}, &error) == nullptr) {
    std::printf("SKIPPED: this machine lets us open no perf event: %s\n", strerror(error));
    return 77;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
