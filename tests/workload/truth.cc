#include "tests/workload/truth.h"

#include <sys/resource.h>
#include <time.h>

#include <nlohmann/json.hpp>
#include <vector>

namespace demo {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kSharesOf[] =
    "CPU time of the worker threads of this process; child processes are not part of it, and the "
    "main thread, which "
    "only starts them, uses next to none";

Json ChildrenJson() {
  return {{"comm", "demo-child"},
          {"function", "short_lived_child_work"},
          {"every_ms", kChildPeriodMs},
          {"cpu_ms_each", kChildWorkMs}};
}

int64_t Nanoseconds(const timeval& t) {
  return int64_t{t.tv_sec} * 1'000'000'000 + int64_t{t.tv_usec} * 1000;
}

}  // namespace

std::string TruthJson(int threads, bool with_children) {
  Json functions = Json::array();
  Json names = Json::array();
  const auto kinds = WorkerKinds();
  const int kind_count = static_cast<int>(kinds.size());
  for (int i = 0; i < threads; ++i) names.push_back(ThreadName(MakeWorker(i)));
  for (int k = 0; k < kind_count && k < threads; ++k) {
    const WorkerKind& kind = kinds[static_cast<size_t>(k)];
    const int copies = (threads - k - 1) / kind_count + 1;
    for (const FunctionShare& function : kind.functions) {
      const double of_thread =
          static_cast<double>(function.quota_ns) / static_cast<double>(kRoundNs);
      functions.push_back({{"function", function.name},
                           {"pattern", function.pattern},
                           {"thread", kind.thread_name},
                           {"threads", copies},
                           {"share", of_thread * copies / threads},
                           {"share_of_thread", of_thread},
                           {"callers", function.callers}});
    }
  }
  Json truth = {{"shares_of", kSharesOf},
                {"round_cpu_ns_per_thread", kRoundNs},
                {"threads", names},
                {"functions", functions},
                {"children", with_children ? ChildrenJson() : Json(nullptr)}};
  return truth.dump(2) + "\n";
}

std::string ReportJson(std::span<const Worker> workers, int64_t rounds, double wall_seconds,
                       const Children& children) {
  int64_t total_ns = 0;
  for (const Worker& worker : workers) {
    for (const CpuQuota& quota : worker.quotas) total_ns += quota.spent_ns();
  }
  Json functions = Json::array();
  for (const Worker& worker : workers) {
    for (size_t i = 0; i < worker.kind->functions.size(); ++i) {
      const int64_t spent_ns = worker.quotas[i].spent_ns();
      functions.push_back(
          {{"function", worker.kind->functions[i].name},
           {"pattern", worker.kind->functions[i].pattern},
           {"thread", ThreadName(worker)},
           {"cpu_ns", spent_ns},
           {"share",
            total_ns == 0 ? 0.0 : static_cast<double>(spent_ns) / static_cast<double>(total_ns)}});
    }
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  Json report = {{"shares_of", kSharesOf},
                 {"rounds", rounds},
                 {"wall_seconds", wall_seconds},
                 {"functions_cpu_ns", total_ns},
                 {"process_user_ns", Nanoseconds(usage.ru_utime)},
                 {"process_system_ns", Nanoseconds(usage.ru_stime)},
                 {"functions", functions},
                 {"children", {{"started", children.started()}, {"cpu_ns", children.cpu_ns()}}}};
  return report.dump(2) + "\n";
}

}  // namespace demo
