#include "unwind/stack_resolver.h"

#include <asm/perf_regs.h>
#include <elf.h>

#include <algorithm>

#include "unwind/fusion.h"

namespace lbrd::unwind {
namespace {

// A call chain's parts, told apart by its context markers.
struct ChainParts {
  std::span<const uint64_t> user;
  std::optional<uint64_t> cookie;
};

// Kernel frames go straight to `out`; the user part is returned as a span of the chain.
ChainParts SplitChain(std::span<const uint64_t> chain, uint16_t cpumode, ResolvedStack* out) {
  ChainParts parts{};
  // Chains of old kernels may lack the first marker.
  uint64_t context = cpumode == PERF_RECORD_MISC_KERNEL ? PERF_CONTEXT_KERNEL
                     : cpumode == PERF_RECORD_MISC_USER ? PERF_CONTEXT_USER
                                                        : PERF_CONTEXT_MAX;
  bool first_kernel = true;
  for (size_t i = 0; i < chain.size(); ++i) {
    if (chain[i] >= pmu::kContextMarkers) {
      context = chain[i];
      if (context == pmu::kContextUserDeferred && i + 1 < chain.size()) {
        parts.cookie = chain[++i];
        context = PERF_CONTEXT_MAX;  // nothing follows a cookie
      }
      continue;
    }
    if (context == static_cast<uint64_t>(PERF_CONTEXT_KERNEL)) {
      out->Add(chain[i], FrameSource::kKernel, !first_kernel);
      first_kernel = false;
    } else if (context == static_cast<uint64_t>(PERF_CONTEXT_USER)) {
      size_t end = i;
      while (end < chain.size() && chain[end] < pmu::kContextMarkers) ++end;
      parts.user = chain.subspan(i, end - i);
      i = end - 1;
    }
    // A hypervisor's or a guest's addresses are not of this machine's kernel or processes.
  }
  return parts;
}

bool IsLbr(const ResolvedFrame& frame) { return frame.source == FrameSource::kLbr; }

}  // namespace

void ResolvedStack::Clear() {
  frames.clear();
  verdict = {};
  has_user = deferred = false;
  cookie = 0;
}

bool StackResolver::AddUserChain(std::span<const uint64_t> user, FrameSource source,
                                 const Process& process, ResolvedStack* out) {
  if (user.empty()) return false;
  out->Add(user[0], FrameSource::kSampledIp, false);
  // Code that uses the frame pointer for something else makes the kernel walk through data.
  const bool mappings_known = !process.space.mappings().empty();
  bool astray = false;
  for (const uint64_t ip : user.subspan(1)) {
    astray = mappings_known && process.space.Find(ip - 1) == nullptr;
    if (astray) break;
    out->Add(ip, source, true);
  }
  // A walk of frame pointers ends anywhere; only the thread's start, if reached, proves its end.
  const ResolvedFrame& oldest = out->frames.back();
  if (fast_.IsThreadStart(process.space, oldest.look_up())) {
    out->verdict = {StackState::kComplete, StackReason::kNone};
  } else if (astray) {
    out->verdict = {StackState::kTruncated, StackReason::kBadAddress};
  } else {
    out->verdict = {StackState::kUnknown, StackReason::kFramePointersOnly};
  }
  return true;
}

void StackResolver::UnwindCopy(const pmu::SampleRecord& sample, const Process& process,
                               ResolvedStack* out) {
  const auto take = [out](std::span<const UnwoundFrame> frames, const Verdict& verdict) {
    out->verdict = verdict;
    for (const UnwoundFrame& frame : frames) {
      out->Add(frame.ip, frame.guess ? FrameSource::kGuess : FrameSource::kDwarf, !frame.exact);
    }
  };
  if (const RecentCopies::Unwound* recent = recent_copies_.Find(
          sample.who.tid, process.space.generation(), sample.user_regs, sample.user_stack)) {
    take(recent->frames, recent->verdict);
    return;
  }
  unwound_.clear();
  const bool keep = recent_copies_.wants();
  const std::optional<Verdict> verdict =
      keep ? fast_.UnwindTraced(process.space, sample.user_regs, sample.user_stack, &unwound_,
                                &trace_)
           : fast_.Unwind(process.space, sample.user_regs, sample.user_stack, &unwound_);
  if (verdict.has_value()) {
    if (keep) recent_copies_.Put(trace_, unwound_, *verdict);
    take(unwound_, *verdict);
    return;
  }
  ips_.clear();
  out->verdict =
      dwarf_.Unwind(process.pid, process.space, sample.user_regs, sample.user_stack, &ips_);
  // A signal's trampoline, and what the signal interrupted, were not called.
  bool interrupted = false;
  for (const uint64_t ip : ips_) {
    const bool trampoline = fast_.IsSignalTrampoline(process.space, ip);
    out->Add(ip, FrameSource::kDwarf, !trampoline && !interrupted);
    interrupted = trampoline;
  }
}

void StackResolver::FuseCopy(const pmu::SampleRecord& sample, const Process& process, size_t first,
                             TaskHistory* history, ResolvedStack* out) {
  lbr_frames_.assign(out->frames.begin() + static_cast<ptrdiff_t>(first), out->frames.end());
  const Verdict by_lbr = out->verdict;
  out->frames.resize(first);
  UnwindCopy(sample, process, out);
  const size_t unwound = out->frames.size() - first;
  const size_t both = std::min(unwound, lbr_frames_.size());
  size_t equal = 0;
  while (equal < both && ReturnsFrom(lbr_frames_[equal], out->frames[first + equal].ip)) ++equal;
  if (equal < both) {
    // Memory is what the thread will return by. But a guess about it is less than a record.
    lbr_.Refute(history);
    if (out->frames[first + equal].source != FrameSource::kGuess) return;
    out->frames.resize(first + equal);
  }
  if (out->verdict.state == StackState::kComplete || lbr_frames_.size() < unwound) return;
  out->frames.insert(out->frames.end(), lbr_frames_.begin() + static_cast<ptrdiff_t>(equal),
                     lbr_frames_.end());
  if (lbr_frames_.size() > equal || IsWhole(by_lbr)) out->verdict = by_lbr;
}

void StackResolver::FuseReturns(std::span<const uint64_t> returns, FrameSource source,
                                const Process& process, size_t first, TaskHistory* history,
                                ResolvedStack* out) {
  const auto calls = std::span(out->frames).subspan(first);
  const size_t held =
      static_cast<size_t>(std::find_if_not(calls.begin(), calls.end(), IsLbr) - calls.begin());
  // Where the walk leads on from what the LBR holds; of nothing else is it known to be right.
  size_t overlap = 0;
  if (held != 0) {
    const auto missed = [&]() -> std::optional<size_t> {
      if (first == 0) return std::nullopt;  // a recording without IPs does not say where it was
      const std::optional<bool> has_frame =
          fast_.HasFrame(process.space, out->frames[first - 1].ip);
      if (!has_frame.has_value()) return std::nullopt;
      return *has_frame ? 0 : 1;
    };
    const std::optional<size_t> found = FindOverlap(calls.first(held), returns, missed);
    if (!found.has_value()) return;
    overlap = *found;
  }
  // The walk ends where it leaves code: what it took for frames there is something else.
  size_t good = overlap;
  while (good < returns.size() && returns[good] != 0 &&
         process.space.Find(returns[good] - 1) != nullptr) {
    ++good;
  }
  returns = returns.first(good);
  if (good == overlap) return;
  const bool to_start = fast_.IsThreadStart(process.space, returns.back() - 1);
  if (held == 0) {
    // Nothing to hold the walk against but where it ends.
    if (!to_start) return;
    for (const uint64_t ip : returns) out->Add(ip, source, true);
    out->verdict = {StackState::kComplete, StackReason::kNone};
    return;
  }
  const std::span<const uint64_t> rest = returns.subspan(overlap);
  if (!to_start && held < calls.size()) {
    const auto stitched = calls.subspan(held);
    size_t equal = 0;
    const size_t both = std::min(stitched.size(), rest.size());
    while (equal < both && ReturnsFrom(stitched[equal], rest[equal])) ++equal;
    if (equal == both && stitched.size() >= rest.size()) return;  // confirmed as far as it goes
    if (equal < both) lbr_.Refute(history);
  }
  out->frames.resize(first + held);
  for (const uint64_t ip : rest) out->Add(ip, source, true);
  out->verdict = to_start ? Verdict{StackState::kComplete, StackReason::kNone}
                          : Verdict{StackState::kUnknown, StackReason::kFramePointersOnly};
}

void StackResolver::ResolveLbr(const pmu::SampleRecord& sample, const ResolveOptions& options,
                               const Process& process, std::optional<uint64_t> user_ip,
                               std::span<const uint64_t> user_chain, TaskHistory* history,
                               ResolvedStack* out) {
  if (user_ip.has_value()) out->Add(*user_ip, FrameSource::kSampledIp, false);
  const size_t first = out->frames.size();
  lbr_.Resolve(process.space,
               {.window = sample.branch_stack,
                .depth = options.lbr_depth,
                .user_ip = user_ip,
                .in_kernel = sample.cpumode == PERF_RECORD_MISC_KERNEL,
                .time_ns = sample.who.time},
               history, out);
  if (user_ip.has_value() && options.machine == EM_X86_64) {
    if (!sample.user_stack.empty() && sample.user_regs.abi == PERF_SAMPLE_REGS_ABI_64) {
      FuseCopy(sample, process, first, history, out);
    } else if (out->verdict.state != StackState::kComplete &&
               out->verdict.reason != StackReason::kCallsDoNotChain && user_chain.size() > 1) {
      FuseReturns(user_chain.subspan(1), FrameSource::kFramePointer, process, first, history, out);
    }
  }
  lbr_.Remember(history);
}

void StackResolver::Resolve(const pmu::SampleRecord& sample, const ResolveOptions& options,
                            const Process& process, ResolvedStack* out, TaskHistory* history) {
  out->Clear();
  const bool in_kernel = sample.cpumode == PERF_RECORD_MISC_KERNEL;
  const bool in_user = sample.cpumode == PERF_RECORD_MISC_USER;
  const ChainParts chain = SplitChain(sample.callchain, sample.cpumode, out);
  if (in_kernel && sample.has_ip && out->frames.empty()) {
    out->Add(sample.ip, FrameSource::kKernel, false);
  }

  // Where user mode was: the IP itself, else its registers, else what the chain says of it.
  const bool x86 = options.machine == EM_X86_64;
  const bool has_registers = sample.user_regs.abi != PERF_SAMPLE_REGS_ABI_NONE;
  std::optional<uint64_t> user_ip;
  if (in_user && sample.has_ip) {
    user_ip = sample.ip;
  } else if (!chain.user.empty()) {
    user_ip = chain.user[0];
  } else if (has_registers && x86) {
    user_ip = sample.user_regs.Get(PERF_REG_X86_IP);
  }
  out->has_user = user_ip.has_value() || chain.cookie.has_value();

  if (options.lbr_call_stack && sample.has_branch_stack) {
    if (!user_ip.has_value() && sample.branch_stack.branches.empty() && !has_registers &&
        sample.user_regs.mask != 0) {
      // User registers were asked for and there are none: a kernel thread, whose chain is all.
      out->verdict = {StackState::kComplete, StackReason::kNone};
      return;
    }
    out->has_user = true;
    ResolveLbr(sample, options, process, user_ip, chain.user, history, out);
    if (chain.cookie.has_value() && out->verdict.state != StackState::kComplete) {
      out->deferred = true;
      out->cookie = *chain.cookie;
    }
    return;
  }

  if (!sample.user_stack.empty() && has_registers && user_ip.has_value()) {
    out->Add(*user_ip, FrameSource::kSampledIp, false);
    if (!x86 || sample.user_regs.abi != PERF_SAMPLE_REGS_ABI_64) {
      out->verdict = {StackState::kTruncated, StackReason::kUnsupportedArch};
      return;
    }
    UnwindCopy(sample, process, out);
    return;
  }

  if (chain.cookie.has_value()) {
    out->deferred = true;
    out->cookie = *chain.cookie;
    // All there is if the answer never comes.
    if (user_ip.has_value()) out->Add(*user_ip, FrameSource::kSampledIp, false);
    out->verdict = {StackState::kUnknown, StackReason::kDeferredMissing};
    return;
  }
  if (AddUserChain(chain.user, FrameSource::kFramePointer, process, out)) return;
  if (user_ip.has_value()) {
    out->Add(*user_ip, FrameSource::kSampledIp, false);
    out->verdict = {StackState::kUnknown, StackReason::kNoUserStack};
    return;
  }
  // Kernel only. A process's user part may be missing; a kernel thread has none.
  out->verdict = sample.has_callchain ? Verdict{StackState::kComplete, StackReason::kNone}
                                      : Verdict{StackState::kUnknown, StackReason::kNoUserStack};
}

void StackResolver::CompleteDeferred(std::span<const uint64_t> ips, const Process& process,
                                     ResolvedStack* out) {
  out->deferred = false;
  if (ips.empty()) return DeferredMissing(out);
  const auto lbr = std::find_if(out->frames.begin(), out->frames.end(), IsLbr);
  if (lbr != out->frames.end()) {
    FuseReturns(ips.subspan(1), FrameSource::kKernelDeferred, process,
                static_cast<size_t>(lbr - out->frames.begin()), /*history=*/nullptr, out);
    return;
  }
  if (!out->frames.empty() && out->frames.back().source == FrameSource::kSampledIp) {
    out->frames.pop_back();  // the answer begins with it
  }
  AddUserChain(ips, FrameSource::kKernelDeferred, process, out);
}

void StackResolver::DeferredMissing(ResolvedStack* out) {
  out->deferred = false;
  // The LBR's frames are there all the same, with a verdict of their own.
  if (std::any_of(out->frames.begin(), out->frames.end(), IsLbr)) return;
  out->verdict = {StackState::kUnknown, StackReason::kDeferredMissing};
}

}  // namespace lbrd::unwind
