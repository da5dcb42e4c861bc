// A sample in two: its record without the copy of the stack, and that copy where it stands.
//
// Most of a large sample is its copy of the stack, of which an unwinder looks at little. The rest
// is what a parser looks at, and is copied, so that nobody changes it meanwhile.
//
// Thread rules: pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "pmu/record.h"

namespace lbrd::pmu {

// A copy of the stack that does not stand in its sample's record.
struct StackCopy {
  const std::byte* begin = nullptr;  // nullptr: there is none
  uint32_t bytes = 0;                // what the kernel could copy, from SP up
  uint32_t asked = 0;                // see SampleRecord
};

struct SplitSample {
  StackCopy stack;
  size_t record_bytes = 0;
};

// Splits a sample. `header` is the record's, `fields` is what follows it, of any alignment of 8;
// the record without the stack, which DecodeRecord() takes for one of a task that has none, goes to
// `to`, which has room for all of it. nullopt: there is no copy of a stack in it, or the record
// does not hold the fields of its format; nothing is written then.
std::optional<SplitSample> Split(const perf_event_header& header, std::span<const std::byte> fields,
                                 const RecordFormat& format, std::byte* to);

// DecodeRecord() of a record that was split, with its stack.
absl::StatusOr<Record> DecodeSplit(const perf_event_header* header, const StackCopy& stack,
                                   const RecordFormat& format);

}  // namespace lbrd::pmu
