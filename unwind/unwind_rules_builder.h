// Compiles a binary's .eh_frame, and .debug_frame for code that the former does not cover, to its
// table of rules.
//
// Input is hostile: at most kMaxFdes entries (128 MiB while building), and time linear in the
// sections' bytes, since what all entries share, their CIE's program, is run once a CIE as long as
// there are no more than kMaxCies. Beyond these bounds code has rule kUnsupported or kNone.
//
// Thread rules: one owner; used once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "unwind/cfi_parser.h"
#include "unwind/cfi_program.h"
#include "unwind/elf_file.h"
#include "unwind/unwind_rules.h"

namespace lbrd::unwind {

class UnwindRulesBuilder {
 public:
  static constexpr size_t kMaxFdes = 4u << 20;
  static constexpr size_t kMaxCies = 4096;
  // Bytes of instructions that are run for each byte of a section, at most.
  static constexpr uint64_t kMaxWork = 16;
  // Full rules are rare; so are their expressions.
  static constexpr size_t kMaxFullRules = 65536;
  static constexpr size_t kMaxExpressionBytes = 4u << 20;

  // The rules of a file. Empty: it has none, or is not of x86-64.
  static UnwindRules Build(const ElfFile& elf);
  // Where a file has code, from its first address to behind its last; the first is not less than
  // the second: nowhere.
  static std::pair<uint64_t, uint64_t> CodeOf(const ElfFile& elf);
  // The rule of a row; nullopt: it needs a full rule.
  static std::optional<UnwindRule> CompactRuleOf(const Cie& cie, const CfiRow& row);
  // The full rule of a row, alone, as number 0; and the rule that says that it is one, by address.
  static UnwindRules FullRuleAlone(const Cie& cie, const CfiRow& row);
  static UnwindRule FullRuleByAddress(const Cie& cie);

  // For code in [code_start, code_end).
  UnwindRulesBuilder(uint64_t code_start, uint64_t code_end);
  // `section` must outlive Finish(). Of code that two sections cover the first added decides.
  void Add(const CfiSection& section);
  // The same where only an .eh_frame_hdr tells of the entries.
  void AddByHeader(const CfiSection& section, std::span<const std::byte> header,
                   uint64_t header_address);
  UnwindRules Finish();

 private:
  struct Function {
    uint64_t start;
    uint64_t end;
    uint32_t section;
    uint32_t order;  // of two that start at one address the later one holds
    size_t entry;    // offset
  };
  struct KnownCie {
    std::optional<Cie> cie;
    bool begun = false;
    bool usable = false;
    CfiRow initial;
  };

  // Its number.
  size_t AddSection(const CfiSection& section);
  KnownCie& CieAt(uint32_t section, size_t offset);
  void AddFunction(uint32_t section, size_t offset, const CfiEntry& entry);
  // Leaves out of the functions from `first` on those that earlier ones overlap.
  void MergeFrom(size_t first);
  void CompileFunction(const Function& function, uint64_t end);
  void AddRow(uint64_t address, uint16_t rule);
  uint16_t RuleOf(const Cie& cie, const CfiRow& row);
  uint16_t IndexOf(const UnwindRule& rule);
  uint16_t FullRuleOf(const CfiRow& row, uint8_t flags);
  // Where an expression is stored; nullopt: there is no room.
  std::optional<uint32_t> Store(std::span<const std::byte> expression);

  const uint64_t code_start_;
  const uint64_t code_end_;
  std::vector<CfiSection> sections_;
  std::vector<Function> functions_;
  absl::flat_hash_map<std::pair<uint32_t, size_t>, KnownCie> cies_;
  CfiProgram program_;
  uint64_t work_left_ = 0;
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, uint16_t> rule_numbers_;
  absl::flat_hash_map<std::string, uint32_t> full_numbers_;  // by content
  absl::flat_hash_map<std::string, uint32_t> stored_;        // by content
  UnwindRules rules_;
};

}  // namespace lbrd::unwind
