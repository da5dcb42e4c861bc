// What one session tells the daemon's task table, and what it takes of it: the contexts of the
// threads that it samples, from when it begins until it ends.
//
// A session of the machine (or of CPUs, a cgroup, a user, a recording) is a global user: every
// thread has a context. One of a process or a thread is attached to those it follows.
//
// Several sessions see the same forks and exits, each at its own pace; the table takes them as one.
// A thread that could not have a context while the session runs (no room) has an unknown history:
// its samples are what they are, and counted.
//
// Memory: some 50 bytes a thread that the session is attached to.
// Thread rules: Begin() and End() by the session, one at a time, with no records in between other
// than those from its workers; the rest from any worker. Lock order: mutex_ is a leaf.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "daemon/task_table.h"
#include "pmu/record.h"
#include "unwind/call_history.h"

namespace lbrd::daemon {

// A thread that runs when the session begins.
struct RunningTask {
  TaskIdentity identity;
  std::string comm;
};

class SessionTasks {
 public:
  enum class Scope {
    kEveryTask,
    kRecording,  // every task too; those that are told without a time ran before it began
    kProcess,    // what it is told of, all of which it follows
    kThread,     // one, and nothing that it starts
  };

  // Borrows `table`. nullptr: nobody keeps contexts; nothing does anything.
  SessionTasks(TaskTable* table, Scope scope) : table_(table), scope_(scope) {}
  SessionTasks(const SessionTasks&) = delete;
  SessionTasks& operator=(const SessionTasks&) = delete;
  ~SessionTasks() { End(); }

  // After what changes is recorded, so that no thread falls in between; `running`: what the session
  // is to follow, for kEveryTask all there are. kResourceExhausted: no room for the contexts;
  // nothing is left behind.
  absl::Status Begin(std::span<const RunningTask> running);
  // Gives everything back; again: does nothing. Once no worker runs any more.
  void End();

  void Apply(const pmu::TaskRecord& record);
  void Apply(const pmu::CommRecord& record);
  // Looks the sample's context up; counts it if there is none.
  void Apply(const pmu::SampleRecord& sample);
  // The sample begins to wait for the kernel's answer: its context counts it. Which one did; 0:
  // none.
  uint64_t BeginDeferred(int32_t tid, uint64_t time_ns);
  // It waits no more. Its context may have gone, and the thread may have another, which is left
  // alone.
  void EndDeferred(int32_t tid, uint64_t time_ns, uint64_t context);
  // The history of the thread that a sample is of. False: it has none.
  bool LoadHistory(const pmu::SampleId& who, unwind::CallHistory* history);
  // Replaces it, unless it is later than this one. A thread without a context keeps none.
  void StoreHistory(const pmu::SampleId& who, const unwind::CallHistory& history);

 private:
  struct Follow {
    TaskAttachment attachment;
    uint64_t start_ns = 0;
  };

  bool Global() const { return scope_ == Scope::kEveryTask || scope_ == Scope::kRecording; }
  absl::Status AddTask(const RunningTask& task);
  bool SetComm(int32_t tid, uint64_t time_ns, absl::string_view comm, bool exec);

  TaskTable* const table_;
  const Scope scope_;
  bool begun_ = false;
  bool global_user_ = false;

  absl::Mutex mutex_;
  absl::flat_hash_map<int32_t, Follow> followed_ ABSL_GUARDED_BY(mutex_);  // by tid
};

}  // namespace lbrd::daemon
