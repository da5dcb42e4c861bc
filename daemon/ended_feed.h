// The feed of a session that ended in an earlier engine, or cannot go on in this one: it describes
// what fed it, and feeds nothing.
//
// Thread rules: as SessionFeed.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "daemon/session_feed.h"

namespace lbrd::daemon {

class EndedFeed : public SessionFeed {
 public:
  explicit EndedFeed(std::vector<v1::SessionEvent> events) : events_(std::move(events)) {}

  absl::Status Begin(absl::Duration, SampleSink*,
                     std::function<void(const absl::Status&)>) override {
    return absl::FailedPreconditionError("the session has ended");
  }
  void RequestStop() override {}
  FeedStats stats() const override { return {}; }
  std::vector<Progress> progress() const override { return {}; }
  void Describe(v1::Session* out) const override {
    for (const v1::SessionEvent& event : events_) *out->add_events() = event;
  }
  absl::Status Lend(int32_t,
                    const std::function<absl::Status(const pmu::LentEvent&)>&) const override {
    return absl::FailedPreconditionError("the session has ended: it has no events any more");
  }

 private:
  const std::vector<v1::SessionEvent> events_;
};

}  // namespace lbrd::daemon
