#include "unwind/single_rules.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <tuple>
#include <utility>

#include "unwind/unwind_rules_builder.h"

namespace lbrd::unwind {
namespace {

// Version, encodings, pointer to .eh_frame, count; then pairs of a function and its entry, each
// relative to the header.
constexpr size_t kHeaderBytes = 12;
constexpr size_t kEntryBytes = 8;
constexpr size_t kFunctionField = 0;
constexpr size_t kEntryField = 4;

// Length and id of an entry, in their longest forms.
constexpr size_t kEntryPrefixBytes = 4 + 8 + 8;

int32_t ReadInt(std::span<const std::byte> bytes, size_t at) {
  int32_t value;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

}  // namespace

std::unique_ptr<SingleRules> SingleRules::Open(const ElfFile& elf) {
  const ElfSection* section = elf.FindSection(".eh_frame");
  const std::optional<ElfSegment> header = elf.eh_frame_hdr();
  if (elf.machine() != EM_X86_64 || section == nullptr || !header.has_value() ||
      elf.FindSection(".debug_frame") != nullptr || header->file_size > kMaxBytes ||
      header->file_size < kHeaderBytes || section->size < kMinBytes || section->size > kMaxBytes ||
      section->size + header->file_size > kMaxBytes || section->type == SHT_NOBITS ||
      (section->flags & SHF_COMPRESSED) != 0) {
    return nullptr;
  }
  auto rules = std::unique_ptr<SingleRules>(new SingleRules);
  rules->header_ = BytesInParts(elf.bytes(), header->offset, header->file_size);
  if (!rules->header_.Ask(0, kHeaderBytes)) return nullptr;
  const std::span<const std::byte> bytes = rules->header_.bytes();
  // Version 1; count of 4 bytes; entries of 4 bytes, relative to the header, signed.
  if (bytes[0] != std::byte{1} || bytes[2] != std::byte{0x03} || bytes[3] != std::byte{0x3b}) {
    return nullptr;
  }
  rules->count_ = static_cast<uint32_t>(ReadInt(bytes, 8));
  if (rules->count_ > (bytes.size() - kHeaderBytes) / kEntryBytes) return nullptr;
  rules->header_address_ = header->address;
  rules->frames_ = BytesInParts(elf.bytes(), section->offset, section->size);
  rules->section_ = {rules->frames_.bytes(), section->address, /*debug_frame=*/false};
  std::tie(rules->code_start_, rules->code_end_) = UnwindRulesBuilder::CodeOf(elf);
  return rules;
}

std::optional<uint64_t> SingleRules::AddressAt(size_t index, size_t field) {
  const size_t at = kHeaderBytes + index * kEntryBytes + field;
  if (!header_.Ask(at, sizeof(int32_t))) return std::nullopt;
  const int64_t relative = ReadInt(header_.bytes(), at);
  return header_address_ + static_cast<uint64_t>(relative);
}

std::optional<size_t> SingleRules::CountUpTo(uint64_t address) {
  size_t first = 0;
  size_t count = count_;
  while (count > 0) {
    const size_t half = count / 2;
    const std::optional<uint64_t> function = AddressAt(first + half, kFunctionField);
    if (!function.has_value()) return std::nullopt;
    const bool before = *function <= address;
    first = before ? first + half + 1 : first;
    count = before ? count - half - 1 : half;
  }
  return first;
}

std::optional<CfiEntry> SingleRules::EntryAt(size_t offset) {
  if (offset >= frames_.size() ||
      !frames_.Ask(offset, std::min(kEntryPrefixBytes, frames_.size() - offset))) {
    return std::nullopt;
  }
  const std::optional<CfiEntry> entry = ReadCfiEntry(section_, offset);
  if (!entry.has_value() || entry->next - offset > kMaxEntryBytes ||
      !frames_.Ask(offset, entry->next - offset)) {
    return std::nullopt;
  }
  return entry;
}

const SingleRules::KnownCie* SingleRules::CieAt(size_t offset) {
  if (cies_.size() >= kMaxCies && !cies_.contains(offset)) cies_.clear();
  const auto [known, is_new] = cies_.try_emplace(offset);
  KnownCie& out = known->second;
  if (is_new) {
    if (EntryAt(offset).has_value()) out.cie = ParseCie(section_, offset);
    if (out.cie.has_value() && (out.cie->instructions.size() > kMaxInstructionBytes ||
                                !CfiProgram::Begin(section_, *out.cie, &out.initial))) {
      out.cie.reset();
    }
  }
  return out.cie.has_value() ? &out : nullptr;
}

SingleRules::Found SingleRules::FindPlace(uint64_t address, Place* place) {
  ++look_ups_;
  if (address < code_start_ || address >= code_end_) return Found::kNoFunction;
  const std::optional<size_t> count = CountUpTo(address);
  if (!count.has_value()) return Found::kOdd;
  if (*count == 0) return Found::kNoFunction;
  const std::optional<uint64_t> entry_address = AddressAt(*count - 1, kEntryField);
  if (!entry_address.has_value()) return Found::kOdd;
  const std::optional<CfiEntry> entry =
      EntryAt(static_cast<size_t>(*entry_address - section_.address));
  if (!entry.has_value() || entry->kind != CfiEntry::Kind::kFde) return Found::kOdd;
  const KnownCie* known = CieAt(entry->cie);
  if (known == nullptr) return Found::kOdd;
  const std::optional<Fde> fde = ParseFde(section_, *entry, *known->cie);
  if (!fde.has_value() || fde->start < code_start_ || address < fde->start ||
      fde->instructions.size() > kMaxInstructionBytes) {
    return Found::kOdd;
  }
  // Between two functions: nothing is unwound by a neighbour's rule.
  if (address >= fde->end) return Found::kNoFunction;
  look_ups_ += fde->instructions.size() / kBytesOfOneLookUp;
  place->known = known;
  place->row = program_.Find(section_, *known->cie, known->initial, *fde, address);
  return Found::kRow;
}

std::optional<UnwindRule> SingleRules::Find(uint64_t address) {
  Place place;
  switch (FindPlace(address, &place)) {
    case Found::kNoFunction:
      return UnwindRule();
    case Found::kOdd:
      return std::nullopt;
    case Found::kRow:
      break;
  }
  if (place.row == nullptr) return UnwindRule{.kind = UnwindRule::kUnsupported};
  const Cie& cie = *place.known->cie;
  const std::optional<UnwindRule> compact = UnwindRulesBuilder::CompactRuleOf(cie, *place.row);
  return compact.has_value() ? *compact : UnwindRulesBuilder::FullRuleByAddress(cie);
}

std::shared_ptr<const UnwindRules> SingleRules::FindFull(uint64_t address) {
  if (const auto known = full_.find(address); known != full_.end()) return known->second;
  Place place;
  if (FindPlace(address, &place) != Found::kRow || place.row == nullptr) return nullptr;
  const Cie& cie = *place.known->cie;
  if (UnwindRulesBuilder::CompactRuleOf(cie, *place.row).has_value()) return nullptr;
  auto full =
      std::make_shared<const UnwindRules>(UnwindRulesBuilder::FullRuleAlone(cie, *place.row));
  if (full_bytes_ >= kMaxFullBytes) {
    full_.clear();
    full_bytes_ = 0;
  }
  full_bytes_ += full->bytes();
  full_.emplace(address, full);
  return full;
}

}  // namespace lbrd::unwind
