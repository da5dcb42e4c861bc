#include "tests/bench/lock_tables.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "daemon/rcu.h"
#include "pmu/percpu_rwsem.h"
#include "tests/bench/timing.h"

namespace lbrd::daemon {
namespace {

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
double ReadPair(const LockSettings& settings, int threads, int batches) {
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

template <typename Lock>
void PrintWrites(const char* what, int readers, bool idle, int writes) {
  const Waits waits = WritePair<Lock>(readers, idle, writes);
  std::printf("%-28s %-18s %9.2f %9.2f %9.2f %10.2f %8zu\n", what, Lock::kName, waits.p50 / 1e3,
              waits.p99 / 1e3, waits.p999 / 1e3, waits.max / 1e3, waits.count);
}

}  // namespace

void PrintReadPairs(const LockSettings& settings) {
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

void PrintWritePairs(const LockSettings& settings) {
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

void PrintRcuFlavours(const LockSettings& settings) {
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

}  // namespace lbrd::daemon
