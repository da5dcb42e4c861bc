// Which call sites have been seen to lead to a function: what tells a caller that can be inferred
// from one that can only be guessed.
//
// A function counts as having one caller when kEnough sightings in a row named the same call site
// and no other was ever seen. That is evidence, and no proof: a second caller that was never seen
// stays unknown (docs/design/lbr-stitching.md says what that costs).
//
// Direct-mapped: a function that displaces another begins anew, at no sightings. An entry is of one
// state of an address space, as in unwind/rule_cache.
// Memory: kEntries of 32 bytes, 256 KiB. Thread rules: one owner.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lbrd::unwind {

class CallerTable {
 public:
  static constexpr unsigned kEntriesLog2 = 13;
  static constexpr size_t kEntries = size_t{1} << kEntriesLog2;
  // With two callers that are equally frequent, all of these name one of them with a chance of
  // 2^-31.
  static constexpr uint32_t kEnough = 32;

  CallerTable() : entries_(kEntries) {}

  // `caller` (the address of a call) has led to the function that begins at `function`.
  void Saw(uint64_t generation, uint64_t function, uint64_t caller) {
    Entry& entry = entries_[Slot(function, generation)];
    if (entry.function != function || entry.generation != generation) {
      entry = {function, generation, caller, 1, false};
      return;
    }
    entry.many |= entry.caller != caller;
    entry.sightings = std::min(entry.sightings + 1, kEnough);
  }

  // The only caller that was seen of a function, however often; 0: none, or several.
  uint64_t OnlyCaller(uint64_t generation, uint64_t function) const {
    const Entry& entry = entries_[Slot(function, generation)];
    return entry.function == function && entry.generation == generation && !entry.many
               ? entry.caller
               : 0;
  }

  // `enough`: sightings wanted.
  bool IsOnlyCaller(uint64_t generation, uint64_t function, uint64_t caller,
                    uint32_t enough = kEnough) const {
    const Entry& entry = entries_[Slot(function, generation)];
    return entry.function == function && entry.generation == generation && entry.caller == caller &&
           !entry.many && entry.sightings >= enough;
  }

 private:
  struct Entry {
    uint64_t function = 0;
    uint64_t generation = 0;  // 0: empty
    uint64_t caller = 0;
    uint32_t sightings = 0;
    bool many = false;
  };
  static_assert(sizeof(Entry) == 32);

  static size_t Slot(uint64_t function, uint64_t generation) {
    constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
    return ((function ^ generation << 40) * kGolden) >> (64 - kEntriesLog2);
  }

  std::vector<Entry> entries_;
};

}  // namespace lbrd::unwind
