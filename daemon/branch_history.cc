#include "daemon/branch_history.h"

#include <algorithm>
#include <cstring>

namespace lbrd::daemon {
namespace {

constexpr uint64_t kEndOfUserSpace = uint64_t{1} << 47;

}  // namespace

void BranchHistory::Store(uint64_t time_ns, std::span<const pmu::Branch> calls) {
  count_ = 0;
  time_ns_ = time_ns;
  truncated_ = calls.size() > kMaxCalls;
  const size_t kept = std::min(calls.size(), kMaxCalls);
  uint8_t* out = bytes_.data();
  for (const pmu::Branch& call : calls.first(kept)) {
    if (call.from >= kEndOfUserSpace || call.to >= kEndOfUserSpace) return;
    for (const uint64_t address : {uint64_t{call.from}, uint64_t{call.to}}) {
      std::memcpy(out, &address, kAddressBytes);  // little-endian: the low bytes come first
      out += kAddressBytes;
    }
  }
  count_ = static_cast<uint8_t>(kept);
}

uint64_t BranchHistory::Load(size_t address) const {
  uint64_t value = 0;
  std::memcpy(&value, bytes_.data() + address * kAddressBytes, kAddressBytes);
  return value;
}

}  // namespace lbrd::daemon
