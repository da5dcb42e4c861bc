// Resolves the samples of a recording before the worker names them, so that the two go on at the
// same time.
//
// It keeps processes of its own, by the same records in the same order, so that the worker's may
// lag behind. Only samples that need nothing else are resolved here: those with a copy of the
// stack, and without a window of the LBR, which takes its task's history. Everything else is the
// worker's.
//
// Thread rules: one owner.
#pragma once

#include <vector>

#include "daemon/record_queue.h"
#include "daemon/unwind_totals.h"
#include "daemon/worker_event.h"
#include "pmu/record.h"
#include "unwind/process_table.h"
#include "unwind/stack_resolver.h"

namespace lbrd::daemon {

class ResolveAhead {
 public:
  // Borrows both.
  ResolveAhead(const std::vector<WorkerEvent>* events, unwind::BinaryCache* binaries)
      : events_(*events),
        processes_(binaries, unwind::ProcessTable::Jit::kLeftOut),
        resolver_(binaries->rule_tables()) {}

  // Fills batch->resolved(), and marks whose they are.
  void Resolve(RecordBatch* batch);

 private:
  const std::vector<WorkerEvent>& events_;
  unwind::ProcessTable processes_;
  unwind::StackResolver resolver_;
  UnwindReport report_;
};

}  // namespace lbrd::daemon
