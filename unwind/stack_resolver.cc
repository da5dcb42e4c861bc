#include "unwind/stack_resolver.h"

#include <asm/perf_regs.h>
#include <elf.h>

#include <optional>

#include "unwind/lbr_window.h"

namespace lbrd::unwind {
namespace {

// A call chain's parts, told apart by its context markers.
struct ChainParts {
  std::span<const uint64_t> user;
  std::optional<uint64_t> cookie;
};

void AddFrame(uint64_t ip, FrameSource source, bool return_address, ResolvedStack* out) {
  out->frames.push_back({ip, return_address && ip != 0 ? ip - 1 : ip, source});
}

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
      AddFrame(chain[i], FrameSource::kKernel, !first_kernel, out);
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
  AddFrame(user[0], FrameSource::kSampledIp, false, out);
  for (const uint64_t ip : user.subspan(1)) AddFrame(ip, source, true, out);
  // A walk of frame pointers ends anywhere; only the thread's start, if reached, proves its end.
  const ResolvedFrame& oldest = out->frames.back();
  out->verdict = fast_.IsThreadStart(process.space, oldest.look_up)
                     ? Verdict{StackState::kComplete, StackReason::kNone}
                     : Verdict{StackState::kUnknown, StackReason::kFramePointersOnly};
  return true;
}

void StackResolver::UnwindCopy(const pmu::SampleRecord& sample, const Process& process,
                               ResolvedStack* out) {
  unwound_.clear();
  const std::optional<Verdict> verdict =
      fast_.Unwind(process.space, sample.user_regs, sample.user_stack, &unwound_);
  if (verdict.has_value()) {
    out->verdict = *verdict;
    for (const UnwoundFrame& frame : unwound_) {
      AddFrame(frame.ip, frame.guess ? FrameSource::kGuess : FrameSource::kDwarf, !frame.exact,
               out);
    }
    return;
  }
  ips_.clear();
  out->verdict =
      dwarf_.Unwind(process.pid, process.space, sample.user_regs, sample.user_stack, &ips_);
  // A signal's trampoline, and what the signal interrupted, were not called.
  bool interrupted = false;
  for (const uint64_t ip : ips_) {
    const bool trampoline = fast_.IsSignalTrampoline(process.space, ip);
    AddFrame(ip, FrameSource::kDwarf, !trampoline && !interrupted, out);
    interrupted = trampoline;
  }
}

void StackResolver::Resolve(const pmu::SampleRecord& sample, const ResolveOptions& options,
                            const Process& process, ResolvedStack* out) {
  out->Clear();
  const bool in_kernel = sample.cpumode == PERF_RECORD_MISC_KERNEL;
  const bool in_user = sample.cpumode == PERF_RECORD_MISC_USER;
  const ChainParts chain = SplitChain(sample.callchain, sample.cpumode, out);
  if (in_kernel && sample.has_ip && out->frames.empty()) {
    AddFrame(sample.ip, FrameSource::kKernel, false, out);
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
    const std::span<const pmu::Branch> branches = sample.branch_stack.branches;
    if (user_ip.has_value()) {
      AddFrame(*user_ip, FrameSource::kSampledIp, false, out);
    } else if (branches.empty() && !has_registers && sample.user_regs.mask != 0) {
      // User registers were asked for and there are none: a kernel thread, whose chain is all.
      out->verdict = {StackState::kComplete, StackReason::kNone};
      return;
    }
    out->has_user = true;
    for (const pmu::Branch& branch : branches) {
      AddFrame(branch.from, FrameSource::kLbr, false, out);
    }
    out->verdict = JudgeLbrWindow(sample.branch_stack, options.lbr_depth, [&](uint64_t address) {
      return fast_.IsThreadStart(process.space, address);
    });
    return;
  }

  if (!sample.user_stack.empty() && has_registers && user_ip.has_value()) {
    AddFrame(*user_ip, FrameSource::kSampledIp, false, out);
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
    if (user_ip.has_value()) AddFrame(*user_ip, FrameSource::kSampledIp, false, out);
    out->verdict = {StackState::kUnknown, StackReason::kDeferredMissing};
    return;
  }
  if (AddUserChain(chain.user, FrameSource::kFramePointer, process, out)) return;
  if (user_ip.has_value()) {
    AddFrame(*user_ip, FrameSource::kSampledIp, false, out);
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
  if (!out->frames.empty() && out->frames.back().source == FrameSource::kSampledIp) {
    out->frames.pop_back();  // the answer begins with it
  }
  AddUserChain(ips, FrameSource::kKernelDeferred, process, out);
}

void StackResolver::DeferredMissing(ResolvedStack* out) {
  out->deferred = false;
  out->verdict = {StackState::kUnknown, StackReason::kDeferredMissing};
}

}  // namespace lbrd::unwind
