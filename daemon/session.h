// One session: what was asked, the pipeline that does it, and the account of what became of it.
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
#include "daemon/pipeline.h"
#include "daemon/profile_table.h"
#include "daemon/sample_stream.h"
#include "daemon/session_source.h"
#include "lbrd/v1/profiler.pb.h"
#include "lbrd/v1/session.pb.h"
#include "unwind/binary.h"

namespace lbrd::daemon {

class HistoryRecorder;

class Session : public SampleSink {
 public:
  // `machine_binaries` serves sessions whose source has no files of its own; it must outlive this.
  Session(std::string name, v1::SessionSpec spec, SessionSource source,
          unwind::BinaryCache* machine_binaries);
  // Stops it.
  ~Session() override;

  // Its samples also go there. Before Start().
  void RetainIn(std::shared_ptr<HistoryRecorder> recorder) { recorder_ = std::move(recorder); }
  // Lets the samples flow, unless it waits for a stream.
  absl::Status Start();
  // Ends the flow and waits until all that was taken has been delivered.
  void Stop();
  // A new reader of its samples; starts a session that waits for one.
  absl::StatusOr<std::shared_ptr<SampleStream>> AddStream();
  void RemoveStream(const std::shared_ptr<SampleStream>& stream);

  const std::string& name() const { return name_; }
  absl::Time create_time() const { return create_time_; }
  bool ended() const;
  v1::SessionState state() const;
  void Describe(v1::Session* out) const;
  void EncodeProfileTo(v1::Profile* out) const;

  // See pmu::RecordSource::LendEvent().
  absl::Status Lend(int32_t cpu,
                    const std::function<absl::Status(const pmu::LentEvent&)>& take) const {
    return pipeline_->source().LendEvent(cpu, take);
  }

  void Deliver(std::span<const Sample> samples) override;

 private:
  absl::Status Begin();
  void Ended(const absl::Status& status);
  void DescribeStats(v1::SessionStats* out) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  const v1::SessionSpec spec_;
  const absl::Time create_time_;
  // What the pipeline borrows, before the pipeline itself.
  SessionSource source_;
  std::unique_ptr<unwind::BinaryCache> own_binaries_;
  std::unique_ptr<Pipeline> pipeline_;
  bool patient_ = false;
  std::shared_ptr<HistoryRecorder> recorder_;  // null: they are not kept

  mutable absl::Mutex mutex_;
  v1::SessionState state_ ABSL_GUARDED_BY(mutex_) = v1::SESSION_STATE_WAITING;
  std::string error_ ABSL_GUARDED_BY(mutex_);
  absl::Time begin_time_ ABSL_GUARDED_BY(mutex_);
  absl::Time end_time_ ABSL_GUARDED_BY(mutex_);
  ProfileTable profile_ ABSL_GUARDED_BY(mutex_);
  uint64_t dropped_profile_full_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::shared_ptr<SampleStream>> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lbrd::daemon
