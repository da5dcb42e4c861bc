// Installs a session's events: at one place (a CPU, a thread, a thread on a CPU) the sampling event
// and a dummy that carries mappings, names, forks and exits, both writing to one ring. They are two
// so that each one's losses are known exactly (read_format LOST), and on a hybrid machine more: one
// sampling event per core type.
//
// All sampling events are children of one root, all dummies of another, so that a session's counts
// are those of its roots whatever came and went (pmu/event.h).
//
// Thread rules: one thread, but for Lend().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "pmu/core_types.h"
#include "pmu/event.h"
#include "pmu/kernel.h"
#include "pmu/record_source.h"
#include "pmu/ring_set.h"
#include "pmu/stack_source.h"

namespace lbrd::pmu {

// Indices into RecordSource::events() of live sources.
inline constexpr uint32_t kSamplingEvent = 0;
inline constexpr uint32_t kSideBandEvent = 1;

// What is open at one place.
struct Installed {
  std::vector<std::shared_ptr<Event>> sampling;
  std::shared_ptr<Event> side_band;
  Ring* ring = nullptr;  // written by these events

  // Ends the events; their counts are kept by the roots. The ring is as it was.
  void Release();
};

class Installer {
 public:
  // `events`: kSamplingEvent and kSideBandEvent, final. Borrows all.
  Installer(Kernel& kernel, RingSet* rings, const std::vector<SourceEvent>* events, EventCode code);
  ~Installer();

  // A place's ring: one of its own (`share` is null), or that of another place on the same CPU.
  struct RingChoice {
    uint64_t bytes = 0;
    const Installed* share = nullptr;
  };
  // Opens the events, connected but no more enabled than the roots are. `where` is for people.
  // kUnavailable: the CPU is offline; kNotFound: the thread ended; kUnimplemented: no event of this
  // kind on that CPU (hybrid). Nothing stays open then.
  absl::StatusOr<Installed> Install(const EventPlace& sampling, const EventPlace& side_band,
                                    const RingChoice& ring, absl::string_view where);

  // See RecordSource::LendEvent(). From any thread.
  absl::Status Lend(int32_t cpu, const std::function<absl::Status(const LentEvent&)>& take) const;

  Kernel& kernel() { return kernel_; }
  RingSet& rings() { return *rings_; }
  const std::vector<SourceEvent>& events() const { return events_; }
  const CoreTypes& core_types() const { return core_types_; }
  const std::shared_ptr<Event>& sampling_root() const { return sampling_root_; }
  const std::shared_ptr<Event>& side_band_root() const { return side_band_root_; }
  // The errno of perf_event_open in the last Install(); 0: it was not that which failed.
  int last_error() const { return last_error_; }

 private:
  absl::Status InstallAll(const EventPlace& sampling, const EventPlace& side_band,
                          const RingChoice& ring, absl::string_view where, Installed* out);
  absl::StatusOr<std::shared_ptr<Event>> Open(const std::shared_ptr<Event>& root,
                                              const perf_event_attr& attr, const EventPlace& place,
                                              absl::string_view where);
  absl::Status ShareRing(const Event& event, const Event& owner, absl::string_view where);

  Kernel& kernel_;
  RingSet* const rings_;
  const std::vector<SourceEvent>& events_;
  const EventCode code_;
  const CoreTypes core_types_;
  const std::shared_ptr<Event> sampling_root_;
  const std::shared_ptr<Event> side_band_root_;
  int last_error_ = 0;

  struct OnCpu {
    std::shared_ptr<Event> event;
    perf_event_attr attr{};
    uint64_t ring_bytes = 0;
  };
  mutable absl::Mutex mutex_;  // a leaf
  absl::flat_hash_map<int32_t, OnCpu> on_cpu_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::pmu
