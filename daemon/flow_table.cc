#include "daemon/flow_table.h"

#include <pthread.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "pmu/breakpoint_name.h"
#include "pmu/cpu_list.h"
#include "pmu/cpu_watch.h"
#include "pmu/stack_source.h"

namespace lbrd::daemon {
namespace {

FilterSpec FilterOf(const v1::SessionSpec& spec) {
  FilterSpec filter;
  const v1::Target& target = spec.target();
  if (target.has_process()) filter.process = target.process().pid();
  if (target.has_thread()) filter.thread = target.thread().tid();
  if (target.has_user()) filter.uid = target.user().uid();
  filter.cpus = WantedCpus(spec);
  filter.comm = spec.filter().comm();
  return filter;
}

// As a target of its own would be told.
absl::Status CheckPresent(pmu::Kernel& kernel, const CpuSet& cpus) {
  if (cpus.empty()) return absl::OkStatus();
  const absl::StatusOr<std::vector<int32_t>> present = pmu::PresentCpus(kernel);
  if (!present.ok()) return present.status();
  for (const int32_t cpu : cpus) {
    if (std::binary_search(present->begin(), present->end(), cpu)) continue;
    return absl::InvalidArgumentError(absl::StrCat("there is no CPU ", cpu, "; this machine has ",
                                                   present->size(), ", from ", present->front(),
                                                   " to ", present->back()));
  }
  return absl::OkStatus();
}

}  // namespace

FlowTable::FlowTable(pmu::Kernel* kernel, pmu::Admission* admission, unwind::BinaryCache* binaries,
                     TaskTable* tasks, absl::Duration linger)
    : kernel_(*kernel),
      admission_(*admission),
      binaries_(*binaries),
      tasks_(tasks),
      linger_(linger),
      closer_([this] {
        pthread_setname_np(pthread_self(), "lbrd-flows");
        CloseEnded();
      }) {}

FlowTable::~FlowTable() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  closer_.join();
  std::vector<std::shared_ptr<Flow>> flows;
  {
    absl::MutexLock lock(&mutex_);
    flows.swap(flows_);
  }
  // Each tells of its end here, while there is somebody to tell.
  flows.clear();
}

void FlowTable::CloseEnded() {
  const auto due = [this]()
                       ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stop_ || !ended_.empty(); };
  while (true) {
    std::vector<std::shared_ptr<Flow>> ended;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&due));
      if (stop_) return;
      const auto dead =
          [this](const std::shared_ptr<Flow>& flow) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
            return std::find(ended_.begin(), ended_.end(), flow->name()) != ended_.end();
          };
      std::copy_if(flows_.begin(), flows_.end(), std::back_inserter(ended), dead);
    }
    for (const std::shared_ptr<Flow>& flow : ended) flow->Release();
    absl::MutexLock lock(&mutex_);
    for (const std::shared_ptr<Flow>& flow : ended) {
      flows_.erase(std::find(flows_.begin(), flows_.end(), flow));
      ended_.erase(std::find(ended_.begin(), ended_.end(), flow->name()));
    }
  }
}

size_t FlowTable::size() const {
  absl::MutexLock lock(&mutex_);
  return flows_.size();
}

void FlowTable::SlowDown(uint32_t factor) {
  std::vector<std::shared_ptr<Flow>> flows;
  {
    absl::MutexLock lock(&mutex_);
    slow_down_ = factor;
    flows = flows_;
  }
  for (const std::shared_ptr<Flow>& flow : flows) flow->SlowDown(factor);
}

uint32_t FlowTable::slow_down() const {
  absl::MutexLock lock(&mutex_);
  return slow_down_;
}

bool FlowTable::CloseIdle() {
  std::vector<std::shared_ptr<Flow>> flows;
  {
    absl::MutexLock lock(&mutex_);
    flows = flows_;
  }
  size_t idle = 0;
  for (const std::shared_ptr<Flow>& flow : flows) idle += flow->EndIfIdle() ? 1 : 0;
  if (idle == 0) return false;
  const size_t left = flows.size() - idle;
  absl::MutexLock lock(&mutex_);
  const auto closed = [this, left]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return flows_.size() <= left; };
  mutex_.AwaitWithTimeout(absl::Condition(&closed), absl::Seconds(2));
  return true;
}

absl::StatusOr<FlowKind> FlowTable::Resolve(FlowKind kind, const v1::SessionSpec& spec) {
  const Asked asked(kind.event, kind.stack_mode, kind.branch_filter);
  auto known = resolved_.find(asked);
  if (known == resolved_.end()) {
    // A breakpoint's name is its own, and trying one takes a slot.
    if (pmu::IsBreakpointName(kind.event)) return kind;
    const absl::StatusOr<pmu::ChosenEvent> chosen = pmu::ChooseEvent(kernel_, RequestOf(spec));
    if (!chosen.ok()) return chosen.status();
    known = resolved_.emplace(asked, std::pair(chosen->code.name, ProtoMode(chosen->source))).first;
  }
  // Beside the LBR there is a copy only for who asked for both.
  const bool asked_for_lbr = kind.stack_mode == v1::STACK_MODE_LBR;
  std::tie(kind.event, kind.stack_mode) = known->second;
  const bool copies = kind.stack_mode == v1::STACK_MODE_DWARF ||
                      (kind.stack_mode == v1::STACK_MODE_LBR && asked_for_lbr);
  if (!copies) kind.stack_copy_bytes = 0;
  return kind;
}

absl::StatusOr<std::shared_ptr<Flow>> FlowTable::Open(const std::string& session,
                                                      const FlowDemand& demand,
                                                      const v1::SessionSpec& spec) {
  v1::SessionSpec all = spec;
  all.clear_target();
  if (demand.cpus.empty()) {
    all.mutable_target()->mutable_all_cpus();
  } else {
    all.mutable_target()->mutable_cpu_list()->set_cpus(absl::StrJoin(demand.cpus, ","));
  }
  absl::StatusOr<SessionSource> source =
      OpenSessionSource(kernel_, admission_, session, all, tasks_);
  if (!source.ok()) return source.status();
  FlowOptions options{
      .kind = demand.kind, .cpus = demand.cpus, .rate = demand.rate, .linger = linger_};
  absl::MutexLock lock(&mutex_);
  options.name = absl::StrCat("flow-", next_number_++);
  const std::string name = options.name;
  auto flow = std::make_shared<Flow>(kernel_, std::move(options), *std::move(source), &binaries_,
                                     [this, name] {
                                       absl::MutexLock ended(&mutex_);
                                       ended_.push_back(name);
                                     });
  flow->SlowDown(slow_down_);
  flows_.push_back(flow);
  return flow;
}

absl::StatusOr<std::unique_ptr<SessionFeed>> FlowTable::Join(const std::string& session,
                                                             const v1::SessionSpec& spec,
                                                             std::optional<Viewer> viewer) {
  FlowDemand demand{.sharing = SharingOf(spec), .rate = RateOf(spec)};
  if (demand.sharing == Sharing::kNever) return nullptr;
  // Who takes turns is told with whom, which is not for everybody.
  if (viewer.has_value() && spec.allow_multiplex()) return nullptr;
  FilterSpec filter = FilterOf(spec);
  demand.cpus = filter.cpus;
  if (absl::Status present = CheckPresent(kernel_, demand.cpus); !present.ok()) return present;
  if (viewer.has_value()) {
    // Every program that is executed must be seen, on whichever CPU.
    demand.cpus.clear();
    filter.uid = viewer->uid;
    filter.viewer = std::move(viewer);
  }
  absl::MutexLock opening(&open_mutex_);
  absl::StatusOr<FlowKind> kind = Resolve(KindOf(spec), spec);
  if (!kind.ok()) return kind.status();
  demand.kind = *std::move(kind);
  std::vector<std::shared_ptr<Flow>> flows;
  {
    absl::MutexLock lock(&mutex_);
    flows = flows_;
  }
  while (true) {
    std::vector<FlowPlace> places;
    for (const std::shared_ptr<Flow>& flow : flows) places.push_back(flow->place());
    const std::optional<size_t> chosen = ChooseFlow(demand, places);
    if (!chosen.has_value()) break;
    if (auto share = Flow::Join(flows[*chosen], demand, filter); share != nullptr) return share;
    flows.erase(flows.begin() + static_cast<ptrdiff_t>(*chosen));  // it is ending
  }
  if (demand.sharing == Sharing::kIfThere) return nullptr;
  absl::StatusOr<std::shared_ptr<Flow>> flow = Open(session, demand, spec);
  if (absl::IsResourceExhausted(flow.status()) && CloseIdle()) {
    flow = Open(session, demand, spec);
  }
  if (!flow.ok()) return flow.status();
  return Flow::Join(*flow, demand, filter);
}

}  // namespace lbrd::daemon
