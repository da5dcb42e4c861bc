// Who uses a scarce resource, and where: one use, and the uses of one task.
//
// Thread rules: plain values; whoever holds them guards them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace lbrd::pmu {

enum class Resource : uint8_t {
  kLbr,          // one branch filter at a time on each CPU, shared by all who want the same
  kCounters,     // general counters
  kBreakpoints,  // hardware breakpoints
};
inline constexpr int kResources = 3;

inline constexpr int32_t kEveryCpu = -1;

// A thread. The kernel gives numbers again; together with its start time it is never another's.
struct TaskId {
  int32_t tid = 0;
  uint64_t start_time = 0;  // in the clock of /proc/PID/stat; 0: not known, the same for all

  bool operator==(const TaskId&) const = default;
  template <typename H>
  friend H AbslHashValue(H hash, const TaskId& task) {
    return H::combine(std::move(hash), task.tid, task.start_time);
  }
};

// A use that was granted, or is asked for.
struct Use {
  uint64_t id = 0;  // tells apart the uses of one list
  Resource resource = Resource::kBreakpoints;
  int32_t cpu = kEveryCpu;
  int32_t slots = 1;
  int32_t filter = 0;  // LBR: number of the branch filter (FilterAccount)
  std::string holder;

  bool covers(int32_t on_cpu) const { return cpu == kEveryCpu || cpu == on_cpu; }
};

// What one task uses, of all resources.
class TaskUses {
 public:
  // Slots of a resource in uses that are bound to no CPU.
  int Everywhere(Resource resource) const { return Bound(resource, kEveryCpu); }
  // Slots in uses bound to this CPU.
  int Bound(Resource resource, int32_t cpu) const {
    int slots = 0;
    for (const Use& use : list_) {
      if (use.resource == resource && use.cpu == cpu) slots += use.slots;
    }
    return slots;
  }
  // Each CPU that has bound uses, with their slots; ascending.
  std::vector<std::pair<int32_t, int>> BoundCpus(Resource resource) const {
    if (bound_ == 0) return {};  // most have none
    return SomeBoundCpus(resource);
  }

  const std::vector<Use>& list() const { return list_; }
  bool empty() const { return list_.empty(); }
  void Add(Use use);
  // Takes the use with this id out. It must be there.
  Use Remove(uint64_t id);

 private:
  std::vector<std::pair<int32_t, int>> SomeBoundCpus(Resource resource) const;

  std::vector<Use> list_;
  size_t bound_ = 0;  // uses of one CPU
};

}  // namespace lbrd::pmu
