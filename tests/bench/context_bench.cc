// What task contexts cost, beside what they could be built on, in one run.
//
// Costs of single operations: ways are measured in turns, in batches short enough that most are not
// interrupted, and a way's figure is the lower quartile of its batches, those that the rest of the
// machine disturbed least. Waits: every single one is measured, and the percentiles are of all,
// disturbed or not.
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "daemon/task_table.h"
#include "pmu/percpu_rwsem.h"

namespace lbrd::daemon {
namespace {

// Each table is walked until so many forks and exits were measured meanwhile, or for so long.
constexpr size_t kMeasuredForks = 20'000;
constexpr uint64_t kMostWalksNs = 10'000'000'000;

struct Settings {
  int batches = 400;
  int pairs = 2000;  // lock + unlock, a batch
  int writes = 20'000;
  std::vector<size_t> tasks = {1'000, 10'000, 100'000, 1'000'000};
  int walks = 5;
  size_t looked_up_tasks = 100'000;
};

uint64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Of the calling thread: what it did, without the time in which others had the CPU.
uint64_t CpuNow() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// How often the calling thread lost the CPU to others.
long Preemptions() {
  rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

double Percentile(std::vector<double>& values, double part) {
  if (values.empty()) return 0;
  const auto at = static_cast<size_t>(part * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(at), values.end());
  return values[at];
}

// The locks: how each is taken, for reading and for writing.
struct Ours {
  static constexpr char kName[] = "lbrd";
  pmu::PercpuRwSem lock;
  void Read() { pmu::PercpuRwSem::ReadLock held(lock); }
  void Write() { pmu::PercpuRwSem::WriteLock held(lock); }
};
struct OursFenced {
  static constexpr char kName[] = "lbrd, fence";
  pmu::PercpuRwSem lock{pmu::PercpuRwSem::ReaderBarrier::kFence};
  void Read() { pmu::PercpuRwSem::ReadLock held(lock); }
  void Write() { pmu::PercpuRwSem::WriteLock held(lock); }
};
struct Pthread {
  static constexpr char kName[] = "pthread_rwlock";
  pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
  void Read() {
    pthread_rwlock_rdlock(&lock);
    pthread_rwlock_unlock(&lock);
  }
  void Write() {
    pthread_rwlock_wrlock(&lock);
    pthread_rwlock_unlock(&lock);
  }
};
struct AbslMutex {
  static constexpr char kName[] = "absl::Mutex";
  absl::Mutex lock;
  void Read() { absl::ReaderMutexLock held(&lock); }
  void Write() { absl::WriterMutexLock held(&lock); }
};
struct SharedMutex {
  static constexpr char kName[] = "std::shared_mutex";
  std::shared_mutex lock;
  void Read() { std::shared_lock held(lock); }
  void Write() { std::unique_lock held(lock); }
};

// ns of one pair, each of `threads` threads reading all the time.
template <typename Lock>
double ReadPair(const Settings& settings, int threads, int batches) {
  auto lock = std::make_unique<Lock>();
  std::barrier together(threads);
  std::vector<std::vector<double>> of_thread(threads);
  struct alignas(128) Progress {
    std::atomic<uint64_t> pairs = 0;
  };
  std::vector<Progress> progress(threads);
  std::atomic<int> running_threads = threads;
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      together.arrive_and_wait();
      std::vector<uint64_t> others(threads);
      // Where the machine has other work, most batches of several threads are run one beside none.
      const uint64_t end = Now() + 1'000'000'000;
      while (running_threads == threads && Now() < end) {
        const long preempted = Preemptions();
        for (int other = 0; other < threads; ++other) others[other] = progress[other].pairs;
        const uint64_t start = Now();
        for (int pair = 0; pair < settings.pairs; pair += 100) {
          for (int one = 0; one < 100; ++one) lock->Read();
          progress[i].pairs.fetch_add(100, std::memory_order_relaxed);
        }
        const double ns = static_cast<double>(Now() - start) / settings.pairs;
        // Only batches count that all threads were at together.
        bool together_now = Preemptions() == preempted;
        for (int other = 0; other < threads; ++other) {
          together_now &=
              progress[other].pairs - others[other] >= static_cast<uint64_t>(settings.pairs) / 4;
        }
        if (together_now) of_thread[i].push_back(ns);
        if (static_cast<int>(of_thread[i].size()) >= batches) break;
      }
      --running_threads;
    });
  }
  std::vector<double> all;
  for (int i = 0; i < threads; ++i) {
    running[i].join();
    all.insert(all.end(), of_thread[i].begin(), of_thread[i].end());
  }
  return Percentile(all, 0.25);
}

struct Waits {
  double p50 = 0;
  double p99 = 0;
  double p999 = 0;
  double max = 0;
  size_t count = 0;
};
Waits WaitsOf(std::vector<double> ns) {
  return {Percentile(ns, 0.5), Percentile(ns, 0.99), Percentile(ns, 0.999), Percentile(ns, 1),
          ns.size()};
}

// Waits of one writer beside `readers` threads that read all the time, or sleep if `idle`.
template <typename Lock>
Waits WritePair(int readers, bool idle, int writes) {
  auto lock = std::make_unique<Lock>();
  std::atomic<bool> stop = false;
  std::atomic<int> started = 0;
  std::vector<std::thread> reading;
  for (int i = 0; i < readers; ++i) {
    reading.emplace_back([&] {
      lock->Read();
      ++started;
      if (idle) stop.wait(false);
      while (!stop) {
        for (int pair = 0; pair < 100; ++pair) lock->Read();
      }
    });
  }
  while (started < readers) sched_yield();
  std::vector<double> ns;
  const uint64_t end = Now() + 3'000'000'000;  // a writer may starve
  for (int write = 0; write < writes && Now() < end; ++write) {
    const uint64_t start = Now();
    lock->Write();
    ns.push_back(static_cast<double>(Now() - start));
    if (!idle) absl::SleepFor(absl::Microseconds(20));
  }
  stop = true;
  stop.notify_all();
  for (std::thread& reader : reading) reader.join();
  return WaitsOf(std::move(ns));
}

void PrintReadPairs(const Settings& settings) {
  std::printf("\nRead lock + unlock, ns a pair (in brackets: times ours)\n");
  std::printf("%8s %8s %14s %18s %18s %18s\n", "threads", Ours::kName, OursFenced::kName,
              Pthread::kName, AbslMutex::kName, SharedMutex::kName);
  const int cpus = static_cast<int>(std::thread::hardware_concurrency());
  std::vector<int> counts;
  for (int threads = 1; threads < cpus; threads *= 2) counts.push_back(threads);
  counts.push_back(cpus);
  for (const int threads : counts) {
    // In turns, so that a noisy second meets all.
    std::array<std::vector<double>, 5> ns;
    constexpr int kTurns = 5;
    for (int turn = 0; turn < kTurns; ++turn) {
      const int batches = std::max(1, settings.batches / kTurns);
      ns[0].push_back(ReadPair<Ours>(settings, threads, batches));
      ns[1].push_back(ReadPair<OursFenced>(settings, threads, batches));
      ns[2].push_back(ReadPair<Pthread>(settings, threads, batches));
      ns[3].push_back(ReadPair<AbslMutex>(settings, threads, batches));
      ns[4].push_back(ReadPair<SharedMutex>(settings, threads, batches));
    }
    std::array<double, 5> best;
    for (size_t way = 0; way < best.size(); ++way) best[way] = Percentile(ns[way], 0.25);
    std::printf("%8d %8.2f %6.2f (%4.1f) %10.2f (%4.1f) %10.2f (%4.1f) %10.2f (%4.1f)\n", threads,
                best[0], best[1], best[1] / best[0], best[2], best[2] / best[0], best[3],
                best[3] / best[0], best[4], best[4] / best[0]);
  }
}

template <typename Lock>
void PrintWrites(const char* what, int readers, bool idle, int writes) {
  const Waits waits = WritePair<Lock>(readers, idle, writes);
  std::printf("%-28s %-18s %9.2f %9.2f %9.2f %10.2f %8zu\n", what, Lock::kName, waits.p50 / 1e3,
              waits.p99 / 1e3, waits.p999 / 1e3, waits.max / 1e3, waits.count);
}

void PrintWritePairs(const Settings& settings) {
  const int cpus = static_cast<int>(std::thread::hardware_concurrency());
  std::printf("\nWrite lock + unlock, us\n%-28s %-18s %9s %9s %9s %10s %8s\n", "", "", "p50", "p99",
              "p99.9", "max", "writes");
  const char* idle = "beside idle readers";
  PrintWrites<Ours>(idle, cpus, true, settings.writes);
  PrintWrites<OursFenced>(idle, cpus, true, settings.writes);
  PrintWrites<Pthread>(idle, cpus, true, settings.writes);
  PrintWrites<AbslMutex>(idle, cpus, true, settings.writes);
  PrintWrites<SharedMutex>(idle, cpus, true, settings.writes);
  const char* steady = "under a stream of readers";
  const int readers = std::max(1, cpus - 1);
  PrintWrites<Ours>(steady, readers, false, settings.writes / 10);
  PrintWrites<OursFenced>(steady, readers, false, settings.writes / 10);
  PrintWrites<Pthread>(steady, readers, false, settings.writes / 10);
  PrintWrites<AbslMutex>(steady, readers, false, settings.writes / 10);
  PrintWrites<SharedMutex>(steady, readers, false, settings.writes / 10);
}

// liburcu's flavours, as they are called: what each read section costs.
void PrintRcuFlavours(const Settings& settings) {
  std::printf("\nRCU read section, ns\n");
  std::vector<double> inlined;
  for (int batch = 0; batch < settings.batches; ++batch) {
    const uint64_t start = Now();
    for (int pair = 0; pair < settings.pairs; ++pair) RcuReadLock lock;
    inlined.push_back(static_cast<double>(Now() - start) / settings.pairs);
  }
  std::printf("%-6s %6.2f  inlined (ours); called:\n", "bp", Percentile(inlined, 0.25));
  for (const std::string flavour : {"bp", "memb", "qsbr", "mb"}) {
    void* library = dlopen(("liburcu-" + flavour + ".so.8").c_str(), RTLD_NOW);
    if (library == nullptr) {
      std::printf("%-6s not installed\n", flavour.c_str());
      continue;
    }
    const auto function = [&](const char* name) {
      return reinterpret_cast<void (*)()>(dlsym(library, ("urcu_" + flavour + name).c_str()));
    };
    void (*const lock)() = function("_read_lock");
    void (*const unlock)() = function("_read_unlock");
    void (*const enter)() = function("_register_thread");
    void (*const leave)() = function("_unregister_thread");
    if (lock == nullptr || unlock == nullptr) continue;
    if (enter != nullptr) enter();
    std::vector<double> ns;
    for (int batch = 0; batch < settings.batches; ++batch) {
      const uint64_t start = Now();
      for (int pair = 0; pair < settings.pairs; ++pair) {
        lock();
        unlock();
      }
      ns.push_back(static_cast<double>(Now() - start) / settings.pairs);
    }
    if (leave != nullptr) leave();
    std::printf("%-6s %6.2f\n", flavour.c_str(), Percentile(ns, 0.25));
  }
}

// ---- The table

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

void PrintWalks(const Settings& settings) {
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

void PrintForks(const Settings& settings) {
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

void PrintLookUps(const Settings& settings, size_t count) {
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

size_t ResidentBytes() {
  size_t pages = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r"); file != nullptr) {
    if (std::fscanf(file, "%*u %zu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return pages * 4096;
}

void PrintMemory(const Settings& settings) {
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

// `only`: the one table to print; empty: all.
int Run(bool smoke, const std::string& only) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  Settings settings;
  if (smoke) {
    settings = {.batches = 5,
                .pairs = 100,
                .writes = 100,
                .tasks = {1'000, 10'000},
                .walks = 1,
                .looked_up_tasks = 1'000};
  }
  std::printf("%u CPUs; membarrier: %s\n", std::thread::hardware_concurrency(),
              pmu::PercpuRwSem().readers_fence() ? "refused" : "yes");
  const std::vector<std::pair<std::string, std::function<void()>>> tables = {
      {"memory",
       [&] { PrintMemory(settings); }},  // first, while all memory that it is given is new
      {"reads", [&] { PrintReadPairs(settings); }},
      {"writes", [&] { PrintWritePairs(settings); }},
      {"rcu", [&] { PrintRcuFlavours(settings); }},
      {"forks", [&] { PrintForks(settings); }},
      {"look-ups",
       [&] {
         // The small one fits into the nearest caches: what the code costs, without the memory.
         PrintLookUps(settings, 500);
         PrintLookUps(settings, settings.looked_up_tasks);
       }},
      {"walks", [&] { PrintWalks(settings); }},
  };
  bool known = only.empty();
  for (const auto& [name, print] : tables) {
    if (!only.empty() && only != name) continue;
    known = true;
    print();
  }
  if (known) return 0;
  std::fprintf(stderr, "usage: context_bench [--smoke | TABLE]\nTABLE: one of");
  for (const auto& [name, print] : tables) std::fprintf(stderr, " %s", name.c_str());
  std::fprintf(stderr, "; without it all, in one run\n");
  return 2;
}

}  // namespace
}  // namespace lbrd::daemon

int main(int argc, char** argv) {
  const bool smoke = argc == 2 && std::strcmp(argv[1], "--smoke") == 0;
  if (argc > 2) {
    std::fprintf(stderr, "context_bench: one argument at most\n");
    return 2;
  }
  return lbrd::daemon::Run(smoke, argc == 2 && !smoke ? argv[1] : "");
}
