// Whether a window of the LBR can be the sampled process's stack. Kernels do hand out other tasks'
// windows, stale entries, and what a program left behind that was there before an exec; and long
// jumps, exceptions and switches between fibers leave calls in it that are no more.
//
// Each call, from the leaf on, must
//   - come from and go to executable mappings of the process;
//   - be a call instruction there, and if it is a direct one, to where the entry says;
//   - have been made in the function that the next older entry called. Or that one can have left
//     for it by a jump (a tail call, a PLT entry): the caller is then right and a frame is gone.
// The window is cut where that ends. Where an older entry did call the function in question, the
// entries between are calls that were never returned from (a long jump): they are left out, and the
// stack is not sure. Where code or function bounds cannot be read, nothing is concluded.
//
// Results are kept by call, in a direct-mapped table with the address space's generation: a window
// costs a look-up an entry.
// Memory: 8,192 calls of a cache line each and 1,024 jumps of 32 bytes: 544 KiB. Thread rules: one
// owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/strings/string_view.h"
#include "pmu/record.h"
#include "unwind/address_space.h"
#include "unwind/call_history.h"
#include "unwind/fast_unwinder.h"

namespace lbrd::unwind {

// What may be found in a window; each is counted once a window.
enum class WindowFinding : uint8_t {
  kForeign,        // cut at a call from or to where the process has no code
  kNotACall,       // cut where there is no call instruction
  kOtherTarget,    // cut at a direct call that goes elsewhere
  kNotChained,     // cut at a call that the one made next does not follow from
  kBelowStart,     // cut below the thread's start
  kStale,          // left out calls that were never returned from
  kLeafElsewhere,  // the sampled instruction is not in the function called last
  kTailCall,       // a function was left for another by a jump: its frame is missing
  kUnchecked,      // code or function bounds could not be read for some of it
  kDisagrees,      // the copy of the stack says otherwise
};
inline constexpr size_t kWindowFindings = 10;
absl::string_view WindowFindingName(WindowFinding finding);

class WindowFindings {
 public:
  void Add(WindowFinding finding) { bits_ |= 1u << static_cast<unsigned>(finding); }
  bool Has(WindowFinding finding) const {
    return (bits_ >> static_cast<unsigned>(finding) & 1) != 0;
  }
  bool any() const { return bits_ != 0; }
  // Bit n: the finding of number n.
  uint32_t bits() const { return bits_; }

 private:
  uint32_t bits_ = 0;
};

struct CheckedCall {
  Call call;
  uint64_t caller = 0;  // first address of the function that it was made in; 0: not known
  uint8_t size = 0;     // bytes of its instruction; 0: not read
};

struct CheckedWindow {
  std::vector<CheckedCall> calls;  // what stands, leaf first
  WindowFindings findings;
  bool reaches_start = false;  // the oldest call is the thread's start's
  bool cut = false;            // for any other reason than having reached it
  bool doubtful = false;       // some of it may not be, or no longer be, the stack

  void Clear();
};

class LbrValidator {
 public:
  // Borrows `unwinder`, which knows where threads start.
  explicit LbrValidator(FastUnwinder* unwinder)
      : unwinder_(*unwinder), known_(kKnownCalls), jumps_(kKnownJumps) {}

  // `user_ip`: where user mode was, if known. `in_kernel`: the sample was taken in the kernel, with
  // user mode standing still.
  void Check(const AddressSpace& space, std::span<const pmu::Branch> window,
             std::optional<uint64_t> user_ip, bool in_kernel, CheckedWindow* out);

  // The function that holds an address, by its first one; 0: not known.
  uint64_t FunctionOf(const AddressSpace& space, uint64_t address) const;
  // Bytes of the call instruction at `from`; 0: it could not be read.
  uint8_t CallSize(const AddressSpace& space, const Call& call) { return Look(space, call).size; }
  // The functions, by their first address, that hold a call and what it calls; 0: not known.
  uint64_t CallerOf(const AddressSpace& space, const Call& call) {
    return Look(space, call).caller;
  }
  uint64_t CalleeOf(const AddressSpace& space, const Call& call) {
    return Look(space, call).callee;
  }
  // Whether a call is made by the function that its thread starts in.
  bool IsMadeAtStart(const AddressSpace& space, const Call& call) {
    return Look(space, call).thread_start;
  }
  // Whether a call is made by the code that starts programs and threads, which does so once.
  bool IsMadeOnce(const AddressSpace& space, const Call& call) { return Look(space, call).once; }

 private:
  enum class Fault : uint8_t { kNone, kForeign, kNotACall, kOtherTarget };
  enum class Chain : uint8_t { kYes, kTailCall, kMaybe, kNo, kUnchecked };
  struct alignas(64) KnownCall {
    Call call;
    uint64_t generation = 0;  // 0: empty
    uint64_t caller = 0;      // first address of the function that holds `from`; 0: not known
    uint64_t callee = 0;      // of the one that holds `to`; 0: not known
    uint32_t callee_size = 0;
    uint8_t size = 0;  // of the instruction; 0: not read
    Fault fault = Fault::kNone;
    bool thread_start = false;
    bool once = false;
  };
  static_assert(sizeof(KnownCall) == 64);
  struct KnownJump {
    uint64_t to = 0;
    uint64_t inner = 0;
    uint64_t generation = 0;
    Chain chain = Chain::kUnchecked;
  };
  static_assert(sizeof(KnownJump) == 32);
  struct Range {
    uint64_t start = 0;
    uint64_t size = 0;  // 0: not known
    bool starts_threads = false;
  };
  static constexpr unsigned kKnownCallsLog2 = 13;
  static constexpr size_t kKnownCalls = size_t{1} << kKnownCallsLog2;
  static constexpr unsigned kKnownJumpsLog2 = 10;
  static constexpr size_t kKnownJumps = size_t{1} << kKnownJumpsLog2;

  const KnownCall& Look(const AddressSpace& space, const Call& call) {
    KnownCall& known = known_[SlotOf(call.from, call.to, space.generation(), kKnownCallsLog2)];
    if (known.call.from != call.from || known.call.to != call.to ||
        known.generation != space.generation()) [[unlikely]] {
      LookAnew(space, call, &known);
    }
    return known;
  }
  void LookAnew(const AddressSpace& space, const Call& call, KnownCall* known);
  static size_t SlotOf(uint64_t a, uint64_t b, uint64_t generation, unsigned log2) {
    constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
    return ((a ^ b << 21 ^ b >> 43 ^ generation << 40) * kGolden) >> (64 - log2);
  }
  void Examine(const AddressSpace& space, KnownCall* known);
  // Whether code at `inner` can be run on behalf of `older`.
  Chain Chains(const AddressSpace& space, const KnownCall& older, uint64_t inner);
  Chain ExamineJump(const AddressSpace& space, const KnownCall& older, uint64_t inner) const;
  // The youngest call from window[first] on whose function holds `inner`.
  std::optional<size_t> Activation(const AddressSpace& space, std::span<const pmu::Branch> window,
                                   size_t first, uint64_t inner);
  static Range FunctionAt(const AddressSpace& space, uint64_t address);

  FastUnwinder& unwinder_;
  std::vector<KnownCall> known_;
  std::vector<KnownJump> jumps_;
};

}  // namespace lbrd::unwind
