// User stacks from call frame information over a copied stack, by tables of rules made beforehand.
//
// A step is: find the rule of an address in a cache, compute the CFA, read what was saved around
// it. All registers are followed, so whatever rule comes next finds what it needs. Rules with DWARF
// expressions and signal frames are evaluated here as well; what is not understood is handed over
// to DwarfUnwinder, for the whole sample (nullopt).
//
// Code without call frame information is left by guesses: frame pointers, and the look of the code
// at the sampled address. A guess is taken only if it leads to an executable mapping, behind what
// may be a call where the code can be read, and up the stack. Its frames say that they are guesses,
// and no stack with a guess in it is complete.
//
// Memory: a rule cache of 512 KiB. Thread rules: one owner per unwinder; the tables are shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pmu/record.h"
#include "unwind/address_space.h"
#include "unwind/rule_cache.h"
#include "unwind/rule_tables.h"
#include "unwind/stack.h"

namespace lbrd::unwind {

struct UnwoundFrame {
  uint64_t ip = 0;
  bool exact = false;  // else a return address, which belongs to the instruction before it
  bool guess = false;
  bool operator==(const UnwoundFrame&) const = default;
};

class FastUnwinder {
 public:
  // More frames than this are cut (kTooDeep).
  static constexpr size_t kMaxFrames = 1024;

  struct Counts {
    uint64_t samples = 0;
    uint64_t steps = 0;         // rules asked for
    uint64_t cache_misses = 0;  // of them
    uint64_t full_rules = 0;    // steps by a full rule, a signal frame without information included
    uint64_t guesses = 0;
    uint64_t handed_over = 0;  // samples
  };

  // Borrows `tables`.
  explicit FastUnwinder(RuleTables* tables) : tables_(tables) {}

  // The frames above the sampled one, youngest first, appended to *frames; at most kMaxFrames.
  // Registers and stack are those of the sample; the verdict says how it ended. nullopt: not all
  // rules on the way are understood; *frames is as it was.
  std::optional<Verdict> Unwind(const AddressSpace& space, const pmu::Registers& registers,
                                std::span<const std::byte> stack,
                                std::vector<UnwoundFrame>* frames);

  // Whether call frame information says that the function holding `ip` has no caller: the start of
  // a process or thread. False also when there is no such information.
  bool IsThreadStart(const AddressSpace& space, uint64_t ip);

  // Whether `ip` is a signal trampoline. It and the frame it returns to are exact addresses.
  bool IsSignalTrampoline(const AddressSpace& space, uint64_t ip);

  const Counts& counts() const { return counts_; }
  // What was found so far is found again, by the tables. For measurements.
  void ForgetRules() { cache_.Clear(); }

 private:
  struct Walk;
  enum class Step : uint8_t { kTaken, kStopped, kHandOver };

  // The rule at an address; nullptr: it is in no mapping. `exact`: an instruction to be run next;
  // else the one before it has called.
  const UnwindRule* RuleAt(const AddressSpace& space, uint64_t ip, bool exact) {
    const uint64_t key = exact ? ip | kExact : ip - 1;
    const UnwindRule* known = cache_.Find(key, space.generation());
    return known != nullptr ? known : FindRule(space, ip, exact, key);
  }
  const UnwindRule* FindRule(const AddressSpace& space, uint64_t ip, bool exact, uint64_t key);

  Step TakeStep(const UnwindRule& rule, Walk* walk);
  Step TakeOffsetsStep(const UnwindRule& rule, uint64_t cfa, Walk* walk);
  Step TakeRareStep(const UnwindRule& rule, Walk* walk);
  Step TakeFullStep(const UnwindRule& rule, Walk* walk);
  Step TakeSignalReturn(Walk* walk);
  Step TakeGuess(const UnwindRule& rule, Walk* walk);

  // User addresses leave the top bit free.
  static constexpr uint64_t kExact = uint64_t{1} << 63;

  RuleTables* const tables_;
  RuleCache cache_;
  Counts counts_;
};

}  // namespace lbrd::unwind
