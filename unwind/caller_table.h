// Which call sites have been seen to lead to a function: what tells a caller that can be inferred
// from one that can only be guessed.
//
// A function counts as having one caller when kEnough sightings in a row named the same call site
// and no other was ever seen. That is evidence, and no proof: a second caller that was never seen
// stays unknown (docs/design/lbr-stitching.md says what that costs).
//
// A set of four places for each function: a new one takes that of the function which was not seen
// for the longest, and only where all four have been asked for lately, one of these. What stacks
// are stitched with may never be seen again (a program's way to main), and stays. An entry is of
// one state of an address space, as in unwind/rule_cache.
//
// Memory: kEntries of 40 bytes, 320 KiB. Thread rules: one owner.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lbrd::unwind {

class CallerTable {
 public:
  static constexpr unsigned kSetsLog2 = 11;
  static constexpr size_t kWays = 4;
  static constexpr size_t kEntries = kWays << kSetsLog2;
  // With two callers that are equally frequent, all of these name one of them with a chance of
  // 2^-31.
  static constexpr uint32_t kEnough = 32;

  CallerTable() : entries_(kEntries) {}

  // `caller` (the address of a call) has led to the function that begins at `function`.
  void Saw(uint64_t generation, uint64_t function, uint64_t caller) {
    ++now_;
    Entry* entry = Find(generation, function);
    if (entry == nullptr) {
      *Oldest(SetOf(generation, function)) = {function, generation, caller, now_, 0, 1, false};
      return;
    }
    entry->seen = now_;
    entry->many |= entry->caller != caller;
    entry->sightings = std::min<uint8_t>(entry->sightings + 1, kEnough);
  }

  // The only caller that was seen of a function, however often; 0: none, or several.
  uint64_t OnlyCaller(uint64_t generation, uint64_t function) {
    const Entry* entry = Ask(generation, function);
    return entry != nullptr && !entry->many ? entry->caller : 0;
  }

  // `enough`: sightings wanted.
  bool IsOnlyCaller(uint64_t generation, uint64_t function, uint64_t caller,
                    uint32_t enough = kEnough) {
    const Entry* entry = Ask(generation, function);
    return entry != nullptr && entry->caller == caller && !entry->many &&
           entry->sightings >= enough;
  }

 private:
  struct Entry {
    uint64_t function = 0;
    uint64_t generation = 0;  // 0: empty
    uint64_t caller = 0;
    uint32_t seen = 0;   // now_ when it was, last
    uint32_t asked = 0;  // and when it was asked for; 0: never
    uint8_t sightings = 0;
    bool many = false;
  };
  static_assert(sizeof(Entry) == 40);

  std::span<Entry, kWays> SetOf(uint64_t generation, uint64_t function) {
    constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
    const uint64_t set = ((function ^ generation << 40) * kGolden) >> (64 - kSetsLog2);
    return std::span(entries_).subspan(set * kWays).first<kWays>();
  }

  Entry* Find(uint64_t generation, uint64_t function) {
    for (Entry& entry : SetOf(generation, function)) {
      if (entry.function == function && entry.generation == generation) return &entry;
    }
    return nullptr;
  }

  const Entry* Ask(uint64_t generation, uint64_t function) {
    Entry* entry = Find(generation, function);
    if (entry != nullptr) entry->asked = now_;
    return entry;
  }

  bool IsAskedFor(const Entry& entry) const {
    return entry.asked != 0 && now_ - entry.asked < kLately;
  }

  Entry* Oldest(std::span<Entry, kWays> set) const {
    Entry* oldest = &set[0];
    for (Entry& entry : set) {
      if (entry.generation == 0) return &entry;
      const bool asked = IsAskedFor(entry);
      const bool oldest_asked = IsAskedFor(*oldest);
      if (asked != oldest_asked ? oldest_asked : now_ - entry.seen > now_ - oldest->seen) {
        oldest = &entry;
      }
    }
    return oldest;
  }

  // Sightings ago; they come by the ten thousand each second.
  static constexpr uint32_t kLately = 1u << 22;

  std::vector<Entry> entries_;
  uint32_t now_ = 0;  // wraps around: ages are differences
};

}  // namespace lbrd::unwind
