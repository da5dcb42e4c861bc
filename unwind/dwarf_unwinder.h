// User stacks from call frame information over a copied stack, by libunwind.
//
// libunwind's address space (its rule cache) is kept per process and reused for every sample of it;
// it is emptied when the process's mappings change. Memory: about 23 KiB per process, for the
// kMaxCached most recently sampled.
//
// A step that libunwind takes without call frame information is a guess of its own (a frame-pointer
// or PLT heuristic); such a stack is cut there and says so.
//
// Thread rules: one owner per unwinder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "pmu/record.h"
#include "unwind/address_space.h"
#include "unwind/stack.h"

namespace lbrd::unwind {

class DwarfUnwinder {
 public:
  static constexpr size_t kMaxCached = 512;
  // Answers of IsThreadStart() kept per process, about 300 KiB; beyond that all are found anew.
  static constexpr size_t kMaxThreadStarts = 1u << 14;
  // More frames than this are cut (kTooDeep).
  static constexpr size_t kMaxFrames = 1024;

  enum class Caching { kOn, kOff };  // off: for measurements

  explicit DwarfUnwinder(Caching caching = Caching::kOn);
  ~DwarfUnwinder();

  // The frames above the sampled one: return addresses, youngest first, appended to *ips; at most
  // kMaxFrames. `pid` names the process for the cache. Registers and stack are those of
  // the sample; the verdict says how it ended.
  Verdict Unwind(int32_t pid, const AddressSpace& space, const pmu::Registers& registers,
                 std::span<const std::byte> stack, std::vector<uint64_t>* ips);

  // Whether call frame information says that the function holding `ip` has no caller: the start of
  // a process or thread. False also when there is no such information.
  bool IsThreadStart(int32_t pid, const AddressSpace& space, uint64_t ip);

 private:
  struct Cached;
  Cached& CacheOf(int32_t pid, const AddressSpace& space);

  const Caching caching_;
  std::list<int32_t> by_age_;  // youngest first
  absl::flat_hash_map<int32_t, std::unique_ptr<Cached>> cached_;
};

}  // namespace lbrd::unwind
