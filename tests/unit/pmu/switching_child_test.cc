#include "pmu/switching_child.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"

namespace lbrd::pmu {
namespace {

// The value of a line of /proc/PID/status, or -1.
int64_t StatusLine(int32_t pid, const std::string& key) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  std::string word;
  int64_t value = -1;
  while (file >> word) {
    if (word == key && file >> value) return value;
  }
  return -1;
}

void Wait(int64_t ms) {
  const timespec pause{0, ms * 1'000'000};
  nanosleep(&pause, nullptr);
}

TEST(SwitchingChild, IsSwitchedOutAllTheTimeOnceReleasedAndNotBefore) {
  auto child = ForkSwitchingChild();
  ASSERT_TRUE(child.ok()) << child.status();
  const int32_t pid = (*child)->pid();
  ASSERT_GT(pid, 0);
  Wait(50);
  const int64_t before = StatusLine(pid, "voluntary_ctxt_switches:");
  Wait(50);
  EXPECT_EQ(StatusLine(pid, "voluntary_ctxt_switches:"), before);
  ASSERT_TRUE((*child)->Release().ok());
  int64_t after = before;
  for (int i = 0; i < 200 && after < before + 100; ++i) {
    Wait(50);
    after = StatusLine(pid, "voluntary_ctxt_switches:");
  }
  EXPECT_GE(after, before + 100);

  cpu_set_t cpus;
  ASSERT_EQ(sched_getaffinity(pid, sizeof(cpus), &cpus), 0);
  EXPECT_EQ(CPU_COUNT(&cpus), 1);
  EXPECT_TRUE(CPU_ISSET(static_cast<size_t>((*child)->cpu()), &cpus));
  *child = nullptr;
  EXPECT_NE(kill(pid, 0), 0) << "the child outlived its owner";
}

TEST(SwitchingChild, KnowsItsChain) {
  const auto child = ForkSwitchingChild();
  ASSERT_TRUE(child.ok()) << child.status();
  const std::span<const uint64_t> chain = (*child)->chain();
  ASSERT_EQ(chain.size(), SwitchingChild::kCalls);
  EXPECT_EQ(std::set<uint64_t>(chain.begin(), chain.end()).size(), chain.size());
  EXPECT_EQ(std::set<uint64_t>(chain.begin(), chain.end()).count(0), 0u);
}

TEST(SwitchingChild, KeepsNoneOfOurDescriptors) {
  const auto child = ForkSwitchingChild();
  ASSERT_TRUE(child.ok()) << child.status();
  // It closes them after its fork: give it time.
  for (int i = 0; i < 100 && StatusLine((*child)->pid(), "voluntary_ctxt_switches:") == 0; ++i)
    Wait(20);
  EXPECT_FALSE(std::ifstream(absl::StrCat("/proc/", (*child)->pid(), "/fd/2")).good());
}

}  // namespace
}  // namespace lbrd::pmu
