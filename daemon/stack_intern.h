// Each distinct binary, frame, stack and thread is stored once and has an id.
//
// Ids grow for the life of the process and never change their meaning. When what is stored exceeds
// the budget, the tables are emptied and fill again with new ids: what is still referred to lives
// on with its holders, so the budget bounds the tables, not the holders (who bound themselves). The
// same is done, above kLeastBytes, when the memory of all samples is full (daemon/sample_memory.h).
//
// Thread rules: one owner (a worker). Ids are unique across all interners.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "daemon/kernel_names.h"
#include "daemon/recent_stacks.h"
#include "daemon/sample.h"
#include "pmu/record.h"
#include "unwind/code_symbols.h"
#include "unwind/process_table.h"
#include "unwind/stack_resolver.h"

namespace lbrd::daemon {

class StackIntern {
 public:
  static constexpr size_t kDefaultBudgetBytes = size_t{128} << 20;
  static constexpr size_t kLeastBytes = size_t{8} << 20;
  static constexpr size_t kMaxKernelCodeBytes = size_t{16} << 20;

  explicit StackIntern(KernelNameSource kernel, size_t budget_bytes = kDefaultBudgetBytes);

  // `time_ns`: of the sample; 0: unknown. Code made at run time is named as it was then, or where
  // `monotonic` is false (a recording by another clock than a JIT compiler's) as it was last.
  std::shared_ptr<const StackInfo> Intern(const unwind::ResolvedStack& stack,
                                          const unwind::Process& process, uint64_t time_ns = 0,
                                          bool monotonic = true);
  // The same, and the sample's thread.
  struct OfSample {
    std::shared_ptr<const StackInfo> stack;
    std::shared_ptr<const ThreadInfo> thread;
  };
  OfSample InternSample(const unwind::ResolvedStack& stack, const unwind::Process& process,
                        int32_t tid, uint64_t time_ns, bool monotonic);
  // Where branches begin and end; nullptr for none. At most kMaxBranches of them: no hardware holds
  // more, but a recording may say so.
  static constexpr size_t kMaxBranches = 128;
  std::shared_ptr<const Branches> InternBranches(std::span<const pmu::Branch> branches,
                                                 const unwind::Process& process, uint64_t time_ns,
                                                 bool monotonic);
  // The kernel has made or freed code: a BPF program, a trampoline.
  void Apply(const pmu::KsymbolRecord& record);
  std::shared_ptr<const ThreadInfo> InternThread(int32_t tid, const unwind::Process& process);

  size_t bytes() const { return bytes_; }  // an estimate of what the tables hold
  uint64_t resets() const { return resets_; }
  const RecentStacks& recent() const { return recent_; }

 private:
  // Binary (null: kernel or unmapped), recorded address, place in the file (or the looked-up
  // address where there is none), source, the piece of code made at run time (0: none).
  using FrameKey =
      std::tuple<const unwind::Binary*, uint64_t, uint64_t, unwind::FrameSource, uint64_t>;
  struct HashByFrames {
    using is_transparent = void;
    size_t operator()(const std::shared_ptr<const StackInfo>& stack) const;
  };
  struct EqualFrames {
    using is_transparent = void;
    bool operator()(const std::shared_ptr<const StackInfo>& a,
                    const std::shared_ptr<const StackInfo>& b) const;
  };

  const std::shared_ptr<const FrameInfo>& InternFrame(const unwind::ResolvedFrame& frame,
                                                      const unwind::Process& process,
                                                      uint64_t time_ns, bool monotonic);
  std::shared_ptr<const BinaryInfo> InternBinary(
      const std::shared_ptr<const unwind::Binary>& binary);
  std::shared_ptr<const BinaryInfo> InternKernelModule(const std::string& module);
  std::shared_ptr<const BinaryInfo> InternJitFile(const std::string& path);
  void ResetIfOverBudget();
  // `hash`: RecentStacks'.
  std::shared_ptr<const StackInfo> InternHashed(uint64_t hash, const unwind::ResolvedStack& stack,
                                                const unwind::Process& process, uint64_t time_ns,
                                                bool monotonic);
  // What Intern() does for a stack that is not among the recent ones. *not_with_jit: some of it may
  // be code that was made at run time, and nobody was there to tell.
  std::shared_ptr<const StackInfo> InternAnew(const unwind::ResolvedStack& stack,
                                              const unwind::Process& process, uint64_t time_ns,
                                              bool monotonic, bool* not_with_jit);

  const KernelNameSource kernel_;
  const size_t budget_bytes_;
  size_t bytes_ = 0;
  uint64_t resets_ = 0;
  // Kernel code that came and went while we looked.
  unwind::CodeBudget kernel_code_budget_{kMaxKernelCodeBytes};
  unwind::CodeSymbols kernel_code_{&kernel_code_budget_};

  absl::flat_hash_map<FrameKey, std::shared_ptr<const FrameInfo>> frames_;
  absl::flat_hash_set<std::shared_ptr<const StackInfo>, HashByFrames, EqualFrames> stacks_;
  // The key's binary is kept alive, so that its address stays its own.
  absl::flat_hash_map<std::shared_ptr<const unwind::Binary>, std::shared_ptr<const BinaryInfo>>
      binaries_;
  // By module, and by the path of a perf map or jitdump.
  absl::flat_hash_map<std::string, std::shared_ptr<const BinaryInfo>> modules_;
  struct KnownThread {
    std::shared_ptr<const ThreadInfo> info;
    uint64_t names = 0;  // generation of its process's, in which it was looked up last
  };
  absl::flat_hash_map<int32_t, KnownThread> threads_;  // by tid
  // Of frames whose names depend on when it was, only those of the time since the kernel's code
  // changed last, and none that a JIT compiler was asked for.
  RecentStacks recent_;
  uint64_t kernel_code_changed_ns_ = 0;
  std::shared_ptr<StackInfo> candidate_;  // being looked up; reused until it is new
};

}  // namespace lbrd::daemon
