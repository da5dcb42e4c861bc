// The part of a sample's stack copy that the kernel left empty.
//
// The kernel takes room for as many bytes as were asked for, and fills only what there is of the
// stack: of 16 KiB a half, in a mixed load. Whoever copies a sample need not copy the rest.
//
// Thread rules: pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "pmu/record.h"

namespace lbrd::pmu {

// Offsets into the record, in bytes; all divide by 8.
struct EmptyStack {
  size_t size_at = 0;  // the field that says how large the copy is
  size_t begin = 0;
  size_t bytes = 0;  // none of them says anything
};

// nullopt: it is not worth it, or the record is no such sample. Some of what is empty is never told
// of, so that the copy stays larger than what is in it: a full one may go on.
std::optional<EmptyStack> FindEmptyStack(const perf_event_header* header,
                                         const RecordFormat& format);

// Appends the record without that part, header->size - empty.bytes bytes: the same sample, as if it
// had been asked for with a smaller copy.
void AppendWithout(const perf_event_header* header, const EmptyStack& empty,
                   std::vector<uint64_t>* out);

}  // namespace lbrd::pmu
