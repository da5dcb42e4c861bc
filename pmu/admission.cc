#include "pmu/admission.h"

#include <algorithm>

#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lbrd::pmu {

Admission::Admission(const AdmissionLimits& limits)
    : limits_(limits),
      lbr_(limits.cpus),
      counters_(limits.counters, limits.cpus),
      breakpoints_(limits.breakpoints, limits.cpus),
      accounts_{&lbr_, &counters_, &breakpoints_},
      shards_(std::make_unique<Shard[]>(kShards)) {}

Admission::~Admission() = default;

absl::Status Admission::Check(const AdmissionRequest& request) const {
  if (request.cpu < kEveryCpu || request.cpu >= limits_.cpus) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no CPU ", request.cpu, "; the last one is ", limits_.cpus - 1));
  }
  if (request.task.has_value() && request.task->tid <= 0) {
    return absl::InvalidArgumentError(absl::StrCat("there is no thread ", request.task->tid));
  }
  const int most = request.resource == Resource::kLbr ? 1 : SlotHistogram::kMaxSlots;
  if (request.slots < 1 || request.slots > most) {
    return absl::InvalidArgumentError(
        absl::StrCat(request.slots, " slots cannot be asked for; 1 to ", most, " can"));
  }
  return absl::OkStatus();
}

Admission::Shard& Admission::ShardOf(const TaskId& task) const {
  return shards_[absl::Hash<TaskId>()(task) % kShards];
}

absl::StatusOr<Admission::Grant> Admission::Admit(AdmissionRequest request) {
  if (absl::Status checked = Check(request); !checked.ok()) return checked;
  if (request.resource == Resource::kBreakpoints) request.allow_multiplex = false;
  Use use{.resource = request.resource, .cpu = request.cpu, .slots = request.slots};
  use.holder = std::move(request.holder);
  if (use.holder.size() > kMaxHolderBytes) use.holder.resize(kMaxHolderBytes);

  const Decision decision =
      request.task.has_value() ? AdmitTask(request, &use) : AdmitCpu(request, &use);
  std::string why;
  if (decision.obstacle.has_value()) {
    const int slots_of_cpu =
        request.resource == Resource::kCounters ? limits_.counters : limits_.breakpoints;
    why = ExplainObstacle({.resource = request.resource,
                           .task = request.task,
                           .cpu = request.cpu,
                           .slots = request.slots,
                           .slots_of_cpu = slots_of_cpu,
                           .filter = request.filter},
                          *decision.obstacle);
  }
  if (decision.id == 0) return absl::ResourceExhaustedError(why);
  Grant grant;
  grant.admission_ = this;
  grant.task_ = request.task;
  grant.id_ = decision.id;
  grant.time_shared_ = std::move(why);
  return grant;
}

Admission::Decision Admission::AdmitTask(const AdmissionRequest& request, Use* use) {
  Shard& shard = ShardOf(*request.task);
  absl::MutexLock shard_lock(&shard.mutex);
  {
    PercpuRwSem::ReadLock lock(sem_);
    std::optional<int32_t> filter = 0;
    if (request.resource == Resource::kLbr) filter = lbr_.Find(request.filter);
    if (filter.has_value()) {
      use->filter = *filter;
      return DecideTask(request, shard, use);
    }
  }
  // A filter's first use: only a writer may give it its number.
  PercpuRwSem::WriteLock lock(sem_);
  const std::optional<int32_t> filter = lbr_.FindOrAdd(request.filter);
  if (!filter.has_value()) return {.obstacle = Obstacle{.table_full = true}};
  use->filter = *filter;
  return DecideTask(request, shard, use);
}

Admission::Decision Admission::DecideTask(const AdmissionRequest& request, Shard& shard, Use* use) {
  if (shard.uses >= kMaxTaskUses / kShards) return {.obstacle = Obstacle{.table_full = true}};
  const auto task = shard.tasks.try_emplace(*request.task).first;
  TaskUses& own = task->second;
  Decision decision;
  ResourceAccount& account = Account(request.resource);
  if (const std::optional<int32_t> cpu = account.BlockedForTask(own, *use)) {
    decision.obstacle = TaskObstacle(request, own, *use, *cpu);
    if (!request.allow_multiplex) {
      if (own.empty()) shard.tasks.erase(task);
      return decision;
    }
  }
  account.CountTask(own, *use, /*in=*/true);
  decision.id = use->id = shard.next_id++;
  ++shard.uses;
  own.Add(std::move(*use));
  return decision;
}

Admission::Decision Admission::AdmitCpu(const AdmissionRequest& request, Use* use) {
  PercpuRwSem::WriteLock lock(sem_);
  Decision decision;
  if (cpu_uses_.size() >= kMaxCpuUses) return {.obstacle = Obstacle{.table_full = true}};
  if (request.resource == Resource::kLbr) {
    const std::optional<int32_t> filter = lbr_.FindOrAdd(request.filter);
    if (!filter.has_value()) return {.obstacle = Obstacle{.table_full = true}};
    use->filter = *filter;
  }
  ResourceAccount& account = Account(request.resource);
  if (const std::optional<int32_t> cpu = account.BlockedForCpu(*use)) {
    decision.obstacle = CpuObstacle(*use, *cpu);
    if (!request.allow_multiplex) return decision;
  }
  account.CountCpu(*use, /*in=*/true);
  decision.id = use->id = next_cpu_id_++;
  cpu_uses_.emplace(decision.id, std::move(*use));
  return decision;
}

Obstacle Admission::TaskObstacle(const AdmissionRequest& request, const TaskUses& own,
                                 const Use& wanted, int32_t cpu) const {
  Obstacle obstacle{.cpu = cpu};
  const ResourceAccount& account = Account(wanted.resource);
  for (const Use& held : own.list()) {
    if (held.covers(cpu) && account.Competes(held, wanted)) {
      AddHolder(held, request.task, &obstacle);
    }
  }
  for (const auto& [id, held] : cpu_uses_) {
    if (held.covers(cpu) && account.Competes(held, wanted)) {
      AddHolder(held, std::nullopt, &obstacle);
    }
  }
  return obstacle;
}

Obstacle Admission::CpuObstacle(const Use& wanted, int32_t cpu) const {
  Obstacle obstacle{.cpu = cpu};
  for (const auto& [id, held] : cpu_uses_) {
    if (held.covers(cpu) && Account(wanted.resource).Competes(held, wanted)) {
      AddHolder(held, std::nullopt, &obstacle);
    }
  }
  AddTaskHolders(wanted, cpu, &obstacle);
  return obstacle;
}

// The shards do not change while sem_ is held for writing; taking their mutexes in here would turn
// the lock order round.
void Admission::AddTaskHolders(const Use& wanted, int32_t cpu,
                               Obstacle* obstacle) const ABSL_NO_THREAD_SAFETY_ANALYSIS {
  const ResourceAccount& account = Account(wanted.resource);
  for (size_t i = 0; i < kShards; ++i) {
    for (const auto& [task, uses] : shards_[i].tasks) {
      if (!account.TaskBlocks(uses, wanted, cpu)) continue;
      for (const Use& held : uses.list()) {
        if (held.covers(cpu) && account.Competes(held, wanted)) AddHolder(held, task, obstacle);
      }
      // One task in the way is enough, and there may be very many.
      return;
    }
  }
}

void Admission::AddHolder(const Use& held, std::optional<TaskId> task, Obstacle* obstacle) const {
  ResourceHolder holder{
      .name = held.holder, .task = task, .cpu = held.cpu, .slots = held.slots, .filter = 0};
  if (held.resource == Resource::kLbr) holder.filter = lbr_.filter(held.filter);
  for (ResourceHolder& known : obstacle->holders) {
    if (known.name == holder.name && known.task == holder.task && known.cpu == holder.cpu &&
        known.filter == holder.filter) {
      known.slots += holder.slots;
      return;
    }
  }
  if (obstacle->holders.size() < Obstacle::kMaxNamed) {
    obstacle->holders.push_back(std::move(holder));
  } else {
    ++obstacle->unnamed;
  }
}

void Admission::Release(const std::optional<TaskId>& task, uint64_t id) {
  if (!task.has_value()) {
    PercpuRwSem::WriteLock lock(sem_);
    const auto found = cpu_uses_.find(id);
    Account(found->second.resource).CountCpu(found->second, /*in=*/false);
    cpu_uses_.erase(found);
    return;
  }
  Shard& shard = ShardOf(*task);
  absl::MutexLock shard_lock(&shard.mutex);
  PercpuRwSem::ReadLock lock(sem_);
  const auto found = shard.tasks.find(*task);
  const Use use = found->second.Remove(id);
  Account(use.resource).CountTask(found->second, use, /*in=*/false);
  --shard.uses;
  if (found->second.empty()) shard.tasks.erase(found);
}

// As in AddTaskHolders, the semaphore alone keeps the shards still.
Admission::Figures Admission::figures() const ABSL_NO_THREAD_SAFETY_ANALYSIS {
  PercpuRwSem::WriteLock lock(sem_);
  Figures figures;
  for (size_t i = 0; i < kShards; ++i) {
    figures.task_uses += shards_[i].uses;
    figures.tasks += shards_[i].tasks.size();
  }
  figures.cpu_uses = cpu_uses_.size();
  figures.counters_zero = lbr_.idle() && counters_.idle() && breakpoints_.idle();
  return figures;
}

Admission::Grant& Admission::Grant::operator=(Grant&& other) noexcept {
  if (this == &other) return *this;
  Release();
  admission_ = std::exchange(other.admission_, nullptr);
  task_ = other.task_;
  id_ = other.id_;
  time_shared_ = std::move(other.time_shared_);
  return *this;
}

void Admission::Grant::Release() {
  if (admission_ == nullptr) return;
  std::exchange(admission_, nullptr)->Release(task_, id_);
}

}  // namespace lbrd::pmu
