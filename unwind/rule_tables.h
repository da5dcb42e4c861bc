// The tables of rules of all binaries, built when first needed, shared by all who unwind, and kept
// under one budget of bytes.
//
// Beyond the budget the tables that were longest unused go: first those of binaries that are gone,
// then any; the one just built stays. A table that somebody still holds goes when it is let go. One
// that is needed again is built again, from the file.
//
// A large binary's rules are first found one by one, without a table (single_rules.h). What that
// reads of the file is under the budget too, and let go once there is a table.
//
// Thread rules: thread-safe. A table is built by whoever asks first, while others who want the same
// one wait; nobody else does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "unwind/unwind_rules.h"

namespace lbrd::unwind {

class Binary;

class RuleTables {
 public:
  static constexpr size_t kDefaultBudgetBytes = 64u << 20;

  explicit RuleTables(size_t budget_bytes = kDefaultBudgetBytes) : budget_(budget_bytes) {}

  // The rules of a binary; empty where it has none. Never null.
  std::shared_ptr<const UnwindRules> Get(const std::shared_ptr<const Binary>& binary);
  // The rule at an address in the binary's own terms, with its table or without.
  UnwindRule Find(const std::shared_ptr<const Binary>& binary, uint64_t address);
  // The full rule there, where Find() said that there is one: number *number of what is returned.
  std::shared_ptr<const UnwindRules> FindFull(const std::shared_ptr<const Binary>& binary,
                                              uint64_t address, uint32_t* number);

  struct Stats {
    size_t tables = 0;
    size_t bytes = 0;  // theirs, and what single rules keep
    uint64_t built = 0;
    uint64_t evicted = 0;  // binaries' tables, or what their single rules kept
  };
  Stats stats() const;

 private:
  struct Slot;
  struct Entry {
    std::weak_ptr<const Binary> binary;  // the key may come to be another binary's address
    std::shared_ptr<Slot> slot;
    std::list<const Binary*>::iterator age;
    size_t bytes = 0;  // of the table; 0: not built yet
    size_t single_bytes = 0;
  };
  using Entries = absl::flat_hash_map<const Binary*, Entry>;

  // The binary's slot; *built: with the table in it.
  std::shared_ptr<Slot> SlotOf(const std::shared_ptr<const Binary>& binary, bool* built);
  // The rule without a table; nullopt: it takes the table.
  std::optional<UnwindRule> FindSingle(const std::shared_ptr<const Binary>& binary,
                                       const std::shared_ptr<Slot>& slot, uint64_t address);
  // Counts what single rules take now, under the slot's lock.
  void CountSingle(const Binary* binary, const std::shared_ptr<Slot>& slot);
  void Build(const std::shared_ptr<const Binary>& binary, const std::shared_ptr<Slot>& slot);
  void Erase(Entries::iterator entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Evict(const Binary* keep) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t budget_;
  mutable absl::Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  std::list<const Binary*> by_age_ ABSL_GUARDED_BY(mutex_);  // youngest first
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t built_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t evicted_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace lbrd::unwind
