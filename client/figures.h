// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "google/protobuf/duration.pb.h"

namespace lbrd::client {

// "1,234,567".
std::string FormatCount(uint64_t value);

// "1 sample", "1,234 samples": `noun` takes an s.
std::string FormatCountOf(uint64_t value, absl::string_view noun);

// "12.3%". Never "100.0%" of a part that is not the whole, nor "0.0%" of one that is not nothing
// ("<0.1%"). Of nothing: "0.0%".
std::string FormatPercent(uint64_t part, uint64_t whole);

// "850 ms", "12.3 s", "4 min 05 s", "2 h 03 min".
std::string FormatDuration(const google::protobuf::Duration& duration);

// A duration in nanoseconds; INT64_MAX where it would not fit, 0 where it is negative.
int64_t DurationNanos(const google::protobuf::Duration& duration);

}  // namespace lbrd::client
