// What a recording gives until it ends, for tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "perf_data_bytes.h"
#include "pmu/perf_data.h"
#include "pmu/record.h"

namespace lbrd::pmu {

// What a recording gave until it ended.
struct Content {
  std::vector<uint64_t> times;
  std::vector<uint64_t> ips;       // of samples
  std::vector<std::string> comms;  // of COMM records
  std::vector<uint32_t> events;    // of samples
  uint64_t undecodable = 0;        // by DecodeRecord()
  absl::Status end;
};

inline Content ReadAll(PerfData& data) {
  Content content;
  RawRecord raw;
  for (;;) {
    const absl::StatusOr<ReadResult> result = data.Next(&raw);
    content.end = result.status();
    if (!result.ok() || *result == ReadResult::kEnd) return content;
    EXPECT_EQ(*result, ReadResult::kRecord);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(raw.header) % 8, 0u);
    if (raw.event >= data.events().size()) {
      ADD_FAILURE() << "an event that does not exist";
      return content;
    }
    content.times.push_back(raw.who.time);
    const absl::StatusOr<Record> record = DecodeRaw(raw, data.events()[raw.event].format);
    if (!record.ok()) {
      ++content.undecodable;
    } else if (const auto* sample = std::get_if<SampleRecord>(&*record)) {
      content.ips.push_back(sample->ip);
      content.events.push_back(raw.event);
    } else if (const auto* comm = std::get_if<CommRecord>(&*record)) {
      content.comms.emplace_back(comm->comm);
    }
  }
}

// The file is gone as soon as it is open.
inline absl::StatusOr<std::unique_ptr<PerfData>> TryOpen(const ByteVector& bytes,
                                                         const PerfDataOptions& options = {}) {
  const std::string path = WriteTemporary(bytes);
  absl::StatusOr<std::unique_ptr<PerfData>> data = PerfData::Open(path, options);
  unlink(path.c_str());
  return data;
}
inline std::unique_ptr<PerfData> OpenBytes(const ByteVector& bytes,
                                           const PerfDataOptions& options = {}) {
  absl::StatusOr<std::unique_ptr<PerfData>> data = TryOpen(bytes, options);
  EXPECT_TRUE(data.ok()) << data.status();
  return data.ok() ? *std::move(data) : nullptr;
}
inline absl::Status OpenError(const ByteVector& bytes) { return TryOpen(bytes).status(); }
inline Content ReadBytes(const ByteVector& bytes, const PerfDataOptions& options = {}) {
  const std::unique_ptr<PerfData> data = OpenBytes(bytes, options);
  return data == nullptr ? Content{} : ReadAll(*data);
}

inline ByteVector Text(absl::string_view text) {
  ByteVector bytes;
  Append(bytes, text.data(), text.size());
  return bytes;
}

}  // namespace lbrd::pmu
