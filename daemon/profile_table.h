// A session's samples, aggregated by stack, thread and event, and the account of their verdicts.
//
// Bounded: at most `max_entries` and `max_bytes`, and beyond kLeastBytes by what is left of the
// memory of all samples (daemon/sample_memory.h); a sample that would need more is not taken (and
// the session counts it as dropped). An entry keeps its stack alive, whose bytes count in
// `max_bytes` and kLeastBytes as if nobody else kept it, and in the memory of all samples once.
//
// Thread rules: none of its own; the session's lock guards it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "daemon/sample.h"
#include "unwind/stack.h"

namespace lbrd::daemon {

class ProfileTable {
 public:
  static constexpr size_t kMaxEntries = 1u << 20;
  static constexpr size_t kMaxBytes = size_t{256} << 20;
  // However full the memory of all samples is: a session that comes late has its hottest stacks.
  static constexpr size_t kLeastBytes = size_t{1} << 20;

  using Key =
      std::tuple<std::shared_ptr<const StackInfo>, std::shared_ptr<const ThreadInfo>, uint32_t>;
  struct Sum {
    uint64_t samples = 0;
    uint64_t weight = 0;
  };
  // A key by what it points to. A sample is looked up by this in the table of each session that it
  // is for, most of the time to be found: references to what they share are counted by one
  // processor at a time, and would be counted up and down again for nothing.
  struct KeyView {
    const StackInfo* stack;
    const ThreadInfo* thread;
    uint32_t event;

    KeyView(const Key& key)  // NOLINT(google-explicit-constructor): it is one
        : KeyView(std::get<0>(key).get(), std::get<1>(key).get(), std::get<2>(key)) {}
    KeyView(const StackInfo* of_stack, const ThreadInfo* of_thread, uint32_t of_event)
        : stack(of_stack), thread(of_thread), event(of_event) {}
    bool operator==(const KeyView&) const = default;
    template <typename H>
    friend H AbslHashValue(H hash, const KeyView& key) {
      return H::combine(std::move(hash), key.stack, key.thread, key.event);
    }
  };
  struct KeyHash {
    using is_transparent = void;
    size_t operator()(const KeyView& key) const { return absl::HashOf(key); }
  };
  struct KeyEqual {
    using is_transparent = void;
    bool operator()(const KeyView& a, const KeyView& b) const { return a == b; }
  };
  using Entries = absl::flat_hash_map<Key, Sum, KeyHash, KeyEqual>;

  explicit ProfileTable(size_t max_entries = kMaxEntries, size_t max_bytes = kMaxBytes)
      : max_entries_(max_entries), max_bytes_(max_bytes) {}
  // Of all samples' memory. Before the first sample.
  void set_share(MemoryShare share) { share_ = share; }
  // Of the table itself: it is between 7/16 and 7/8 full.
  static constexpr size_t kEntryBytes = 2 * (sizeof(Entries::value_type) + 1);
  // What an entry takes, with its stack.
  static size_t EntryBytes(const StackInfo& stack) {
    return sizeof(Key) + sizeof(Sum) + sizeof(StackInfo) +
           stack.frames.size() * sizeof(stack.frames[0]);
  }

  // How many of them were not taken, for it is full.
  size_t Add(std::span<const Sample> samples);
  size_t AddPicked(std::span<const Sample> samples, std::span<const PickedSample> picked);
  // Only into the account: the sample is kept elsewhere.
  void Count(const Sample& sample);

  const Entries& entries() const { return entries_; }
  // For who reads them at leisure, without the lock that guards the table.
  using Entry = std::pair<Key, Sum>;
  std::vector<Entry> CopyEntries() const { return {entries_.begin(), entries_.end()}; }
  uint64_t samples() const { return samples_; }
  // Times of the oldest and the youngest sample; equal when there are none.
  uint64_t first_time_ns() const { return samples_ == 0 ? last_time_ns_ : first_time_ns_; }
  uint64_t last_time_ns() const { return last_time_ns_; }
  uint64_t user_samples() const { return user_samples_; }
  uint64_t user_samples_complete() const { return user_samples_complete_; }
  uint64_t by_verdict(unwind::StackState state, unwind::StackReason reason) const {
    return by_verdict_[static_cast<size_t>(state)][static_cast<size_t>(reason)];
  }
  // Of samples with a user part, by the source of their oldest user frame.
  uint64_t by_source(unwind::FrameSource source) const {
    return by_source_[static_cast<size_t>(source)];
  }

 private:
  static KeyView ViewOf(const Sample& sample) {
    return {sample.stack.get(), sample.thread.get(), sample.event};
  }
  // `sample_at`, `weight_at`: of each of `count`.
  template <typename SampleAt, typename WeightAt>
  size_t AddEach(size_t count, SampleAt sample_at, WeightAt weight_at);
  bool AddOne(const Sample& sample, uint64_t weight);

  const size_t max_entries_;
  const size_t max_bytes_;
  Entries entries_;
  size_t bytes_ = 0;  // of the entries
  MemoryShare share_ = MemoryShare::kWhole;
  MemoryCharge memory_;  // without what entries refer to
  uint64_t samples_ = 0;
  uint64_t first_time_ns_ = UINT64_MAX;
  uint64_t last_time_ns_ = 0;
  uint64_t user_samples_ = 0;
  uint64_t user_samples_complete_ = 0;
  std::array<std::array<uint64_t, 32>, unwind::kStackStates> by_verdict_{};
  std::array<uint64_t, 16> by_source_{};
};

}  // namespace lbrd::daemon
