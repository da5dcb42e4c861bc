// The events of a recording, and which of them wrote a record.
//
// Thread rules: written by one thread while the recording is opened, then read by any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "pmu/record_source.h"

namespace lbrd::pmu {

class PerfDataEvents {
 public:
  // Adds an event. `attr` begins with its attr, of any version; `ids` are the ids of its copies
  // (one per CPU or task), packed.
  absl::Status Add(std::span<const std::byte> attr, std::span<const std::byte> ids);
  // How many bytes the attr at the front of `bytes` says that it takes.
  static uint64_t AttrBytes(std::span<const std::byte> bytes);

  // Names the event that has the id `id`, or that stands at `index`. No such event: no effect.
  void NameById(uint64_t id, absl::string_view name);
  void NameByIndex(size_t index, absl::string_view name);

  // To be called when all events are known: names those that still have none. Fails where it cannot
  // be told which of them wrote a record.
  absl::Status Finish();

  const std::vector<SourceEvent>& list() const { return events_; }

  // The index of the event that wrote `header`; nullopt: one that the recording does not describe.
  // Records without an id, as perf makes them up itself, belong to the first.
  std::optional<uint32_t> EventOf(const perf_event_header* header) const;

 private:
  std::vector<SourceEvent> events_;
  absl::flat_hash_map<uint64_t, uint32_t> by_id_;
  // Where the id stands in records of the first event, and so in all, in words: in samples from the
  // header on, in other records from the end back. nullopt: not carried.
  std::optional<size_t> sample_id_word_;
  std::optional<size_t> trailer_id_word_;
};

}  // namespace lbrd::pmu
