// What admission costs, in the shape of `perf bench breakpoint thread`: workers that open and close
// four breakpoints on each of many tasks, tasks of their own each.
//
// An operation is four uses of one task granted and given back. Three ways are measured in turns,
// in short slices, so that whatever else the machine does meets all of them alike:
//   none      no accounting at all: what cannot be beaten
//   mutex     the same accounting, all under one mutex
//   lbrd      pmu/admission
// once alone; once with the kernel's breakpoints (perf_event_open and close) inside; and once with
// the task's whole life, a thread that starts and finishes, as perf's benchmark has it. A way's
// time is the lower quartile of its slices: those that the rest of the machine disturbed least. A
// ratio is the median of those of neighbouring slices, which are 10 ms apart: what changes more
// slowly than that, such as the processor's clock, is not in it.
#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../integration/breakpoint_event.h"
#include "absl/synchronization/mutex.h"
#include "pmu/admission.h"

namespace lbrd::pmu {
namespace {

constexpr int kUses = 4;
constexpr int kTasksOfWorker = 64;

struct Settings {
  std::vector<int> threads = {1, 2, 4, 8};
  int slices = 300;  // of each way
  int slice_ms = 10;
  int32_t cpus = 2;
};

enum class Way { kNone, kMutex, kLbrd };
constexpr Way kWays[] = {Way::kNone, Way::kMutex, Way::kLbrd};

// The same counters and lists as Admission's, behind one lock. No refusals are explained.
class MutexAdmission {
 public:
  explicit MutexAdmission(int32_t cpus) : account_(4, cpus) {}

  uint64_t Admit(const TaskId& task, std::string holder) {
    absl::MutexLock lock(&mutex_);
    TaskUses& own = tasks_[task];
    Use use{.id = next_id_++};
    use.holder = std::move(holder);
    if (account_.BlockedForTask(own, use)) return 0;
    account_.CountTask(own, use, true);
    own.Add(std::move(use));
    return next_id_ - 1;
  }
  void Release(const TaskId& task, uint64_t id) {
    absl::MutexLock lock(&mutex_);
    const auto found = tasks_.find(task);
    const Use use = found->second.Remove(id);
    account_.CountTask(found->second, use, false);
    if (found->second.empty()) tasks_.erase(found);
  }

 private:
  absl::Mutex mutex_;
  SlotAccount account_;
  absl::flat_hash_map<TaskId, TaskUses> tasks_;
  uint64_t next_id_ = 1;
};

// What an operation has besides the accounting.
enum class What {
  kAccounting,  // nothing
  kBreakpoints,
  kThread,  // the breakpoints of a thread that starts, and finishes
};

struct Bench {
  explicit Bench(int32_t cpus) : mutex_way(cpus), lbrd_way({.cpus = cpus}) {}
  MutexAdmission mutex_way;
  Admission lbrd_way;
  What what = What::kAccounting;
};

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "admission_bench: %s\n", what);
  std::exit(1);
}

// Four uses of a task granted, opened, closed, given back.
void Operation(Bench& bench, Way way, int32_t tid) {
  const TaskId task{.tid = tid};
  uint64_t ids[kUses];
  Admission::Grant grants[kUses];
  int fds[kUses];
  for (int i = 0; i < kUses; ++i) {
    if (way == Way::kMutex) {
      ids[i] = bench.mutex_way.Admit(task, "session-1");
      if (ids[i] == 0) Fail("refused under one mutex");
    } else if (way == Way::kLbrd) {
      auto grant = bench.lbrd_way.Admit({.task = task, .holder = "session-1"});
      if (!grant.ok()) Fail(std::string(grant.status().message()).c_str());
      grants[i] = *std::move(grant);
    }
    if (bench.what == What::kAccounting) continue;
    fds[i] = OpenBreakpoint(tid, -1, 1);
    if (fds[i] < 0) Fail(strerror(-fds[i]));
  }
  for (int i = 0; i < kUses; ++i) {
    if (bench.what != What::kAccounting) close(fds[i]);
    if (way == Way::kMutex) bench.mutex_way.Release(task, ids[i]);
    if (way == Way::kLbrd) grants[i].Release();
  }
}

// us per operation of each way, slice by slice.
using Slices = std::vector<std::array<double, std::size(kWays)>>;

Slices Measure(Bench& bench, int workers, const Settings& settings,
               const std::vector<std::unique_ptr<SleepingThread>>& tasks) {
  Slices slices(static_cast<size_t>(settings.slices));
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> operations = 0;
  std::atomic<Way> way = Way::kNone;
  std::atomic<bool> over = false;
  std::barrier gate(workers + 1);
  std::vector<std::thread> threads;
  for (int worker = 0; worker < workers; ++worker) {
    threads.emplace_back([&, worker] {
      while (true) {
        gate.arrive_and_wait();
        if (over) return;
        uint64_t done = 0;
        for (; !stop.load(std::memory_order_relaxed); ++done) {
          if (bench.what == What::kThread) {
            const SleepingThread task;
            Operation(bench, way, task.tid());
            continue;
          }
          const size_t task = worker * kTasksOfWorker + done % kTasksOfWorker;
          const int32_t tid = tasks.empty() ? static_cast<int32_t>(1 + task) : tasks[task]->tid();
          Operation(bench, way, tid);
        }
        operations += done;
        gate.arrive_and_wait();
      }
    });
  }
  for (size_t slice = 0; slice < slices.size(); ++slice) {
    for (size_t turn = 0; turn < std::size(kWays); ++turn) {
      const size_t which = (turn + slice) % std::size(kWays);
      way = kWays[which];
      stop = false;
      operations = 0;
      const auto begin = std::chrono::steady_clock::now();
      gate.arrive_and_wait();
      std::this_thread::sleep_for(std::chrono::milliseconds(settings.slice_ms));
      stop = true;
      gate.arrive_and_wait();
      const std::chrono::duration<double, std::micro> took =
          std::chrono::steady_clock::now() - begin;
      slices[slice][which] = took.count() / static_cast<double>(std::max<uint64_t>(operations, 1));
    }
  }
  over = true;
  gate.arrive_and_wait();
  for (std::thread& thread : threads) thread.join();
  return slices;
}

double Part(std::vector<double> values, size_t quarters) {
  std::sort(values.begin(), values.end());
  return values[values.size() * quarters / 4];
}
double LowerQuartile(std::vector<double> values) { return Part(std::move(values), 1); }

// By how many percent one way takes longer than another.
double Excess(const Slices& slices, Way way, Way than) {
  std::vector<double> ratios;
  for (const auto& slice : slices) {
    ratios.push_back(slice[static_cast<size_t>(way)] / slice[static_cast<size_t>(than)]);
  }
  return 100 * (Part(std::move(ratios), 2) - 1);
}

void Table(What what, const Settings& settings) {
  const bool alone = what == What::kAccounting;
  std::printf("\n%s\n\n", alone ? "Accounting alone:"
                          : what == What::kBreakpoints
                              ? "With the kernel's breakpoints opened and closed:"
                              : "With those of a thread that starts and finishes:");
  std::printf(
      "| threads | none us/op | mutex us/op | lbrd us/op | mutex to none | lbrd to none |"
      " lbrd to mutex |\n|---|---|---|---|---|---|---|\n");
  for (const int threads : settings.threads) {
    std::vector<std::unique_ptr<SleepingThread>> tasks;
    for (int i = 0; what == What::kBreakpoints && i < threads * kTasksOfWorker; ++i) {
      tasks.push_back(std::make_unique<SleepingThread>());
    }
    Bench bench(settings.cpus);
    bench.what = what;
    const Slices slices = Measure(bench, threads, settings, tasks);
    const auto of = [&slices](size_t way) {
      std::vector<double> values;
      for (const auto& slice : slices) values.push_back(slice[way]);
      return LowerQuartile(std::move(values));
    };
    std::printf("| %d | %.2f | %.2f | %.2f |", threads, of(0), of(1), of(2));
    if (!alone) {
      std::printf(" %+.1f %% | %+.1f %% |", Excess(slices, Way::kMutex, Way::kNone),
                  Excess(slices, Way::kLbrd, Way::kNone));
    } else {
      std::printf(" | |");
    }
    std::printf(" %+.1f %% |\n", Excess(slices, Way::kLbrd, Way::kMutex));
    std::fflush(stdout);
    const Admission::Figures figures = bench.lbrd_way.figures();
    if (!figures.counters_zero || figures.task_uses != 0) Fail("uses are left over");
  }
}

// How the cost grows with the number of CPUs: it should not, but for uses of CPUs.
void CpuTable(const Settings& settings) {
  std::printf(
      "\nOne use granted and given back, one thread, by the number of CPUs:\n\n"
      "| CPUs | of a task, ns | of a task on one CPU, ns | of one CPU, ns |"
      " of every CPU, ns |\n|---|---|---|---|---|\n");
  for (const int32_t cpus : {2, 64, 512}) {
    Admission admission({.cpus = cpus});
    const auto time = [&](const AdmissionRequest& request) {
      std::vector<double> ns;
      for (int slice = 0; slice < settings.slices; ++slice) {
        constexpr int kTimes = 200;
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < kTimes; ++i) {
          if (!admission.Admit(request).ok()) Fail("refused");
        }
        const std::chrono::duration<double, std::nano> took =
            std::chrono::steady_clock::now() - begin;
        ns.push_back(took.count() / kTimes);
      }
      return LowerQuartile(std::move(ns));
    };
    const AdmissionRequest task{.task = TaskId{.tid = 1}, .holder = "session-1"};
    AdmissionRequest bound = task;
    bound.cpu = cpus - 1;
    AdmissionRequest cpu{.holder = "session-1"};
    cpu.cpu = 0;
    AdmissionRequest every{.holder = "session-1"};
    std::printf("| %d | %.0f | %.0f | %.0f | %.0f |\n", cpus, time(task), time(bound), time(cpu),
                time(every));
  }
}

int Main(bool smoke) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as lbrd does
  Settings settings;
  if (smoke) settings = {.threads = {1, 2}, .slices = 3, .slice_ms = 2};
  std::printf("%d uses a task, %d tasks a thread, %d slices of %d ms of each way, %u CPUs\n", kUses,
              kTasksOfWorker, settings.slices, settings.slice_ms,
              std::thread::hardware_concurrency());
  Table(What::kAccounting, settings);
  CpuTable(settings);
  const int fd = OpenBreakpoint(0, -1, 1);
  if (fd < 0) {
    std::printf("\nSKIPPED: no breakpoints can be opened here: %s\n", strerror(-fd));
    return 77;
  }
  close(fd);
  Table(What::kBreakpoints, settings);
  Table(What::kThread, settings);
  return 0;
}

}  // namespace
}  // namespace lbrd::pmu

int main(int argc, char** argv) {
  const bool smoke = argc == 2 && strcmp(argv[1], "--smoke") == 0;
  if (argc > 1 && !smoke) {
    std::fprintf(stderr,
                 "usage: admission_bench [--smoke]\n"
                 "Prints what admission costs; with --smoke only runs everything for a moment.\n");
    return 2;
  }
  return lbrd::pmu::Main(smoke);
}
