// Samples that wait for the kernel's deferred user call chain.
//
// The kernel part of a sample comes with a cookie; the user part comes later, once, on whatever CPU
// the task then returns to user mode, and belongs to every sample of that task with that cookie:
// also to those taken in the kernel's last steps, after it gave the answer.
// What is not answered in time, or exceeds the cap, is delivered without its user part and counted
// by its verdict: never dropped.
//
// Thread rules: one owner (a worker).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "daemon/sample.h"
#include "daemon/sample_share.h"
#include "unwind/stack_resolver.h"

namespace lbrd::daemon {

// A sample without its stack.
struct PendingSample {
  uint64_t time_ns = 0;
  uint64_t weight = 0;
  uint32_t cpu = 0;
  uint32_t event = 0;
  int32_t pid = -1;
  int32_t tid = -1;
  std::shared_ptr<const Branches> branches;  // null: none
  unwind::ResolvedStack stack;               // its kernel part, and the cookie
  std::vector<SampleShare> shares;           // who gets it; empty: the worker's sink
  uint64_t context = 0;  // the birth of the context that counts it as waiting; 0: none does
};

class DeferredSamples {
 public:
  // 64 Ki samples of up to 3 KiB each, and 1.3 KiB of branches where they are asked for.
  static constexpr size_t kMaxPending = 65536;
  // A task that stays in the kernel this long is delivered as far as it is known.
  static constexpr uint64_t kTimeoutNs = 2'000'000'000;

  void Add(PendingSample sample);
  // The samples that asked with this cookie, oldest first. Remembers the answer.
  std::vector<PendingSample> Answer(int32_t tid, uint64_t cookie, std::span<const uint64_t> user);
  // The task's last answer if it was to this cookie; nullptr: it is still to come. Valid until the
  // next Answer().
  const std::vector<uint64_t>* LastAnswer(int32_t tid, uint64_t cookie) const;
  // Those that waited too long at `now_ns`, or all of them (now_ns = UINT64_MAX), or those over the
  // cap; oldest first.
  std::vector<PendingSample> Expire(uint64_t now_ns);
  // Takes a subscriber's share out of all that wait: copies with that share alone. Samples that
  // nobody else has a share in stay, and count, until they are answered or expire.
  std::vector<PendingSample> TakeShareOf(const Subscriber* subscriber);
  size_t size() const { return size_; }
  // Threads whose last answer is remembered, of up to 4 KiB each; beyond it all are forgotten.
  static constexpr size_t kMaxAnswers = 4096;

 private:
  using Key = std::pair<int32_t, uint64_t>;
  struct Waiting {
    Key key;
    std::vector<PendingSample> samples;
  };
  std::list<Waiting> by_age_;  // by their first sample's time
  absl::flat_hash_map<Key, std::list<Waiting>::iterator> by_key_;
  size_t size_ = 0;

  struct LastOfTask {
    uint64_t cookie = 0;
    std::vector<uint64_t> user;
  };
  absl::flat_hash_map<int32_t, LastOfTask> last_answers_;  // by tid
};

}  // namespace lbrd::daemon
