// The flows there are: what daemon/planner decides is done here.
//
// Thread rules: thread-safe. Flows are opened one at a time; a thread of its own (`lbrd-flows`)
// closes those that have ended. Lock order: open_mutex_ before mutex_, which is a leaf.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/flow.h"

namespace lbrd::daemon {

class FlowTable {
 public:
  // How long a flow's events stay open, disabled, when its last session has left.
  static constexpr absl::Duration kDefaultLinger = absl::Seconds(30);

  // Borrows everything.
  FlowTable(pmu::Kernel* kernel, pmu::Admission* admission, unwind::BinaryCache* binaries,
            TaskTable* tasks, absl::Duration linger = kDefaultLinger);
  FlowTable(const FlowTable&) = delete;
  FlowTable& operator=(const FlowTable&) = delete;
  // After the last share.
  ~FlowTable();

  // A share for a (checked) spec, in a flow that is there or in a new one; nullptr: the session
  // needs events of its own (WhyNotShared). Errors as OpenSessionSource().
  // `viewer`: whose session it is, if it may see that user's processes only; its spec is
  // `user_only`.
  absl::StatusOr<std::unique_ptr<SessionFeed>> Join(const std::string& session,
                                                    const v1::SessionSpec& spec,
                                                    std::optional<Viewer> viewer = std::nullopt);
  // Flows that nobody uses give their events back now; true: there was one, and it has.
  bool CloseIdle();
  // All flows, those to come too: see Flow::SlowDown().
  void SlowDown(uint32_t factor);
  uint32_t slow_down() const;
  size_t size() const;

 private:
  // The kind with defaults replaced by what they come to on this machine, so that who names it and
  // who does not share.
  absl::StatusOr<FlowKind> Resolve(FlowKind kind, const v1::SessionSpec& spec)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(open_mutex_);
  absl::StatusOr<std::shared_ptr<Flow>> Open(const std::string& session, const FlowDemand& demand,
                                             const v1::SessionSpec& spec);
  void CloseEnded();

  pmu::Kernel& kernel_;
  pmu::Admission& admission_;
  unwind::BinaryCache& binaries_;
  TaskTable* const tasks_;
  const absl::Duration linger_;

  absl::Mutex open_mutex_;
  // Event, stack mode, branch filter.
  using Asked = std::tuple<std::string, int, int>;
  absl::flat_hash_map<Asked, std::pair<std::string, v1::StackMode>> resolved_
      ABSL_GUARDED_BY(open_mutex_);

  mutable absl::Mutex mutex_;
  std::vector<std::shared_ptr<Flow>> flows_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> ended_ ABSL_GUARDED_BY(mutex_);  // by name
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 1;
  uint32_t slow_down_ ABSL_GUARDED_BY(mutex_) = 1;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread closer_;
};

}  // namespace lbrd::daemon
