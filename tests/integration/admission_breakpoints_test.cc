// The kernel as the oracle of admission: hardware breakpoints are the one scarce resource for which
// it says yes or no itself. Random breakpoints are opened and closed on CPUs, on threads of this
// process and on child processes, on all CPUs of a task or on one, and asked of Admission at the
// same time; the answers must be the same every time, and everything must be free in the end.
//
// What can be compared, depends on who else is at it:
//   - one step at a time, from several threads: every answer is the kernel's, whatever the targets;
//   - at the same time, each thread with tasks of its own, CPUs' uses standing still: the same,
//     since one task's answers do not depend on other tasks;
//   - at the same time, with CPUs' uses coming and going: a use is held here before the kernel is
//     asked and until it has closed, so the kernel never holds more than Admission does: what is
//     granted here must open there.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "breakpoint_event.h"
#include "pmu/admission.h"
#include "pmu/cpu_list.h"
#include "pmu/linux_kernel.h"

namespace lbrd::pmu {
namespace {

struct Machine {
  std::vector<int32_t> online;
  int32_t possible = 0;
  int slots = 0;  // breakpoints of a CPU
};
Machine machine;

std::vector<int32_t> Cpus(const std::string& which) {
  LinuxKernel kernel;
  const auto text = kernel.ReadFile("/sys/devices/system/cpu/" + which, 65536);
  const auto cpus = text.ok() ? ParseCpuList(*text) : text.status();
  return cpus.ok() ? *cpus : std::vector<int32_t>{};
}

// How many breakpoints can be opened there now; negative: -errno of the first.
int FreeSlots(int32_t pid, int32_t cpu) {
  std::vector<int> fds;
  int fd = 0;
  while ((fd = OpenBreakpoint(pid, cpu, 1)) >= 0) fds.push_back(fd);
  for (const int open : fds) close(open);
  return fds.empty() && fd != -ENOSPC ? fd : static_cast<int>(fds.size());
}

// A task that breakpoints are put on, living or dead.
struct Task {
  TaskId id;
  std::shared_ptr<SleepingThread> thread;
  std::shared_ptr<SleepingProcess> process;
};

uint64_t NextStart() {
  static std::atomic<uint64_t> next = 1;
  return next++;
}

Task NewThread() {
  Task task{.thread = std::make_shared<SleepingThread>()};
  task.id = {task.thread->tid(), NextStart()};
  return task;
}

Task NewProcess() {
  Task task{.process = std::make_shared<SleepingProcess>()};
  task.id = {task.process->pid(), NextStart()};
  return task;
}

// A use that both have granted. The kernel's goes first: it never holds what Admission does not.
class OpenUse {
 public:
  OpenUse(Admission::Grant grant, std::vector<int> fds)
      : grant_(std::move(grant)), fds_(std::move(fds)) {}
  OpenUse(OpenUse&&) = default;
  OpenUse& operator=(OpenUse&& other) noexcept {
    Close();
    grant_ = std::move(other.grant_);
    fds_ = std::move(other.fds_);
    return *this;
  }
  ~OpenUse() { Close(); }

 private:
  void Close() {
    for (const int fd : fds_) close(fd);
    fds_.clear();
  }
  Admission::Grant grant_;
  std::vector<int> fds_;
};

struct Target {
  std::optional<TaskId> task;
  int32_t cpu = kEveryCpu;
};

// Opens it in the kernel; 0 or the errno. A use of every CPU is an event on each.
int OpenInKernel(const Target& target, uint32_t kind, std::vector<int>* fds) {
  const int32_t pid = target.task.has_value() ? target.task->tid : -1;
  std::vector<int32_t> cpus = {target.cpu};
  if (!target.task.has_value() && target.cpu == kEveryCpu) cpus = machine.online;
  for (const int32_t cpu : cpus) {
    const int fd = OpenBreakpoint(pid, cpu, kind);
    if (fd < 0) {
      for (const int open : *fds) close(open);
      fds->clear();
      return -fd;
    }
    fds->push_back(fd);
  }
  return 0;
}

struct Tally {
  std::atomic<int> granted = 0;
  std::atomic<int> refused = 0;
  std::atomic<int> different = 0;
};

enum class Compare { kBothWays, kGrantsOnly };

// One step: a use given back, or asked for in both places and compared.
void Step(Admission& admission, std::mt19937& random, const Target& target,
          std::vector<OpenUse>* held, Compare compare, Tally* tally) {
  if (!held->empty() && random() % 100 < 45) {
    std::swap((*held)[random() % held->size()], held->back());
    held->pop_back();
    return;
  }
  auto grant = admission.Admit({.task = target.task, .cpu = target.cpu, .holder = "oracle"});
  if (!grant.ok() && compare == Compare::kGrantsOnly) {
    ++tally->refused;
    return;
  }
  std::vector<int> fds;
  const int error = OpenInKernel(target, random(), &fds);
  if (grant.ok() != (error == 0) || (error != 0 && error != ENOSPC)) {
    if (tally->different++ < 5)
      std::fprintf(stderr, "task %d cpu %d: the kernel says %s, admission says %s\n",
                   target.task.has_value() ? target.task->tid : -1, target.cpu,
                   error == 0 ? "yes" : strerror(error), grant.status().ToString().c_str());
  }
  grant.ok() ? ++tally->granted : ++tally->refused;
  if (grant.ok()) {
    held->emplace_back(*std::move(grant), std::move(fds));
  } else {
    for (const int fd : fds) close(fd);
  }
}

int32_t RandomCpu(std::mt19937& random) {
  const size_t i = random() % (machine.online.size() + 1);
  return i == machine.online.size() ? kEveryCpu : machine.online[i];
}

void ExpectAllFree(const Admission& admission, const std::vector<Task>& tasks) {
  const Admission::Figures figures = admission.figures();
  EXPECT_EQ(figures.task_uses + figures.tasks + figures.cpu_uses, 0u);
  EXPECT_TRUE(figures.counters_zero);
  for (const int32_t cpu : machine.online) EXPECT_EQ(FreeSlots(-1, cpu), machine.slots);
  for (const Task& task : tasks) EXPECT_EQ(FreeSlots(task.id.tid, -1), machine.slots);
}

AdmissionLimits Limits() { return {.cpus = machine.possible, .breakpoints = machine.slots}; }

void ExpectAgreement(const Tally& tally, int at_least) {
  std::printf("granted %d, refused %d, different %d\n", tally.granted.load(), tally.refused.load(),
              tally.different.load());
  EXPECT_EQ(tally.different, 0);
  EXPECT_GT(tally.granted, at_least);
  EXPECT_GT(tally.refused, at_least / 10);
}

TEST(AdmissionOracle, AgreesStepByStepFromSeveralThreads) {
  constexpr int kThreads = 4;
  constexpr int kSteps = 15'000;
  Admission admission(Limits());
  std::vector<Task> tasks;
  for (int i = 0; i < 2; ++i) tasks.push_back(NewThread());
  for (int i = 0; i < 3; ++i) tasks.push_back(NewProcess());
  std::mutex step;  // one at a time, and the tasks with it
  Tally tally;
  std::vector<std::thread> threads;
  for (int seed = 0; seed < kThreads; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      std::vector<OpenUse> held;
      for (int i = 0; i < kSteps; ++i) {
        std::lock_guard lock(step);
        // A process dies, what is open on it stays and counts as long as it is held.
        if (random() % 100 == 0) tasks.back() = NewProcess();
        Target target{.cpu = RandomCpu(random)};
        if (random() % 5 != 0) target.task = tasks[random() % tasks.size()].id;
        Step(admission, random, target, &held, Compare::kBothWays, &tally);
      }
      std::lock_guard lock(step);
      held.clear();
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectAgreement(tally, kThreads * kSteps / 4);
  ExpectAllFree(admission, tasks);
}

TEST(AdmissionOracle, AgreesAtTheSameTimeOnTasksApart) {
  constexpr int kThreads = 4;
  constexpr int kSteps = 20'000;
  std::vector<Task> tasks;
  for (int i = 0; i < kThreads; ++i) tasks.push_back(NewProcess());
  for (int i = 0; i < kThreads; ++i) tasks.push_back(NewThread());
  for (int pinned = 0; pinned < machine.slots; ++pinned) {
    Admission admission(Limits());
    Tally tally;
    {
      // CPUs' uses that stay: CPU 0 has `pinned`, the next one less, and so on.
      std::vector<OpenUse> background;
      std::mt19937 random(pinned);
      for (size_t i = 0; i < machine.online.size(); ++i) {
        for (int n = static_cast<int>(i); n < pinned; ++n) {
          const Target target{.cpu = machine.online[i]};
          std::vector<int> fds;
          auto grant = admission.Admit({.cpu = target.cpu, .holder = "background"});
          ASSERT_EQ(OpenInKernel(target, random(), &fds), 0);
          background.emplace_back(*std::move(grant), std::move(fds));
        }
      }
      std::vector<std::thread> threads;
      for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
          std::mt19937 own_random(100 * pinned + t);
          std::vector<OpenUse> held;
          for (int i = 0; i < kSteps; ++i) {
            const Task& task = tasks[t + kThreads * (own_random() % 2)];
            Step(admission, own_random, {task.id, RandomCpu(own_random)}, &held, Compare::kBothWays,
                 &tally);
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
    }
    ExpectAgreement(tally, kThreads * kSteps / 4);
    ExpectAllFree(admission, tasks);
  }
}

TEST(AdmissionOracle, GrantsOnlyWhatOpensWhileCpusComeAndGo) {
  constexpr int kThreads = 4;
  constexpr int kSteps = 20'000;
  Admission admission(Limits());
  std::vector<Task> tasks;
  for (int i = 0; i < 3; ++i) tasks.push_back(NewThread());
  for (int i = 0; i < 3; ++i) tasks.push_back(NewProcess());
  Tally tally;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(1000 + t);
      std::vector<OpenUse> held;
      for (int i = 0; i < kSteps; ++i) {
        Target target{.cpu = RandomCpu(random)};
        if (random() % 4 != 0) target.task = tasks[random() % tasks.size()].id;
        Step(admission, random, target, &held, Compare::kGrantsOnly, &tally);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectAgreement(tally, kThreads * kSteps / 10);
  ExpectAllFree(admission, tasks);
}

// What this machine lacks to be asked; empty: nothing.
std::string Lacking() {
  machine.online = Cpus("online");
  const std::vector<int32_t> possible = Cpus("possible");
  if (machine.online.empty() || possible.empty()) return "no list of CPUs in /sys";
  machine.possible = possible.back() + 1;
  machine.slots = FreeSlots(0, -1);
  if (machine.slots < 0) {
    return std::string("hardware breakpoints cannot be opened: ") + strerror(-machine.slots);
  }
  for (const int32_t cpu : machine.online) {
    const int free = FreeSlots(-1, cpu);
    if (free < 0) return std::string("breakpoints of CPUs need root: ") + strerror(-free);
    if (free != machine.slots || free != 4) {
      return "not all breakpoints are free (" + std::to_string(free) + " on CPU " +
             std::to_string(cpu) + "); is a debugger or perf at work?";
    }
  }
  return "";
}

}  // namespace
}  // namespace lbrd::pmu

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const std::string lacking = lbrd::pmu::Lacking();
  if (!lacking.empty()) {
    std::printf("SKIPPED: %s\n", lacking.c_str());
    return 77;
  }
  return RUN_ALL_TESTS();
}
