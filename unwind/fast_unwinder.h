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
// Memory: two rule caches of 512 KiB, and at most 512 KiB to name binaries. Thread rules: one owner
// per unwinder; the tables are shared.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
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

// What decided a walk: another sample of which all of this is the same, as well as the mappings,
// the instruction and stack pointers and the copy's size, is unwound to the same.
struct WalkTrace {
  struct Register {
    uint8_t perf_register;  // of the architecture's perf_regs.h
    uint64_t value;
  };
  struct Word {
    uint32_t offset;  // from the stack pointer
    uint64_t value;
  };
  std::vector<Register> registers;
  std::vector<Word> words;
  bool whole = false;  // else other things decided as well, and this says nothing

  // While it is made, by DWARF number: where in the copy the frame's value of a register was, and 1
  // more; 0: it is the sample's.
  std::array<uint32_t, 17> place;
};

class FastUnwinder {
 public:
  // More frames than this are cut (kTooDeep).
  static constexpr size_t kMaxFrames = 1024;
  // Binaries that are named; beyond that all are named anew.
  static constexpr size_t kMaxBinaries = 4096;

  struct Counts {
    uint64_t samples = 0;
    uint64_t steps = 0;         // rules asked for, whatever for
    uint64_t cache_misses = 0;  // of them, in the cache of one address space's addresses
    uint64_t table_reads = 0;   // of those, in the cache that all processes share as well
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
  // The same, and what decided it. A walk is traced as long as frames are at offsets from
  // registers; one with an expression, a PLT entry, a guess or a signal's frame in it is not.
  std::optional<Verdict> UnwindTraced(const AddressSpace& space, const pmu::Registers& registers,
                                      std::span<const std::byte> stack,
                                      std::vector<UnwoundFrame>* frames, WalkTrace* trace);

  // Whether call frame information says that the function holding `ip` has no caller: the start of
  // a process or thread. False also when there is no such information.
  bool IsThreadStart(const AddressSpace& space, uint64_t ip);

  // Whether, before the instruction at `ip` is run, its function's frame pointer is set. nullopt:
  // its call frame information does not say.
  std::optional<bool> HasFrame(const AddressSpace& space, uint64_t ip);

  // Whether `ip` is a signal trampoline. It and the frame it returns to are exact addresses.
  bool IsSignalTrampoline(const AddressSpace& space, uint64_t ip);

  const Counts& counts() const { return counts_; }
  // What was found so far is found again, by the tables. For measurements.
  void ForgetRules() {
    cache_.Clear();
    shared_.Clear();
  }

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
  // Adds the step that is about to be taken.
  void Trace(const UnwindRule& rule, const Walk& walk);
  Step TakeFullStep(const UnwindRule& rule, Walk* walk);
  Step TakeSignalReturn(Walk* walk);
  Step TakeGuess(const UnwindRule& rule, Walk* walk);

  // Names a binary, for as long as this unwinder lives.
  uint64_t NumberOf(const std::shared_ptr<const Binary>& binary);

  // User addresses leave the top bit free.
  static constexpr uint64_t kExact = uint64_t{1} << 63;

  RuleTables* const tables_;
  RuleCache cache_;   // by address and generation of an address space
  RuleCache shared_;  // by address in the file and number of the binary
  // What is pointed to keeps its place as long as it is held here, so no two have one address.
  absl::flat_hash_map<const Binary*, std::pair<std::weak_ptr<const Binary>, uint64_t>> numbers_;
  uint64_t last_number_ = 0;
  Counts counts_;
  WalkTrace* trace_ = nullptr;  // of the walk at work; nullptr: nobody wants it
};

}  // namespace lbrd::unwind
