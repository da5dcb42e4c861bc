// A session's spec -> everything its pipeline needs: where records come from, how they are read,
// and where the files behind them are.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/kernel_names.h"
#include "daemon/session_admission.h"
#include "daemon/session_tasks.h"
#include "daemon/worker.h"
#include "lbrd/v1/session.pb.h"
#include "pmu/admission.h"
#include "pmu/event_request.h"
#include "pmu/kernel.h"
#include "pmu/record_source.h"
#include "pmu/record_writer.h"
#include "pmu/stack_source.h"
#include "unwind/binary.h"

namespace lbrd::pmu {
class EventSet;
}  // namespace lbrd::pmu

namespace lbrd::daemon {

struct SessionSource {
  // Of scarce hardware, to be given back once the events of `records` are closed: so they go last.
  Grants grants;
  std::unique_ptr<pmu::RecordSource> records;
  std::vector<WorkerEvent> events;
  std::vector<v1::SessionEvent> described;  // for people
  std::vector<std::string> notes;
  KernelNameSource kernel_names;
  // Files of a recording are its own; null: the machine's.
  std::unique_ptr<unwind::FileSource> files;
  uint32_t cpus = 0;
  // Its part in the daemon's task table, begun by begin(); null: none.
  std::unique_ptr<SessionTasks> tasks;
  // Of `records`, if they are live.
  pmu::EventSet* live = nullptr;
  // All of begin() but the sampling: live.StartSampling() is left to the caller. Live only.
  std::function<absl::Status(pmu::RecordWriter* known)> prepare;
  // Lets the flow begin. *known: what is to be known before the first record.
  std::function<absl::Status(pmu::RecordWriter* known)> begin;
  // Told once, when a session that began has ended: OK, or why it failed. May be empty.
  std::function<void(const absl::Status&)> ended;
  // Bytes read and in all, where that can be told.
  std::function<std::pair<uint64_t, uint64_t>()> progress;
};

// What a user must know of it, as far as it is known yet.
void AddNotes(const SessionSource& source, v1::Session* out);

// The spec with its defaults filled in, or what is wrong with it.
absl::StatusOr<v1::SessionSpec> CheckSpec(v1::SessionSpec spec, bool replay);

// Opens what a (checked) spec asks for, for the session `name`; nothing is counted yet. `kernel`,
// `admission` and `tasks` must outlive the source; `tasks`: nullptr where nobody keeps contexts.
// `ownership_of`: see pmu::EventTarget.
absl::StatusOr<SessionSource> OpenSessionSource(pmu::Kernel& kernel, pmu::Admission& admission,
                                                const std::string& name,
                                                const v1::SessionSpec& spec,
                                                TaskTable* tasks = nullptr,
                                                pmu::OwnershipOf ownership_of = nullptr);

// What is asked of the kernel.
pmu::EventRequest RequestOf(const v1::SessionSpec& spec);
// The CPUs that a (checked) spec names, in target and filter; empty: all.
std::vector<int32_t> WantedCpus(const v1::SessionSpec& spec);
v1::StackMode ProtoMode(pmu::StackSource source);

}  // namespace lbrd::daemon
