#include "pmu/branch_filter.h"

#include <linux/perf_event.h>

#include "absl/strings/str_format.h"
#include "pmu/abi.h"

namespace lbrd::pmu {
namespace {

struct Filter {
  BranchFilter filter;
  absl::string_view name;
  uint64_t kinds;
};

constexpr Filter kFilters[] = {
    {BranchFilter::kCallStack, "call-stack", PERF_SAMPLE_BRANCH_CALL_STACK},
    {BranchFilter::kAny, "any", PERF_SAMPLE_BRANCH_ANY},
    {BranchFilter::kAnyCall, "any-call", PERF_SAMPLE_BRANCH_ANY_CALL},
    {BranchFilter::kAnyReturn, "any-ret", PERF_SAMPLE_BRANCH_ANY_RETURN},
    {BranchFilter::kIndirectCall, "ind-call", PERF_SAMPLE_BRANCH_IND_CALL},
    {BranchFilter::kIndirectJump, "ind-jmp", PERF_SAMPLE_BRANCH_IND_JUMP},
    {BranchFilter::kConditional, "cond", PERF_SAMPLE_BRANCH_COND},
    {BranchFilter::kCall, "call", PERF_SAMPLE_BRANCH_CALL},
};

// What does not say which branches are recorded: whose they are, and what is told of each.
constexpr uint64_t kNotKinds = PERF_SAMPLE_BRANCH_PLM_ALL | PERF_SAMPLE_BRANCH_NO_FLAGS |
                               PERF_SAMPLE_BRANCH_NO_CYCLES | PERF_SAMPLE_BRANCH_TYPE_SAVE |
                               PERF_SAMPLE_BRANCH_HW_INDEX | kBranchCounters;

const Filter& Find(BranchFilter filter) {
  for (const Filter& known : kFilters) {
    if (known.filter == filter) return known;
  }
  return kFilters[0];
}

}  // namespace

absl::string_view BranchFilterName(BranchFilter filter) { return Find(filter).name; }

uint64_t BranchSampleType(BranchFilter filter, bool hw_index) {
  const uint64_t type = PERF_SAMPLE_BRANCH_USER | Find(filter).kinds;
  // Of a history, whether branches were predicted and how long they took is half of what is told.
  if (filter != BranchFilter::kCallStack) return type;
  return type | PERF_SAMPLE_BRANCH_NO_FLAGS | PERF_SAMPLE_BRANCH_NO_CYCLES |
         (hw_index ? uint64_t{PERF_SAMPLE_BRANCH_HW_INDEX} : 0);
}

std::string DescribeBranchSampleType(uint64_t branch_sample_type) {
  for (const Filter& known : kFilters) {
    if ((branch_sample_type & ~kNotKinds) == known.kinds) {
      return absl::StrFormat("%s (%#x)", known.name, branch_sample_type);
    }
  }
  return absl::StrFormat("%#x", branch_sample_type);
}

}  // namespace lbrd::pmu
