// One session: what was asked, what feeds it, and the account of what became of it.
//
//   Waiting (for its first stream) -> Running -> Stopped | Failed
//
// What must outlive the engine is kept in the journal (daemon/session_journal.h); the next engine
// makes the session again, and it goes on: GoOn().
//
// Thread rules: thread-safe. Lock order: the mutex of its entry in the journal, the session's, then
// nothing; streams are pushed to without it, because a patient one may block.
#pragma once

#include <atomic>
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
#include "daemon/session_figures.h"
#include "daemon/session_journal.h"
#include "daemon/session_source.h"
#include "lbrd/v1/profiler.pb.h"
#include "lbrd/v1/session.pb.h"
#include "unwind/binary.h"

namespace lbrd::daemon {

class HistoryRecorder;

// What a session had come to when the engine it was of died.
struct EarlierLife {
  journal::SessionRecord record;
  SessionFigures figures;
  std::string why;         // "the daemon's engine died (signal SIGKILL)"
  bool had_ended = false;  // before that
};

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
  void AddNotes(std::vector<std::string> notes);
  // Its samples also go there. Before Start().
  void RetainIn(std::shared_ptr<HistoryRecorder> recorder) { recorder_ = std::move(recorder); }
  // Of the memory of all samples. Before Start().
  void set_memory_share(MemoryShare share);
  // Where it is kept for the next engine. Before Start().
  void KeepIn(std::shared_ptr<SessionJournal::SessionEntry> entry) { entry_ = std::move(entry); }
  // Goes on where that one was, with its state: one that had ended has. Before Start(), after
  // KeepIn().
  void GoOn(const EarlierLife& earlier);
  // Lets the samples flow, unless it waits for a stream, or has ended in an earlier life.
  absl::Status Start();
  // Ends the flow and waits until all that was taken has been delivered, and everybody told: no
  // callback runs after that. Not from a callback.
  void Stop();
  // Writes its figures into the journal.
  void KeepFigures();
  // It is deleted: the next engine is not to know of it.
  void Forget();
  // Tells it from others of its name, in the journal; 0: it is not kept there.
  uint64_t journal_id() const { return entry_ == nullptr ? 0 : entry_->id(); }
  // Of the request that made it.
  void set_request_id(std::string id) { request_id_ = std::move(id); }
  const std::string& request_id() const { return request_id_; }
  uint32_t owner_uid() const { return owner_uid_; }

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
  void DeliverPicked(std::span<const Sample> samples,
                     std::span<const PickedSample> picked) override;
  Haste haste() const override {
    if (streaming_.load(std::memory_order_relaxed)) return Haste::kWaitedFor;
    return recorder_ != nullptr ? Haste::kOnceRead : Haste::kNone;
  }

 private:
  absl::Status Begin();
  void Ended(const absl::Status& status);
  // Running is what counts already: who is told so may set off what is to be seen.
  v1::SessionState ShownState() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // With what earlier engines have counted.
  SessionFigures Figures(const FeedStats& stats) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DescribeStats(v1::SessionStats* out) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Its state, for the next engine.
  void KeepState();
  // And its end, before anybody is told of it.
  void KeepEnd(const absl::Status& status);
  // The gap since the last engine ends now.
  void EndEarlierGap() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  const v1::SessionSpec spec_;
  const uint32_t owner_uid_;
  absl::Time create_time_;
  std::string request_id_;
  std::shared_ptr<SessionJournal::SessionEntry> entry_;  // null: it is not kept
  bool begin_at_once_ = false;                           // it had begun, in an earlier engine
  std::vector<std::string> notes_;
  std::shared_ptr<HistoryRecorder> recorder_;  // null: they are not kept; before its feed
  std::unique_ptr<SessionFeed> feed_;
  const bool patient_;
  MemoryShare memory_share_ = MemoryShare::kWhole;
  std::function<void()> on_change_ = [] {};
  std::function<void(const absl::Status&)> on_ended_ = [](const absl::Status&) {};

  mutable absl::Mutex mutex_;
  v1::SessionState state_ ABSL_GUARDED_BY(mutex_) = v1::SESSION_STATE_WAITING;
  bool begun_ ABSL_GUARDED_BY(mutex_) = false;  // its feed has
  std::string error_ ABSL_GUARDED_BY(mutex_);
  bool telling_ ABSL_GUARDED_BY(mutex_) = false;  // of its end; who is told may go afterwards
  SessionFigures earlier_ ABSL_GUARDED_BY(mutex_);
  // Between engines; the last one's end is 0 until it samples again.
  std::vector<v1::Gap> earlier_gaps_ ABSL_GUARDED_BY(mutex_);
  absl::Time begin_time_ ABSL_GUARDED_BY(mutex_);
  absl::Time end_time_ ABSL_GUARDED_BY(mutex_);
  ProfileTable profile_ ABSL_GUARDED_BY(mutex_);
  uint64_t dropped_profile_full_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::shared_ptr<SampleStream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> streaming_ = false;  // streams_ is not empty
  size_t watchers_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace lbrd::daemon
