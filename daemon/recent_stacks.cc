#include "daemon/recent_stacks.h"

#include <utility>

namespace lbrd::daemon {
namespace {

bool Equal(const std::vector<unwind::ResolvedFrame>& a,
           const std::vector<unwind::ResolvedFrame>& b) {
  if (a.size() != b.size()) return false;
  uint64_t differ = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    differ |= (a[i].ip ^ b[i].ip) | static_cast<uint64_t>(a[i].source != b[i].source) |
              static_cast<uint64_t>(a[i].return_address != b[i].return_address);
  }
  return differ == 0;
}

}  // namespace

uint64_t RecentStacks::HashOf(const unwind::ResolvedStack& stack, uint64_t generation) const {
  // A sum of products, none of which waits for another. Its top bits choose the place.
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
  uint64_t sum = generation * kGolden;
  uint64_t factor = kGolden ^ static_cast<uint64_t>(stack.verdict.reason) << 8;
  for (const unwind::ResolvedFrame& frame : stack.frames) {
    factor += 0xd1b54a32d192ed02;  // stays odd
    sum += (frame.ip ^ frame.ip >> 32) * factor;
  }
  const uint64_t hash = (sum ^ sum >> 29) * kGolden;
  __builtin_prefetch(&places_[PairOf(hash)]);
  return hash;
}

const std::shared_ptr<const StackInfo>* RecentStacks::Find(uint64_t hash,
                                                           const unwind::ResolvedStack& stack,
                                                           uint64_t generation, bool has_jit) {
  ++asked_;
  Place* const pair = &places_[PairOf(hash)];
  if (pair[0].hash != hash) {
    if (pair[1].hash != hash) return nullptr;
    std::swap(pair[0], pair[1]);
  }
  const Place& place = pair[0];
  if (place.info == nullptr || place.generation != generation || (has_jit && place.not_with_jit) ||
      place.info->verdict != stack.verdict || place.info->has_user != stack.has_user ||
      !Equal(place.frames, stack.frames)) {
    return nullptr;
  }
  ++found_;
  return &place.info;
}

void RecentStacks::Put(uint64_t hash, const unwind::ResolvedStack& stack, uint64_t generation,
                       bool not_with_jit, std::shared_ptr<const StackInfo> info) {
  constexpr size_t kFrame = sizeof(unwind::ResolvedFrame);
  Place* const pair = &places_[PairOf(hash)];
  if (pair[0].hash != hash) std::swap(pair[0], pair[1]);
  Place& place = pair[0];
  address_bytes_ -= place.frames.capacity() * kFrame;
  place.frames = {};
  if (address_bytes_ + stack.frames.size() * kFrame > kMaxAddressBytes) Clear();
  place = {.hash = hash,
           .generation = generation,
           .frames = stack.frames,
           .info = std::move(info),
           .not_with_jit = not_with_jit};
  address_bytes_ += place.frames.capacity() * kFrame;
}

void RecentStacks::Clear() {
  for (Place& place : places_) place = {};
  address_bytes_ = 0;
}

}  // namespace lbrd::daemon
