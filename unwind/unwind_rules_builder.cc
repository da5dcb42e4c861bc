#include "unwind/unwind_rules_builder.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <limits>

#include "absl/strings/str_cat.h"

namespace lbrd::unwind {
namespace {

using Kind = CfiRegisterRule::Kind;

// Numbers of the rules that every table has.
constexpr uint16_t kNoneIndex = 0;
constexpr uint16_t kUnsupportedIndex = 1;

// An offset from the CFA in words, as UnwindRule has it.
std::optional<int8_t> Words(int64_t offset) {
  constexpr int64_t kWord = 8;
  if (offset % kWord != 0 || offset / kWord < std::numeric_limits<int8_t>::min() ||
      offset / kWord > std::numeric_limits<int8_t>::max() || offset == 0) {
    return std::nullopt;
  }
  return static_cast<int8_t>(offset / kWord);
}

constexpr size_t kNotCalleeSaved = x86_64::kCalleeSaved;
// By register number, since this is asked for every register of every row.
constexpr std::array<uint8_t, kCfiRegisters> kCalleeSavedIndex = [] {
  std::array<uint8_t, kCfiRegisters> index{};
  index.fill(kNotCalleeSaved);
  for (size_t i = 0; i < x86_64::kCalleeSaved; ++i) {
    index[x86_64::kCalleeSavedRegisters[i]] = static_cast<uint8_t>(i);
  }
  return index;
}();

uint8_t SignalFlag(const Cie& cie) { return cie.signal_frame ? UnwindRule::kSignalFrame : 0; }

// The row in 16 bytes; nullopt: it needs a full rule.
std::optional<UnwindRule> Compact(const CfiRow& row, uint8_t flags) {
  UnwindRule rule;
  rule.flags = flags;
  if (row.cfa_kind == CfiRow::CfaKind::kExpression) {
    const std::optional<uint8_t> pushed_from = x86_64::PltPushedFrom(row.cfa_expression);
    if (!pushed_from.has_value()) return std::nullopt;
    rule.kind = UnwindRule::kPlt;
    rule.plt_pushed_from = *pushed_from;
  } else {
    if (row.cfa_offset < std::numeric_limits<int32_t>::min() ||
        row.cfa_offset > std::numeric_limits<int32_t>::max()) {
      return std::nullopt;
    }
    rule.kind = UnwindRule::kOffsets;
    rule.cfa_register = static_cast<uint8_t>(row.cfa_register);
    rule.cfa_offset = static_cast<int32_t>(row.cfa_offset);
  }
  for (size_t reg = 0; reg < kCfiRegisters; ++reg) {
    const CfiRegisterRule& where = row.registers[reg];
    if (where.kind == Kind::kUnspecified || where.kind == Kind::kSame) continue;
    if (where.kind != Kind::kAtOffset) return std::nullopt;
    const std::optional<int8_t> words = Words(where.value);
    if (!words.has_value()) return std::nullopt;
    if (reg == x86_64::kRip) {
      rule.return_address = *words;
      continue;
    }
    const size_t saved = kCalleeSavedIndex[reg];
    if (saved == kNotCalleeSaved) return std::nullopt;
    rule.saved[saved] = *words;
  }
  return rule;
}

}  // namespace

UnwindRulesBuilder::UnwindRulesBuilder(uint64_t code_start, uint64_t code_end)
    : code_start_(code_start),
      code_end_(code_end - code_start > UnwindRules::kMaxSpan ? code_start + UnwindRules::kMaxSpan
                                                              : code_end) {
  rules_.base_ = code_start - code_start % UnwindRules::kPageBytes;
  rules_.rules_ = {UnwindRule{.kind = UnwindRule::kNone},
                   UnwindRule{.kind = UnwindRule::kUnsupported}};
}

UnwindRulesBuilder::KnownCie& UnwindRulesBuilder::CieAt(uint32_t section, size_t offset) {
  if (cies_.size() >= kMaxCies && !cies_.contains({section, offset})) cies_.clear();
  const auto [known, is_new] = cies_.try_emplace({section, offset});
  if (is_new) known->second.cie = ParseCie(sections_[section], offset);
  return known->second;
}

void UnwindRulesBuilder::AddFunction(uint32_t section, size_t offset, const CfiEntry& entry) {
  const KnownCie& known = CieAt(section, entry.cie);
  if (!known.cie.has_value() || functions_.size() >= kMaxFdes) return;
  const std::optional<Fde> fde = ParseFde(sections_[section], entry, *known.cie);
  // What the linker has dropped is left with an address where no code is.
  if (!fde.has_value() || fde->start < code_start_ || fde->start >= code_end_) return;
  functions_.push_back({fde->start, std::min(fde->end, code_end_), section,
                        static_cast<uint32_t>(functions_.size()), offset});
}

size_t UnwindRulesBuilder::AddSection(const CfiSection& section) {
  // Room that is not used is never touched, and to grow costs twice the memory.
  constexpr size_t kBytesOfFunction = 24;
  constexpr size_t kBytesOfRow = 8;
  constexpr size_t kMaxReserved = 1u << 18;
  const size_t bytes = section.bytes.size();
  functions_.reserve(functions_.size() + std::min(bytes / kBytesOfFunction, kMaxReserved));
  rules_.low_.reserve(rules_.low_.capacity() + std::min(bytes / kBytesOfRow, kMaxReserved));
  rules_.rule_.reserve(rules_.low_.capacity());
  work_left_ += kMaxWork * bytes;
  sections_.push_back(section);
  return sections_.size() - 1;
}

void UnwindRulesBuilder::Add(const CfiSection& section) {
  const size_t first = functions_.size();
  const auto number = static_cast<uint32_t>(AddSection(section));
  for (size_t at = 0; at < section.bytes.size();) {
    const std::optional<CfiEntry> entry = ReadCfiEntry(section, at);
    if (!entry.has_value()) break;
    // Static links may leave terminators between objects' parts.
    if (entry->kind == CfiEntry::Kind::kFde) AddFunction(number, at, *entry);
    at = entry->next;
  }
  MergeFrom(first);
}

void UnwindRulesBuilder::AddByHeader(const CfiSection& section, std::span<const std::byte> header,
                                     uint64_t header_address) {
  const size_t first = functions_.size();
  const auto number = static_cast<uint32_t>(AddSection(section));
  VisitEhFrameHeader(header, header_address, [&](uint64_t, uint64_t address) {
    const uint64_t at = address - section.address;
    if (at >= section.bytes.size()) return;
    const std::optional<CfiEntry> entry = ReadCfiEntry(section, static_cast<size_t>(at));
    if (entry.has_value() && entry->kind == CfiEntry::Kind::kFde) {
      AddFunction(number, static_cast<size_t>(at), *entry);
    }
  });
  MergeFrom(first);
}

void UnwindRulesBuilder::MergeFrom(size_t first) {
  const auto by_start = [](const Function& a, const Function& b) {
    return a.start != b.start ? a.start < b.start : a.order < b.order;
  };
  const auto begin = functions_.begin();
  const auto added = begin + static_cast<ptrdiff_t>(first);
  std::sort(added, functions_.end(), by_start);
  if (first == 0) return;
  const auto overlapped = [&](const Function& f) {
    const auto after = std::partition_point(
        begin, added, [&](const Function& known) { return known.start < f.end; });
    return after != begin && (after - 1)->end > f.start;
  };
  functions_.erase(std::remove_if(added, functions_.end(), overlapped), functions_.end());
  std::inplace_merge(functions_.begin(), functions_.begin() + static_cast<ptrdiff_t>(first),
                     functions_.end(), by_start);
}

std::optional<uint32_t> UnwindRulesBuilder::Store(std::span<const std::byte> expression) {
  if (expression.size() > std::numeric_limits<uint16_t>::max()) return std::nullopt;
  std::vector<std::byte>& all = rules_.expressions_;
  const std::string content(reinterpret_cast<const char*>(expression.data()), expression.size());
  const auto known = stored_.find(content);
  if (known != stored_.end()) return known->second;
  if (all.size() + expression.size() > kMaxExpressionBytes) return std::nullopt;
  const auto at = static_cast<uint32_t>(all.size());
  all.insert(all.end(), expression.begin(), expression.end());
  stored_.emplace(content, at);
  return at;
}

uint16_t UnwindRulesBuilder::FullRuleOf(const CfiRow& row, uint8_t flags) {
  UnwindRules::StoredFull full;
  if (row.cfa_kind == CfiRow::CfaKind::kExpression) {
    const std::optional<uint32_t> at = Store(row.cfa_expression);
    if (!at.has_value()) return kUnsupportedIndex;
    full.cfa_is_expression = true;
    full.cfa_expression = *at;
    full.cfa_expression_size = static_cast<uint16_t>(row.cfa_expression.size());
  } else {
    full.cfa_register = static_cast<uint8_t>(row.cfa_register);
    full.cfa_offset = row.cfa_offset;
  }
  std::vector<FullRule::Register> registers;
  for (size_t reg = 0; reg < kCfiRegisters; ++reg) {
    const CfiRegisterRule& where = row.registers[reg];
    if (where.kind == Kind::kUnspecified || where.kind == Kind::kSame) continue;
    FullRule::Register stored;
    stored.number = static_cast<uint8_t>(reg);
    stored.kind = where.kind;
    stored.value = where.value;
    if (where.kind == Kind::kAtExpression || where.kind == Kind::kExpression) {
      const std::optional<uint32_t> at = Store(where.expression);
      if (!at.has_value()) return kUnsupportedIndex;
      stored.expression = *at;
      stored.expression_size = static_cast<uint16_t>(where.expression.size());
    }
    registers.push_back(stored);
  }
  // By content, in which equal expressions have one place.
  const std::string content =
      absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&full), sizeof(full)),
                   absl::string_view(reinterpret_cast<const char*>(registers.data()),
                                     registers.size() * sizeof(registers[0])));
  const auto known = full_numbers_.find(content);
  uint32_t number;
  if (known != full_numbers_.end()) {
    number = known->second;
  } else {
    if (rules_.full_.size() >= kMaxFullRules) return kUnsupportedIndex;
    number = static_cast<uint32_t>(rules_.full_.size());
    full.first_register = static_cast<uint32_t>(rules_.full_registers_.size());
    full.register_count = static_cast<uint32_t>(registers.size());
    rules_.full_registers_.insert(rules_.full_registers_.end(), registers.begin(), registers.end());
    rules_.full_.push_back(full);
    full_numbers_.emplace(content, number);
  }
  UnwindRule rule{.kind = UnwindRule::kFull, .flags = flags};
  rule.full = number;
  return IndexOf(rule);
}

std::optional<UnwindRule> UnwindRulesBuilder::CompactRuleOf(const Cie& cie, const CfiRow& row) {
  constexpr UnwindRule kUnsupported{.kind = UnwindRule::kUnsupported};
  const CfiRegisterRule& return_address = row.registers[x86_64::kRip];
  if (cie.return_register != x86_64::kRip) return kUnsupported;
  const uint8_t signal = SignalFlag(cie);
  if (return_address.kind == Kind::kUndefined) {
    return UnwindRule{.kind = UnwindRule::kOffsets,
                      .flags = static_cast<uint8_t>(signal | UnwindRule::kThreadStart)};
  }
  if (row.cfa_kind == CfiRow::CfaKind::kNone ||
      (row.cfa_kind == CfiRow::CfaKind::kRegister && row.cfa_register >= x86_64::kRip) ||
      return_address.kind == Kind::kUnspecified || return_address.kind == Kind::kSame) {
    return kUnsupported;
  }
  return Compact(row, signal);
}

UnwindRules UnwindRulesBuilder::FullRuleAlone(const Cie& cie, const CfiRow& row) {
  UnwindRulesBuilder alone(0, 0);
  alone.FullRuleOf(row, SignalFlag(cie));
  return std::move(alone.rules_);
}

UnwindRule UnwindRulesBuilder::FullRuleByAddress(const Cie& cie) {
  UnwindRule rule{.kind = UnwindRule::kFull, .flags = SignalFlag(cie)};
  rule.full = UnwindRule::kByAddress;
  return rule;
}

uint16_t UnwindRulesBuilder::RuleOf(const Cie& cie, const CfiRow& row) {
  const std::optional<UnwindRule> compact = CompactRuleOf(cie, row);
  if (!compact.has_value()) return FullRuleOf(row, SignalFlag(cie));
  return compact->kind == UnwindRule::kUnsupported ? kUnsupportedIndex : IndexOf(*compact);
}

uint16_t UnwindRulesBuilder::IndexOf(const UnwindRule& rule) {
  std::pair<uint64_t, uint64_t> content;
  static_assert(sizeof(content) == sizeof(rule));
  std::memcpy(&content.first, &rule, sizeof(content.first));
  std::memcpy(&content.second, reinterpret_cast<const char*>(&rule) + sizeof(content.first),
              sizeof(content.second));
  const auto known = rule_numbers_.find(content);
  if (known != rule_numbers_.end()) return known->second;
  if (rules_.rules_.size() >= UnwindRules::kMaxRules) return kUnsupportedIndex;
  const auto number = static_cast<uint16_t>(rules_.rules_.size());
  rules_.rules_.push_back(rule);
  rule_numbers_.emplace(content, number);
  return number;
}

void UnwindRulesBuilder::AddRow(uint64_t address, uint16_t rule) {
  // The same rule goes on.
  if (rules_.rule_.empty() ? rule == kNoneIndex : rules_.rule_.back() == rule) return;
  if (rules_.low_.size() >= UnwindRules::kMaxRows - 1) {
    if (rules_.rule_.back() == kUnsupportedIndex) return;
    rule = kUnsupportedIndex;
  }
  const uint64_t offset = address - rules_.base_;
  const size_t page = static_cast<size_t>(offset / UnwindRules::kPageBytes);
  while (rules_.first_row_.size() <= page) {
    rules_.first_row_.push_back(static_cast<uint32_t>(rules_.low_.size()));
  }
  rules_.low_.push_back(static_cast<uint16_t>(offset % UnwindRules::kPageBytes));
  rules_.rule_.push_back(rule);
}

void UnwindRulesBuilder::CompileFunction(const Function& function, uint64_t end) {
  const CfiSection& section = sections_[function.section];
  const std::optional<CfiEntry> entry = ReadCfiEntry(section, function.entry);
  KnownCie& known = CieAt(function.section, entry->cie);
  const auto spend = [&](size_t bytes) {
    const bool enough = bytes <= work_left_;
    work_left_ = enough ? work_left_ - bytes : 0;
    return enough;
  };
  if (!known.begun) {
    known.begun = true;
    known.usable = spend(known.cie->instructions.size()) &&
                   CfiProgram::Begin(section, *known.cie, &known.initial);
  }
  const std::optional<Fde> fde = ParseFde(section, *entry, *known.cie);
  if (!known.usable || !spend(fde->instructions.size())) {
    return AddRow(function.start, kUnsupportedIndex);
  }
  const uint64_t unknown_from = program_.Run(section, *known.cie, known.initial, *fde,
                                             [&](uint64_t address, const CfiRow& row) {
                                               if (address < end)
                                                 AddRow(address, RuleOf(*known.cie, row));
                                             });
  if (unknown_from < end) AddRow(unknown_from, kUnsupportedIndex);
}

UnwindRules UnwindRulesBuilder::Finish() {
  for (size_t i = 0; i < functions_.size(); ++i) {
    const Function& function = functions_[i];
    // Where two overlap, the one that starts later holds, as for whoever searches a sorted table.
    const uint64_t next = i + 1 < functions_.size() ? functions_[i + 1].start : code_end_;
    const uint64_t end = std::min(function.end, next);
    if (end <= function.start) continue;
    CompileFunction(function, end);
    if (end < next) AddRow(end, kNoneIndex);
  }
  if (!rules_.rule_.empty()) {
    AddRow(code_end_, kNoneIndex);
    const uint64_t pages = (code_end_ - rules_.base_ - 1) / UnwindRules::kPageBytes + 1;
    rules_.first_row_.resize(std::max<size_t>(pages + 1, rules_.first_row_.size() + 1),
                             static_cast<uint32_t>(rules_.low_.size()));
  }
  rules_.first_row_.shrink_to_fit();
  rules_.low_.shrink_to_fit();
  rules_.rule_.shrink_to_fit();
  rules_.rules_.shrink_to_fit();
  rules_.full_.shrink_to_fit();
  rules_.full_registers_.shrink_to_fit();
  rules_.expressions_.shrink_to_fit();
  return std::move(rules_);
}

std::pair<uint64_t, uint64_t> UnwindRulesBuilder::CodeOf(const ElfFile& elf) {
  uint64_t code_start = std::numeric_limits<uint64_t>::max();
  uint64_t code_end = 0;
  for (const ElfSegment& segment : elf.segments()) {
    if (!segment.executable || segment.file_size == 0) continue;
    code_start = std::min(code_start, segment.address);
    code_end = std::max(code_end, segment.address + segment.file_size);
  }
  return {code_start, code_end};
}

UnwindRules UnwindRulesBuilder::Build(const ElfFile& elf) {
  const auto [code_start, code_end] = CodeOf(elf);
  if (elf.machine() != EM_X86_64 || code_start >= code_end) return {};

  UnwindRulesBuilder builder(code_start, code_end);
  std::vector<std::byte> frames;
  std::vector<std::byte> header;
  const auto read_segment = [&](uint64_t offset, uint64_t size, std::vector<std::byte>* out) {
    const uint64_t file_size = elf.bytes()->size();
    if (offset > file_size || size > file_size - offset || size > ElfFile::kMaxSectionBytes) {
      return false;
    }
    out->resize(size);
    return elf.bytes()->ReadAt(offset, *out).ok();
  };
  const ElfSection* section = elf.FindSection(".eh_frame");
  absl::StatusOr<std::vector<std::byte>> bytes =
      section != nullptr ? elf.Read(*section) : absl::NotFoundError("");
  if (bytes.ok()) {
    frames = *std::move(bytes);
    builder.Add({frames, section->address, /*debug_frame=*/false});
  } else if (const auto at = elf.eh_frame_hdr();
             at.has_value() && read_segment(at->offset, at->file_size, &header)) {
    // Without section headers: the entries stand somewhere in the header's own segment.
    for (const ElfSegment& segment : elf.segments()) {
      if (at->address < segment.address || at->address - segment.address >= segment.file_size ||
          !read_segment(segment.offset, segment.file_size, &frames)) {
        continue;
      }
      builder.AddByHeader({frames, segment.address, /*debug_frame=*/false}, header, at->address);
      break;
    }
  }
  std::vector<std::byte> debug_frames;
  if (const ElfSection* debug = elf.FindSection(".debug_frame")) {
    absl::StatusOr<std::vector<std::byte>> read = elf.Read(*debug);
    if (read.ok()) {
      debug_frames = *std::move(read);
      builder.Add({debug_frames, debug->address, /*debug_frame=*/true});
    }
  }
  return builder.Finish();
}

}  // namespace lbrd::unwind
