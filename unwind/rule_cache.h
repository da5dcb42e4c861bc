// Rules by where they were last used: a direct-mapped cache of one thread that unwinds.
//
// An entry is of an address in one state of an address space (AddressSpace::generation()), so a
// change of mappings costs nothing: what was there is simply not found again.
// Memory: kEntries of 32 bytes, 512 KiB.
//
// Thread rules: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "unwind/unwind_rules.h"

namespace lbrd::unwind {

class RuleCache {
 public:
  static constexpr unsigned kEntriesLog2 = 14;
  static constexpr size_t kEntries = size_t{1} << kEntriesLog2;

  struct Entry {
    uint64_t key = 0;
    uint64_t generation = 0;  // 0: empty
    UnwindRule rule;
  };
  static_assert(sizeof(Entry) == 32);

  RuleCache() : entries_(kEntries) {}

  // nullptr: not there.
  const UnwindRule* Find(uint64_t key, uint64_t generation) const {
    const Entry& entry = entries_[Slot(key, generation)];
    return entry.key == key && entry.generation == generation ? &entry.rule : nullptr;
  }
  const UnwindRule* Put(uint64_t key, uint64_t generation, const UnwindRule& rule) {
    Entry& entry = entries_[Slot(key, generation)];
    entry = {key, generation, rule};
    return &entry.rule;
  }
  void Clear() { entries_.assign(kEntries, {}); }

 private:
  static size_t Slot(uint64_t key, uint64_t generation) {
    // Fibonacci hashing: the product's high bits depend on all of the key's.
    constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
    return ((key ^ generation << 40) * kGolden) >> (64 - kEntriesLog2);
  }

  std::vector<Entry> entries_;
};

}  // namespace lbrd::unwind
