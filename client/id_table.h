// Where each definition of a profile stands, by its id.
//
// A daemon numbers what it defines without large gaps, so most tables are one array; ids that lie
// far apart (another writer, or damage) are hashed, so that memory is bounded by how many there
// are.
//
// Thread rules: immutable once built.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace lbrd::client {

class IdTable {
 public:
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  // Of ids in the order in which they are defined. The first of them that is 0 or comes twice goes
  // to *bad, and the table is of no use then; kNone: all are good.
  template <typename Definitions>
  static IdTable Of(const Definitions& definitions, uint32_t* bad) {
    IdTable table;
    *bad = kNone;
    uint64_t least = std::numeric_limits<uint64_t>::max();
    uint64_t most = 0;
    for (const auto& definition : definitions) {
      least = std::min<uint64_t>(least, definition.id());
      most = std::max<uint64_t>(most, definition.id());
    }
    const auto count = static_cast<size_t>(definitions.size());
    if (count == 0) return table;
    table.dense_ = most - least < 4 * count + 64;
    table.first_ = least;
    if (table.dense_) {
      table.places_.resize(most - least + 1, kNone);
    } else {
      table.far_apart_.reserve(count);
    }
    uint32_t place = 0;
    for (const auto& definition : definitions) {
      uint32_t& known = table.dense_
                            ? table.places_[definition.id() - least]
                            : table.far_apart_.try_emplace(definition.id(), kNone).first->second;
      if (definition.id() == 0 || known != kNone) {
        *bad = place;
        return table;
      }
      known = place++;
    }
    return table;
  }

  // kNone: nothing has this id.
  uint32_t Find(uint64_t id) const {
    if (dense_) return id - first_ < places_.size() ? places_[id - first_] : kNone;
    const auto found = far_apart_.find(id);
    return found == far_apart_.end() ? kNone : found->second;
  }
  bool contains(uint64_t id) const { return Find(id) != kNone; }

 private:
  bool dense_ = true;
  uint64_t first_ = 0;
  std::vector<uint32_t> places_;
  absl::flat_hash_map<uint64_t, uint32_t> far_apart_;
};

}  // namespace lbrd::client
