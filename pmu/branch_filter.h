// Which branches the LBR is asked to record. The hardware holds one filter at a time; only that of
// call stacks gives stacks, the others give a history of branches.
//
// Names are perf's (`perf record -j`), with dashes as everywhere here.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace lbrd::pmu {

enum class BranchFilter : uint8_t {
  kCallStack,
  kAny,
  kAnyCall,
  kAnyReturn,
  kIndirectCall,
  kIndirectJump,
  kConditional,
  kCall,
};

// "call-stack", "any", "any-call", "any-ret", "ind-call", "ind-jmp", "cond", "call".
absl::string_view BranchFilterName(BranchFilter filter);

// The whole branch_sample_type to ask for; of user mode only. `hw_index`: of call stacks, the
// top-of-stack index as well.
uint64_t BranchSampleType(BranchFilter filter, bool hw_index);

// For people: the filter's name and the number, "call-stack (0x2c801)"; the number alone where
// there is no name for it.
std::string DescribeBranchSampleType(uint64_t branch_sample_type);

}  // namespace lbrd::pmu
