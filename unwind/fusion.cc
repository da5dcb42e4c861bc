#include "unwind/fusion.h"

#include <algorithm>

namespace lbrd::unwind {
namespace {

// ff /2 with a register, and a call with all its prefixes.
constexpr uint64_t kShortestCall = 2;
constexpr uint64_t kLongestCall = 11;
// What overlaps by chance overlaps by less.
constexpr size_t kLeastOverlap = 2;

}  // namespace

bool ReturnsFrom(const ResolvedFrame& call, uint64_t return_address) {
  const uint64_t size = return_address - call.ip;
  return call.call_size != 0 ? size == call.call_size
                             : size >= kShortestCall && size <= kLongestCall;
}

std::optional<size_t> FindOverlap(std::span<const ResolvedFrame> calls,
                                  std::span<const uint64_t> returns,
                                  absl::FunctionRef<std::optional<size_t>()> missed) {
  std::optional<size_t> found;
  std::optional<size_t> known_missed;
  bool several = false;
  const size_t most = std::min(calls.size(), returns.size());
  for (size_t overlap = kLeastOverlap; overlap <= most; ++overlap) {
    const size_t skipped = calls.size() - overlap;
    const auto fits = [&] {
      for (size_t i = overlap; i-- > 0;) {
        if (!ReturnsFrom(calls[skipped + i], returns[i])) return false;
      }
      return true;
    };
    if (!fits()) continue;
    if (!found.has_value()) known_missed = missed();
    if (skipped == known_missed) return overlap;
    several = found.has_value();
    found = overlap;
  }
  return several ? std::nullopt : found;
}

}  // namespace lbrd::unwind
