#include "unwind/address_space.h"

#include <algorithm>
#include <utility>

#include "unwind/generation.h"

namespace lbrd::unwind {

bool AddressSpace::Map(Mapping mapping) {
  if (mapping.end <= mapping.start) return false;
  // Everything that ends after our start and starts before our end is (partly) gone.
  auto first = std::partition_point(mappings_.begin(), mappings_.end(),
                                    [&](const Mapping& m) { return m.end <= mapping.start; });
  auto last = std::partition_point(first, mappings_.end(),
                                   [&](const Mapping& m) { return m.start < mapping.end; });
  if (last - first == 1 && first->start == mapping.start && first->end == mapping.end &&
      first->file_offset == mapping.file_offset && first->binary == mapping.binary) {
    return true;  // said again, e.g. by both /proc and a record
  }
  std::vector<Mapping> pieces;
  if (first != last && first->start < mapping.start) {
    pieces.push_back(*first);
    pieces.back().end = mapping.start;
  }
  const Mapping* tail = first != last ? &*(last - 1) : nullptr;
  const bool keep_tail = tail != nullptr && tail->end > mapping.end;
  Mapping rest;
  if (keep_tail) {
    rest = *tail;
    rest.file_offset += mapping.end - rest.start;
    rest.start = mapping.end;
  }
  const size_t added = pieces.size() + 1 + (keep_tail ? 1 : 0);
  if (mappings_.size() - static_cast<size_t>(last - first) + added > kMaxMappings) {
    return false;
  }
  pieces.push_back(std::move(mapping));
  if (keep_tail) pieces.push_back(std::move(rest));
  first = mappings_.erase(first, last);
  mappings_.insert(first, std::make_move_iterator(pieces.begin()),
                   std::make_move_iterator(pieces.end()));
  generation_ = NextGeneration();
  return true;
}

void AddressSpace::Clear() {
  mappings_.clear();
  generation_ = 1;
}

const Mapping* AddressSpace::Find(uint64_t address) const {
  const auto after = std::partition_point(mappings_.begin(), mappings_.end(),
                                          [&](const Mapping& m) { return m.end <= address; });
  return after != mappings_.end() && after->start <= address ? &*after : nullptr;
}

}  // namespace lbrd::unwind
