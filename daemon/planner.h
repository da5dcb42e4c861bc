// Live sessions -> the smallest set of kernel events. Pure: no kernel, no threads, no clock.
//
// A *flow* is one kind of event on a set of CPUs, as often as whoever asks most often wants it.
// Sessions that want the same kind share a flow, each with a filter and a rate of its own
// (daemon/session_filter.h, daemon/thinning.h).
//
//   who asks for                                     gets
//   all CPUs, some CPUs, a user                      a share in a flow; the flow is made if need be
//   a process or a thread that runs                  a share where a flow already sees all CPUs;
//                                                    else events of its own, on its threads only
//   a command (enable_on_exec), a cgroup, a          events of its own, always: the kernel does
//   recording                                        there what no filter can
//
// So the kernel has one event for each kind and CPU that anybody asked for: Plan() is minimal, and
// its properties are what tests/unit/daemon/planner_test.cc checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "lbrd/v1/session.pb.h"

namespace lbrd::daemon {

// In the place of a CPU's number.
inline constexpr int32_t kAllCpus = -1;

// CPUs, ascending; empty: all, also those that come online later.
using CpuSet = std::vector<int32_t>;
CpuSet UnionOf(const CpuSet& a, const CpuSet& b);
bool Covers(const CpuSet& all, const CpuSet& some);

// Of a session's spec, what decides whether two sessions can use the same kernel events. Equal or
// not: nothing in between.
struct FlowKind {
  std::string event;
  v1::StackMode stack_mode = v1::STACK_MODE_UNSPECIFIED;
  uint32_t stack_copy_bytes = 0;  // in dwarf mode, or where that may be chosen
  uint64_t ring_bytes = 0;
  bool user_only = false;
  bool allow_multiplex = false;
  v1::BranchFilter branch_filter = v1::BRANCH_FILTER_UNSPECIFIED;
  bool by_period = false;  // one sample every so many events; else so many samples a second

  friend bool operator==(const FlowKind&, const FlowKind&) = default;
};
FlowKind KindOf(const v1::SessionSpec& spec);

// Hz, or with by_period events per sample.
uint64_t RateOf(const v1::SessionSpec& spec);
// The rate that serves both: the higher frequency, the smaller period.
uint64_t FasterRate(const FlowKind& kind, uint64_t a, uint64_t b);
// The one that serves neither: the lower frequency, the larger period.
uint64_t SlowerRate(const FlowKind& kind, uint64_t a, uint64_t b);
// So many times slower than `rate`; at least 1 Hz.
uint64_t SlowedRate(const FlowKind& kind, uint64_t rate, uint32_t factor);
// With what probability a sample of a flow at `flow_rate` is kept for a session that asked for
// `rate`; at most 1.
double KeepProbability(const FlowKind& kind, uint64_t flow_rate, uint64_t rate);

enum class Sharing : uint8_t {
  kAlways,   // in a flow that is there, or in a new one
  kIfThere,  // in a flow that is there and sees all CPUs
  kNever,
};
Sharing SharingOf(const v1::SessionSpec& spec);
// For people: why a session has events of its own. Empty: it shares.
absl::string_view WhyNotShared(const v1::SessionSpec& spec);

// A session, as far as planning goes.
struct FlowDemand {
  FlowKind kind;
  Sharing sharing = Sharing::kAlways;
  CpuSet cpus;
  uint64_t rate = 0;
};

// A flow that is there: the kind, and the CPUs it has events on.
struct FlowPlace {
  FlowKind kind;
  CpuSet cpus;
  // It may get events on more CPUs. Not where each takes scarce hardware, which was granted for the
  // CPUs it began with.
  bool can_widen = true;
};
// Which of the flows serves the demand; nullopt: none, it needs one of its own. A flow of the kind
// that lacks CPUs serves too if it can be widened, to UnionOf() the two.
std::optional<size_t> ChooseFlow(const FlowDemand& demand, std::span<const FlowPlace> flows);

}  // namespace lbrd::daemon
