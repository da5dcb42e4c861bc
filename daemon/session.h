// One session: what was asked, what feeds it, and the account of what became of it.
//
//   Waiting (for its first stream) -> Running -> Stopped | Failed
//
// Thread rules: thread-safe. Lock order: the session's mutex, then nothing; streams are pushed to
// without it, because a patient one may block.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/profile_table.h"
#include "daemon/proto_encoder.h"
#include "daemon/sample_stream.h"
#include "daemon/session_feed.h"
#include "daemon/session_source.h"
#include "lbrd/v1/profiler.pb.h"
#include "lbrd/v1/session.pb.h"
#include "unwind/binary.h"

namespace lbrd::daemon {

class HistoryRecorder;

class Session : public SampleSink {
 public:
  Session(std::string name, v1::SessionSpec spec, std::unique_ptr<SessionFeed> feed,
          uint32_t owner_uid = 0);
  // With events of its own. `machine_binaries` serves sources that have no files of their own; it
  // must outlive this.
  Session(std::string name, v1::SessionSpec spec, SessionSource source,
          unwind::BinaryCache* machine_binaries, uint32_t owner_uid = 0);
  // Stops it.
  ~Session() override;

  // What was changed in what was asked for. Before Start().
  void AddNotes(std::vector<std::string> notes) { notes_ = std::move(notes); }
  // Its samples also go there. Before Start().
  void RetainIn(std::shared_ptr<HistoryRecorder> recorder) { recorder_ = std::move(recorder); }
  // Lets the samples flow, unless it waits for a stream.
  absl::Status Start();
  // Ends the flow and waits until all that was taken has been delivered.
  void Stop();
  // A new reader of its samples; starts a session that waits for one.
  absl::StatusOr<std::shared_ptr<SampleStream>> AddStream();
  void RemoveStream(const std::shared_ptr<SampleStream>& stream);

  // Who watches holds a bound session, as a stream does.
  void AddWatcher();
  void RemoveWatcher();
  // Ends a session that is bound to its clients if it has no stream and no watcher.
  void StopIfUnheld();
  bool bound() const { return spec_.bound(); }
  bool patient() const { return patient_; }
  // Called when its state has changed, from any thread, without a lock. Before Start().
  void set_on_change(std::function<void()> on_change) { on_change_ = std::move(on_change); }
  // Called once, in the same way, when it has begun and ended: OK, or why it failed.
  void set_on_ended(std::function<void(const absl::Status&)> on_ended) {
    on_ended_ = std::move(on_ended);
  }

  const std::string& name() const { return name_; }
  const v1::SessionSpec& spec() const { return spec_; }
  // Of each thread that works for it.
  std::vector<Progress> progress() const { return feed_->progress(); }
  // Delivered so far.
  uint64_t samples() const;
  absl::Time create_time() const { return create_time_; }
  bool ended() const;
  v1::SessionState state() const;
  void Describe(v1::Session* out) const;
  void EncodeProfileTo(DefinitionEncoder* definitions, v1::Profile* out) const;

  bool shares_events() const { return feed_->shares_events(); }
  // See pmu::RecordSource::LendEvent().
  absl::Status Lend(int32_t cpu,
                    const std::function<absl::Status(const pmu::LentEvent&)>& take) const {
    return feed_->Lend(cpu, take);
  }

  void Deliver(std::span<const Sample> samples) override;

 private:
  absl::Status Begin();
  void Ended(const absl::Status& status);
  void DescribeStats(v1::SessionStats* out) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  const v1::SessionSpec spec_;
  const uint32_t owner_uid_;
  const absl::Time create_time_;
  std::vector<std::string> notes_;
  std::shared_ptr<HistoryRecorder> recorder_;  // null: they are not kept; before its feed
  std::unique_ptr<SessionFeed> feed_;
  const bool patient_;
  std::function<void()> on_change_ = [] {};
  std::function<void(const absl::Status&)> on_ended_ = [](const absl::Status&) {};

  mutable absl::Mutex mutex_;
  v1::SessionState state_ ABSL_GUARDED_BY(mutex_) = v1::SESSION_STATE_WAITING;
  std::string error_ ABSL_GUARDED_BY(mutex_);
  absl::Time begin_time_ ABSL_GUARDED_BY(mutex_);
  absl::Time end_time_ ABSL_GUARDED_BY(mutex_);
  ProfileTable profile_ ABSL_GUARDED_BY(mutex_);
  uint64_t dropped_profile_full_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::shared_ptr<SampleStream>> streams_ ABSL_GUARDED_BY(mutex_);
  size_t watchers_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace lbrd::daemon
