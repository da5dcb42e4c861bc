#include "pmu/lbr_survival.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "pmu/record.h"
#include "pmu/ring.h"

namespace lbrd::pmu {
namespace {

constexpr uint64_t kRingBytes = 256 << 10;  // 50 ms of samples, ten times over
constexpr int kRoundMs = 50;
constexpr int kMaxRounds = 30;
constexpr size_t kEnoughSamples = 200;
constexpr size_t kLeastSamples = 30;
constexpr uint32_t kLeastLbrDepth = 16;  // Haswell and Broadwell; later ones have 32

// One event and its ring, given back at the end.
class SampledCpu {
 public:
  explicit SampledCpu(Kernel& kernel) : kernel_(kernel) {}
  ~SampledCpu() {
    if (memory_ != nullptr) kernel_.UnmapRing(memory_, kRingBytes);
    if (fd_ >= 0) kernel_.Close(fd_);
  }

  absl::Status Open(const perf_event_attr& attr, int32_t cpu) {
    fd_ = kernel_.OpenEvent(attr, -1, cpu);
    if (fd_ < 0) {
      return absl::ErrnoToStatus(-fd_, absl::StrCat("cannot open an LBR event on CPU ", cpu));
    }
    int error = 0;
    memory_ = kernel_.MapRing(fd_, kRingBytes, &error);
    if (memory_ == nullptr) {
      return absl::ErrnoToStatus(error, absl::StrCat("cannot map a ring for CPU ", cpu));
    }
    ring_.emplace(memory_, kernel_.PageBytes(), kRingBytes);
    return absl::OkStatus();
  }
  absl::Status Enable() {
    const int error = kernel_.Control(fd_, PERF_EVENT_IOC_ENABLE, 0);
    return error == 0 ? absl::OkStatus()
                      : absl::ErrnoToStatus(-error, "cannot enable an LBR event");
  }
  void ReadTimes(LbrSurvival* result) {
    kernel_.Control(fd_, PERF_EVENT_IOC_DISABLE, 0);
    uint64_t values[5] = {};  // value, time enabled, time running, id, lost
    if (kernel_.ReadCounts(fd_, values) < 0) return;
    result->enabled_ns = values[1];
    result->running_ns = values[2];
  }
  Ring& ring() { return *ring_; }

 private:
  Kernel& kernel_;
  int fd_ = -1;
  void* memory_ = nullptr;
  std::optional<Ring> ring_;
};

// Calls of the chain that stand in the window, from the chain's bottom up without a gap. What is
// younger than the bottom's call is the C library's.
uint32_t CallsInWindow(std::span<const Branch> window, std::span<const uint64_t> chain) {
  size_t i = 0;
  while (i < window.size() && window[i].to != chain.back()) ++i;
  uint32_t calls = 0;
  while (i < window.size() && calls < chain.size() &&
         window[i].to == chain[chain.size() - 1 - calls]) {
    ++calls;
    ++i;
  }
  return calls;
}

}  // namespace

absl::StatusOr<LbrSurvival> MeasureLbrSurvival(Kernel& kernel, const perf_event_attr& attr,
                                               uint32_t lbr_depth, SwitchingChild& child) {
  const std::span<const uint64_t> chain = child.chain();
  LbrSurvival result;
  result.cpu = child.cpu();
  result.wanted_calls =
      std::min(static_cast<uint32_t>(chain.size()), lbr_depth != 0 ? lbr_depth : kLeastLbrDepth);
  SampledCpu cpu(kernel);
  if (absl::Status opened = cpu.Open(attr, child.cpu()); !opened.ok()) return opened;
  if (absl::Status enabled = cpu.Enable(); !enabled.ok()) return enabled;
  if (absl::Status released = child.Release(); !released.ok()) return released;

  const RecordFormat format = RecordFormat::FromAttr(attr);
  std::vector<uint32_t> calls;
  for (int round = 0; round < kMaxRounds && calls.size() < kEnoughSamples; ++round) {
    kernel.Poll({}, kRoundMs);  // only to pass the time
    Ring& ring = cpu.ring();
    ring.Refresh();
    while (const perf_event_header* header = ring.Peek()) {
      const absl::StatusOr<Record> record = DecodeRecord(header, format);
      const auto* sample = record.ok() ? std::get_if<SampleRecord>(&*record) : nullptr;
      if (sample != nullptr && sample->who.pid == child.pid()) {
        calls.push_back(CallsInWindow(sample->branch_stack.branches, chain));
      }
      ring.Advance();
    }
    ring.Release();
  }
  cpu.ReadTimes(&result);
  result.samples = static_cast<uint32_t>(calls.size());
  if (calls.size() < kLeastSamples) {
    return absl::UnavailableError(absl::StrCat("only ", calls.size(), " samples on CPU ",
                                               child.cpu(), " in ", kMaxRounds * kRoundMs,
                                               " ms, too few to tell"));
  }
  const auto middle = calls.begin() + static_cast<std::ptrdiff_t>(calls.size() / 2);
  std::nth_element(calls.begin(), middle, calls.end());
  result.median_calls = *middle;
  return result;
}

}  // namespace lbrd::pmu
