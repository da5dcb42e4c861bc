#include "tests/bench/context_tables.h"

#include <malloc.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "daemon/rcu.h"
#include "daemon/task_table.h"
#include "tests/bench/timing.h"

namespace lbrd::daemon {
namespace {

// Each table is walked until so many forks and exits were measured meanwhile, or for so long.
constexpr size_t kMeasuredForks = 20'000;
constexpr uint64_t kMostWalksNs = 10'000'000'000;

std::vector<TaskRef> AddTasks(TaskTable& table, size_t count) {
  std::vector<TaskRef> tasks;
  tasks.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    tasks.push_back(*table.Add(
        {.tid = static_cast<int32_t>(i + 1), .tgid = static_cast<int32_t>(i + 1), .start_ns = 1}));
  }
  return tasks;
}

// Forks and exits one task after the other with tids from `first`, and measures each.
struct ForksAndExits {
  std::vector<double> forks;
  std::vector<double> exits;
  std::atomic<size_t> measured = 0;

  // `pause`: as many as a busy machine forks, rather than as many as there can be. `during`: only
  // those count that begin or end while it is set; nullptr: all.
  void Run(TaskTable& table, int32_t first, const std::atomic<bool>& stop, bool pause,
           const std::atomic<bool>* during = nullptr) {
    prctl(PR_SET_TIMERSLACK, 1);  // its pause is as short as it is meant to be
    for (int32_t tid = first; !stop; tid = tid == first + kTids ? first : tid + 1) {
      if (pause) absl::SleepFor(absl::Microseconds(20));
      const long preempted = Preemptions();
      bool counts = during == nullptr || *during;
      const uint64_t start = Now();
      const std::optional<TaskRef> child = table.Add({.tid = tid, .tgid = tid, .start_ns = start});
      if (!child.has_value()) continue;
      table.Fork(*child);
      const uint64_t forked = Now();
      table.Exit(tid, UINT64_MAX);
      const uint64_t exited = Now();
      counts |= during != nullptr && *during;
      // Preempted by the machine's other work, it did not wait for us. One that sleeps is not that.
      if (!counts || Preemptions() != preempted) continue;
      forks.push_back(static_cast<double>(forked - start));
      exits.push_back(static_cast<double>(exited - forked));
      ++measured;
    }
  }

 private:
  static constexpr int32_t kTids = 1'000'000;
};

size_t ResidentBytes() {
  size_t pages = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r"); file != nullptr) {
    if (std::fscanf(file, "%*u %zu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return pages * 4096;
}

}  // namespace

void PrintWalks(const ContextSettings& settings) {
  std::printf(
      "\nattach_global and detach_global (CPU time), and what forks and exits meanwhile take\n");
  std::printf("%9s %12s %12s %12s | %9s %9s %9s %9s %9s %8s\n", "tasks", "attach", "detach",
              "attach, busy", "fork p50", "p99.9", "exit p50", "p99.9", "max", "count");
  std::printf("%9s %12s %12s %12s | %9s %9s %9s %9s %9s\n", "", "ns/task", "ns/task", "ns/task",
              "us", "us", "us", "us", "us");
  for (const size_t count : settings.tasks) {
    constexpr size_t kRoom = 100'000;
    TaskTable table(count + kRoom);
    AddTasks(table, count);
    std::vector<double> attach;
    std::vector<double> detach;
    // Small tables are walked more often: their figures are as good as those of the large.
    const int walks = settings.walks * static_cast<int>(std::max<size_t>(1, 20'000 / count));
    for (int walk = 0; walk < walks; ++walk) {
      malloc_trim(0);  // every context is on a page that must be had first
      uint64_t start = CpuNow();
      if (!table.AttachGlobal().ok()) return;
      attach.push_back(static_cast<double>(CpuNow() - start) / static_cast<double>(count));
      start = CpuNow();
      table.DetachGlobal();
      detach.push_back(static_cast<double>(CpuNow() - start) / static_cast<double>(count));
      RcuBarrier();
    }
    std::vector<double> busy;
    ForksAndExits meanwhile;
    std::atomic<bool> stop = false;
    std::atomic<bool> walking = false;
    std::thread other([&] {
      meanwhile.Run(table, static_cast<int32_t>(count) + 1, stop, /*pause=*/true, &walking);
    });
    const uint64_t end = Now() + kMostWalksNs;
    size_t since_barrier = 0;
    do {
      walking = true;
      const uint64_t start = CpuNow();
      const bool attached = table.AttachGlobal().ok();
      if (attached) {
        busy.push_back(static_cast<double>(CpuNow() - start) / static_cast<double>(count));
        table.DetachGlobal();
      }
      walking = false;
      // What was retired is room for the next walks.
      if (++since_barrier * count > kRoom / 2) {
        RcuBarrier();
        since_barrier = 0;
      }
    } while (meanwhile.measured < kMeasuredForks && Now() < end && settings.walks > 1);
    stop = true;
    other.join();
    const size_t measured = meanwhile.measured;
    const Waits forks = WaitsOf(std::move(meanwhile.forks));
    const Waits exits = WaitsOf(std::move(meanwhile.exits));
    std::printf("%9zu %12.1f %12.1f %12.1f | %9.2f %9.2f %9.2f %9.2f %9.0f %8zu\n", count,
                Percentile(attach, 0.25), Percentile(detach, 0.25), Percentile(busy, 0.25),
                forks.p50 / 1e3, forks.p999 / 1e3, exits.p50 / 1e3, exits.p999 / 1e3,
                exits.max / 1e3, measured);
  }
}

void PrintForks(const ContextSettings& settings) {
  constexpr int32_t kForks = 500;
  std::printf("\nOne task, ns\n%-22s %8s %8s %8s %8s\n", "", "add", "fork", "exit", "all");
  for (const bool global : {false, true}) {
    TaskTable table;
    AddTasks(table, 1000);
    if (global && !table.AttachGlobal().ok()) return;
    std::vector<TaskRef> children(kForks);
    std::array<std::vector<double>, 3> ns;
    for (int batch = 0; batch < settings.batches; ++batch) {
      const uint64_t start = Now();
      for (int32_t i = 0; i < kForks; ++i) {
        children[i] = *table.Add({.tid = 10'000 + i, .tgid = 10'000 + i, .start_ns = 1});
      }
      const uint64_t added = Now();
      for (const TaskRef& child : children) table.Fork(child);
      const uint64_t forked = Now();
      for (int32_t i = 0; i < kForks; ++i) table.Exit(10'000 + i, UINT64_MAX);
      const uint64_t exited = Now();
      RcuBarrier();
      ns[0].push_back(static_cast<double>(added - start) / kForks);
      ns[1].push_back(static_cast<double>(forked - added) / kForks);
      ns[2].push_back(static_cast<double>(exited - forked) / kForks);
    }
    const double add = Percentile(ns[0], 0.25);
    const double fork = Percentile(ns[1], 0.25);
    const double exit = Percentile(ns[2], 0.25);
    std::printf("%-22s %8.1f %8.1f %8.1f %8.1f\n",
                global ? "with global users" : "without global users", add, fork, exit,
                add + fork + exit);
    if (global) table.DetachGlobal();
  }
}

void PrintLookUps(const ContextSettings& settings, size_t count) {
  TaskTable table(count + 100'000);
  AddTasks(table, count);
  if (!table.AttachGlobal().ok()) return;
  absl::Mutex mutex;
  absl::flat_hash_map<int32_t, std::unique_ptr<int>> map;
  for (size_t i = 0; i < count; ++i) {
    map[static_cast<int32_t>(i + 1)] = std::make_unique<int>(1);
  }
  constexpr size_t kLookUps = 1000;
  std::minstd_rand random(1);
  std::vector<int32_t> tids(1 << 16);
  for (int32_t& tid : tids) tid = 1 + static_cast<int32_t>(random() % count);
  std::atomic<uintptr_t> sink = 0;
  size_t next = 0;
  const auto batch_ns = [&](auto look_up) {
    uintptr_t sum = 0;
    const uint64_t start = Now();
    for (size_t i = 0; i < kLookUps; ++i) {
      sum += look_up(tids[next]);
      next = (next + 1) % tids.size();
    }
    const double ns = static_cast<double>(Now() - start) / kLookUps;
    sink += sum;
    return ns;
  };
  const auto ours = [&](int32_t tid) {
    RcuReadLock rcu;
    return reinterpret_cast<uintptr_t>(table.Find(rcu, tid, UINT64_MAX));
  };
  // Each look-up begins when the one before has its answer, which the tid depends on: how long one
  // takes, where the others overlap as a processor can.
  const volatile uintptr_t zero = 0;
  uintptr_t last = 0;
  const auto in_turn = [&, mask = zero](int32_t tid) {
    RcuReadLock rcu;
    last = reinterpret_cast<uintptr_t>(
        table.Find(rcu, tid + static_cast<int32_t>(last & mask), UINT64_MAX));
    return last;
  };
  const auto use = [&](int32_t tid) {
    RcuReadLock rcu;
    return uintptr_t{table.Find(rcu, tid, UINT64_MAX)->references()};
  };
  const auto locked = [&](int32_t tid) {
    absl::ReaderMutexLock lock(&mutex);
    const auto found = map.find(tid);
    return reinterpret_cast<uintptr_t>(found == map.end() ? nullptr : found->second.get());
  };
  const auto measure = [&](const char* what) {
    std::array<std::vector<double>, 4> ns;
    for (int batch = 0; batch < settings.batches; ++batch) {
      ns[0].push_back(batch_ns(ours));
      ns[1].push_back(batch_ns(in_turn));
      ns[2].push_back(batch_ns(use));
      ns[3].push_back(batch_ns(locked));
    }
    for (const double part : {0.0, 0.25, 0.5}) {
      const double mine = Percentile(ns[0], part);
      const double map_ns = Percentile(ns[3], part);
      std::printf("%-24s %-8s %8.1f %18.1f %18.1f %18.1f (%.1f)\n", what,
                  part == 0      ? "best"
                  : part == 0.25 ? "quartile"
                                 : "median",
                  mine, Percentile(ns[1], part), Percentile(ns[2], part), map_ns, map_ns / mine);
    }
  };
  std::printf("\nLook-up of one of %zu tasks at random, ns\n%-33s %8s %18s %18s %24s\n", count, "",
              "look-up", "one after another", "and its first use", "absl::Mutex, flat map");
  measure("alone");
  for (const bool pause : {true, false}) {
    std::atomic<bool> stop = false;
    std::thread other([&] {
      ForksAndExits meanwhile;
      meanwhile.Run(table, static_cast<int32_t>(count) + 1, stop, pause);
    });
    measure(pause ? "beside forks and exits" : "beside a storm of them");
    stop = true;
    other.join();
  }
  table.DetachGlobal();
}

void PrintMemory(const ContextSettings& settings) {
  const size_t count = settings.looked_up_tasks;
  TaskTable table(count);
  const size_t at_first = ResidentBytes();
  AddTasks(table, count);
  const size_t added = ResidentBytes();
  if (!table.AttachGlobal().ok()) return;
  const size_t attached = ResidentBytes();
  std::printf("\nMemory of %zu tasks, bytes each\n", count);
  std::printf("context %zu + slot %zu; became resident: slot and bucket %.0f, context %.0f\n",
              kTaskContextBytes, sizeof(TaskSlot),
              static_cast<double>(added - at_first) / static_cast<double>(count),
              static_cast<double>(attached - added) / static_cast<double>(count));
  table.DetachGlobal();
  RcuBarrier();
  std::printf("after the last user left: %zu contexts, %zu bytes\n", table.stats().contexts,
              table.stats().context_bytes);
}

}  // namespace lbrd::daemon
