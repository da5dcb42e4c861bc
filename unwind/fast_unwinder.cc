#include "unwind/fast_unwinder.h"

#include <algorithm>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "unwind/dwarf_expression.h"
#include "unwind/x86_64.h"

namespace lbrd::unwind {
namespace {

using x86_64::kRbp;
using x86_64::kRip;
using x86_64::kRsp;

constexpr uint64_t kWord = sizeof(uint64_t);

// Whether an address can be one of user mode. The cache's keys have a use for the top bit.
bool IsUser(uint64_t ip) { return ip != 0 && ip >> 63 == 0; }

Verdict Truncated(StackReason reason) { return {StackState::kTruncated, reason}; }

// Reads what the file puts at an address that nothing of the process may have written to.
bool ReadConstant(const AddressSpace& space, uint64_t address, std::span<std::byte> out) {
  const auto read = [&](const Mapping& mapping) {
    const ElfFile* elf = mapping.binary->elf();
    const std::optional<uint64_t> base = mapping.FileAddress(mapping.start);
    if (elf == nullptr || !base.has_value()) return false;
    const uint64_t at = address - mapping.start + *base;
    for (const ElfSegment& segment : elf->segments()) {
      if (at < segment.address || at - segment.address >= segment.file_size) continue;
      const uint64_t offset = at - segment.address;
      return !segment.writable && segment.file_size - offset >= out.size() &&
             elf->bytes()->ReadAt(segment.offset + offset, out).ok();
    }
    return false;
  };
  const Mapping* mapping = space.Find(address);
  if (mapping != nullptr) return read(*mapping);
  // Only executable mappings are known. A file's segments keep their distances, so the binary that
  // is mapped just above or below tells what stands in between.
  const auto& mappings = space.mappings();
  const auto after = std::partition_point(mappings.begin(), mappings.end(),
                                          [&](const Mapping& m) { return m.end <= address; });
  if (after != mappings.begin() && read(*(after - 1))) return true;
  return after != mappings.end() && read(*after);
}

// Up to `size` bytes of code from `address` on, as many as stand in the same segment of the file.
template <size_t size>
std::span<const std::byte> ReadCode(const Binary& binary, uint64_t address,
                                    std::byte (&out)[size]) {
  const ElfFile* elf = binary.elf();
  if (elf == nullptr) return {};
  for (const ElfSegment& segment : elf->segments()) {
    if (!segment.executable || address < segment.address ||
        address - segment.address >= segment.file_size) {
      continue;
    }
    const uint64_t offset = address - segment.address;
    const std::span<std::byte> fits =
        std::span(out).first(std::min<uint64_t>(size, segment.file_size - offset));
    if (elf->bytes()->ReadAt(segment.offset + offset, fits).ok()) return fits;
  }
  return {};
}

// What code without call frame information suggests.
UnwindRule GuessRule(const Binary& binary, std::optional<uint64_t> address, bool exact) {
  UnwindRule rule{.kind = UnwindRule::kOffsets, .flags = UnwindRule::kGuess};
  if (!binary.readable() && binary.has_file()) rule.flags |= UnwindRule::kNoFile;
  if (address.has_value()) {
    std::byte trampoline[x86_64::kTrampolineBytes];
    const std::span<const std::byte> code = ReadCode(binary, *address, trampoline);
    std::byte before[x86_64::kTrampolineBytes];
    if (x86_64::IsSignalReturn(code) ||
        (exact && *address >= sizeof(before) &&
         x86_64::IsBehindSignalReturn(ReadCode(binary, *address - sizeof(before), before), code))) {
      return {.kind = UnwindRule::kSignalReturn, .flags = UnwindRule::kSignalFrame};
    }
  }
  constexpr int8_t kBelowReturnAddress = -2;
  auto setup = x86_64::FrameSetup::kDone;
  if (exact && address.has_value()) {
    std::byte before[1];
    std::byte after[x86_64::kPrologueBytes];
    setup = x86_64::LooksLike(ReadCode(binary, *address - 1, before),
                              ReadCode(binary, *address, after));
  }
  switch (setup) {
    case x86_64::FrameSetup::kNone:
      rule.cfa_register = kRsp;
      rule.cfa_offset = kWord;
      break;
    case x86_64::FrameSetup::kPushed:
      rule.cfa_register = kRsp;
      rule.cfa_offset = 2 * kWord;
      rule.saved[0] = kBelowReturnAddress;
      break;
    case x86_64::FrameSetup::kDone:
      rule.cfa_register = kRbp;
      rule.cfa_offset = 2 * kWord;
      rule.saved[0] = kBelowReturnAddress;
      break;
  }
  static_assert(x86_64::kCalleeSavedRegisters[0] == kRbp);
  return rule;
}

// Call frame information goes on saying where a register was saved when an epilogue has taken it
// back: compilers save themselves the bytes, since the word below the stack pointer is still there.
// It is not in a sample's copy of the stack.
void KeepTakenBack(const Binary& binary, uint64_t address, UnwindRule* rule) {
  if (rule->kind != UnwindRule::kOffsets || rule->cfa_register != kRsp) return;
  const auto below_stack_pointer = [rule](int8_t words) {
    return words != UnwindRule::kSame && rule->cfa_offset + int64_t{words} * int64_t{kWord} < 0;
  };
  if (std::none_of(std::begin(rule->saved), std::end(rule->saved), below_stack_pointer)) return;
  std::byte code[x86_64::kEpilogueBytes];
  if (!x86_64::EndsFunction(ReadCode(binary, address, code))) return;
  std::replace_if(std::begin(rule->saved), std::end(rule->saved), below_stack_pointer,
                  UnwindRule::kSame);
}

}  // namespace

// The registers of the frame that the walk is at, and why it ended.
struct FastUnwinder::Walk {
  const AddressSpace& space;
  uint64_t stack_start;
  std::span<const std::byte> stack;
  uint64_t registers[x86_64::kRegisters] = {};
  uint32_t known = 0;   // bit n: registers[n] has its value
  uint32_t beyond = 0;  // bit n: it is not known because the stack copy ended
  bool exact = true;    // registers[kRip] is an instruction to be run next
  Verdict stopped{};
  // Why the first guess was needed; kNone: there was none.
  StackReason guessed = StackReason::kNone;

  Step Stop(StackReason reason) {
    stopped = Truncated(reason);
    return Step::kStopped;
  }
  bool Knows(size_t reg) const { return (known >> reg & 1) != 0; }
  // The walk cannot go on without this register.
  Step StopWithout(size_t reg) {
    return Stop((beyond >> reg & 1) != 0 ? StackReason::kStackCopyEnded
                                         : StackReason::kUnwindFailed);
  }
  bool InCopy(uint64_t address, uint64_t size) const {
    return address >= stack_start && stack.size() >= size &&
           address - stack_start <= stack.size() - size;
  }
  bool ReadWord(uint64_t address, uint64_t* value) const {
    if (!InCopy(address, kWord)) return false;
    std::memcpy(value, stack.data() + (address - stack_start), kWord);
    return true;
  }
  StackReason WhyNot(uint64_t address) const {
    return address >= stack_start ? StackReason::kStackCopyEnded : StackReason::kUnwindFailed;
  }
  void Set(size_t reg, uint64_t value) {
    registers[reg] = value;
    known |= 1u << reg;
  }
  void Lose(size_t reg, uint64_t address) {
    known &= ~(1u << reg);
    beyond = address >= stack_start ? beyond | 1u << reg : beyond & ~(1u << reg);
  }
  // A word on the stack, or among constants.
  std::optional<uint64_t> Read(uint64_t address, size_t size) const {
    uint64_t value = 0;
    const auto out = std::as_writable_bytes(std::span(&value, 1)).first(size);
    if (InCopy(address, size)) {
      std::memcpy(&value, stack.data() + (address - stack_start), size);
      return value;
    }
    return ReadConstant(space, address, out) ? std::optional<uint64_t>(value) : std::nullopt;
  }
  // How it ended: after a guess nothing is known for certain.
  Verdict End(Verdict verdict) const {
    if (guessed == StackReason::kNone) return verdict;
    return verdict.state == StackState::kComplete ? Verdict{StackState::kUnknown, guessed}
                                                  : Truncated(guessed);
  }
};

uint64_t FastUnwinder::NumberOf(const std::shared_ptr<const Binary>& binary) {
  const auto known = numbers_.find(binary.get());
  if (known != numbers_.end()) {
    const std::weak_ptr<const Binary>& held = known->second.first;
    if (!held.owner_before(binary) && !binary.owner_before(held)) return known->second.second;
    numbers_.erase(known);
  }
  // Numbers are not used again.
  if (numbers_.size() >= kMaxBinaries) numbers_.clear();
  numbers_.emplace(binary.get(), std::pair(std::weak_ptr<const Binary>(binary), ++last_number_));
  return last_number_;
}

const UnwindRule* FastUnwinder::FindRule(const AddressSpace& space, uint64_t ip, bool exact,
                                         uint64_t key) {
  ++counts_.cache_misses;
  const Mapping* mapping = space.Find(exact ? ip : ip - 1);
  if (mapping == nullptr) return nullptr;
  const Binary& binary = *mapping->binary;
  std::optional<uint64_t> code;  // ip in the file's own terms
  if (binary.readable()) {
    const std::optional<uint64_t> start = mapping->FileAddress(mapping->start);
    if (start.has_value()) code = ip - mapping->start + *start;
  }
  if (!code.has_value() || *code == 0 || (*code & kExact) != 0) {
    return cache_.Put(key, space.generation(), GuessRule(binary, std::nullopt, exact));
  }
  // Another process, or this one before its mappings changed, may have been there.
  const uint64_t number = NumberOf(mapping->binary);
  const uint64_t file_key = exact ? *code | kExact : *code - 1;
  const UnwindRule* known = shared_.Find(file_key, number);
  if (known != nullptr) return cache_.Put(key, space.generation(), *known);
  ++counts_.table_reads;
  UnwindRule rule = tables_->Find(mapping->binary, exact ? *code : *code - 1);
  if (rule.kind == UnwindRule::kNone) rule = GuessRule(binary, code, exact);
  if (exact) KeepTakenBack(binary, *code, &rule);
  shared_.Put(file_key, number, rule);
  return cache_.Put(key, space.generation(), rule);
}

inline FastUnwinder::Step FastUnwinder::TakeOffsetsStep(const UnwindRule& rule, uint64_t cfa,
                                                        Walk* walk) {
  const auto address = [&](int8_t words) {
    return cfa + static_cast<uint64_t>(int64_t{words}) * kWord;
  };
  uint64_t ip;
  if (!walk->ReadWord(address(rule.return_address), &ip)) [[unlikely]] {
    return walk->Stop(walk->WhyNot(address(rule.return_address)));
  }
  for (size_t i = 0; i < x86_64::kCalleeSaved; ++i) {
    if (rule.saved[i] == UnwindRule::kSame) continue;
    const auto reg = x86_64::kCalleeSavedRegisters[i];
    uint64_t value;
    if (walk->ReadWord(address(rule.saved[i]), &value)) {
      walk->Set(reg, value);
    } else {
      walk->Lose(reg, address(rule.saved[i]));
    }
  }
  walk->registers[kRip] = ip;
  walk->Set(kRsp, cfa);
  return Step::kTaken;
}

inline FastUnwinder::Step FastUnwinder::TakeStep(const UnwindRule& rule, Walk* walk) {
  if (rule.kind == UnwindRule::kOffsets) [[likely]] {
    if ((rule.flags & UnwindRule::kGuess) != 0) [[unlikely]]
      return TakeGuess(rule, walk);
    if (!walk->Knows(rule.cfa_register)) [[unlikely]]
      return walk->StopWithout(rule.cfa_register);
    return TakeOffsetsStep(
        rule, walk->registers[rule.cfa_register] + static_cast<uint64_t>(int64_t{rule.cfa_offset}),
        walk);
  }
  return TakeRareStep(rule, walk);
}

std::optional<Verdict> FastUnwinder::Unwind(const AddressSpace& space,
                                            const pmu::Registers& registers,
                                            std::span<const std::byte> stack,
                                            std::vector<UnwoundFrame>* frames) {
  Walk walk{.space = space, .stack_start = 0, .stack = stack};
  for (size_t reg = 0; reg < x86_64::kRegisters; ++reg) {
    const std::optional<uint64_t> value = registers.Get(x86_64::kPerfRegister[reg]);
    if (value.has_value()) walk.Set(reg, *value);
  }
  ++counts_.samples;
  if (!walk.Knows(kRip) || !walk.Knows(kRsp)) return Truncated(StackReason::kUnwindFailed);
  walk.stack_start = walk.registers[kRsp];

  const size_t frames_before = frames->size();
  uint64_t steps = 1;
  const absl::Cleanup count_steps = [&] { counts_.steps += steps; };
  const UnwindRule* rule =
      IsUser(walk.registers[kRip]) ? RuleAt(space, walk.registers[kRip], /*exact=*/true) : nullptr;
  if (rule == nullptr) return Truncated(StackReason::kBadAddress);
  for (size_t depth = 0; depth < kMaxFrames; ++depth) {
    if ((rule->flags & UnwindRule::kThreadStart) != 0) {
      return walk.End({StackState::kComplete, StackReason::kNone});
    }
    const uint64_t ip = walk.registers[kRip];
    const uint64_t sp = walk.registers[kRsp];
    const bool interrupted = (rule->flags & UnwindRule::kSignalFrame) != 0;
    const bool guess = (rule->flags & UnwindRule::kGuess) != 0;
    if (trace_ != nullptr) [[unlikely]]
      Trace(*rule, walk);
    switch (TakeStep(*rule, &walk)) {
      case Step::kTaken:
        break;
      case Step::kStopped:
        return walk.End(walk.stopped);
      case Step::kHandOver:
        frames->resize(frames_before);
        ++counts_.handed_over;
        return std::nullopt;
    }
    const uint64_t caller = walk.registers[kRip];
    if (caller == ip && walk.registers[kRsp] == sp) {
      return walk.End(Truncated(StackReason::kUnwindFailed));
    }
    ++steps;
    walk.exact = interrupted;
    rule = IsUser(caller) ? RuleAt(space, caller, interrupted) : nullptr;
    if (rule == nullptr) return walk.End(Truncated(StackReason::kBadAddress));
    // A signal trampoline was not called either: the kernel made it a return address.
    frames->push_back({.ip = caller,
                       .exact = interrupted || (rule->flags & UnwindRule::kSignalFrame) != 0,
                       .guess = guess || walk.guessed != StackReason::kNone});
  }
  return walk.End(Truncated(StackReason::kTooDeep));
}

std::optional<Verdict> FastUnwinder::UnwindTraced(const AddressSpace& space,
                                                  const pmu::Registers& registers,
                                                  std::span<const std::byte> stack,
                                                  std::vector<UnwoundFrame>* frames,
                                                  WalkTrace* trace) {
  trace->registers.clear();
  trace->words.clear();
  trace->whole = true;
  trace->place = {};
  trace_ = trace;
  const std::optional<Verdict> verdict = Unwind(space, registers, stack, frames);
  trace_ = nullptr;
  return verdict;
}

void FastUnwinder::Trace(const UnwindRule& rule, const Walk& walk) {
  static_assert(std::tuple_size_v<decltype(WalkTrace::place)> == x86_64::kRegisters);
  // Without its value the walk ends: for its own reasons, which may be anything.
  if (rule.kind != UnwindRule::kOffsets || (rule.flags & UnwindRule::kGuess) != 0 ||
      !walk.Knows(rule.cfa_register)) {
    trace_->whole = false;
    return;
  }
  // The stack pointer is the sample's, or the CFA of the frame before. Any other register decides
  // by its value, which came from the copy or is still the sample's.
  const uint64_t value = walk.registers[rule.cfa_register];
  if (rule.cfa_register != kRsp) {
    const uint32_t place = trace_->place[rule.cfa_register];
    if (place == 0) {
      trace_->registers.push_back(
          {static_cast<uint8_t>(x86_64::kPerfRegister[rule.cfa_register]), value});
    } else {
      trace_->words.push_back({place - 1, value});
    }
  }
  const uint64_t cfa = value + static_cast<uint64_t>(int64_t{rule.cfa_offset});
  const auto address = [&](int8_t words) {
    return cfa + static_cast<uint64_t>(int64_t{words}) * kWord;
  };
  const auto offset = [&](int8_t words) {
    return static_cast<uint32_t>(address(words) - walk.stack_start);
  };
  // Where it is beyond the copy that is what ends the walk, and the copy's size decides.
  uint64_t ip;
  if (walk.ReadWord(address(rule.return_address), &ip)) {
    trace_->words.push_back({offset(rule.return_address), ip});
  }
  for (size_t i = 0; i < x86_64::kCalleeSaved; ++i) {
    if (rule.saved[i] == UnwindRule::kSame || !walk.InCopy(address(rule.saved[i]), kWord)) continue;
    trace_->place[x86_64::kCalleeSavedRegisters[i]] = offset(rule.saved[i]) + 1;
  }
}

FastUnwinder::Step FastUnwinder::TakeRareStep(const UnwindRule& rule, Walk* walk) {
  if (rule.kind == UnwindRule::kFull) return TakeFullStep(rule, walk);
  if (rule.kind == UnwindRule::kSignalReturn) return TakeSignalReturn(walk);
  if (rule.kind != UnwindRule::kPlt) return Step::kHandOver;
  if (!walk->Knows(kRsp)) return walk->StopWithout(kRsp);
  const bool pushed = (walk->registers[kRip] & 15) >= rule.plt_pushed_from;
  return TakeOffsetsStep(rule, walk->registers[kRsp] + (pushed ? 2 * kWord : kWord), walk);
}

FastUnwinder::Step FastUnwinder::TakeFullStep(const UnwindRule& rule, Walk* walk) {
  ++counts_.full_rules;
  const uint64_t ip = walk->registers[kRip];
  const uint64_t look_up = walk->exact ? ip : ip - 1;
  const Mapping* mapping = walk->space.Find(look_up);
  if (mapping == nullptr) return walk->Stop(StackReason::kBadAddress);
  const std::optional<uint64_t> start = mapping->FileAddress(mapping->start);
  if (!start.has_value()) return walk->Stop(StackReason::kBadAddress);
  uint32_t number = rule.full;
  const std::shared_ptr<const UnwindRules> rules =
      number != UnwindRule::kByAddress
          ? tables_->Get(mapping->binary)
          : tables_->FindFull(mapping->binary, look_up - mapping->start + *start, &number);
  if (number >= rules->full_rules()) return Step::kHandOver;
  const FullRule full = rules->Full(number);

  // Where a read went that failed.
  uint64_t missing = 0;
  const auto get_register = [&](uint64_t reg) -> std::optional<uint64_t> {
    if (reg >= x86_64::kRegisters || !walk->Knows(reg)) return std::nullopt;
    return walk->registers[reg];
  };
  const auto read_memory = [&](uint64_t address, size_t size) {
    const std::optional<uint64_t> value = walk->Read(address, size);
    if (!value.has_value()) missing = address;
    return value;
  };
  const ExpressionInput input{get_register, read_memory};
  uint64_t cfa = 0;
  if (full.cfa_is_expression) {
    switch (EvaluateExpression(full.cfa_expression, std::nullopt, input, &cfa)) {
      case ExpressionStatus::kOk:
        break;
      case ExpressionStatus::kNoMemory:
        return walk->Stop(walk->WhyNot(missing));
      case ExpressionStatus::kNoRegister:
        return walk->Stop(StackReason::kUnwindFailed);
      case ExpressionStatus::kUnsupported:
      case ExpressionStatus::kMalformed:
        return Step::kHandOver;
    }
  } else {
    if (!walk->Knows(full.cfa_register)) return walk->StopWithout(full.cfa_register);
    cfa = walk->registers[full.cfa_register] + static_cast<uint64_t>(full.cfa_offset);
  }

  // Rules speak of the registers as they were in this frame: changes are kept apart until the end.
  Walk next = *walk;
  next.Set(kRsp, cfa);
  for (const FullRule::Register& reg : full.registers) {
    uint64_t at = cfa + static_cast<uint64_t>(reg.value);
    switch (reg.kind) {
      case CfiRegisterRule::Kind::kUnspecified:
      case CfiRegisterRule::Kind::kSame:
        continue;
      case CfiRegisterRule::Kind::kUndefined:
        next.known &= ~(1u << reg.number);
        next.beyond &= ~(1u << reg.number);
        continue;
      case CfiRegisterRule::Kind::kOffset:
        next.Set(reg.number, at);
        continue;
      case CfiRegisterRule::Kind::kRegister: {
        const auto from = static_cast<uint64_t>(reg.value);
        if (from < x86_64::kRegisters && walk->Knows(from)) {
          next.Set(reg.number, walk->registers[from]);
        } else {
          next.Lose(reg.number, 0);
        }
        continue;
      }
      case CfiRegisterRule::Kind::kAtOffset:
        break;
      case CfiRegisterRule::Kind::kAtExpression:
      case CfiRegisterRule::Kind::kExpression: {
        const ExpressionStatus status = EvaluateExpression(rules->Expression(reg), cfa, input, &at);
        if (status == ExpressionStatus::kUnsupported || status == ExpressionStatus::kMalformed) {
          return Step::kHandOver;
        }
        if (status != ExpressionStatus::kOk) {
          next.Lose(reg.number, status == ExpressionStatus::kNoMemory ? missing : 0);
          continue;
        }
        if (reg.kind == CfiRegisterRule::Kind::kExpression) {
          next.Set(reg.number, at);
          continue;
        }
        break;
      }
    }
    const std::optional<uint64_t> value = walk->Read(at, kWord);
    if (value.has_value()) {
      next.Set(reg.number, *value);
    } else {
      next.Lose(reg.number, at);
    }
  }
  if (!next.Knows(kRip))
    return next.beyond >> kRip & 1 ? walk->Stop(StackReason::kStackCopyEnded)
                                   : walk->Stop(StackReason::kUnwindFailed);
  std::copy(std::begin(next.registers), std::end(next.registers), std::begin(walk->registers));
  walk->known = next.known;
  walk->beyond = next.beyond;
  return Step::kTaken;
}

FastUnwinder::Step FastUnwinder::TakeSignalReturn(Walk* walk) {
  ++counts_.full_rules;
  if (!walk->Knows(kRsp)) return walk->StopWithout(kRsp);
  const uint64_t frame = walk->registers[kRsp];
  for (size_t reg = 0; reg < x86_64::kRegisters; ++reg) {
    const uint64_t at = frame + x86_64::SignalFrameOffset(static_cast<uint8_t>(reg));
    uint64_t value;
    if (walk->ReadWord(at, &value)) {
      walk->Set(reg, value);
    } else if (reg == kRip || reg == kRsp) {
      return walk->Stop(walk->WhyNot(at));
    } else {
      walk->Lose(reg, at);
    }
  }
  return Step::kTaken;
}

FastUnwinder::Step FastUnwinder::TakeGuess(const UnwindRule& rule, Walk* walk) {
  const StackReason reason =
      (rule.flags & UnwindRule::kNoFile) != 0 ? StackReason::kNoBinary : StackReason::kNoUnwindInfo;
  if (walk->guessed == StackReason::kNone) walk->guessed = reason;
  if (!walk->Knows(rule.cfa_register) || !walk->Knows(kRsp)) return walk->Stop(reason);
  const uint64_t cfa =
      walk->registers[rule.cfa_register] + static_cast<uint64_t>(int64_t{rule.cfa_offset});
  // Frames are words, and callers' are further up.
  uint64_t ip;
  uint64_t rbp = walk->registers[kRbp];
  if (cfa % kWord != 0 || cfa <= walk->registers[kRsp] || !walk->ReadWord(cfa - kWord, &ip)) {
    return walk->Stop(reason);
  }
  const bool saves_rbp = rule.saved[0] != UnwindRule::kSame;
  if (saves_rbp && !walk->ReadWord(cfa - 2 * kWord, &rbp)) return walk->Stop(reason);
  const Mapping* caller = ip == 0 ? nullptr : walk->space.Find(ip - 1);
  if (caller == nullptr) return walk->Stop(reason);
  const std::optional<uint64_t> code = caller->FileAddress(ip - 1);
  if (code.has_value()) {
    std::byte bytes[x86_64::kCallBytes];
    if (!x86_64::EndsInCall(ReadCode(*caller->binary, *code + 1 - x86_64::kCallBytes, bytes))) {
      return walk->Stop(reason);
    }
  }
  ++counts_.guesses;
  // What else this code has saved, and where, nobody knows.
  const bool knows_rbp = saves_rbp || walk->Knows(kRbp);
  walk->known = walk->beyond = 0;
  walk->Set(kRip, ip);
  walk->Set(kRsp, cfa);
  if (knows_rbp) walk->Set(kRbp, rbp);
  return Step::kTaken;
}

bool FastUnwinder::IsThreadStart(const AddressSpace& space, uint64_t ip) {
  ++counts_.steps;
  const UnwindRule* rule = IsUser(ip) ? RuleAt(space, ip, /*exact=*/true) : nullptr;
  return rule != nullptr && (rule->flags & UnwindRule::kThreadStart) != 0;
}

std::optional<bool> FastUnwinder::HasFrame(const AddressSpace& space, uint64_t ip) {
  ++counts_.steps;
  const UnwindRule* rule = IsUser(ip) ? RuleAt(space, ip, /*exact=*/true) : nullptr;
  if (rule == nullptr || rule->kind != UnwindRule::kOffsets ||
      (rule->flags & UnwindRule::kGuess) != 0) {
    return std::nullopt;
  }
  return rule->cfa_register == kRbp;
}

bool FastUnwinder::IsSignalTrampoline(const AddressSpace& space, uint64_t ip) {
  ++counts_.steps;
  const UnwindRule* rule = IsUser(ip) ? RuleAt(space, ip, /*exact=*/true) : nullptr;
  return rule != nullptr && (rule->flags & UnwindRule::kSignalFrame) != 0;
}

}  // namespace lbrd::unwind
