#include "tests/sim/faults.h"

#include <algorithm>

namespace lbrd::sim {

void Faults::FailNth(Call call, uint64_t n, int error) {
  const auto index = static_cast<size_t>(call);
  plans_[index].nth.push_back({uses_[index] + n, error});
}

void Faults::FailByChance(Call call, uint32_t per_million, int error) {
  std::vector<Chance>& chances = plans_[static_cast<size_t>(call)].chances;
  std::erase_if(chances, [error](const Chance& chance) { return chance.error == error; });
  if (per_million != 0) chances.push_back({per_million, error});
}

void Faults::Clear() { plans_ = {}; }

int Faults::Next(Call call) {
  const auto index = static_cast<size_t>(call);
  const uint64_t use = ++uses_[index];
  Plan& plan = plans_[index];
  const auto due = std::find_if(plan.nth.begin(), plan.nth.end(),
                                [use](const Nth& nth) { return nth.at == use; });
  if (due != plan.nth.end()) {
    const int error = due->error;
    plan.nth.erase(due);
    ++injected_;
    return error;
  }
  for (const Chance& chance : plan.chances) {
    if (!random_.Chance(chance.per_million)) continue;
    ++injected_;
    return chance.error;
  }
  return 0;
}

}  // namespace lbrd::sim
