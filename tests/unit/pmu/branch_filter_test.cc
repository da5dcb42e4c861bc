#include "pmu/branch_filter.h"

#include <gtest/gtest.h>
#include <linux/perf_event.h>

#include <set>
#include <string>

namespace lbrd::pmu {
namespace {

TEST(BranchFilter, AsksForOneKindOfBranchesOfUserMode) {
  EXPECT_EQ(BranchSampleType(BranchFilter::kCallStack, /*hw_index=*/true), 0x2c801u);
  EXPECT_EQ(BranchSampleType(BranchFilter::kCallStack, /*hw_index=*/false), 0xc801u);
  // Flags and cycles are told of histories, and no index.
  EXPECT_EQ(BranchSampleType(BranchFilter::kAny, true), 0x9u);
  EXPECT_EQ(BranchSampleType(BranchFilter::kAnyCall, true), 0x11u);
  EXPECT_EQ(BranchSampleType(BranchFilter::kAnyReturn, true), 0x21u);
  EXPECT_EQ(BranchSampleType(BranchFilter::kIndirectCall, true), 0x41u);
  EXPECT_EQ(BranchSampleType(BranchFilter::kConditional, true), 0x401u);
  EXPECT_EQ(BranchSampleType(BranchFilter::kIndirectJump, true), 0x1001u);
  EXPECT_EQ(BranchSampleType(BranchFilter::kCall, true), 0x2001u);
}

TEST(BranchFilter, HasANameOfItsOwn) {
  std::set<std::string> names;
  for (int i = 0; i <= static_cast<int>(BranchFilter::kCall); ++i) {
    const auto filter = static_cast<BranchFilter>(i);
    names.insert(std::string(BranchFilterName(filter)));
    // As somebody else may ask for it: with the kernel's part, too.
    const std::string described =
        DescribeBranchSampleType(BranchSampleType(filter, true) | PERF_SAMPLE_BRANCH_KERNEL);
    EXPECT_EQ(described.rfind(std::string(BranchFilterName(filter)) + " (0x", 0), 0u) << described;
  }
  EXPECT_EQ(names.size(), 8u);
  EXPECT_EQ(DescribeBranchSampleType(0x2c801), "call-stack (0x2c801)");
  EXPECT_EQ(DescribeBranchSampleType(0x51), "0x51") << "two kinds have no one name";
}

}  // namespace
}  // namespace lbrd::pmu
