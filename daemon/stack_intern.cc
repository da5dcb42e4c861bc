#include "daemon/stack_intern.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "unwind/frame_name.h"
#include "unwind/jit_code.h"

namespace lbrd::daemon {
namespace {

// 0 is never an id.
std::atomic<uint32_t> next_binary_id{1};
std::atomic<uint32_t> next_frame_id{1};
std::atomic<uint32_t> next_thread_id{1};
std::atomic<uint64_t> next_stack_id{1};

// x86-64 and arm64: the kernel has the upper half of the addresses.
constexpr uint64_t kKernelHalf = uint64_t{1} << 63;

}  // namespace

size_t StackIntern::HashByFrames::operator()(const std::shared_ptr<const StackInfo>& stack) const {
  // Frames are interned, so their addresses are their identities.
  size_t hash = absl::HashOf(stack->verdict.state, stack->verdict.reason, stack->has_user);
  for (const auto& frame : stack->frames) hash = absl::HashOf(hash, frame.get());
  return hash;
}

bool StackIntern::EqualFrames::operator()(const std::shared_ptr<const StackInfo>& a,
                                          const std::shared_ptr<const StackInfo>& b) const {
  return a->verdict == b->verdict && a->has_user == b->has_user && a->frames == b->frames;
}

StackIntern::StackIntern(KernelNameSource kernel, size_t budget_bytes)
    : kernel_(std::move(kernel)),
      budget_bytes_(budget_bytes),
      candidate_(std::make_shared<StackInfo>()) {}

std::shared_ptr<const BinaryInfo> StackIntern::InternBinary(
    const std::shared_ptr<const unwind::Binary>& binary) {
  std::shared_ptr<const BinaryInfo>& known = binaries_[binary];
  if (known == nullptr) {
    known = std::make_shared<BinaryInfo>(BinaryInfo{
        next_binary_id++, binary->path().empty() ? "[anon]" : binary->path(), binary->build_id(),
        binary->symbols_problem(), binary->readable() ? binary : nullptr});
    bytes_ += sizeof(BinaryInfo) + binary->path().size() + 128;
  }
  return known;
}

std::shared_ptr<const BinaryInfo> StackIntern::InternKernelModule(const std::string& module) {
  std::shared_ptr<const BinaryInfo>& known = modules_[module];
  if (known == nullptr) {
    known = std::make_shared<BinaryInfo>(BinaryInfo{
        next_binary_id++, module.empty() ? "[kernel.kallsyms]" : absl::StrCat("[", module, "]"), "",
        kernel_.Get().missing, nullptr});
    bytes_ += sizeof(BinaryInfo) + 128;
  }
  return known;
}

std::shared_ptr<const BinaryInfo> StackIntern::InternJitFile(const std::string& path) {
  std::shared_ptr<const BinaryInfo>& known = modules_[path];
  if (known == nullptr) {
    known = std::make_shared<BinaryInfo>(BinaryInfo{.id = next_binary_id++, .path = path});
    bytes_ += sizeof(BinaryInfo) + path.size() + 128;
  }
  return known;
}

void StackIntern::Apply(const pmu::KsymbolRecord& record) {
  kernel_code_changed_ns_ = std::max(kernel_code_changed_ns_, record.who.time);
  if (!recent_.empty()) recent_.Clear();
  if (record.unregister) {
    kernel_code_.Remove(record.address, record.length, record.who.time);
  } else {
    kernel_code_.Add(record.address, record.length, record.name, record.who.time);
  }
}

const std::shared_ptr<const FrameInfo>& StackIntern::InternFrame(const unwind::ResolvedFrame& frame,
                                                                 const unwind::Process& process,
                                                                 uint64_t time_ns, bool monotonic) {
  const uint64_t look_up = frame.look_up();
  const bool kernel = frame.source == unwind::FrameSource::kKernel;
  const unwind::Mapping* mapping = kernel ? nullptr : process.space.Find(look_up);
  const uint64_t place =
      mapping != nullptr ? look_up - mapping->start + mapping->file_offset : look_up;
  // What was made at run time, if anything.
  std::optional<unwind::CodeSymbol> made;
  const std::string* made_path = nullptr;
  if (kernel) {
    made = kernel_code_.Find(look_up, time_ns != 0 ? time_ns : UINT64_MAX);
  } else if (process.jit != nullptr && (mapping == nullptr || !mapping->binary->has_file())) {
    const uint64_t code_time_ns = monotonic && time_ns != 0 ? time_ns : UINT64_MAX;
    if (const auto found = process.jit->Find(look_up, time_ns, code_time_ns)) {
      made = found->code;
      made_path = found->path;
    }
  }
  std::shared_ptr<const FrameInfo>& known =
      frames_[FrameKey(mapping != nullptr ? mapping->binary.get() : nullptr, frame.ip, place,
                       frame.source, made.has_value() ? made->id : 0)];
  if (known != nullptr) return known;
  auto info = std::make_shared<FrameInfo>();
  info->id = next_frame_id++;
  info->ip = frame.ip;
  info->source = frame.source;
  unwind::FrameName name;
  if (made.has_value()) {
    name = {.symbol = std::string(made->name), .offset = frame.ip - made->start};
    info->file = std::string(made->file);
    info->line = made->line;
    info->binary = kernel ? InternKernelModule(absl::StartsWith(made->name, "bpf_") ? "bpf" : "")
                          : InternJitFile(*made_path);
  } else if (kernel) {
    std::string module;
    name = unwind::NameKernelFrame(kernel_.Get().symbols.get(), frame, &module);
    info->binary = InternKernelModule(module);
  } else {
    name = unwind::NameUserFrame(mapping, frame);
    if (mapping != nullptr) {
      info->binary = InternBinary(mapping->binary);
      info->address = mapping->FileAddress(look_up).value_or(0);
    }
  }
  info->symbol = std::move(name.symbol);
  info->offset = name.offset;
  const size_t bytes = sizeof(FrameInfo) + info->symbol.size() + info->file.size();
  info->memory.Resize(bytes);
  bytes_ += bytes + sizeof(FrameKey) + 64;
  known = std::move(info);
  return known;
}

std::shared_ptr<const StackInfo> StackIntern::Intern(const unwind::ResolvedStack& stack,
                                                     const unwind::Process& process,
                                                     uint64_t time_ns, bool monotonic) {
  return InternHashed(recent_.HashOf(stack, process.space.generation()), stack, process, time_ns,
                      monotonic);
}

StackIntern::OfSample StackIntern::InternSample(const unwind::ResolvedStack& stack,
                                                const unwind::Process& process, int32_t tid,
                                                uint64_t time_ns, bool monotonic) {
  const uint64_t hash = recent_.HashOf(stack, process.space.generation());
  // While the memory for the stack comes in.
  std::shared_ptr<const ThreadInfo> thread = InternThread(tid, process);
  return {InternHashed(hash, stack, process, time_ns, monotonic), std::move(thread)};
}

std::shared_ptr<const StackInfo> StackIntern::InternHashed(uint64_t hash,
                                                           const unwind::ResolvedStack& stack,
                                                           const unwind::Process& process,
                                                           uint64_t time_ns, bool monotonic) {
  ResetIfOverBudget();
  // A sample of before the last change may have other names; time 0 is now.
  const bool early = time_ns != 0 && time_ns < kernel_code_changed_ns_;
  if (early) return InternAnew(stack, process, time_ns, monotonic, nullptr);
  const bool has_jit = process.jit != nullptr;
  const uint64_t generation = process.space.generation();
  if (const auto* recent = recent_.Find(hash, stack, generation, has_jit)) return *recent;
  bool not_with_jit = false;
  std::shared_ptr<const StackInfo> info =
      InternAnew(stack, process, time_ns, monotonic, &not_with_jit);
  if (!not_with_jit || !has_jit) recent_.Put(hash, stack, generation, not_with_jit, info);
  return info;
}

std::shared_ptr<const StackInfo> StackIntern::InternAnew(const unwind::ResolvedStack& stack,
                                                         const unwind::Process& process,
                                                         uint64_t time_ns, bool monotonic,
                                                         bool* not_with_jit) {
  candidate_->frames.clear();
  for (const unwind::ResolvedFrame& frame : stack.frames) {
    candidate_->frames.push_back(InternFrame(frame, process, time_ns, monotonic));
    if (not_with_jit == nullptr || *not_with_jit) continue;
    if (frame.source == unwind::FrameSource::kKernel) continue;
    const unwind::Mapping* mapping = process.space.Find(frame.look_up());
    *not_with_jit = mapping == nullptr || !mapping->binary->has_file();
  }
  candidate_->verdict = stack.verdict;
  candidate_->has_user = stack.has_user;
  const auto found = stacks_.find(std::shared_ptr<const StackInfo>(candidate_));
  if (found != stacks_.end()) return *found;
  candidate_->id = next_stack_id++;
  candidate_->frames.shrink_to_fit();
  const size_t bytes =
      sizeof(StackInfo) + candidate_->frames.size() * sizeof(std::shared_ptr<const FrameInfo>);
  candidate_->memory.Resize(bytes);
  bytes_ += bytes + 64;
  std::shared_ptr<const StackInfo> interned = std::move(candidate_);
  candidate_ = std::make_shared<StackInfo>();
  stacks_.insert(interned);
  return interned;
}

std::shared_ptr<const Branches> StackIntern::InternBranches(std::span<const pmu::Branch> branches,
                                                            const unwind::Process& process,
                                                            uint64_t time_ns, bool monotonic) {
  if (branches.empty()) return nullptr;
  ResetIfOverBudget();
  const auto place = [&](uint64_t ip) {
    const bool kernel = ip >= kKernelHalf;
    return InternFrame(
        {.ip = ip, .source = kernel ? unwind::FrameSource::kKernel : unwind::FrameSource::kLbr},
        process, time_ns, monotonic);
  };
  auto named = std::make_shared<Branches>();
  const size_t count = std::min(branches.size(), kMaxBranches);
  named->reserve(count);
  for (const pmu::Branch& branch : branches.first(count)) {
    // The hardware had fewer: an entry that was not used.
    if (branch.from == 0 && branch.to == 0) continue;
    std::shared_ptr<const FrameInfo> from = place(branch.from);
    named->push_back({std::move(from), place(branch.to), branch.flags});
  }
  if (named->empty()) return nullptr;
  return named;
}

std::shared_ptr<const ThreadInfo> StackIntern::InternThread(int32_t tid,
                                                            const unwind::Process& process) {
  const int32_t pid = process.pid;
  KnownThread& thread = threads_[tid];
  std::shared_ptr<const ThreadInfo>& known = thread.info;
  const uint64_t names = process.comms.generation();
  if (known != nullptr && known->pid == pid && names != 0 && thread.names == names) return known;
  thread.names = names;
  const std::string& comm = process.Comm(tid);
  const std::string& process_comm = process.Comm(pid);
  if (known == nullptr || known->pid != pid || known->comm != comm ||
      known->process_comm != process_comm) {
    known =
        std::make_shared<ThreadInfo>(ThreadInfo{next_thread_id++, pid, tid, comm, process_comm});
    bytes_ += sizeof(ThreadInfo) + 128;
  }
  return known;
}

void StackIntern::ResetIfOverBudget() {
  // Where the memory of all samples is short, what nobody but these tables holds goes first.
  const bool short_of_memory =
      bytes_ > kLeastBytes && SampleMemory::OfProcess().left(MemoryShare::kWhole) == 0;
  if (bytes_ <= budget_bytes_ && !short_of_memory) return;
  recent_.Clear();
  stacks_.clear();
  frames_.clear();
  binaries_.clear();
  modules_.clear();
  threads_.clear();
  bytes_ = 0;
  ++resets_;
}

}  // namespace lbrd::daemon
