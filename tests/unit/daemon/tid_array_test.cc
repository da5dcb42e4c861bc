#include "daemon/tid_array.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <climits>

namespace lbrd::daemon {
namespace {

constexpr auto kLast = static_cast<int32_t>(TidArray<uint32_t>::kTids - 1);

long FaultsOfThisThread() {
  rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt;
}

TEST(TidArray, HoldsEachTidAndNoOther) {
  EXPECT_FALSE(TidArray<uint32_t>::Has(-1));
  EXPECT_FALSE(TidArray<uint32_t>::Has(kLast + 1));
  const TidArray<uint32_t> numbers;
  for (const int32_t tid : {0, 1, 4'711, kLast}) {
    EXPECT_TRUE(TidArray<uint32_t>::Has(tid));
    EXPECT_EQ(numbers.At(tid), 0);
    numbers.At(tid) = static_cast<uint32_t>(tid) + 1;
  }
  EXPECT_EQ(numbers.At(4'711), 4'712);
  EXPECT_EQ(numbers.At(kLast), static_cast<uint32_t>(kLast) + 1);
}

TEST(TidArray, PreparedTidsCostNoFault) {
#if defined(LBRD_TSAN) || defined(LBRD_ASAN)
  GTEST_SKIP() << "the sanitizers' own memory of each access faults";
#endif
  // The kernel may move or age any page of the process meanwhile, which costs a fault as well: so
  // the best of some.
  long least = LONG_MAX;
  for (int trial = 0; trial < 10; ++trial) {
    TidArray<uint64_t> numbers;
    numbers.Prepare(10'000, 4'096);
    if (numbers.At(10'000) != 0) FAIL();  // what comes with the first touch of anything here
    const long before = FaultsOfThisThread();
    for (int32_t tid = 10'000; tid < 14'096; ++tid) numbers.At(tid) = 1;
    least = std::min(least, FaultsOfThisThread() - before);
  }
  // Where the kernel cannot do it ahead (before 5.14), each of the 8 pages and more costs one.
  EXPECT_EQ(least, 0);
}

TEST(TidArray, PreparingEndsWithTheLastTid) {
  TidArray<uint32_t> numbers;
  numbers.At(kLast) = 7;
  numbers.Prepare(kLast - 10, 8'192);
  numbers.Prepare(kLast, SIZE_MAX);
  EXPECT_EQ(numbers.At(kLast), 7);
}

}  // namespace
}  // namespace lbrd::daemon
