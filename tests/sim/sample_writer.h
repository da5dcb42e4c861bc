// Records byte by byte as the kernel writes them: samples in the order of perf_output_sample(), and
// the sample_id behind everything else.
//
// The reader's counterpart is pmu/record.cc; the two share no code, so that one checks the other.
//
// Pure. Thread rules: none.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pmu/abi.h"
#include "pmu/record.h"
#include "tests/sim/truth.h"

namespace lbrd::sim {

// Who a record is from.
struct RecordWho {
  int32_t pid = 0;
  int32_t tid = 0;
  uint64_t time = 0;
  uint64_t id = 0;
  uint64_t stream_id = 0;
  uint32_t cpu = 0;
};

struct SampleParts {
  RecordWho who;
  uint16_t misc = 0;
  uint64_t ip = 0;
  uint64_t address = 0;
  uint64_t period = 0;
  std::span<const uint64_t> read_values;
  std::span<const uint64_t> chain;  // context markers included
  bool has_branches = false;
  std::span<const pmu::Branch> branches;
  uint64_t hw_index = 0;
  const Truth* user = nullptr;  // for registers and stack copy
  uint64_t cgroup = 0;
};

// *out: the whole record.
void BuildSample(const perf_event_attr& attr, const SampleParts& parts, std::vector<uint64_t>* out);

// The sample_id that ends the other records of an event with this attr; empty without
// sample_id_all.
void BuildTrailer(const perf_event_attr& attr, const RecordWho& who, std::vector<uint64_t>* out);

// Any other record: `fields`, then `text` (padded to 8 bytes, if not null), then the trailer.
void BuildRecord(uint32_t type, uint16_t misc, std::span<const uint64_t> fields,
                 const std::string* text, std::span<const uint64_t> trailer,
                 std::vector<uint64_t>* out);

// The call chain that a truth gives, as the kernel writes it; at most `max_ips` addresses.
void BuildChain(const perf_event_attr& attr, const Truth& truth, uint32_t max_ips,
                std::vector<uint64_t>* out);

inline uint64_t TwoWords(uint32_t low, uint32_t high) { return uint64_t{high} << 32 | low; }

}  // namespace lbrd::sim
