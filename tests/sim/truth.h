// What a sample should show: the true state of the task when it was taken.
//
// A sample is found by what it carries anyway, (event ID, CPU, time, tid): the machine takes at
// most one sample of an event at one time on one CPU. Nothing is added to the record's bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "pmu/record.h"
#include "tests/sim/program.h"

namespace lbrd::sim {

struct Truth {
  uint64_t event_id = 0;
  uint64_t time = 0;
  uint32_t cpu = 0;
  int32_t pid = 0;
  int32_t tid = 0;
  bool in_kernel = false;
  bool has_user = false;         // kernel threads and idle CPUs have no user mode
  std::vector<uint64_t> kernel;  // leaf first: the interrupted address, then return addresses
  uint64_t user_ip = 0;          // where user mode is, or was left
  // The active calls, youngest first: the address of each call instruction. The return address
  // stands kCallBytes further on.
  std::vector<uint64_t> call_sites;
  // The active functions, youngest first: one more than calls; of this program.
  std::vector<uint32_t> functions;
  std::shared_ptr<const Program> program;
  uint64_t stack_pointer = 0;
  uint64_t frame_pointer = 0;
  uint64_t stack_top = 0;
  uint64_t cookie = 0;  // of the deferred user part; 0: none was asked for
  // The LBR window is what hardware and kernel could give of it: as many of the youngest calls as
  // it holds, and no others. False after long jumps, fiber switches, exec, or on kernels that spoil
  // it.
  bool lbr_true = false;
  uint32_t lbr_entries = 0;
  bool written = false;  // false: it was lost

  // As a walk of frame pointers gives it: the IP, then return addresses.
  std::vector<uint64_t> ReturnAddresses() const;
  size_t bytes() const {
    return sizeof(*this) + (kernel.capacity() + call_sites.capacity()) * sizeof(uint64_t) +
           functions.capacity() * sizeof(uint32_t);
  }
};

// The newest truths, up to a number of bytes; the oldest go first.
//
// Thread rules: one owner.
class TruthWindow {
 public:
  explicit TruthWindow(size_t max_bytes) : max_bytes_(max_bytes) {}

  void Add(std::shared_ptr<const Truth> truth);
  // nullptr: unknown, or no longer kept.
  std::shared_ptr<const Truth> Find(const pmu::SampleId& who) const;
  size_t size() const { return by_age_.size(); }
  size_t bytes() const { return bytes_; }
  uint64_t forgotten() const { return forgotten_; }

 private:
  struct Key {
    uint64_t event_id;
    uint64_t time;
    uint32_t cpu;
    int32_t tid;
    bool operator==(const Key&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const Key& k) {
      return H::combine(std::move(h), k.event_id, k.time, k.cpu, k.tid);
    }
  };
  static constexpr size_t kOverheadBytes = 128;  // of map and queue, an entry, about

  const size_t max_bytes_;
  size_t bytes_ = 0;
  uint64_t forgotten_ = 0;
  std::deque<std::shared_ptr<const Truth>> by_age_;
  absl::flat_hash_map<Key, std::shared_ptr<const Truth>> by_key_;
};

}  // namespace lbrd::sim
