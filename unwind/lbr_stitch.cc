#include "unwind/lbr_stitch.h"

#include <algorithm>

namespace lbrd::unwind {
namespace {

// How many calls are equal, from the window's oldest and history[place] on towards the leaf.
size_t Overlap(std::span<const Call> history, std::span<const Call> window, size_t place) {
  const size_t most = std::min(window.size(), place + 1);
  size_t equal = 0;
  while (equal < most && window[window.size() - 1 - equal] == history[place - equal]) ++equal;
  return equal;
}

}  // namespace

Joint FindJoint(std::span<const Call> history, std::span<const Call> window,
                std::optional<IndexShift> index) {
  if (window.size() < kLeastOverlap) return {};
  const Call oldest = window.back();
  // As deep now as then, and as much deeper as the index has moved on (modulo the depth):
  // window.size() - 1 - place = shift.
  const auto allowed = [&](size_t place) {
    return (place + index->shift + index->depth - (window.size() - 1) % index->depth) %
               index->depth ==
           0;
  };
  size_t places = 0;
  size_t allowed_places = 0;
  Joint any;
  Joint by_index;
  for (size_t place = kLeastOverlap - 1; place < history.size(); ++place) {
    if (history[place] != oldest) continue;
    const size_t overlap = Overlap(history, window, place);
    if (overlap < kLeastOverlap) continue;
    ++places;
    any = {Joint::Kind::kOnly, place + 1, overlap};
    if (!index.has_value() || !allowed(place)) continue;
    ++allowed_places;
    by_index = {Joint::Kind::kByIndex, place + 1, overlap};
  }
  if (places == 0) return {};
  if (index.has_value() && allowed_places == 0) return {};  // it was there by chance
  // A call that the window holds twice is recursion: the thread may have gone around more often
  // than the window and the history together show.
  const bool repeats = std::count(window.begin(), window.end(), oldest) > 1;
  if (places == 1 && !repeats) return any;
  if (allowed_places == 1) return by_index;
  return {.kind = Joint::Kind::kAmbiguous};
}

}  // namespace lbrd::unwind
