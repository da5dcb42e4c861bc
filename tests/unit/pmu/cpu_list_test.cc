#include "pmu/cpu_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lbrd::pmu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(CpuList, ReadsWhatSysfsWrites) {
  const auto cpus = ParseCpuList("0-3,8,10-11\n");
  ASSERT_TRUE(cpus.ok()) << cpus.status();
  EXPECT_THAT(*cpus, ElementsAre(0, 1, 2, 3, 8, 10, 11));
}

TEST(CpuList, OfNoCpuIsEmpty) {
  for (const char* text : {"", "\n", "  "}) {
    const auto cpus = ParseCpuList(text);
    ASSERT_TRUE(cpus.ok()) << "'" << text << "': " << cpus.status();
    EXPECT_THAT(*cpus, IsEmpty());
  }
}

TEST(CpuList, IsAscendingAndWithoutRepeats) {
  const auto cpus = ParseCpuList("5,1-3,2-4,1");
  ASSERT_TRUE(cpus.ok()) << cpus.status();
  EXPECT_THAT(*cpus, ElementsAre(1, 2, 3, 4, 5));
}

// Of a megabyte that a client may send: 2^17 times the longest range are still its CPUs once.
TEST(CpuList, ThatRepeatsTheLongestRangeCostsItOnce) {
  std::string text = "0-65535";
  for (int i = 0; i < (1 << 17); ++i) text += ",0-65535";
  const auto cpus = ParseCpuList(text);
  ASSERT_TRUE(cpus.ok()) << cpus.status();
  EXPECT_EQ(cpus->size(), size_t{kMaxCpu} + 1);
}

TEST(CpuList, TakesTheHighestCpuAndNoHigher) {
  const auto highest = ParseCpuList("65535");
  ASSERT_TRUE(highest.ok());
  EXPECT_THAT(*highest, ElementsAre(kMaxCpu));
  EXPECT_FALSE(ParseCpuList("65536").ok());
  EXPECT_FALSE(ParseCpuList("0-4294967295").ok());
}

TEST(CpuList, NamesThePartThatIsNone) {
  for (const char* part : {"x", "3-1", "-1", "3-", "1-2-3", "0x1", ""}) {
    const auto cpus = ParseCpuList(std::string("0,") + part + ",9");
    ASSERT_EQ(cpus.status().code(), absl::StatusCode::kInvalidArgument) << part;
    EXPECT_THAT(std::string(cpus.status().message()), HasSubstr("'" + std::string(part) + "'"));
  }
}

}  // namespace
}  // namespace lbrd::pmu
