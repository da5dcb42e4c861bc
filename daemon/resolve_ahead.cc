#include "daemon/resolve_ahead.h"

#include <variant>

namespace lbrd::daemon {

void ResolveAhead::Resolve(RecordBatch* batch) {
  for (size_t i = 0; i < batch->items().size(); ++i) {
    const RecordBatch::Item& item = batch->items()[i];
    const absl::StatusOr<pmu::Record> decoded = batch->Decode(item, FormatOf(events_, item.event));
    if (!decoded.ok()) continue;
    if (const auto* sample = std::get_if<pmu::SampleRecord>(&*decoded)) {
      const unwind::Process& process = processes_.Get(sample->who.pid);
      const WorkerEvent& how = events_[item.event];
      if (how.resolve.lbr_call_stack || sample->user_stack.empty()) continue;
      resolver_.Resolve(*sample, how.resolve, process, batch->Resolve(i));
    } else if (const auto* mmap = std::get_if<pmu::MmapRecord>(&*decoded)) {
      processes_.Apply(*mmap);
    } else if (const auto* comm = std::get_if<pmu::CommRecord>(&*decoded)) {
      processes_.Apply(*comm);
    } else if (const auto* task = std::get_if<pmu::TaskRecord>(&*decoded)) {
      processes_.Apply(*task);
    }
  }
  report_.Tell(resolver_, nullptr);
}

}  // namespace lbrd::daemon
