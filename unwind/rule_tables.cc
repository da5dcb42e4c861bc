#include "unwind/rule_tables.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "unwind/binary.h"
#include "unwind/single_rules.h"
#include "unwind/unwind_rules_builder.h"

namespace lbrd::unwind {
namespace {

bool SameOwner(const std::weak_ptr<const Binary>& a, const std::shared_ptr<const Binary>& b) {
  return !a.owner_before(b) && !b.owner_before(a);
}

}  // namespace

struct RuleTables::Slot {
  std::once_flag once;  // not absl's: ThreadSanitizer does not see through Debian's
  std::shared_ptr<const UnwindRules> rules;
  absl::Mutex single_mutex;  // before RuleTables::mutex_
  bool single_opened ABSL_GUARDED_BY(single_mutex) = false;
  std::unique_ptr<SingleRules> single ABSL_GUARDED_BY(single_mutex);
  size_t single_bytes ABSL_GUARDED_BY(single_mutex) = 0;  // as last counted

  // Opened at the first call; nullptr: there are none, or there is a table instead.
  SingleRules* Single(const Binary& binary) ABSL_EXCLUSIVE_LOCKS_REQUIRED(single_mutex) {
    const ElfFile* const elf = std::exchange(single_opened, true) ? nullptr : binary.elf();
    if (elf != nullptr) single = SingleRules::Open(*elf);
    return single.get();
  }
};

std::shared_ptr<RuleTables::Slot> RuleTables::SlotOf(const std::shared_ptr<const Binary>& binary,
                                                     bool* built) {
  absl::MutexLock lock(&mutex_);
  auto found = entries_.find(binary.get());
  if (found != entries_.end() && !SameOwner(found->second.binary, binary)) {
    Erase(found);
    found = entries_.end();
  }
  if (found == entries_.end()) {
    by_age_.push_front(binary.get());
    found = entries_
                .emplace(binary.get(), Entry{.binary = binary,
                                             .slot = std::make_shared<Slot>(),
                                             .age = by_age_.begin()})
                .first;
  } else {
    by_age_.splice(by_age_.begin(), by_age_, found->second.age);
  }
  *built = found->second.bytes != 0;
  return found->second.slot;
}

std::shared_ptr<const UnwindRules> RuleTables::Get(const std::shared_ptr<const Binary>& binary) {
  bool built = false;
  const std::shared_ptr<Slot> slot = SlotOf(binary, &built);
  if (!built) std::call_once(slot->once, [&] { Build(binary, slot); });
  return slot->rules;
}

UnwindRule RuleTables::Find(const std::shared_ptr<const Binary>& binary, uint64_t address) {
  bool built = false;
  const std::shared_ptr<Slot> slot = SlotOf(binary, &built);
  if (!built) {
    const std::optional<UnwindRule> single = FindSingle(binary, slot, address);
    if (single.has_value()) return *single;
    std::call_once(slot->once, [&] { Build(binary, slot); });
  }
  return slot->rules->Find(address);
}

std::shared_ptr<const UnwindRules> RuleTables::FindFull(const std::shared_ptr<const Binary>& binary,
                                                        uint64_t address, uint32_t* number) {
  *number = 0;
  bool built = false;
  const std::shared_ptr<Slot> slot = SlotOf(binary, &built);
  if (!built) {
    absl::MutexLock lock(&slot->single_mutex);
    if (SingleRules* const single = slot->Single(*binary); single != nullptr) {
      auto full = single->FindFull(address);
      CountSingle(binary.get(), slot);
      if (full != nullptr) return full;
    }
  }
  // There is a table since, or it takes one.
  if (!built) std::call_once(slot->once, [&] { Build(binary, slot); });
  const UnwindRule& rule = slot->rules->Find(address);
  *number = rule.kind == UnwindRule::kFull ? rule.full : UnwindRule::kByAddress;
  return slot->rules;
}

std::optional<UnwindRule> RuleTables::FindSingle(const std::shared_ptr<const Binary>& binary,
                                                 const std::shared_ptr<Slot>& slot,
                                                 uint64_t address) {
  absl::MutexLock lock(&slot->single_mutex);
  SingleRules* const single = slot->Single(*binary);
  if (single == nullptr) return std::nullopt;
  std::optional<UnwindRule> rule;
  if (!single->spent()) rule = single->Find(address);
  if (!rule.has_value()) slot->single.reset();
  CountSingle(binary.get(), slot);
  return rule;
}

void RuleTables::CountSingle(const Binary* binary, const std::shared_ptr<Slot>& slot) {
  slot->single_mutex.AssertHeld();
  const size_t bytes = slot->single != nullptr ? slot->single->bytes() : 0;
  // Most look-ups read nothing: they are spared the lock that all binaries share.
  if (bytes == std::exchange(slot->single_bytes, bytes)) return;
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(binary);
  if (found == entries_.end() || found->second.slot != slot) return;  // evicted meanwhile
  bytes_ += bytes - std::exchange(found->second.single_bytes, bytes);
  Evict(binary);
}

void RuleTables::Build(const std::shared_ptr<const Binary>& binary,
                       const std::shared_ptr<Slot>& slot) {
  const ElfFile* elf = binary->elf();
  slot->rules = std::make_shared<const UnwindRules>(elf != nullptr ? UnwindRulesBuilder::Build(*elf)
                                                                   : UnwindRules());
  absl::MutexLock lock(&mutex_);
  ++built_;
  const auto found = entries_.find(binary.get());
  if (found == entries_.end() || found->second.slot != slot) return;  // evicted meanwhile
  found->second.bytes = slot->rules->bytes();
  bytes_ += found->second.bytes;
  Evict(binary.get());
}

void RuleTables::Erase(Entries::iterator entry) {
  bytes_ -= entry->second.bytes + entry->second.single_bytes;
  by_age_.erase(entry->second.age);
  entries_.erase(entry);
}

void RuleTables::Evict(const Binary* keep) {
  if (bytes_ <= budget_) return;
  const auto evict_oldest = [&](bool only_gone) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto it = by_age_.end(); it != by_age_.begin() && bytes_ > budget_;) {
      --it;
      const auto entry = entries_.find(*it);
      if (*it == keep || (only_gone && !entry->second.binary.expired())) continue;
      ++it;  // what is erased is before it
      Erase(entry);
      ++evicted_;
    }
  };
  evict_oldest(/*only_gone=*/true);
  evict_oldest(/*only_gone=*/false);
}

RuleTables::Stats RuleTables::stats() const {
  absl::MutexLock lock(&mutex_);
  const auto tables = std::count_if(entries_.begin(), entries_.end(),
                                    [](const auto& entry) { return entry.second.bytes != 0; });
  return {
      .tables = static_cast<size_t>(tables), .bytes = bytes_, .built = built_, .evicted = evicted_};
}

}  // namespace lbrd::unwind
