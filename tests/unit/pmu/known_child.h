// A child for the LBR experiment that is not there: its chain is known, and tests write its
// samples.
#pragma once

#include <memory>
#include <vector>

#include "pmu/switching_child.h"
#include "record_bytes.h"

namespace lbrd::pmu {

class KnownChild : public SwitchingChild {
 public:
  static constexpr int32_t kPid = 4242;
  // Function n of the chain begins at 0x1000 * (n + 1).
  KnownChild() {
    for (uint64_t i = 0; i < kCalls; ++i) chain_.push_back(0x1000 * (i + 1));
  }
  int32_t pid() const override { return kPid; }
  int32_t cpu() const override { return 1; }
  std::span<const uint64_t> chain() const override { return chain_; }
  absl::Status Release() override {
    ++releases;
    return release_status;
  }

  int releases = 0;
  absl::Status release_status;

 private:
  std::vector<uint64_t> chain_;
};

// A sample of the LBR sampling attr with the `calls` youngest calls of the chain in its window, and
// before them `younger` others.
inline std::vector<uint64_t> LbrSample(const SwitchingChild& child, uint32_t calls,
                                       uint32_t younger = 0, int32_t pid = KnownChild::kPid) {
  RecordBytes record(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_USER);
  record.U64(1).U64(0x14010);  // identifier, ip
  record.U32(static_cast<uint32_t>(pid)).U32(static_cast<uint32_t>(pid));
  record.U64(5).U32(1).U32(0).U64(0);  // time, cpu, an empty chain; its period is fixed
  record.U64(calls + younger).U64(0);  // hw_idx
  for (uint32_t i = 0; i < younger; ++i) record.U64s({0x14020, 0xc0000, 0});
  for (uint32_t i = 0; i < calls; ++i) {
    const uint64_t to = child.chain()[SwitchingChild::kCalls - 1 - i];
    record.U64s({to - 0x1000 + 8, to, 0});
  }
  record.U64(PERF_SAMPLE_REGS_ABI_64).U64s({0, 0, 0});
  const std::vector<std::byte> bytes = record.bytes();
  std::vector<uint64_t> words(bytes.size() / 8);
  memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

}  // namespace lbrd::pmu
