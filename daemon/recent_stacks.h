// Stacks that were interned a moment ago, by what they were made of: addresses in one state of an
// address space. A stack that comes again is found here with one look, without asking for each of
// its frames where it is mapped and what it is called.
//
// A stack has two places, and takes the one that was used less recently. What is found was compared
// address by address, so a hash that two stacks share costs time and never a wrong stack. The owner
// does not put here what may have another name at another time: see daemon/stack_intern.cc.
//
// Memory: 4,096 places of 64 bytes, and at most kMaxAddressBytes for what they were made of; all
// are forgotten beyond that. Thread rules: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "daemon/sample.h"
#include "unwind/resolved_stack.h"

namespace lbrd::daemon {

class RecentStacks {
 public:
  static constexpr unsigned kPairsLog2 = 11;
  static constexpr size_t kPlaces = size_t{2} << kPairsLog2;
  static constexpr size_t kMaxAddressBytes = size_t{4} << 20;

  RecentStacks() : places_(kPlaces) {}

  // Of a stack in one generation of an address space. From here on the memory comes in where it may
  // be found.
  uint64_t HashOf(const unwind::ResolvedStack& stack, uint64_t generation) const;
  // The stack that was put for equal frames, verdict and generation. nullptr: none. `has_jit`: its
  // process makes code at run time.
  const std::shared_ptr<const StackInfo>* Find(uint64_t hash, const unwind::ResolvedStack& stack,
                                               uint64_t generation, bool has_jit);
  // One that was not found. `not_with_jit`: it is another one in a process that makes code at run
  // time.
  void Put(uint64_t hash, const unwind::ResolvedStack& stack, uint64_t generation,
           bool not_with_jit, std::shared_ptr<const StackInfo> info);
  void Clear();
  bool empty() const { return address_bytes_ == 0; }

  uint64_t found() const { return found_; }
  uint64_t asked() const { return asked_; }

 private:
  struct Place {
    uint64_t hash = 0;
    uint64_t generation = 0;
    std::vector<unwind::ResolvedFrame> frames;
    std::shared_ptr<const StackInfo> info;  // nullptr: empty
    bool not_with_jit = false;
  };
  static_assert(sizeof(Place) == 64);

  // The first of the two places; the first is the one that was used last.
  static size_t PairOf(uint64_t hash) { return 2 * (hash >> (64 - kPairsLog2)); }

  std::vector<Place> places_;
  size_t address_bytes_ = 0;
  uint64_t asked_ = 0;
  uint64_t found_ = 0;
};

}  // namespace lbrd::daemon
