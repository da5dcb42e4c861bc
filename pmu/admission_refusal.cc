#include "pmu/admission_refusal.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "pmu/branch_filter.h"

namespace lbrd::pmu {
namespace {

std::string Place(const std::optional<TaskId>& task, int32_t cpu) {
  const std::string on_cpu = cpu == kEveryCpu ? "every CPU" : absl::StrCat("CPU ", cpu);
  if (!task.has_value()) return on_cpu;
  if (cpu == kEveryCpu) return absl::StrCat("thread ", task->tid);
  return absl::StrCat("thread ", task->tid, " on ", on_cpu);
}

std::string Holders(const RefusedUse& refused, const Obstacle& obstacle) {
  std::vector<std::string> parts;
  for (const ResourceHolder& holder : obstacle.holders) {
    const std::string place = Place(holder.task, holder.cpu);
    parts.push_back(refused.resource == Resource::kLbr
                        ? absl::StrFormat("'%s' (filter %s on %s)", holder.name,
                                          DescribeBranchSampleType(holder.filter), place)
                        : absl::StrFormat("'%s' (%d on %s)", holder.name, holder.slots, place));
  }
  if (obstacle.unnamed != 0) parts.push_back(absl::StrCat(obstacle.unnamed, " more"));
  return absl::StrJoin(parts, ", ");
}

}  // namespace

std::string ExplainObstacle(const RefusedUse& refused, const Obstacle& obstacle) {
  const std::string where = Place(refused.task, refused.cpu);
  if (obstacle.table_full) {
    return absl::StrCat(
        "too many uses of LBR, counters and breakpoints are on record to add one on ", where,
        "; stop a session");
  }
  if (refused.resource == Resource::kLbr) {
    return absl::StrFormat(
        "LBR with branch filter %s is not to be had on %s: CPU %d has it with another filter, "
        "held by %s; stop that session, or let them take turns (--allow-multiplex)",
        DescribeBranchSampleType(refused.filter), where, obstacle.cpu, Holders(refused, obstacle));
  }
  const bool breakpoints = refused.resource == Resource::kBreakpoints;
  std::string text =
      absl::StrFormat("no %s free on %s: CPU %d has %d", breakpoints ? "breakpoint" : "counter",
                      where, obstacle.cpu, refused.slots_of_cpu);
  if (refused.slots != 1) absl::StrAppend(&text, ", ", refused.slots, " are asked for");
  if (obstacle.holders.empty()) return text;
  absl::StrAppend(&text, ", held by ", Holders(refused, obstacle), "; stop one of these sessions");
  if (!breakpoints) absl::StrAppend(&text, ", or let them take turns (--allow-multiplex)");
  return text;
}

}  // namespace lbrd::pmu
