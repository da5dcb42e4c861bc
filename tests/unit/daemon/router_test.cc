#include "daemon/router.h"

#include <gtest/gtest.h>

#include <vector>

#include "../pmu/wire_records.h"

namespace lbrd::daemon {
namespace {

constexpr size_t kWorkers = 8;

size_t WorkerOf(Router* router, int32_t pid) {
  const pmu::Words sample = pmu::Wire({.pid = pid, .tid = pid});
  return router->RouteRecord(pmu::HeaderOf(sample), pid).worker;
}
Router::Route Fork(Router* router, int32_t child, int32_t parent) {
  const pmu::Words fork = pmu::WireFork(child, child, parent, parent, 1);
  return router->RouteRecord(pmu::HeaderOf(fork), child);
}
Router::Route Comm(Router* router, int32_t pid, bool exec) {
  const pmu::Words comm = pmu::WireComm(pid, pid, "x", 1, exec);
  return router->RouteRecord(pmu::HeaderOf(comm), pid);
}

// A child whose own worker is not its parent's.
int32_t StrangerTo(int32_t parent) {
  Router router(kWorkers);
  int32_t child = parent + 1;
  while (WorkerOf(&router, child) == WorkerOf(&router, parent)) ++child;
  return child;
}

TEST(Router, SpreadsProcessesOverAllWorkers) {
  Router router(kWorkers);
  std::vector<int> processes(kWorkers);
  for (int32_t pid = 1000; pid < 1800; ++pid) {
    const size_t worker = WorkerOf(&router, pid);
    ASSERT_LT(worker, kWorkers);
    ++processes[worker];
    EXPECT_EQ(WorkerOf(&router, pid), worker);
  }
  for (const int count : processes) {
    EXPECT_GT(count, 50);
    EXPECT_LT(count, 200);
  }
}

TEST(Router, TakesAnyPid) {
  Router router(3);
  for (const int32_t pid : {-1, 0, 1, INT32_MIN, INT32_MAX}) EXPECT_LT(WorkerOf(&router, pid), 3u);
}

TEST(Router, ForkedChildStaysWithItsParent) {
  Router router(kWorkers);
  const int32_t parent = 500;
  const int32_t child = StrangerTo(parent);
  const Router::Route fork = Fork(&router, child, parent);
  EXPECT_EQ(fork.worker, WorkerOf(&router, parent));
  EXPECT_FALSE(fork.moved);
  EXPECT_EQ(WorkerOf(&router, child), WorkerOf(&router, parent));
  const int32_t grandchild = StrangerTo(parent + 1000);
  Fork(&router, grandchild, child);
  EXPECT_EQ(WorkerOf(&router, grandchild), WorkerOf(&router, parent));
}

TEST(Router, ExecMovesTheChildToItsOwnWorkerOnce) {
  Router router(kWorkers);
  const int32_t parent = 500;
  const int32_t child = StrangerTo(parent);
  const size_t own = WorkerOf(&router, child);
  Fork(&router, child, parent);
  const Router::Route exec = Comm(&router, child, /*exec=*/true);
  EXPECT_TRUE(exec.moved);
  EXPECT_EQ(exec.worker, own);
  EXPECT_EQ(exec.moved_from, WorkerOf(&router, parent));
  EXPECT_EQ(WorkerOf(&router, child), own);
  EXPECT_FALSE(Comm(&router, child, /*exec=*/true).moved);
}

TEST(Router, ANewNameMovesNobody) {
  Router router(kWorkers);
  const int32_t parent = 500;
  const int32_t child = StrangerTo(parent);
  Fork(&router, child, parent);
  const Router::Route comm = Comm(&router, child, /*exec=*/false);
  EXPECT_FALSE(comm.moved);
  EXPECT_EQ(comm.worker, WorkerOf(&router, parent));
}

TEST(Router, ANewThreadMovesNobody) {
  Router router(kWorkers);
  const pmu::Words thread = pmu::WireFork(500, 501, 500, 500, 1);
  EXPECT_EQ(router.RouteRecord(pmu::HeaderOf(thread), 500).worker, WorkerOf(&router, 500));
  EXPECT_EQ(WorkerOf(&router, 501), WorkerOf(&router, 501));
}

TEST(Router, AReusedPidGoesWithItsNewParent) {
  Router router(kWorkers);
  const int32_t child = StrangerTo(500);
  const size_t own = WorkerOf(&router, child);
  Fork(&router, child, 500);
  int32_t kin = 2000;  // of the child's own worker
  while (WorkerOf(&router, kin) != own) ++kin;
  Fork(&router, child, kin);
  EXPECT_EQ(WorkerOf(&router, child), own);
  EXPECT_FALSE(Comm(&router, child, /*exec=*/true).moved);
}

TEST(Router, ReadsNoForkThatIsTooShort) {
  Router router(kWorkers);
  const pmu::Words fork = {pmu::HeaderWord(PERF_RECORD_FORK, 0, 8)};
  EXPECT_EQ(router.RouteRecord(pmu::HeaderOf(fork), 500).worker, WorkerOf(&router, 500));
}

}  // namespace
}  // namespace lbrd::daemon
