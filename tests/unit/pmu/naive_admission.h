// Admission as one would write it on a blackboard: one list of uses, looked through for every
// answer, on every CPU, for every task. What pmu/admission.h must answer.
//
// Thread rules: one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "pmu/admission.h"

namespace lbrd::pmu {

class NaiveAdmission {
 public:
  explicit NaiveAdmission(const AdmissionLimits& limits) : limits_(limits) {}

  // Whether the request fits beside all that is held; it is then held too, under `id`.
  bool Admit(const AdmissionRequest& request, uint64_t id) {
    bool fits = true;
    for (int32_t cpu = 0; cpu < limits_.cpus; ++cpu) {
      if (Covers(request, cpu)) fits = fits && FitsOn(request, cpu);
    }
    const bool granted =
        fits || (request.allow_multiplex && request.resource != Resource::kBreakpoints);
    if (granted) held_.emplace(id, request);
    return granted;
  }
  void Release(uint64_t id) { held_.erase(id); }

  // Those who hold what the request is about anywhere it goes.
  std::set<std::string> HoldersMet(const AdmissionRequest& request) const {
    std::set<std::string> names;
    for (const auto& [id, held] : held_) {
      for (int32_t cpu = 0; cpu < limits_.cpus; ++cpu) {
        if (Covers(request, cpu) && Meets(held, request, cpu)) names.insert(held.holder);
      }
    }
    return names;
  }
  const std::map<uint64_t, AdmissionRequest>& held() const { return held_; }

 private:
  static bool Covers(const AdmissionRequest& use, int32_t cpu) {
    return use.cpu == kEveryCpu || use.cpu == cpu;
  }
  static bool Meets(const AdmissionRequest& held, const AdmissionRequest& wanted, int32_t cpu) {
    return held.resource == wanted.resource && Covers(held, cpu) &&
           (!held.task.has_value() || !wanted.task.has_value() || held.task == wanted.task);
  }

  // Beside what is on the hardware of `cpu` while `running` runs there.
  bool FitsBeside(const AdmissionRequest& wanted, int32_t cpu,
                  std::optional<TaskId> running) const {
    int slots = wanted.slots;
    bool same_filter = true;
    for (const auto& [id, held] : held_) {
      if (held.resource != wanted.resource || !Covers(held, cpu)) continue;
      if (held.task.has_value() && held.task != running) continue;
      slots += held.slots;
      same_filter = same_filter && held.filter == wanted.filter;
    }
    switch (wanted.resource) {
      case Resource::kLbr:
        return same_filter;
      case Resource::kCounters:
        return limits_.counters == 0 || slots <= limits_.counters;
      case Resource::kBreakpoints:
        break;
    }
    return slots <= limits_.breakpoints;
  }

  bool FitsOn(const AdmissionRequest& wanted, int32_t cpu) const {
    if (wanted.task.has_value()) return FitsBeside(wanted, cpu, wanted.task);
    bool fits = FitsBeside(wanted, cpu, std::nullopt);
    for (const auto& [id, held] : held_) {
      if (held.task.has_value()) fits = fits && FitsBeside(wanted, cpu, held.task);
    }
    return fits;
  }

  const AdmissionLimits limits_;
  std::map<uint64_t, AdmissionRequest> held_;
};

}  // namespace lbrd::pmu
