#include "daemon/kernel_names.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "../pmu/fake_kernel.h"
#include "absl/time/clock.h"

namespace lbrd::daemon {
namespace {

constexpr char kKallsyms[] = "/proc/kallsyms";
constexpr char kBoot[] = "ffffffff81000000 T startup\nffffffff81000100 t schedule\n";
constexpr char kWithProgram[] =
    "ffffffff81000000 T startup\nffffffff81000100 t schedule\n"
    "ffffffffc0000000 t bpf_prog_1\t[bpf]\n";

TEST(KernelNamesTest, TheSameTextIsKeptOnce) {
  pmu::FakeKernel kernel;
  kernel.files[kKallsyms] = kBoot;
  const KernelNames first = ReadKernelNames(kernel);
  ASSERT_NE(first.symbols, nullptr) << first.missing;
  EXPECT_EQ(first.symbols->Find(0xffffffff81000110)->name, "schedule");
  EXPECT_EQ(ReadKernelNames(kernel).symbols, first.symbols);
}

TEST(KernelNamesTest, WhatIsLoadedLaterIsInLaterOnes) {
  pmu::FakeKernel kernel;
  kernel.files[kKallsyms] = kBoot;
  const KernelNames first = ReadKernelNames(kernel);
  kernel.files[kKallsyms] = kWithProgram;
  const KernelNames second = ReadKernelNames(kernel);
  ASSERT_NE(second.symbols, nullptr);
  EXPECT_EQ(second.symbols->Find(0xffffffffc0000000)->name, "bpf_prog_1");
  EXPECT_EQ(first.symbols->size(), 2u);
  EXPECT_EQ(ReadKernelNames(kernel).symbols, second.symbols);
}

TEST(KernelNamesTest, NobodysNamesAreGivenBack) {
  pmu::FakeKernel kernel;
  kernel.files[kKallsyms] = kBoot;
  std::weak_ptr<const unwind::KernelSymbols> names = ReadKernelNames(kernel).symbols;
  EXPECT_TRUE(names.expired());
  EXPECT_NE(ReadKernelNames(kernel).symbols, nullptr);
}

TEST(KernelNamesTest, SaysWhyThereAreNone) {
  pmu::FakeKernel kernel;
  EXPECT_EQ(ReadKernelNames(kernel).symbols, nullptr);
  EXPECT_FALSE(ReadKernelNames(kernel).missing.empty());
  kernel.files[kKallsyms] = "0000000000000000 T startup\n";
  EXPECT_EQ(ReadKernelNames(kernel).symbols, nullptr);
  EXPECT_FALSE(ReadKernelNames(kernel).missing.empty());
}

TEST(KernelNameSource, ReadsWhenItIsAskedAndOnce) {
  std::atomic<int> reads = 0;
  const KernelNameSource source([&reads] {
    ++reads;
    absl::SleepFor(absl::Milliseconds(20));  // so that others ask meanwhile
    return KernelNames{.missing = "for a reason"};
  });
  const KernelNameSource copy = source;
  EXPECT_EQ(source.known(), nullptr);
  EXPECT_EQ(reads, 0);
  std::vector<std::thread> askers;
  for (int i = 0; i < 4; ++i) {
    askers.emplace_back([&copy] { EXPECT_EQ(copy.Get().missing, "for a reason"); });
  }
  for (std::thread& asker : askers) asker.join();
  EXPECT_EQ(reads, 1);
  EXPECT_EQ(source.known(), &copy.Get());
}

TEST(KernelNameSource, WhatIsKnownIsKnownAtOnce) {
  const KernelNameSource source(KernelNames{.missing = "hidden"});
  ASSERT_NE(source.known(), nullptr);
  EXPECT_EQ(source.known()->missing, "hidden");
}

}  // namespace
}  // namespace lbrd::daemon
