#include "unwind/lbr_validation.h"

#include <elf.h>

#include <algorithm>
#include <iterator>

#include "unwind/x86_64_call.h"

namespace lbrd::unwind {
namespace {

// Functions are searched for jumps this far; of a longer one nothing is known.
constexpr size_t kMaxFunctionBytes = 16384;
// Entries of a PLT are no longer, and have a computed jump each.
constexpr uint64_t kMaxStubBytes = 16;
// Functions that are looked at for where a called one can have left by tail calls.
constexpr size_t kMaxTailCalls = 16;

// The C library's way from a program's or thread's entry to its own code, by the names of glibc and
// musl. Each of these is entered once in a thread's life.
bool StartsThreads(absl::string_view name) {
  constexpr absl::string_view kNames[] = {"_start",
                                          "_start_c",
                                          "__libc_start_main",
                                          "__libc_start_main_impl",
                                          "__libc_start_call_main",
                                          "libc_start_main_stage2",
                                          "start_thread",
                                          "__clone",
                                          "clone",
                                          "__clone3",
                                          "clone3"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

// Up to out.size() bytes of code, as many as stand in the same segment of the file.
std::span<const std::byte> ReadCode(const Mapping& mapping, uint64_t address,
                                    std::span<std::byte> out) {
  const ElfFile* elf = mapping.binary->elf();
  const std::optional<uint64_t> place = mapping.FileAddress(address);
  if (elf == nullptr || !place.has_value()) return {};
  for (const ElfSegment& segment : elf->segments()) {
    if (!segment.executable || segment.writable || *place < segment.address ||
        *place - segment.address >= segment.file_size) {
      continue;
    }
    const uint64_t offset = *place - segment.address;
    out = out.first(std::min<uint64_t>(out.size(), segment.file_size - offset));
    if (!elf->bytes()->ReadAt(segment.offset + offset, out).ok()) return {};
    return out;
  }
  return {};
}

}  // namespace

absl::string_view WindowFindingName(WindowFinding finding) {
  switch (finding) {
    case WindowFinding::kForeign:
      return "frames_foreign";
    case WindowFinding::kNotACall:
      return "not_a_call";
    case WindowFinding::kOtherTarget:
      return "other_target";
    case WindowFinding::kNotChained:
      return "not_chained";
    case WindowFinding::kBelowStart:
      return "below_start";
    case WindowFinding::kStale:
      return "stale_calls";
    case WindowFinding::kLeafElsewhere:
      return "leaf_elsewhere";
    case WindowFinding::kTailCall:
      return "tail_call";
    case WindowFinding::kUnchecked:
      return "unchecked";
    case WindowFinding::kDisagrees:
      return "disagrees_with_stack";
  }
  return "";
}

void CheckedWindow::Clear() {
  calls.clear();
  findings = {};
  reaches_start = cut = doubtful = false;
}

LbrValidator::Range LbrValidator::FunctionAt(const AddressSpace& space, uint64_t address) {
  const Mapping* mapping = space.Find(address);
  if (mapping == nullptr) return {};
  const std::optional<uint64_t> place = mapping->FileAddress(address);
  if (!place.has_value()) return {};
  const std::optional<Symbol> symbol = mapping->binary->FindSymbol(*place);
  if (!symbol.has_value()) return {};
  return {address - (*place - symbol->start), symbol->size, StartsThreads(symbol->name)};
}

uint64_t LbrValidator::FunctionOf(const AddressSpace& space, uint64_t address) const {
  return FunctionAt(space, address).start;
}

void LbrValidator::Examine(const AddressSpace& space, KnownCall* known) {
  const auto [from, to] = known->call;
  if (space.mappings().empty()) return;  // nothing is known of this process
  const Mapping* mapping = space.Find(from);
  if (mapping == nullptr || space.Find(to) == nullptr) {
    known->fault = Fault::kForeign;
    return;
  }
  std::byte bytes[x86_64::kMaxInstructionBytes];
  const std::span<const std::byte> code = ReadCode(*mapping, from, bytes);
  if (!code.empty() && mapping->binary->machine() == EM_X86_64) {
    const std::optional<x86_64::CallInstruction> call = x86_64::DecodeCall(code);
    if (!call.has_value()) {
      known->fault = Fault::kNotACall;
      return;
    }
    if (call->direct && from + call->size + static_cast<uint64_t>(int64_t{call->distance}) != to) {
      known->fault = Fault::kOtherTarget;
      return;
    }
    known->size = call->size;
  }
  const Range callee = FunctionAt(space, to);
  known->callee = callee.start;
  known->callee_size = static_cast<uint32_t>(std::min<uint64_t>(callee.size, UINT32_MAX));
  const Range caller = FunctionAt(space, from);
  known->caller = caller.start;
  known->once = caller.starts_threads;
  known->thread_start = unwinder_.IsThreadStart(space, from);
}

void LbrValidator::LookAnew(const AddressSpace& space, const Call& call, KnownCall* known) {
  *known = {.call = call, .generation = space.generation()};
  Examine(space, known);
}

LbrValidator::Chain LbrValidator::ExamineJump(const AddressSpace& space, const KnownCall& older,
                                              uint64_t inner) const {
  const Range there = FunctionAt(space, inner);
  if (there.size == 0) return Chain::kUnchecked;
  // What it can have left for, one tail call after another; the nearest first.
  std::vector<Range> entered = {{older.callee, older.callee_size, false}};
  bool computed = false;
  x86_64::Jumps jumps;
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < entered.size(); ++i) {
    const Range function = entered[i];
    const Mapping* mapping = space.Find(function.start);
    std::span<const std::byte> code;
    if (mapping != nullptr && function.size <= kMaxFunctionBytes &&
        mapping->binary->machine() == EM_X86_64) {
      bytes.resize(function.size);
      code = ReadCode(*mapping, function.start, bytes);
    }
    if (code.empty()) {
      if (i == 0) return Chain::kUnchecked;
      computed = true;  // nobody knows
      continue;
    }
    x86_64::FindJumps(code, function.start, &jumps);
    if (jumps.computed && function.size <= kMaxStubBytes) return Chain::kTailCall;
    computed = computed || jumps.computed;
    for (const uint64_t target : jumps.targets) {
      if (target - there.start < there.size) return Chain::kTailCall;
      const Range next = FunctionAt(space, target);
      // Tail calls lead to where functions begin, which keeps what only looks like a jump out.
      if (next.size == 0 || next.start != target || entered.size() >= kMaxTailCalls) continue;
      const auto same = [&](const Range& range) { return range.start == next.start; };
      if (std::none_of(entered.begin(), entered.end(), same)) entered.push_back(next);
    }
  }
  return computed ? Chain::kMaybe : Chain::kNo;
}

LbrValidator::Chain LbrValidator::Chains(const AddressSpace& space, const KnownCall& older,
                                         uint64_t inner) {
  if (older.callee_size == 0) return Chain::kUnchecked;
  if (inner - older.callee < older.callee_size) return Chain::kYes;
  KnownJump& known = jumps_[SlotOf(older.call.to, inner, space.generation(), kKnownJumpsLog2)];
  if (known.to != older.call.to || known.inner != inner || known.generation != space.generation()) {
    known = {older.call.to, inner, space.generation(), ExamineJump(space, older, inner)};
  }
  return known.chain;
}

std::optional<size_t> LbrValidator::Activation(const AddressSpace& space,
                                               std::span<const pmu::Branch> window, size_t first,
                                               uint64_t inner) {
  for (size_t i = first; i < window.size(); ++i) {
    const KnownCall& call = Look(space, {window[i].from, window[i].to});
    if (call.fault != Fault::kNone) break;
    if (inner - call.callee < call.callee_size) return i;
    if (call.thread_start) break;
  }
  return std::nullopt;
}

void LbrValidator::Check(const AddressSpace& space, std::span<const pmu::Branch> window,
                         std::optional<uint64_t> user_ip, bool in_kernel, CheckedWindow* out) {
  out->Clear();
  out->calls.reserve(window.size());
  const auto cut = [&](WindowFinding finding) {
    out->findings.Add(finding);
    out->cut = true;
  };
  std::optional<uint64_t> inner = user_ip;
  bool may_be_stale = false;
  for (size_t i = 0; i < window.size(); ++i) {
    const KnownCall* call = &Look(space, {window[i].from, window[i].to});
    if (call->fault == Fault::kForeign) return cut(WindowFinding::kForeign);
    if (call->fault == Fault::kNotACall) return cut(WindowFinding::kNotACall);
    if (call->fault == Fault::kOtherTarget) return cut(WindowFinding::kOtherTarget);
    if (call->size == 0) out->findings.Add(WindowFinding::kUnchecked);

    const Chain chain = inner.has_value() ? Chains(space, *call, *inner) : Chain::kYes;
    if (chain == Chain::kUnchecked) out->findings.Add(WindowFinding::kUnchecked);
    if (chain == Chain::kTailCall) out->findings.Add(WindowFinding::kTailCall);
    if (chain == Chain::kNo || chain == Chain::kMaybe) {
      // A long jump, and what throws exceptions, leaves calls behind that nobody returns from.
      // Where a tail call can have led here too, that is likelier: all is kept, and doubted.
      const std::optional<size_t> activation = Activation(space, window, i + 1, *inner);
      if (activation.has_value() && chain == Chain::kNo) {
        i = *activation;
        out->findings.Add(WindowFinding::kStale);
        out->doubtful = true;
      } else if (chain == Chain::kMaybe) {
        out->findings.Add(WindowFinding::kTailCall);
        out->doubtful = out->doubtful || activation.has_value();
        may_be_stale = true;  // unless everything is here to see
      } else if (i == 0) {
        // User mode stands still while the kernel runs: this is another task's window.
        out->findings.Add(WindowFinding::kLeafElsewhere);
        out->doubtful = true;
        if (in_kernel) {
          out->cut = true;
          return;
        }
      } else {
        return cut(WindowFinding::kNotChained);
      }
      call = &Look(space, {window[i].from, window[i].to});  // its place may have been taken
    }
    out->calls.push_back({call->call, call->caller, call->size});
    inner = call->call.from;
    if (call->thread_start) {
      out->reaches_start = true;
      if (i + 1 < window.size()) out->findings.Add(WindowFinding::kBelowStart);
      return;
    }
  }
  out->doubtful = out->doubtful || may_be_stale;
}

}  // namespace lbrd::unwind
